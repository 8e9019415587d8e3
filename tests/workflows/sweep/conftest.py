"""Sweeps over runs of a second, and sweeps whose trials take no time at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import write_sweep
from tenor.config.sweep import SweepPlan, load_sweep
from tenor.workflows.sweep import worker as module
from tenor.workflows.sweep.study import propose
from tenor.workflows.sweep.worker import Attempt


@pytest.fixture
def planned(small_model: Path, tmp_path: Path) -> Callable[..., SweepPlan]:
    """Makes the small sweep with overrides."""
    path = write_sweep(tmp_path, small_model)
    return lambda *overrides: load_sweep(path, overrides)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials return the distance of their rate from 0.01 at once; gives the numbers of those that were begun."""
    begun: list[int] = []

    def value(attempt: Attempt, console: object) -> float:
        begun.append(attempt.trial.number)
        attempt._record(seconds=1.0, reason="", ended="")
        tried = propose(attempt.trial, attempt.plan.sweep.phases[attempt.phase].space)
        return 1.0 - abs(float(tried["training.learning_rate"]) - 0.01)

    monkeypatch.setattr(Attempt, "value", value)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    return begun
