"""When chance no longer explains a difference, and how large the difference is."""

from dataclasses import dataclass

import numpy as np

from tenor.checks.finding import CannotTell

ALPHA = 1e-4
"""One false alarm in a hundred healthy runs, shared among about a hundred rules (Bonferroni)."""


@dataclass(frozen=True)
class Association:
    """How far the rows of a contingency table differ."""

    p: float
    v: float
    """Cramér's V: 0 for equal proportions, 1 for disjoint ones."""


def association(table: np.ndarray) -> Association:
    """Pearson's chi-squared test of independence on counts, shape (groups, classes), and Cramér's V (1946)."""
    from scipy.stats import chi2_contingency

    table = table[:, table.sum(axis=0) > 0]
    if min(table.shape) < 2 or (table.sum(axis=1) == 0).any():
        return Association(p=1.0, v=0.0)
    test = chi2_contingency(table, correction=False)
    v = float(np.sqrt(test.statistic / (table.sum() * (min(table.shape) - 1))))
    return Association(float(test.pvalue), v)


@dataclass(frozen=True)
class Runs:
    """Stretches of equal labels in a row."""

    observed: int
    expected: float
    """In random order."""
    p: float
    """Of so few or fewer in random order."""

    @property
    def ratio(self) -> float:
        """1 in random order, near 0 where labels stand in blocks."""
        return self.observed / self.expected


def runs_test(labels: np.ndarray) -> Runs:
    """The runs test of Wald and Wolfowitz (1940) for any number of classes (Mood 1940), one-sided: too few runs.

    Raises CannotTell unless two classes are there.
    """
    from scipy.stats import norm

    n = len(labels)
    counts = np.unique(labels, return_counts=True)[1].astype(float)
    if len(counts) < 2:
        raise CannotTell("only one class is there, so its order says nothing")
    squares, cubes = float(counts @ counts), float((counts**3).sum())
    expected = (n * (n + 1) - squares) / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    observed = 1 + int(np.count_nonzero(labels[1:] != labels[:-1]))
    # Half a run of continuity correction.
    z = (observed + 0.5 - expected) / np.sqrt(variance) if variance > 0 else 0.0
    return Runs(observed, expected, float(norm.cdf(z)))


def chance_of_none(members: int, others: int, drawn: int) -> float:
    """Probability that none of `members` is among `drawn` rows taken at random, without replacement, from both."""
    from scipy.stats import hypergeom

    return float(hypergeom.pmf(0, members + others, members, min(drawn, members + others)))
