"""A completed run with enough test rows for a verdict, and a copy that tests may change."""

import shutil
from pathlib import Path

import pytest

from commands import Command, Ended
from small_runs import quiet, small_config, write_csv
from tenor.cli.main import main
from tenor.inference.predictor import Predictor
from tenor.runs.directory import RunDirectory
from tenor.workflows.explain import explained_model
from tenor.workflows.train import RunResult, train


@pytest.fixture(scope="package")
def completed(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A model that has learned the four good and the four bad words. Read only."""
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        tests = write_csv(folder / "others.csv", 40, start=201)
        config = small_config(folder, small_model, f"data.test_path={tests}", "training.epochs=6")
        return train(config, folder / "runs", quiet())


@pytest.fixture(scope="package")
def predictor(completed: RunResult) -> Predictor:
    """Of the completed run."""
    return Predictor.load(completed.run.path, threads=1)


@pytest.fixture(scope="package")
def tested(completed: RunResult, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A copy of the completed run whose explanations were tested. Read only."""
    root = Path(shutil.copytree(completed.run.path.parent.parent, tmp_path_factory.mktemp("tested") / "runs"))
    run = RunDirectory(root / completed.run.config_name / completed.run.run_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        explained_model(str(run.path), console=quiet())
    return run


@pytest.fixture
def copied(completed: RunResult, tmp_path: Path) -> RunDirectory:
    """A copy of the completed run below `tmp_path/runs`, without explanations."""
    shutil.copytree(completed.run.path.parent.parent, tmp_path / "runs")
    return RunDirectory(tmp_path / "runs" / completed.run.config_name / completed.run.run_id)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `tenor …` in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        status = main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(status, out, err)

    return run


@pytest.fixture
def completed_data(completed: RunResult) -> Path:
    """The test rows of the completed run."""
    return completed.run.path.parent.parent.parent / "others.csv"
