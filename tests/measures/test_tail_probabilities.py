"""The p-values that are computed without `scipy.stats` are those of `scipy.stats`."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tenor.measures.tail_probabilities import (
    binomial_at_most,
    chi_squared,
    hypergeometric_none,
    kendall_falls,
    normal_above,
)


@given(st.floats(-30, 30))
def test_the_normal_tail(z: float) -> None:
    assert normal_above(z) == pytest.approx(stats.norm.sf(z), rel=1e-9)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1))
def test_the_binomial_tail(n: int, part: float, share: float) -> None:
    for successes in (-1, round(part * n), n):
        expected = stats.binom.cdf(successes, n, share)
        assert binomial_at_most(successes, n, share) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@given(st.integers(0, 3000), st.integers(1, 3000), st.floats(0, 1))
def test_no_member_among_the_drawn(members: int, others: int, part: float) -> None:
    drawn = round(part * (members + others))
    expected = stats.hypergeom.pmf(0, members + others, members, drawn)
    assert hypergeometric_none(members, others, drawn) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 10_000))
def test_the_test_of_independence(groups: int, classes: int, seed: int) -> None:
    table = np.random.default_rng(seed).integers(1, 200, (groups, classes))
    expected = stats.chi2_contingency(table, correction=False)
    found = chi_squared(table)
    assert (found.statistic, found.freedom) == pytest.approx((expected.statistic, expected.dof), rel=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-8, abs=1e-300)


@given(st.integers(3, 150), st.floats(-0.1, 0.1), st.sampled_from([0, 1, 2, 9]), st.integers(0, 10_000))
def test_the_test_for_a_falling_trend(n: int, slope: float, decimals: int, seed: int) -> None:
    """Rounded values are tied."""
    values = (np.random.default_rng(seed).normal(size=n) + slope * np.arange(n)).round(decimals)
    expected = stats.kendalltau(np.arange(n), values, alternative="less").pvalue
    found = kendall_falls(values)
    assert math.isnan(found) == math.isnan(expected)
    assert math.isnan(found) or found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_none_of_them_imports_scipy_stats() -> None:
    code = (
        "import sys, numpy as np\n"
        "from tenor.measures.tail_probabilities import *\n"
        "normal_above(1.0), binomial_at_most(3, 9, 0.5), hypergeometric_none(3, 9, 2)\n"
        "chi_squared(np.array([[3, 9], [5, 2]])).p, kendall_falls(np.arange(9.0)), kendall_falls(np.arange(99.0))\n"
        "sys.exit('scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
