"""Two classifiers on the same rows: what each gets right alone, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np

from tenor.measures.intervals import Interval, macro_f1_of_counts, percentile_interval, resampled_counts
from tenor.measures.metrics import check_labels

RESAMPLES = 2000


@dataclass(frozen=True)
class Paired:
    """The second classifier against the first on n rows; differences are second minus first, in -1 … 1."""

    n: int
    both_right: int
    first_alone: int
    """Rows that the first gets right and the second wrong."""
    second_alone: int
    both_wrong: int
    accuracies: tuple[float, float]
    accuracy_difference: float
    accuracy_interval: Interval
    macro_f1: tuple[float, float]
    macro_f1_difference: float
    macro_f1_interval: Interval
    p_value: float
    """Of McNemar's exact test."""

    @property
    def shown(self) -> bool:
        """Whether chance alone is unlikely to explain the difference in accuracy, at the intervals' confidence."""
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
    both of its predictions, which is drawing the counts of (label, first, second) from a multinomial.
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
    """p of the exact form of McNemar's test (1947): were both as good, either would be right alone half of the time.

    Two-sided; 1 where they never differ in being right. Raises ValueError for a negative count.
    """
    from scipy.stats import binomtest

    if first_alone < 0 or second_alone < 0:
        raise ValueError(f"expected counts, found {first_alone} and {second_alone}")
    discordant = first_alone + second_alone
    return float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0
