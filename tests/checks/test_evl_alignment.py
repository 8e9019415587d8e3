"""Labels and predictions that do not match: different class names, or shifted rows."""

from pathlib import Path

import numpy as np
import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rules.evl_order import labels_and_predictions_shifted
from tenor.checks.rules.evl_rows import no_common_class_name
from tenor.runs.findings import Finding


def write(path: Path, labels: np.ndarray, predicted: np.ndarray, *scores: np.ndarray) -> Path:
    header = ["text", "label", "prediction", *(f"probability_{k}" for k in range(len(scores)))]
    lines = [",".join(map(str, row)) for row in zip(range(len(labels)), labels, predicted, *scores, strict=True)]
    path.write_text("\n".join([",".join(header), *lines]))
    return path


def sole(diagnosis: Diagnosis, code: str) -> Finding:
    (finding,) = [one for one in diagnosis.findings if one.code == code]
    return finding


def shuffled_labels(n: int = 400, k: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, k, n)


def mostly(labels: np.ndarray, accuracy: float, k: int = 2) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.where(random.random(len(labels)) < accuracy, labels, (labels + random.integers(1, k, len(labels))) % k)


# Names.


def test_different_class_names_are_the_first_and_only_finding(tmp_path: Path) -> None:
    labels = shuffled_labels(200)
    predicted = mostly(labels, 0.92)
    names, others = np.array(["neg", "pos"]), np.array(["NEGATIVE", "POSITIVE"])
    diagnosis = diagnose(write(tmp_path / "predictions.csv", names[labels], others[predicted]))
    right = (labels == predicted).mean()
    finding = sole(diagnosis, "EVL019")
    assert "labels neg, pos; predictions NEGATIVE, POSITIVE" in finding.observed
    assert f"NEGATIVE as neg, POSITIVE as pos) the accuracy is {right:.4f}" in finding.expected
    assert [one.code for one in diagnosis.findings] == ["EVL019"]
    assert (diagnosis.causes[0].code, diagnosis.causes[0].status) == ("EVL019", "confirmed")


@pytest.mark.parametrize(
    ("names", "others", "severity"),
    [
        (("awful", "great"), ("rot", "fresh"), "error"),
        ((0, 1), ("awful", "great"), "warning"),
        (("negative", "positive"), (0, 1), "warning"),
        ((1, 2, 3), ("joy", "anger", "fear"), "warning"),
    ],
)
def test_names_are_paired_by_the_rows(names: tuple, others: tuple, severity: str, tmp_path: Path) -> None:
    labels = shuffled_labels(300, len(names))
    predicted = mostly(labels, 0.9, len(names))
    path = write(tmp_path / "any.csv", np.array(names)[labels], np.array(others)[predicted])
    finding = sole(diagnose(path), "EVL019")
    assert finding.severity == severity
    assert f"accuracy is {(labels == predicted).mean():.4f}" in finding.expected


def test_names_are_paired_in_the_usual_order_if_the_model_is_wrong(tmp_path: Path) -> None:
    """A collapse under other names is still a collapse, and inverted labels are still inverted."""
    labels = shuffled_labels(300)
    names, others = np.array(["neg", "pos"]), np.array(["NEGATIVE", "POSITIVE"])
    collapsed = write(tmp_path / "collapsed.csv", names[labels], others[np.zeros(300, dtype=int)])
    assert {"EVL019", "EVL001"} <= {one.code for one in diagnose(collapsed).findings}
    inverted = write(tmp_path / "inverted.csv", names[labels], others[1 - mostly(labels, 0.9)])
    assert {"EVL019", "EVL007"} <= {one.code for one in diagnose(inverted).findings}


@pytest.mark.parametrize("others", [("neg", "pos"), ("NEG", "Pos"), ("neg", "neutral")])
def test_one_common_name_passes(others: tuple[str, str], tmp_path: Path) -> None:
    labels = shuffled_labels(200)
    path = write(tmp_path / "any.csv", np.array(["neg", "pos"])[labels], np.array(others)[mostly(labels, 0.9)])
    assert "EVL019" not in {one.code for one in diagnose(path).findings}


def test_unknown_names_are_not_judged() -> None:
    with pytest.raises(CannotTell):
        no_common_class_name(EvaluationEvidence({"test": ReportedSplit(2)}, 2))


# Rows.


def moved(labels: np.ndarray, predicted: np.ndarray, n_classes: int = 2) -> Finding | None:
    claims = ReportedSplit(len(labels), labels=labels, predicted=predicted)
    return labels_and_predictions_shifted(EvaluationEvidence({"test": claims}, n_classes))


def test_a_shift_by_one_row_is_the_first_cause(tmp_path: Path) -> None:
    labels = shuffled_labels()
    predicted = np.roll(mostly(labels, 0.95), 1)
    positive = np.where(predicted == 1, 0.9, 0.1) + np.random.default_rng(2).normal(size=400) / 100
    diagnosis = diagnose(write(tmp_path / "predictions.csv", labels, predicted, 1 - positive, positive))
    first = diagnosis.causes[0]
    assert (first.code, first.status) == ("EVL017", "confirmed")
    assert "EVL005" in first.symptoms
    right = (labels[:-1] == predicted[1:]).mean()
    assert f"accuracy {right:.4f} with the predictions shifted by one row" in sole(diagnosis, "EVL017").expected
    assert not [cause for cause in diagnosis.causes if cause.status == "suspected"]


@pytest.mark.parametrize("by", [-5, -3, -1, 1, 2, 5])
@pytest.mark.parametrize("k", [2, 3, 20])
def test_any_shift_by_a_few_rows_is_reported(by: int, k: int) -> None:
    labels = shuffled_labels(600, k)
    found = moved(labels, np.roll(mostly(labels, 0.9, k), by), k)
    assert found is not None
    rows = "one row" if abs(by) == 1 else f"{abs(by)} rows"
    assert f"shifted by {rows}" in found.expected
    assert ("up" if by > 0 else "down") in found.fix


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.95])
def test_aligned_rows_pass(k: int, accuracy: float) -> None:
    for labels in (shuffled_labels(500, k), np.sort(shuffled_labels(500, k)), np.arange(500) % k):
        assert moved(labels, mostly(labels, accuracy, k), k) is None


def test_inverted_alternating_labels_are_not_a_shift() -> None:
    labels = np.arange(400) % 2
    assert moved(labels, 1 - mostly(labels, 0.95)) is None


def test_chance_is_not_a_shift() -> None:
    for seed in range(200):
        labels, predicted = shuffled_labels(100, 2, seed), shuffled_labels(100, 2, seed + 1000)
        assert moved(labels, predicted) is None, seed


def test_few_rows_are_not_judged() -> None:
    with pytest.raises(CannotTell, match="rows"):
        moved(np.array([0, 1] * 5), np.array([1, 0] * 5))
