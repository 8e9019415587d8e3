"""`tenor …` as a test calls it, and a completed run for the commands that read one."""

import shutil
from pathlib import Path

import pytest

from commands import Command, Ended
from small_runs import small_run
from tenor.cli.main import main
from tenor.runs.directory import RunDirectory
from tenor.workflows.train import RunResult


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `tenor …` in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    # Where a terminal's capabilities are read from the environment, the answer should not be one.
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as exit:  # argparse's own
            status = int(exit.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(status, out, err)

    return run


@pytest.fixture(scope="package")
def completed(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        return small_run(tmp_path_factory.mktemp("completed"), small_model, "training.epochs=1")


@pytest.fixture
def copied(completed: RunResult, tmp_path: Path) -> RunDirectory:
    """A copy below `tmp_path/runs`."""
    root = completed.run.path.parent.parent
    shutil.copytree(root, tmp_path / "runs")
    return RunDirectory(tmp_path / "runs" / completed.run.config_name / completed.run.run_id)
