"""Every run leaves a report and, where it has a model, a card: completed, failed, refused or interrupted."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from report_runs import Page, finished_run
from small_runs import quiet, small_config, small_run
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import digest_folder, read_json
from tenor.runs.manifest import read_manifest
from tenor.runs.predictions import read_predictions
from tenor.workflows import train as train_module
from tenor.workflows.report import report, report_at_exit
from tenor.workflows.train import RunResult, train


def test_a_run_ends_with_its_report_and_its_card(completed: RunResult) -> None:
    page = Page(completed.run.report.read_text(encoding="utf-8"))
    metrics = completed.results["test"].metrics
    assert f"Accuracy on 20 test rows {100 * metrics.accuracy:.2f}%" in page.text
    assert "completed" in page.text
    assert "scene" in page.text, "the texts of the rows"
    assert completed.checkpoint_sha256 in page.text
    card = ModelCard.load(completed.run.model / "README.md")
    accuracy = {r.dataset_split: r.metric_value for r in card.data.eval_results if r.metric_type == "accuracy"}
    assert accuracy["test"] == pytest.approx(metrics.accuracy, abs=1e-6)
    assert read_manifest(completed.run).digests["model"] == digest_folder(completed.run.model)


def test_a_rewritten_report_is_identical(copied: RunDirectory) -> None:
    before = copied.report.read_text(encoding="utf-8")
    assert report(str(copied.path)).read_text(encoding="utf-8") == before


def test_predictions_keep_the_lengths_of_their_texts(completed: RunResult) -> None:
    found = read_predictions(completed.run.predictions / "test.parquet")
    assert found.tokens is not None
    assert found.truncated is not None
    kept = found.tokens - found.truncated
    assert kept.max() <= completed.config.data.max_length
    assert (kept == found.tokens).any()
    assert found.truncated.max() >= 0


def test_a_failed_run_has_a_report(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise UserError("training.trackers: swanlab can't start")

    monkeypatch.setattr(train_module, "fit_with_checks", fail)
    with pytest.raises(UserError):
        small_run(tmp_path, small_model)
    (run,) = list_runs(tmp_path / "runs")
    page = Page(run.report.read_text(encoding="utf-8"))
    assert "failed" in page.text
    assert "swanlab" in page.text


def test_an_interrupted_run_has_a_report(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise InterruptedRunError("SIGTERM after step 4")

    monkeypatch.setattr(train_module, "save_model", interrupt)
    with pytest.raises(InterruptedRunError):
        small_run(tmp_path, small_model, "training.epochs=1")
    (run,) = list_runs(tmp_path / "runs")
    page = Page(run.report.read_text(encoding="utf-8"))
    assert "interrupted" in page.text
    assert "SIGTERM after step 4" in page.text
    assert "training batches" in page.text


def test_a_refused_model_s_card_and_report_say_so(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise RefusedError("stopped by EVL001")

    monkeypatch.setattr(train_module, "evaluation_report", refuse)
    with pytest.raises(RefusedError):
        small_run(tmp_path, small_model, "training.epochs=1")
    (run,) = list_runs(tmp_path / "runs")
    page = Page(run.report.read_text(encoding="utf-8"))
    assert "refused" in page.text
    assert "stopped by EVL001" in page.text
    assert (run.model / "README.md").is_file()


def test_an_unwritable_report_changes_nothing(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.report.mkdir()
    (run.report / "in the way").touch()
    console = quiet()
    with report_at_exit(run, console):
        pass
    assert "the report was not written" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(TenorError, match="the run's own"), report_at_exit(run, console):
        raise TenorError("the run's own")


def test_rows_given_in_python_are_shown_at_once_and_not_later(small_model: Path, tmp_path: Path) -> None:
    from tenor.data.sources import read_source

    config = small_config(tmp_path, small_model, "training.epochs=1", "evaluation.text_baseline=false")
    result = train(config, tmp_path / "runs", quiet(), data=read_source(config.data))
    assert "scene" in Page(result.run.report.read_text(encoding="utf-8")).text
    again = Page(report(str(result.run.path)).read_text(encoding="utf-8")).text
    assert "given in Python" in again
    assert read_json(result.run.evaluation)["test"]["n"] == 20
