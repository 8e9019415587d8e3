"""The content of `eval_best_model.json`: the results of the best checkpoint and of the baselines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.measures.calibration import (
    BINS,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    with_temperature,
)
from tenor.measures.intervals import Interval, macro_f1_interval, wilson_interval
from tenor.measures.metrics import Metrics, classification_report, measure
from tenor.measures.objective import predicted_classes
from tenor.runs.missing import Missing, missing_because


@dataclass(frozen=True)
class Baselines:
    """Accuracies in 0 … 1 on the same rows; a str is the reason why one is missing."""

    majority: float | str
    text: float | str
    encoder: float | str = "the model is the encoder alone"
    """Of the encoder without the text baseline, for a hybrid."""


@dataclass(frozen=True, eq=False)
class SplitResult:
    """A checkpoint's predictions for the rows of one split, and their metrics; `split_result` builds it."""

    labels: np.ndarray
    """Class indices, shape (n,)."""
    probabilities: np.ndarray
    """Calibrated, shape (n, K)."""
    metrics: Metrics
    baselines: Baselines
    temperature: float = 1.0
    """The checkpoint's logits were divided by it before the softmax."""

    @property
    def predictions(self) -> np.ndarray:
        """Class indices, shape (n,)."""
        return predicted_classes(self.probabilities)

    @property
    def raw_probabilities(self) -> np.ndarray:
        """The probabilities without the temperature, shape (n, K)."""
        return with_temperature(self.probabilities, self.temperature, 1.0)


def split_result(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    baselines: Baselines,
    temperature: float = 1.0,
) -> SplitResult:
    """The result of one split: labels (n,), probabilities (n, K). Raises ValueError as `measure` does."""
    return SplitResult(labels, probabilities, measure(labels, probabilities, class_names), baselines, temperature)


def accuracy_interval(metrics: Metrics, confidence: float = 0.95) -> Interval:
    """Wilson's interval of the accuracy."""
    return wilson_interval(sum(row[k] for k, row in enumerate(metrics.confusion)), metrics.n, confidence)


def evaluation_json(
    val: SplitResult | str,
    test: SplitResult | str,
    checkpoint_digest: str,
    checkpoint_step: int,
    class_names: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """The file's content: plain values, no null, no NaN. A split given as a str is missing for that reason.

    `confidence` is the intervals' coverage; `seed` is that of the bootstrap. Raises ValueError for a split whose
    classes are not `class_names`, an empty reason and an empty digest.
    """
    if not checkpoint_digest:
        raise ValueError("expected the digest of the evaluated checkpoint, observed an empty one")
    return {
        "checkpoint": {"digest": checkpoint_digest, "step": int(checkpoint_step)},
        "class_names": list(class_names),
        "val": _split_json(val, class_names, confidence, seed),
        "test": _split_json(test, class_names, confidence, seed),
    }


def _split_json(split: SplitResult | str, class_names: Sequence[str], confidence: float, seed: int) -> dict[str, Any]:
    if isinstance(split, str):
        return _missing_because(split)
    metrics = split.metrics
    names = [one.name for one in metrics.per_class]
    if names != list(class_names) or metrics.n != len(split.labels):
        raise ValueError(
            f"metrics of {metrics.n} rows and classes {names} do not belong to {len(split.labels)} rows "
            f"and classes {list(class_names)}"
        )
    return {
        "n": metrics.n,
        "accuracy": metrics.accuracy,
        "accuracy_interval": {**asdict(accuracy_interval(metrics, confidence)), "method": "Wilson"},
        "macro_f1": metrics.macro_f1,
        "macro_f1_interval": {
            **asdict(macro_f1_interval(metrics.confusion, confidence, seed)),
            "method": "bootstrap percentile",
        },
        "loss": metrics.loss,
        "calibration": _calibration_json(split),
        "baselines": {
            name: _missing_because(accuracy) if isinstance(accuracy, str) else float(accuracy)
            for name, accuracy in asdict(split.baselines).items()
        },
        "confusion_matrix": [list(row) for row in metrics.confusion],
        "report": classification_report(split.labels, split.predictions, len(names)),
    }


def _calibration_json(split: SplitResult) -> dict[str, Any]:
    """Three measures without and with the temperature; lower is better for all."""

    def measured(probabilities: np.ndarray) -> dict[str, float]:
        return {
            "ece": expected_calibration_error(probabilities, split.labels),
            "brier": brier_score(probabilities, split.labels),
            "nll": negative_log_likelihood(probabilities, split.labels),
        }

    return {
        "temperature": split.temperature,
        "fitted_on": "validation",
        "ece_bins": BINS,
        "raw": measured(split.raw_probabilities),
        "calibrated": measured(split.probabilities),
    }


def _missing_because(reason: str) -> dict[str, Any]:
    if not reason:
        raise ValueError("a missing value needs a reason, observed an empty one")
    return {"missing": reason}


NONE_LEFT = "every row has a text of the run's training or validation split"


def other_rows(overlap: OverlapEvidence, result: SplitResult) -> tuple[int, int]:
    """The number of rows in neither of the run's splits, and how many of them are predicted correctly."""
    others = ~(overlap.in_train | overlap.in_validation)
    return int(others.sum()), int((result.predictions == result.labels)[others].sum())


def overlap_record(overlap: OverlapEvidence | Missing, result: SplitResult, confidence: float) -> dict[str, Any]:
    """The overlap as plain data: the rows in each of the run's splits, and the accuracy on all other rows."""
    if isinstance(overlap, Missing):
        return missing_because(overlap.reason)
    n, right = other_rows(overlap, result)
    others: dict[str, Any] = missing_because(NONE_LEFT)
    if n:
        interval = {**asdict(wilson_interval(right, n, confidence)), "method": "Wilson"}
        others = {"n": n, "accuracy": right / n, "accuracy_interval": interval}
    counts = {"rows_in_train": int(overlap.in_train.sum()), "rows_in_validation": int(overlap.in_validation.sum())}
    return {**counts, "other_rows": others}


def overlap_text(overlap: OverlapEvidence | Missing, result: SplitResult, confidence: float) -> str:
    """The overlap in one sentence."""
    if isinstance(overlap, Missing):
        return overlap.reason
    in_train, in_validation = int(overlap.in_train.sum()), int(overlap.in_validation.sum())
    if not in_train and not in_validation:
        return f"none of {len(overlap.texts):,} rows has a text of the run's training or validation split"
    total = len(overlap.texts)
    counts = (
        f"of {total:,} rows, {in_train:,} have a text of the run's training split ({in_train / total:.1%}), "
        f"{in_validation:,} more one of its validation split"
    )
    n, right = other_rows(overlap, result)
    if not n:
        return f"{counts}; there are no other rows"
    interval = wilson_interval(right, n, confidence)
    bounds = f"{100 * interval.low:.2f}–{100 * interval.high:.2f}"
    return f"{counts}; accuracy on the other {n:,}: {right / n:.2%} ({100 * confidence:g}% CI {bounds})"
