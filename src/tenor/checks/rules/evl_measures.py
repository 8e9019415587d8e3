"""Measurements for the rules on results: counts, ranking and relabelling, from the saved parts of an evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell

Measured = TypeVar("Measured")


def per_split(
    evaluation: EvaluationEvidence, measure: Callable[[ReportedSplit], Measured]
) -> list[tuple[str, ReportedSplit, Measured]]:
    """`measure` on every split that allows it; CannotTell, with the reasons, where none does."""
    measured: list[tuple[str, ReportedSplit, Measured]] = []
    reasons: list[str] = []
    for name, claims in evaluation.splits.items():
        try:
            measured.append((name, claims, measure(claims)))
        except CannotTell as reason:
            reasons.append(str(reason))
    if not measured:
        raise CannotTell("; ".join(dict.fromkeys(reasons)) or "no split was evaluated")
    return measured


def joined(parts: list[tuple[str, str]]) -> str:
    """The message of each split, in one line."""
    return "; ".join(f"{split}: {message}" for split, message in parts)


def class_name(claims: ReportedSplit, k: int) -> str:
    """The name of a class in the evaluated rows, or its index."""
    names = claims.class_names
    return names[k] if names is not None and k < len(names) else str(k)


def class_indices(values: Any, n_classes: int, what: str) -> np.ndarray:
    """Class indices (n,), int64; CannotTell for anything else."""
    array = np.asarray(values) if values is not None else np.empty(0)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iub":
        raise CannotTell(f"{what} are not known as class indices")
    if array.min() < 0 or array.max() >= n_classes:
        raise CannotTell(f"{what} contain indices outside 0 … {n_classes - 1}")
    return array.astype(np.int64)


def confusion_of_rows(claims: ReportedSplit, n_classes: int) -> np.ndarray:
    """Counts (K, K) from labels and predictions, rows true; CannotTell without either."""
    labels = class_indices(claims.labels, n_classes, "labels")
    predicted = class_indices(claims.predicted, n_classes, "predictions")
    if len(labels) != len(predicted):
        raise CannotTell(f"{len(labels):,} labels and {len(predicted):,} predictions cannot be matched")
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def claimed_confusion(claims: ReportedSplit) -> np.ndarray:
    """The saved confusion matrix, int64 (K, K), or CannotTell."""
    counts: np.ndarray = np.asarray(claims.confusion) if claims.confusion is not None else np.empty(0)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iuf" or not counts.sum():
        raise CannotTell("there is no confusion matrix")
    return counts.astype(np.int64)


def confusion(claims: ReportedSplit, n_classes: int) -> np.ndarray:
    """Counts (K, K): from the rows where they are known, otherwise the saved matrix."""
    if claims.labels is not None and claims.predicted is not None:
        return confusion_of_rows(claims, n_classes)
    return claimed_confusion(claims)


def accuracy(claims: ReportedSplit, n_classes: int) -> tuple[float, int]:
    """The share of correct predictions, and the number of rows."""
    try:
        counts = confusion(claims, n_classes)
    except CannotTell:
        if claims.accuracy is None or not claims.n or not 0 <= claims.accuracy <= 1:
            raise
        return float(claims.accuracy), claims.n
    return float(np.trace(counts) / counts.sum()), int(counts.sum())


def distributions(claims: ReportedSplit) -> np.ndarray:
    """Probabilities (n, K) as float64, not validated; CannotTell where there are none."""
    try:
        values = np.asarray(claims.probabilities, dtype=np.float64)
    except (TypeError, ValueError):
        raise CannotTell("the probabilities are not numbers") from None
    if claims.probabilities is None or values.ndim != 2 or not values.size:
        raise CannotTell("probabilities or scores per row are not known")
    return values


@dataclass(frozen=True)
class Ranking:
    """How well the scores rank the rows: AUC 0.5 by chance, 1 for a perfect ranking."""

    auc: float
    chance_deviation: float
    """Standard deviation of the AUC of random scores."""


def ranking(claims: ReportedSplit, n_classes: int) -> Ranking:
    """The area under the ROC curve; for K > 2 the one-versus-rest mean over the classes.

    Ties count half. Standard deviation under chance: Mann and Whitney 1947.
    """
    from sklearn.metrics import roc_auc_score

    labels = class_indices(claims.labels, n_classes, "labels")
    scores = distributions(claims)
    if scores.shape != (len(labels), n_classes) or not np.isfinite(scores).all():
        raise CannotTell("the scores do not match the labels, or are not finite")
    classes = [1] if n_classes == 2 else range(n_classes)
    areas_and_deviations = []
    for k in classes:
        positive = labels == k
        n1, n0 = int(positive.sum()), int((~positive).sum())
        if n1 and n0:
            area = roc_auc_score(positive, scores[:, k])
            areas_and_deviations.append((area, ((n1 + n0 + 1) / (12 * n1 * n0)) ** 0.5))
    if not areas_and_deviations:
        raise CannotTell("all labels are of one class")
    areas, deviations = np.array(areas_and_deviations).T
    return Ranking(float(areas.mean()), float(deviations.mean()))


def best_relabelling(counts: np.ndarray) -> np.ndarray:
    """The class to read each predicted label as, shape (K,): one to one, with the highest accuracy (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    true, predicted = linear_sum_assignment(counts, maximize=True)
    return true[np.argsort(predicted)]


def numbering_differs(counts: np.ndarray) -> bool:
    """Whether one side numbers the classes from 0 and the other from 1, given counts of shape (true, predicted).

    Read with the best relabelling, every predicted class is then the next one (or the one before), and the class at the
    end exists on one side only.
    """
    occurring = np.flatnonzero(counts.sum(axis=0))
    steps = set((best_relabelling(counts)[occurring] - occurring).tolist())
    never_true = np.flatnonzero(counts.sum(axis=1) == 0).tolist()
    ends = {1: [0], -1: [len(counts) - 1]}
    return len(occurring) == len(counts) - 1 and len(steps) == 1 and ends.get(steps.pop()) == never_true


def is_of_subset(report: Mapping[str, object]) -> bool:
    """Whether a report is of some of the classes only, or of several labels per row: it then has a micro average in
    the place of the accuracy."""
    return "micro avg" in report and "accuracy" not in report


MOST_ROWS = 2**53
"""float64 represents every count below it exactly."""


def supports_of(report: Mapping[str, object] | None) -> dict[str, float]:
    """The number of rows of each class in a report of all classes; empty if it does not tell."""
    if not report or is_of_subset(report):
        return {}
    entries = {key: one for key, one in report.items() if isinstance(one, Mapping) and not key.endswith(" avg")}
    rows = {key: entry.get("support") for key, entry in entries.items()}
    known = {key: float(n) for key, n in rows.items() if isinstance(n, int | float) and 0 <= n < MOST_ROWS}
    return known if len(known) == len(rows) else {}


def is_of_one_true_class(report: Mapping[str, object] | None) -> bool:
    """Whether a report of several classes counts rows of one of them only."""
    supports = supports_of(report)
    return len(supports) > 1 and sum(n > 0 for n in supports.values()) == 1


def rounding_of(value: float) -> float:
    """The largest rounding error of a written number: half of its last decimal, and float32's resolution."""
    decimals = repr(float(value)).lower().partition("e")[0].partition(".")[2]
    return 0.5 * 10.0 ** -max(len(decimals), 1) + 1e-7


FINEST = 0.01
"""Largest uncertainty of a number of classes that follows from two rounded scores: chance hits a whole number within it
in one of 50 cases, and only where the F1 is as low as that of one class."""
FINEST_FOR_ONE = 1e-5
"""The same for the F1 of a class that all rows are predicted as, which is as high as that of a good model."""


def is_never_right(claims: ReportedSplit) -> bool:
    """Whether the F1 of one class is exactly 0, although other rows are right."""
    return claims.macro_name == "F1" and claims.macro_f1 == 0 and (claims.accuracy or 0.0) > 0


def one_class_of(claims: ReportedSplit) -> int | None:
    """K, if accuracy and F1 are exactly those of predicting one class of K for every row; else None.

    With the share a of that class, the accuracy is a, its F1 is 2a / (1 + a), that of the others 0, and the macro F1 is
    2a / ((1 + a) K). Rows that are all of one class give the same scores, whatever is predicted: None if the report
    counts no others. An F1 without a mean may be that of the predicted class itself: then K is 1.
    """
    share, f1 = claims.accuracy, claims.macro_f1
    if is_of_one_true_class(claims.report):
        return None
    if share is None or f1 is None or claims.macro_name not in ("macro F1", "F1") or not (0 < share < 1 and f1 > 0):
        return None
    # One program writes both, so that a short number next to a long one is exact.
    rounding = min(rounding_of(share), rounding_of(f1))
    ratio = 2 * share / ((1 + share) * f1)
    error = ratio * rounding * (1 / (share * (1 + share)) + 1 / f1)
    k = round(ratio)
    if k < (1 if claims.macro_name == "F1" else 2) or error > (FINEST if k > 1 else FINEST_FOR_ONE):
        return None
    return k if abs(ratio - k) <= error else None
