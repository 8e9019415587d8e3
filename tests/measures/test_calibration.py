"""Calibration numbers equal scikit-learn's and a plain loop over rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from tenor.measures.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)


def drawn(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), n), rng.integers(0, k, n)


@given(st.integers(0, 1000), st.integers(1, 200), st.integers(2, 5), st.integers(1, 20))
def test_error_equals_a_loop_over_rows(seed: int, n: int, k: int, bins: int) -> None:
    probabilities, labels = drawn(seed, n, k)
    confidence = probabilities.max(axis=1)
    expected = 0.0
    for b in range(bins):
        rows = [i for i in range(n) if b / bins < confidence[i] <= (b + 1) / bins]
        if rows:
            right = np.mean([probabilities[i].argmax() == labels[i] for i in rows])
            expected += len(rows) / n * abs(right - confidence[rows].mean())
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-9)
    found = reliability_bins(probabilities, labels, bins)
    assert sum(one.n for one in found) == n
    assert all(one.low - 1e-9 <= one.mean_confidence <= one.high + 1e-9 for one in found)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 200), st.integers(2, 5))
def test_scores_equal_scikit_learn(seed: int, n: int, k: int) -> None:
    probabilities, labels = drawn(seed, n, k)
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(
        log_loss(labels, probabilities, labels=range(k))
    )
    if k == 2:
        theirs = 2 * brier_score_loss(labels, probabilities[:, 1], labels=[0, 1])
        assert brier_score(probabilities, labels) == pytest.approx(theirs)


def test_a_model_that_knows_has_no_error() -> None:
    sure = np.eye(3)[[0, 1, 2]]
    assert expected_calibration_error(sure, np.array([0, 1, 2])) == 0.0
    assert brier_score(sure, np.array([0, 1, 2])) == 0.0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1.0


@pytest.mark.parametrize(
    ("probabilities", "labels"), [([[0.5, 0.5]], [0, 1]), ([[0.9, 0.9]], [0]), ([[0.5, 0.5]], [2])]
)
def test_refuses_what_does_not_fit(probabilities: list, labels: list) -> None:
    with pytest.raises(ValueError):
        reliability_bins(np.array(probabilities), np.array(labels))
