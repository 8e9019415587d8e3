"""How far a measured share may be from the true one, given how many rows it was measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.data.sequences import array_of


@dataclass(frozen=True)
class Interval:
    """Bounds that cover the true value with probability `confidence`."""

    low: float
    high: float
    confidence: float


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of Wilson (1927) for a proportion; unlike the normal one it holds at 0 and n successes.

    Raises ValueError unless 0 ≤ successes ≤ n, n > 0 and 0 < confidence < 1.
    """
    from scipy.stats import binomtest

    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 ≤ successes ≤ n and n > 0, found {successes} of {n}")
    _require_confidence(confidence)
    found = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(float(found.low), float(found.high), confidence)


def macro_f1_interval(
    confusion: Sequence[Sequence[int]] | np.ndarray, confidence: float = 0.95, seed: int = 0, resamples: int = 1000
) -> Interval:
    """The bootstrap percentile interval (Efron and Tibshirani 1993, ch. 13) of macro F1 over all K classes.

    `confusion` is (K, K), rows true, columns predicted. Drawing n rows with replacement is drawing the cells' counts
    from a multinomial, which costs nothing per row. A class without true or predicted rows has F1 0, as in `measure`.
    Raises ValueError for a matrix that is not square, is empty or has negative counts.
    """
    counts = array_of(confusion, "confusion").astype(np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.sum() <= 0 or counts.min() < 0:
        raise ValueError(f"expected a square matrix of counts that are not all 0, found shape {counts.shape}")
    true, predicted = counts.nonzero()
    draws = resampled_counts(counts[true, predicted], seed, resamples)
    return percentile_interval(macro_f1_of_counts(draws, true, predicted, len(counts)), confidence)


def resampled_counts(counts: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Counts (cells,) of n rows, as drawing n rows with replacement changes them: float64, shape (resamples, cells)."""
    n = int(counts.sum())
    return np.random.default_rng(seed).multinomial(n, counts / n, size=resamples).astype(np.float64)


def macro_f1_of_counts(draws: np.ndarray, true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Macro F1 of each row of counts, `draws` (draws, cells), whose cells have these true and predicted classes."""
    classes = np.eye(n_classes)
    hits = (draws * (true == predicted)) @ classes[true]
    totals = draws @ (classes[true] + classes[predicted])
    return np.divide(2 * hits, totals, out=np.zeros_like(hits), where=totals > 0).mean(axis=1)


def percentile_interval(values: np.ndarray, confidence: float) -> Interval:
    """The middle share of bootstrapped values (m,). Raises ValueError unless 0 < confidence < 1."""
    _require_confidence(confidence)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence)


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")
