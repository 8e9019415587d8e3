"""Numbers that other programs recorded: shares in percent, NaN in results, and NaN that a log hides as zeros."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.training_evidence import StepEvidence, ValidationPoint
from tenor.checks.rules.los_finite import loss_is_nan
from tenor.runs.findings import Finding

NAN = math.nan


def saved(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}


def sole(diagnosis: Diagnosis, code: str) -> Finding:
    (finding,) = [one for one in diagnosis.findings if one.code == code]
    return finding


# Percent.


@pytest.mark.parametrize(
    ("accuracy", "right"), [(88.06, "22,015"), (100, "25,000"), (50.004, "12,501"), (93.0000071525574, "23,250")]
)
def test_an_accuracy_in_percent_is_read_as_such(accuracy: float, right: str, tmp_path: Path) -> None:
    diagnosis = diagnose(saved(tmp_path / "evaluation.json", {"test": {"accuracy": accuracy, "n": 25000}}))
    assert not diagnosis.findings
    assert diagnosis.notes == (f"accuracy {accuracy:g} read as percent: {right} of 25,000 rows",)


def test_an_accuracy_in_percent_is_compared_as_a_share(tmp_path: Path) -> None:
    split = {"accuracy": 88.0, "confusion_matrix": [[440, 60], [60, 440]]}
    assert not codes(diagnose(saved(tmp_path / "fine.json", {"test": split})))
    wrong = diagnose(saved(tmp_path / "wrong.json", {"test": split | {"accuracy": 90.5}}))
    assert codes(wrong) == {"EVL010"}
    assert "accuracy 0.905" in sole(wrong, "EVL010").observed


@pytest.mark.parametrize("accuracy", [88.0617, 100.5, -3.0, 1000])
def test_an_accuracy_that_is_neither_share_nor_percent_is_found(accuracy: float, tmp_path: Path) -> None:
    diagnosis = diagnose(saved(tmp_path / "evaluation.json", {"test": {"accuracy": accuracy, "n": 1000}}))
    assert codes(diagnosis) == {"EVL009"}


def test_a_share_stays_a_share(tmp_path: Path) -> None:
    for accuracy in (1, 1.0, 0.88, 0, 0.5):
        diagnosis = diagnose(saved(tmp_path / "evaluation.json", {"test": {"accuracy": accuracy, "n": 100}}))
        assert not diagnosis.notes


def test_a_trainer_and_a_summary_may_write_percent_too(tmp_path: Path) -> None:
    log = [{"step": 10, "eval_loss": 0.3, "eval_accuracy": 90.5}]
    saved(tmp_path / "trainer" / "trainer_state.json", {"log_history": log, "global_step": 10})
    saved(tmp_path / "trainer" / "eval_results.json", {"eval_accuracy": 90.5, "eval_samples": 200})
    assert diagnose(tmp_path / "trainer").notes == ("accuracy 90.5 read as percent: 181 of 200 rows",)
    run = {"name": "a", "status": "failed", "val_metrics": {"accuracy": 90.5, "n": 200}}
    diagnosis = diagnose(saved(tmp_path / "summary.json", [run]))
    assert not diagnosis.findings
    assert diagnosis.notes


# NaN in results.


@pytest.mark.parametrize(
    ("content", "names", "severity"),
    [
        ({"test": {"accuracy": NAN, "n": 100}}, ["test.accuracy"], "error"),
        ({"test": {"accuracy": 0.5, "n": 100, "loss": math.inf}}, ["test.loss"], "error"),
        ({"test": {"accuracy": 0.5, "n": 100, "roc_auc": NAN, "ece": NAN}}, ["test.roc_auc", "test.ece"], "warning"),
    ],
)
def test_a_recorded_metric_that_is_no_number_is_found(
    content: Any, names: list[str], severity: str, tmp_path: Path
) -> None:
    finding = sole(diagnose(saved(tmp_path / "evaluation.json", content)), "EVL018")
    assert finding.severity == severity
    assert all(name in finding.observed for name in names)


def test_undefined_precision_in_a_report_is_no_finding(tmp_path: Path) -> None:
    entry = {"precision": NAN, "recall": 0.0, "f1-score": NAN, "support": 5}
    report = {"0": {"precision": 0.95, "recall": 1.0, "f1-score": 0.97, "support": 95}, "1": entry, "accuracy": 0.95}
    diagnosis = diagnose(saved(tmp_path / "evaluation.json", {"test": {"report": report}}))
    assert "EVL018" not in codes(diagnosis)


def trainer_folder(folder: Path, losses: list[float], evaluations: list[float], **more: Any) -> Path:
    log: list[dict[str, Any]] = [{"step": 10 * (k + 1), "loss": loss} for k, loss in enumerate(losses)]
    log += [{"step": 10 * len(losses), "eval_loss": loss, "eval_accuracy": 0.75} for loss in evaluations]
    saved(folder / "trainer_state.json", {"log_history": log, "global_step": 10 * len(losses), "max_steps": 60})
    for name, content in more.items():
        saved(folder / f"{name}.json", content)
    return folder


def test_a_results_file_of_ones_own_beside_the_state_is_read(tmp_path: Path) -> None:
    results = {"baseline_accuracy": NAN, "finetuned_accuracy": 0.8125, "improvement": NAN, "test_set_size": 32}
    diagnosis = diagnose(trainer_folder(tmp_path, [0.7, 0.6], [0.61], evaluation_results=results))
    finding = sole(diagnosis, "EVL018")
    assert "evaluation_results.json: baseline_accuracy is NaN, improvement is NaN" in finding.observed
    assert finding.severity == "warning"


def test_results_of_the_test_rows_are_judged_too(tmp_path: Path) -> None:
    results = {"test_accuracy": 0.905, "test_samples": 100}
    diagnosis = diagnose(trainer_folder(tmp_path, [0.7, 0.6], [0.61], test_results=results))
    assert "test: accuracy 0.905 of 100 rows gives 90.500 correct rows" in sole(diagnosis, "EVL009").observed


def test_a_results_file_that_is_not_understood_is_named(tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path, [0.7, 0.6], [0.61], my_metrics={"words": "many"}, other_results=[1, 2])
    (folder / "broken_results.json").write_text("{")
    (folder / "tokenizer_config.json").write_text("{")  # not a result
    notes = diagnose(folder).notes
    for name in ("my_metrics.json", "other_results.json", "broken_results.json"):
        assert any(name in note and "not read" in note for note in notes), name
    assert not any("tokenizer" in note and "parts of the model" not in note for note in notes)


# NaN in a log.


def test_zeros_before_a_validation_loss_that_is_no_number_are_filtered_nan(tmp_path: Path) -> None:
    diagnosis = diagnose(trainer_folder(tmp_path, [0.47, 0.0, 0.0, 0.0, 0.0, 0.0], [NAN]))
    finding = sole(diagnosis, "LOS007")
    assert finding.severity == "error"
    assert "first at step 20: loss 0 in 5 records" in finding.observed
    assert "validation loss NaN at step 60" in finding.observed
    assert "logging_nan_inf_filter" in finding.cause
    assert diagnosis.causes[0].code == "LOS007"


def steps(losses: list[float], validations: list[float] = []) -> StepEvidence:  # noqa: B006 (never changed)
    points = tuple(ValidationPoint(10 * len(losses), value) for value in validations)
    return StepEvidence(10 * np.arange(1, len(losses) + 1), np.array(losses), validation_loss=points)


@pytest.mark.parametrize(
    ("losses", "validations", "severity"),
    [
        ([0.47, 0.0, 0.0, 0.0], [], "warning"),  # nothing between 0.47 and 0 exactly
        ([0.47, 0.0, 0.0, 0.0], [0.4], "warning"),
        ([0.0, 0.0, 0.0], [0.4], "warning"),  # not even the first steps had a loss
        ([0.0, 0.0, 0.0], [NAN], "error"),
        ([0.47, 0.4], [NAN], "error"),
        ([0.47, NAN], [], "error"),
        ([0.47, 0.4], [0.4, math.inf], "error"),
    ],
)
def test_numbers_that_are_none_are_found(losses: list[float], validations: list[float], severity: str) -> None:
    found = loss_is_nan(steps(losses, validations))
    assert found is not None
    assert (found.severity or loss_is_nan.severity) == severity


@pytest.mark.parametrize(
    ("losses", "validations"),
    [
        ([0.47, 0.3, 0.01, 0.0001, 0.0, 0.0, 0.0], [1.2]),  # learned by heart, and logged with four digits
        ([0.47, 0.0, 0.3, 0.2], [0.4]),
        ([0.47, 0.0, 0.0], [0.4]),
        ([0.5, 0.4], [0.3]),
    ],
)
def test_a_loss_that_became_small_is_a_number(losses: list[float], validations: list[float]) -> None:
    assert loss_is_nan(steps(losses, validations)) is None


def test_a_tenor_run_and_event_files_show_their_validation_loss(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    lines = [{"kind": "train", "step": 5, "loss": 0.5}, {"kind": "validation", "step": 5, "accuracy": 0.5, "loss": NAN}]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    writer = SummaryWriter(str(tmp_path / "events"))
    for step in range(3):
        writer.add_scalar("train/loss", 0.5, step)
        writer.add_scalar("eval/loss", NAN, step)
    writer.close()
    for folder in ("run", "events"):
        assert "validation loss NaN" in sole(diagnose(tmp_path / folder), "LOS007").observed


@pytest.mark.parametrize(("labels", "k"), [({}, 2), ({"id2label": {str(i): str(i) for i in range(7)}}, 7)])
def test_the_number_of_classes_is_read_from_event_files(labels: dict[str, Any], k: int, tmp_path: Path) -> None:
    """The text that transformers' callback for TensorBoard writes; it leaves out the default, two classes."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    writer.add_text("model_config", json.dumps({"architectures": ["BertForSequenceClassification"], **labels}))
    for step in range(10, 610, 10):
        writer.add_scalar("train/loss", np.log(k) + 0.005 * (-1) ** (step // 10), step)
    writer.close()
    (flat,) = [finding for finding in diagnose(tmp_path).findings if finding.code == "LOS006"]
    assert flat.expected.startswith(f"below {np.log(k):.4f}")
