"""The process in which watched programs run."""

from collections.abc import Iterator

import pytest

from watched_programs import Programs


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """Started once: the imports take seconds."""
    process = Programs()
    yield process
    process.close()
