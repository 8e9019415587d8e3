"""Confidence intervals, and the comparison of two classifiers on the same rows.

McNemar's exact test is SciPy's `binomtest`; Wilson's interval equals its, without the second that its import costs a
watched program. The bootstrap is written here because resampling a
few cells of counts takes milliseconds, while `scipy.stats.bootstrap` resamples all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from tenor.data.sequences import array_of
from tenor.measures.metrics import check_labels


@dataclass(frozen=True)
class Interval:
    """Bounds that cover the true value with probability `confidence`."""

    low: float
    high: float
    confidence: float


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of Wilson (1927) for a proportion; unlike the normal one it is valid at 0 and n successes.

    Raises ValueError unless 0 ≤ successes ≤ n, n > 0 and 0 < confidence < 1.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 ≤ successes ≤ n and n > 0, observed {successes} of {n}")
    _require_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = successes / n, z * z / n
    middle, half = share + spread / 2, z * sqrt((share * (1 - share) + spread / 4) / n)
    low = (middle - half) / (1 + spread) if successes else 0.0
    high = (middle + half) / (1 + spread) if successes < n else 1.0
    return Interval(low, high, confidence)


def macro_f1_interval(
    confusion: Sequence[Sequence[int]] | np.ndarray, confidence: float = 0.95, seed: int = 0, resamples: int = 1000
) -> Interval:
    """The bootstrap percentile interval (Efron and Tibshirani 1993, ch. 13) of macro F1 over all K classes.

    `confusion` is (K, K), rows true, columns predicted. Drawing n rows with replacement is equivalent to
    drawing the counts of the cells from a multinomial, whose cost does not depend on n. A class without true or
    predicted rows has F1 0, as in `measure`.
    Raises ValueError for a matrix that is not square, is empty or has negative counts.
    """
    counts = array_of(confusion, "confusion").astype(np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.sum() <= 0 or counts.min() < 0:
        raise ValueError(f"expected a square matrix of counts that are not all 0, observed shape {counts.shape}")
    true, predicted = counts.nonzero()
    draws = resampled_counts(counts[true, predicted], seed, resamples)
    return percentile_interval(macro_f1_of_counts(draws, true, predicted, len(counts)), confidence)


def resampled_counts(counts: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Bootstrap samples of the counts (cells,) of n rows: float64, shape (resamples, cells)."""
    n = int(counts.sum())
    return np.random.default_rng(seed).multinomial(n, counts / n, size=resamples).astype(np.float64)


def macro_f1_of_counts(draws: np.ndarray, true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Macro F1 of each row of counts, `draws` (draws, cells), whose cells have these true and predicted classes."""
    classes = np.eye(n_classes)
    hits = (draws * (true == predicted)) @ classes[true]
    totals = draws @ (classes[true] + classes[predicted])
    return np.divide(2 * hits, totals, out=np.zeros_like(hits), where=totals > 0).mean(axis=1)


def percentile_interval(values: np.ndarray, confidence: float) -> Interval:
    """The central interval of bootstrapped values (m,). Raises ValueError unless 0 < confidence < 1."""
    _require_confidence(confidence)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence)


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, observed {confidence}")


RESAMPLES = 2000


@dataclass(frozen=True)
class Paired:
    """The second classifier against the first on n rows; differences are second minus first, in -1 … 1."""

    n: int
    both_right: int
    first_alone: int
    """Count of rows that only the first gets right."""
    second_alone: int
    both_wrong: int
    accuracies: tuple[float, float]
    accuracy_difference: float
    accuracy_interval: Interval
    macro_f1: tuple[float, float]
    macro_f1_difference: float
    macro_f1_interval: Interval
    p_value: float
    """p value of McNemar's exact test."""

    @property
    def significant(self) -> bool:
        """Whether the difference in accuracy is significant, at the intervals' confidence."""
        return self.p_value < 1 - self.accuracy_interval.confidence


def compare_predictions(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    n_classes: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Compare predicted classes (n,) on the rows with these labels (n,).

    The intervals are the paired bootstrap's percentiles (Efron and Tibshirani 1993, ch. 13): rows are drawn, each with
    both of its predictions, by drawing the counts of (label, first, second) from a multinomial.
    Raises ValueError for no rows, shapes that do not fit and labels outside 0 … K-1.
    """
    labels, first, second = (check_labels(values, n_classes) for values in (labels, first, second))
    if not len(labels) == len(first) == len(second):
        raise ValueError(f"{len(labels)} labels, {len(first)} and {len(second)} predictions")
    n = len(labels)
    cells, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    true, one, other = cells
    gained = (other == true).astype(np.float64) - (one == true)
    draws = np.vstack([counts, resampled_counts(counts, seed, RESAMPLES)]).astype(np.float64)
    accuracy = draws @ gained / n
    f1 = np.stack([macro_f1_of_counts(draws, true, predicted, n_classes) for predicted in (one, other)])
    right_one, right_other = first == labels, second == labels
    first_alone, second_alone = int((right_one & ~right_other).sum()), int((right_other & ~right_one).sum())
    return Paired(
        n=n,
        both_right=int((right_one & right_other).sum()),
        first_alone=first_alone,
        second_alone=second_alone,
        both_wrong=int((~right_one & ~right_other).sum()),
        accuracies=(float(right_one.mean()), float(right_other.mean())),
        accuracy_difference=(second_alone - first_alone) / n,
        accuracy_interval=percentile_interval(accuracy[1:], confidence),
        macro_f1=(float(f1[0, 0]), float(f1[1, 0])),
        macro_f1_difference=float(f1[1, 0] - f1[0, 0]),
        macro_f1_interval=percentile_interval(f1[1, 1:] - f1[0, 1:], confidence),
        p_value=mcnemar_exact(first_alone, second_alone),
    )


def mcnemar_exact(first_alone: int, second_alone: int) -> float:
    """p value of the exact form of McNemar's test (1947): if both are equally good, each is the only right one half of
    the time.

    Two-sided; 1 if no row is right for only one of them. Raises ValueError for a negative count.
    """
    from scipy.stats import binomtest

    if first_alone < 0 or second_alone < 0:
        raise ValueError(f"expected counts, observed {first_alone} and {second_alone}")
    discordant = first_alone + second_alone
    return float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0
