"""Intervals equal SciPy's, and cover what they claim to cover."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from tenor.measures.intervals import macro_f1_interval, wilson_interval


@given(st.integers(1, 30_000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    ours = wilson_interval(successes, n, confidence)
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= successes / n <= ours.high <= 1


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_an_invalid_proportion(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, n, confidence)


def test_bootstrap_equals_drawing_rows() -> None:
    confusion = np.array([[40, 6, 4], [3, 20, 7], [0, 2, 8]])
    true, predicted = np.repeat(np.indices((3, 3)).reshape(2, -1), confusion.ravel(), axis=1)
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, len(true), len(true)) for _ in range(400)]
    drawn = [f1_score(true[r], predicted[r], labels=range(3), average="macro", zero_division=0) for r in rows]
    ours = macro_f1_interval(confusion, resamples=4000)
    assert (ours.low, ours.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.025)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=3, max_size=3), st.integers(0, 9))
def test_bootstrap_is_seeded_ordered_and_wider_with_more_confidence(confusion: list[list[int]], seed: int) -> None:
    assume(np.sum(confusion) > 0)
    narrow, wide = (macro_f1_interval(confusion, confidence, seed, 200) for confidence in (0.8, 0.99))
    assert narrow == macro_f1_interval(confusion, 0.8, seed, 200)
    assert 0 <= wide.low <= narrow.low <= narrow.high <= wide.high <= 1


def test_bootstrap_narrows_with_more_rows() -> None:
    small = np.array([[45, 5], [6, 44]])
    few, many = macro_f1_interval(small), macro_f1_interval(small * 250)
    assert many.high - many.low < (few.high - few.low) / 10
    assert many.low < 0.89 < many.high


def test_the_bootstrap_interval_is_a_point_if_nothing_can_vary() -> None:
    certain = macro_f1_interval([[7, 0], [0, 0]])
    assert (certain.low, certain.high) == (0.5, 0.5)


@pytest.mark.parametrize("confusion", [[[0, 0], [0, 0]], [[1, 2]], [[1, -1], [0, 3]], [1, 2]])
def test_bootstrap_refuses_an_invalid_confusion_matrix(confusion: list) -> None:
    with pytest.raises(ValueError):
        macro_f1_interval(confusion)
