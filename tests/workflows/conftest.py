"""A completed run that tests may read, a copy that they may change, and commands in their own processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import Commands
from small_runs import small_run
from tenor.runs.directory import RunDirectory
from tenor.workflows.train import RunResult


@pytest.fixture(scope="package")
def completed(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_run(tmp_path_factory.mktemp("completed"), small_model, "training.trackers=[tensorboard]")


@pytest.fixture
def copied(completed: RunResult, tmp_path: Path) -> RunDirectory:
    """A copy of the completed run below `tmp_path/runs`."""
    root = completed.run.path.parent.parent
    shutil.copytree(root, tmp_path / "runs")
    return RunDirectory(tmp_path / "runs" / completed.run.config_name / completed.run.run_id)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Iterator[Commands]:
    """A warmed process, from which `tenor` commands are forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        started = Commands()
    yield started
    started.close()
