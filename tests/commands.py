"""The status and output of `tenor …`, for tests that run it through the fixture `command`."""

from collections.abc import Callable
from typing import NamedTuple


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What follows `tenor: `, the only message of its kind."""
        _, found, message = self.err.partition("tenor: ")
        assert found, self.err
        assert "tenor: " not in message
        return message


Command = Callable[..., Ended]
