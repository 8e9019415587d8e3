"""The commands on numbers: only JSON on stdout, and one clear message for invalid values."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from commands import Command
from small_runs import write_config
from tenor.measures.calibration import with_temperature
from tenor.runs.directory import RunDirectory
from tenor.runs.predictions import read_predictions, write_predictions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("calibrate", "latest"), "contains no run"),
        (("calibrate", "latest", "--class", "good"), "needs --class NAME and one of"),
        (("calibrate", "latest", "--recall", "0.9"), "needs --class NAME and one of"),
        (("calibrate", "latest", "--class", "good", "--recall", "0.9", "--precision", "0.9"), "not allowed with"),
        (("compare", "latest"), "RUN"),
        (("compare", "latest", "2020"), "contains no run"),
        (("evaluate", "latest", "--abstain-below", "1.5"), "from 0 to 1"),
        (("train", "smoke", "--seeds", "1"), "2 or more"),
        (("train", "--seeds", "3"), "give exactly one of: CONFIG"),
        (("train", "--resume", "latest", "--seeds", "3"), "give only one of them"),
        (("audit", "smok"), "smoke"),
        (("audit", "smoke", "--features", "letters"), "letters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], words: str, command: Command) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert words in err


def _sharpened(run: RunDirectory) -> None:
    """Stored predictions far surer than they may be, so that a temperature is needed beyond chance."""
    for path in run.predictions.iterdir():
        found = read_predictions(path)
        write_predictions(
            path, found.ids, found.labels, with_temperature(found.probabilities, 1.0, 0.02), found.class_names
        )


def test_calibrate(copied: RunDirectory, command: Command) -> None:
    _sharpened(copied)
    status, out, err = command("calibrate", "latest", "--class", "good", "--recall", "0.8", "--fold", "--json")
    assert (status, err.count("tenor:")) == (0, 0)
    found = json.loads(out)
    assert found["folded"] is True
    assert found["threshold"]["class"] == "good"
    assert found["threshold"]["validation"]["recall"]["value"] >= 0.8
    assert found["calibration"]["validation"]["calibrated"]["nll"] <= found["calibration"]["validation"]["raw"]["nll"]
    status, out, _ = command("calibrate", "latest")
    assert status == 0
    assert "folded into the classifier" in out
    status, _, err = command("calibrate", "latest", "--class", "great", "--recall", "0.8")
    assert status == 2
    assert "bad, good" in err


def test_evaluate_with_abstention(copied: RunDirectory, command: Command) -> None:
    status, out, _ = command("evaluate", "latest", "--abstain-below", "0.5", "--json")
    assert status == 0
    assert json.loads(out)["abstain"]["coverage"] == 1.0
    assert "Abstaining below 0.5" in command("evaluate", "latest", "--abstain-below", "0.5")[1]


def test_compare(copied: RunDirectory, command: Command) -> None:
    shutil.copytree(copied.path, copied.path.with_name("20990101-000000-other"))
    arguments = ("compare", copied.run_id, "2099", "--output", "differ.csv")
    status, out, _ = command(*arguments)
    assert status == 0
    assert "No difference" in out
    assert Path("differ.csv").read_text(encoding="utf-8").startswith("id,label")
    found = json.loads(command(*arguments, "--json")[1])
    assert (found["p_value"], found["disagreements"]) == (1.0, [])


@pytest.mark.slow
def test_train_with_seeds(small_model: Path, tmp_path: Path, command: Command) -> None:
    config = write_config(tmp_path, small_model)
    short = ("training.epochs=1", "evaluation.text_baseline=false")
    status, out, _ = command("train", str(config), "--seeds", "2", "--json", *short)
    assert status == 0
    found = json.loads(out)
    assert found["summary"]["test"]["accuracy"]["n"] == len(found["runs"]) == 2


def test_audit(small_model: Path, tmp_path: Path, command: Command) -> None:
    pytest.importorskip("cleanlab")
    config = write_config(tmp_path, small_model)
    status, out, _ = command("audit", str(config), "--features", "words", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["file"] == "small-audit.csv"
    with open("small-audit.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found["suspects"])
    assert "data.exclude=small-audit.csv" in command("audit", str(config), "--features", "words")[1]
