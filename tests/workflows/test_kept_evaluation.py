"""`tenor evaluate` writes consistent numbers, predictions and a report, and does not change the run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from report_runs import Page
from small_runs import quiet, write_csv
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, read_json
from tenor.runs.missing import Missing
from tenor.runs.predictions import read_predictions
from tenor.workflows.evaluate import EvaluationResult, evaluate, evaluation_record, keep_evaluation
from tenor.workflows.run_checks import check_result
from tenor.workflows.train import RunResult

OTHER = "other <i>reviews</i>.csv"


@pytest.fixture(scope="module")
def other(completed: RunResult, tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    """The completed run's model on rows of another file, whose name is markup."""
    path = write_csv(tmp_path_factory.mktemp("rows") / OTHER.replace("/", ""), 30, start=300)
    return evaluate(str(completed.run.path), [f"data.test_path={path}"], console=quiet())


def _keep(found: EvaluationResult, output: Path | None = None) -> Path:
    return keep_evaluation(found, evaluation_record(found), output)


def test_numbers_predictions_and_report_agree(other: EvaluationResult, tmp_path: Path) -> None:
    folder = _keep(other, tmp_path / "kept")
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "predictions.parquet", "report.html"]
    stored = read_json(folder / "evaluation.json")
    assert stored == json.loads(json.dumps(evaluation_record(other)))
    predictions = read_predictions(folder / "predictions.parquet")
    assert (predictions.predicted == predictions.labels).mean() == stored["result"]["accuracy"]
    np.testing.assert_array_equal(predictions.probabilities, other.result.probabilities)
    assert predictions.tokens is not None
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert f"{stored['result']['accuracy']:.2%}" in page.text
    assert "How it trained" not in page.text
    assert not [name for name, values in page.elements if "badge completed" in str(values)]
    assert "tenor evaluate" in page.text
    assert other.weights_sha256 in page.text
    assert "<i>" in page.text, "the name of the file is text"
    assert not [name for name, _ in page.elements if name == "i" and "reviews" in name]


def test_an_evaluation_is_written_next_to_the_run_and_does_not_change_it(copied: RunDirectory, tmp_path: Path) -> None:
    before = digest_folder(copied.path)
    path = write_csv(tmp_path / "later.csv", 20, start=300)
    found = [evaluate(str(copied.path), [f"data.test_path={path}"], console=quiet()) for _ in range(2)]
    first, again = (_keep(one) for one in found)
    assert first == again
    assert first.parent == copied.evaluations
    assert first.name.startswith("later-test-")
    own = _keep(evaluate(str(copied.path), split="validation", console=quiet()))
    assert own.parent == first.parent
    assert own != first
    for folder in (first, own):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    copied.evaluations.rmdir()
    assert digest_folder(copied.path) == before


def test_another_folder_is_not_overwritten(other: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(UserError, match="is not an evaluation"):
        _keep(other, tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not an evaluation"):
        _keep(other, tmp_path / "file")
    with pytest.raises(UserError, match="--output"):
        _keep(other, tmp_path / "file" / "below")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_rules_judge_only_held_out_rows(other: EvaluationResult) -> None:
    wrong = replace(other.result, probabilities=np.tile([0.9, 0.1], (30, 1)))
    report = check_result(other.config.checks, "test", wrong, other.overlap)
    assert not isinstance(report, Missing)
    assert all(code.startswith("EVL") for code in report.checked)
    assert "EVL016" in report.checked
    assert isinstance(check_result(other.config.checks, "train", wrong, other.overlap), Missing)


def test_findings_are_written(other: EvaluationResult, tmp_path: Path) -> None:
    assert not isinstance(other.checks, Missing)
    stored = read_json(_keep(other, tmp_path / "kept") / "evaluation.json")
    assert [one["code"] for one in stored["findings"]] == [one.code for one in other.checks.findings]
    assert stored["overlap"]["rows_in_train"] == 0
