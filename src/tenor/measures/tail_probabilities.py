"""P-values without `scipy.stats`, whose import takes a second and 70 MB: a watched program pays for it while it trains.

Each equals SciPy's function of the same test, to which tests compare it.
"""

import math
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 33
"""Values up to which Kendall's test is exact where no two are equal, as in SciPy."""


def normal_above(z: float) -> float:
    """P(Z ≥ z) of a standard normal variable."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def binomial_at_most(successes: int, n: int, share: float) -> float:
    """P(X ≤ successes) for X ~ Binomial(n, share)."""
    from scipy.special import bdtr

    if successes < 0 or successes >= n:
        return float(successes >= n)
    return float(bdtr(successes, n, share))


def hypergeometric_none(members: int, others: int, drawn: int) -> float:
    """Probability that `drawn` of `members` + `others` rows, without replacement, contain none of the members."""
    if drawn > others:
        return 0.0
    logs = (others, members + others - drawn, -(others - drawn), -(members + others))
    return math.exp(min(0.0, sum(math.copysign(math.lgamma(abs(k) + 1), k) if k else 0.0 for k in logs)))


@dataclass(frozen=True)
class ChiSquared:
    """Pearson's test of independence (1900), without a correction for continuity."""

    statistic: float
    freedom: int

    @property
    def p(self) -> float:
        from scipy.special import chdtrc

        return float(chdtrc(self.freedom, self.statistic))


def chi_squared(table: np.ndarray) -> ChiSquared:
    """The test on counts, shape (groups, classes), of which no row and no column is empty."""
    table = np.asarray(table, dtype=np.float64)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return ChiSquared(float(((table - expected) ** 2 / expected).sum()), freedom)


def kendall_falls(values: np.ndarray) -> float:
    """P-value of Kendall's test (1938) that values, shape (n,), fall in their order: one-sided, with the correction for
    ties. NaN if all are equal."""
    n = len(values)
    pairs, falling = n * (n - 1) // 2, _falling_pairs(values)
    ties = np.unique(values, return_counts=True)[1].astype(np.float64)
    tied = float((ties * (ties - 1) / 2).sum())
    if tied == pairs:
        return math.nan
    if tied == 0 and n <= EXACT_UP_TO:
        return _chance_of_rising_pairs(pairs - falling, n)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return normal_above(-(pairs - tied - 2 * falling) / math.sqrt(variance))


def _falling_pairs(values: np.ndarray) -> int:
    """Pairs of which the later value is the lower one, in n log² n steps."""
    ranks = np.unique(values, return_inverse=True)[1].ravel()
    falling = 0
    # A falling pair has ranks that agree down to some bit, which is 1 in the earlier and 0 in the later one.
    for bit in range(int(ranks.max(initial=0)).bit_length()):
        order = np.argsort(ranks >> (bit + 1), kind="stable")
        group, ones = ranks[order] >> (bit + 1), (ranks[order] >> bit) & 1
        before = np.cumsum(ones) - ones
        falling += int((before - before[np.searchsorted(group, group)])[ones == 0].sum())
    return falling


def _chance_of_rising_pairs(rising: int, n: int) -> float:
    """P(at most so many rising pairs) among n values in random order."""
    chances = np.ones(1)
    for size in range(2, n + 1):
        chances = np.convolve(chances, np.full(size, 1 / size))
    return float(min(1.0, chances[: rising + 1].sum()))
