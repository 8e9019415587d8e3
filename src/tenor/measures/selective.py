"""Accuracy on parts of a split: by confidence, by length, by truncation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.data.sequences import array_of
from tenor.measures.intervals import Interval, wilson_interval
from tenor.measures.metrics import check_predictions

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Answered:
    """The rows whose confidence, the probability of the predicted class, is `threshold` or more."""

    threshold: float
    n: int
    answered: int
    right: int

    @property
    def coverage(self) -> float:
        """Share of the rows that are answered, in 0 … 1."""
        return self.answered / self.n

    @property
    def accuracy(self) -> float | None:
        """Accuracy among the answered rows, in 0 … 1; None if no row is answered."""
        return self.right / self.answered if self.answered else None

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Wilson's interval of the accuracy."""
        return wilson_interval(self.right, self.answered, confidence) if self.answered else None


def answered_above(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> Answered:
    """Answer the rows whose confidence reaches `threshold`. Probabilities (n, K), labels (n,).

    Raises ValueError as `measure` does.
    """
    confidence, right = _confidence(probabilities, labels)
    chosen = confidence >= threshold
    return Answered(threshold, len(right), int(chosen.sum()), int((chosen & right).sum()))


def coverage_curve(
    probabilities: np.ndarray, labels: np.ndarray, coverages: tuple[float, ...] = COVERAGES
) -> tuple[Answered, ...]:
    """Answer the most confident rows, each coverage in 0 … 1 once; equally confident rows are answered together.

    Raises ValueError as `measure` does.
    """
    confidence, right = _confidence(probabilities, labels)
    n = len(right)
    descending = np.sort(confidence)[::-1]
    right_of = np.concatenate([[0], np.cumsum(right[np.argsort(-confidence, kind="stable")])])
    points: dict[float, Answered] = {}
    for coverage in coverages:
        threshold = float(descending[max(1, round(coverage * n)) - 1])
        answered = int(np.searchsorted(-descending, -threshold, side="right"))
        points.setdefault(threshold, Answered(threshold, n, answered, int(right_of[answered])))
    return tuple(points.values())


def _confidence(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and whether the prediction is right, both (n,)."""
    probabilities, labels = check_predictions(probabilities, labels)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


@dataclass(frozen=True)
class Slice:
    """The n rows of a part, n > 0; `accuracy` in 0 … 1 with Wilson's interval."""

    name: str
    n: int
    accuracy: float
    interval: Interval


def accuracy_by_length(right: np.ndarray, tokens: np.ndarray, confidence: float = 0.95) -> tuple[Slice, ...]:
    """Parts by the token count of the whole text; each part's upper bound is twice that of the part before.

    `right` is (n,) bool: whether each prediction is; `tokens` is (n,). Parts without rows are left out.
    """
    tokens = array_of(tokens, "tokens")
    if not len(tokens):
        return ()
    edges, names = [32], ["up to 32"]
    while edges[-1] < tokens.max():
        names.append(f"{edges[-1] + 1:,}–{2 * edges[-1]:,}")
        edges.append(2 * edges[-1])
    return _slices(right, np.searchsorted(edges, tokens, side="left"), names, confidence)


def accuracy_by_truncation(
    right: np.ndarray, tokens: np.ndarray, truncated: np.ndarray, confidence: float = 0.95
) -> tuple[Slice, ...]:
    """Parts by the share of the text that was truncated: `truncated` of `tokens` tokens, both (n,)."""
    share = array_of(truncated, "truncated") / np.maximum(array_of(tokens, "tokens"), 1)
    names = ["nothing", "up to 25%", "25–50%", "50–75%", "over 75%"]
    index = np.searchsorted([0.0, 0.25, 0.5, 0.75], share, side="left")
    return _slices(right, index, names, confidence)


def _slices(right: np.ndarray, index: np.ndarray, names: Sequence[str], confidence: float) -> tuple[Slice, ...]:
    right = array_of(right, "right").astype(bool)
    if right.shape != np.shape(index):
        raise ValueError(f"{len(right)} predictions, but {len(index)} rows")
    slices = []
    for k in np.unique(index):
        hits, n = int(right[index == k].sum()), int((index == k).sum())
        slices.append(Slice(names[k], n, hits / n, wilson_interval(hits, n, confidence)))
    return tuple(slices)
