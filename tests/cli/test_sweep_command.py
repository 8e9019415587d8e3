"""`tenor sweep` as a user runs it."""

import json
import sys
from pathlib import Path

import pytest

from sweeps import write_sweep
from tenor.cli.main import main
from tenor.config.loading import builtin_text


def test_a_bad_space_is_refused_with_status_2_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "phases: {a: {space: {training.lerning_rate: {low: 1, high: 2}, training.epochs: {low: 3, high: 1}, "
        "data.truncation: {low: 0.1, high: 0.2}}}}",
        encoding="utf-8",
    )
    assert main(["sweep", str(path), "--runs", str(tmp_path / "runs")]) == 2
    message = capsys.readouterr().err
    assert "did you mean training.learning_rate?" in message
    assert "the range is empty" in message
    assert "expected head, tail or head_tail" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SWEEP is missing: give a built-in name (sweep_demo)"),
        (["sweep_dem"], "Did you mean sweep_demo?"),
        (["./no.yaml"], "cannot be read"),
        (["sweep_demo", "--worker"], "no study to join"),
    ],
)
def test_wrong_usage_is_reported(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments, "--runs", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_keys_and_built_in_sweeps_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--fields"]) == 0
    assert "phases.NAME.space.KEY.low = null   (a number)" in capsys.readouterr().out
    assert main(["sweep", "--fields", "--json"]) == 0
    assert "phases.NAME.trials" in {field["key"] for field in json.loads(capsys.readouterr().out)}
    assert main(["sweep", "sweep_demo", "--print"]) == 0
    assert capsys.readouterr().out == builtin_text("sweep_demo", "sweep")


def test_optuna_that_is_not_there_is_named(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("tenor.workflows.sweep")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", str(write_sweep(tmp_path, small_model)), "--runs", str(tmp_path / "runs")]) == 2
    assert "pip install 'tenor[sweep]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_prints_its_result(small_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", str(write_sweep(tmp_path, small_model)), "phases.a.trials=2", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["status"] for trial in found["trials"]] == ["completed"] * 2
    assert found["winner"] in found["trials"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "2 of 2 trials" in out
    assert f"train it: tenor train {found['config']}" in out
    assert main([*command, "--worker"]) == 0
    assert "no trial is left to start: 2 trials" in capsys.readouterr().out
