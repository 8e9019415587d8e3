"""Answering only where the model is sure: what share of the rows that is, and how often it is right there.

El-Yaniv and Wiener (2010), "On the foundations of noise-free selective classification".
"""

from dataclasses import dataclass

import numpy as np

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
        """Among these, in 0 … 1; None where no row is answered."""
        return self.right / self.answered if self.answered else None

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Wilson's, of the accuracy."""
        return wilson_interval(self.right, self.answered, confidence) if self.answered else None


def answered_above(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> Answered:
    """Answer where the confidence reaches `threshold`. Probabilities (n, K), labels (n,).

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
