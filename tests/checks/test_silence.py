"""What a diagnosis says where little could be judged, and how results are named that hide a class."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.rules.evl_ranking import no_better_than_majority


def saved(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def predictions(n: int) -> str:
    labels = np.random.default_rng(0).integers(0, 2, n)
    scores = np.where(labels == 1, 0.9, 0.1) + np.arange(n) / 1e5
    rows = zip(labels, labels, 1 - scores, scores, strict=True)
    return "\n".join(["label,prediction,prob_0,prob_1", *(",".join(map(str, row)) for row in rows)])


@pytest.mark.parametrize("n", [2, 12, 49])
def test_few_rows_are_never_called_sound(n: int, tmp_path: Path) -> None:
    """Eight rules can be checked on a few right predictions; whether the model is any good cannot."""
    diagnosis = diagnose(saved(tmp_path / "any.csv", predictions(n)))
    assert not diagnosis.findings
    assert diagnosis.conclusion.endswith("too little to say that the result is sound.")
    assert diagnosis.limits


def test_enough_rows_are(tmp_path: Path) -> None:
    diagnosis = diagnose(saved(tmp_path / "any.csv", predictions(60)))
    assert diagnosis.conclusion.endswith("no problem found.")
    assert not diagnosis.limits


def test_what_cannot_be_judged_is_named_with_the_reason(tmp_path: Path) -> None:
    limits = diagnose(saved(tmp_path / "any.csv", predictions(12))).limits
    assert "Whether the model learned anything could not be judged" in limits
    assert "EVL005: fewer than 50 rows" in limits


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"eval_accuracy": 0.92, "eval_f1": 0.3}, "F1 0.3000"),
        ({"eval_accuracy": 0.92, "eval_f1": 0.55}, ""),  # Perhaps that of a rare class alone.
        ({"eval_accuracy": 0.92, "eval_macro_f1": 0.55}, "macro F1 0.5500"),
        ({"eval_accuracy": 0.92, "eval_balanced_accuracy": 0.6}, "balanced accuracy 0.6000"),
        ({"eval_accuracy": 0.92, "eval_recall_macro": 0.6}, "macro recall 0.6000"),
        ({"eval_accuracy": 92.0, "eval_f1_macro": 55.0}, "macro F1 0.5500"),
        ({"eval_accuracy": 0.92, "eval_f1": 0.9}, ""),
        ({"eval_accuracy": 0.92, "eval_f1": 0.55, "eval_f1_macro": 0.9}, ""),
        ({"eval_accuracy": 0.92, "eval_f1_weighted": 0.9, "eval_recall": 0.2}, ""),
    ],
)
def test_any_mean_over_the_classes_shows_a_lost_class(metrics: dict[str, float], shown: str, tmp_path: Path) -> None:
    diagnosis = diagnose(saved(tmp_path / "all_results.json", {**metrics, "eval_loss": 0.3, "epoch": 3.0}))
    found = [finding.observed for finding in diagnosis.findings if finding.code == "EVL021"]
    assert bool(found) == bool(shown)
    assert all(shown in one for one in found)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_history_without_a_validation_is_reported(held_out: bool, tmp_path: Path) -> None:
    loss, accuracy = np.geomspace(0.6, 0.3, 10).tolist(), np.linspace(0.7, 0.88, 10).tolist()
    validation = {"val_loss": np.geomspace(0.6, 0.35, 10).tolist(), "val_accuracy": accuracy} if held_out else {}
    history = {"loss": loss, "accuracy": accuracy, **validation}
    assert codes(diagnose(saved(tmp_path / "history.json", history))) == ([] if held_out else ["EVL022"])


@pytest.mark.parametrize(
    ("right", "k", "expected"),
    [
        (0.21, 5, "warning"),
        (0.205, 5, "warning"),
        (0.19, 5, "warning"),
        (0.3, 5, None),
        (0.515, 2, "warning"),
        (0.6, 2, None),
    ],
)
def test_an_accuracy_that_chance_explains_is_no_better_than_the_majority(
    right: float, k: int, expected: str | None
) -> None:
    counts = np.full((k, k), 1000 // k * (1 - right) / (k - 1))
    np.fill_diagonal(counts, 1000 // k * right)
    split = ReportedSplit(1000, confusion=counts.round())
    found = no_better_than_majority(EvaluationEvidence({"test": split}, k))
    assert (None if found is None else found.severity or "warning") == expected


def test_a_small_but_significant_gain_or_better_recall_passes() -> None:
    """On 40,000 rows a point is no chance; at 19 to 1 a model that finds the rare class has its worth there."""
    for counts in ([[10200, 9800], [9800, 10200]], [[940, 10], [35, 15]]):
        n = int(np.sum(counts))
        assert (
            no_better_than_majority(EvaluationEvidence({"test": ReportedSplit(n, confusion=np.array(counts))}, 2))
            is None
        )
