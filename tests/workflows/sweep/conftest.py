"""Sweeps over runs of a second, and sweeps whose trials take no time at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import write_sweep
from tenor.config.sweep import SweepPlan, load_sweep


@pytest.fixture
def planned(small_model: Path, tmp_path: Path) -> Callable[..., SweepPlan]:
    """Makes the small sweep with overrides."""
    path = write_sweep(tmp_path, small_model)
    return lambda *overrides: load_sweep(path, overrides)
