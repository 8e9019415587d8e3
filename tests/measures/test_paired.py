"""The comparison of two classifiers against scikit-learn, SciPy and drawing rows one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import accuracy_score, f1_score

from tenor.measures.intervals import compare_predictions, mcnemar_exact


def _random(seed: int, n: int = 300, classes: int = 3, skill: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)

    def guess() -> np.ndarray:
        return np.where(random.random(n) < skill, labels, random.integers(0, classes, n))

    return labels, guess(), guess()


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_the_numbers_are_scikit_learn_s_and_the_counts_add_up(seed: int, classes: int) -> None:
    labels, first, second = _random(seed, classes=classes)
    found = compare_predictions(labels, first, second, classes)
    known = list(range(classes))
    for index, predicted in enumerate((first, second)):
        assert found.accuracies[index] == pytest.approx(accuracy_score(labels, predicted))
        expected = f1_score(labels, predicted, average="macro", labels=known, zero_division=0)
        assert found.macro_f1[index] == pytest.approx(expected)
    assert found.accuracy_difference == pytest.approx(found.accuracies[1] - found.accuracies[0])
    assert found.both_right + found.first_alone + found.second_alone + found.both_wrong == found.n == len(labels)
    assert found.p_value == pytest.approx(binomtest(found.first_alone, found.first_alone + found.second_alone).pvalue)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_exchanging_the_two_changes_only_the_sign(seed: int) -> None:
    labels, first, second = _random(seed)
    one, other = compare_predictions(labels, first, second, 3), compare_predictions(labels, second, first, 3)
    assert one.accuracy_difference == -other.accuracy_difference
    assert one.p_value == pytest.approx(other.p_value)
    # Other draws of the same distribution: a row is 1/300.
    assert one.accuracy_interval.low == pytest.approx(-other.accuracy_interval.high, abs=0.012)


def test_the_interval_is_scipy_s_paired_bootstrap() -> None:
    labels, first, second = _random(3, n=400)
    found = compare_predictions(labels, first, second, 3)
    gained = (second == labels).astype(float) - (first == labels)
    expected = bootstrap((gained,), np.mean, method="percentile", n_resamples=2000, rng=0).confidence_interval
    assert found.accuracy_interval.low == pytest.approx(expected.low, abs=0.006)
    assert found.accuracy_interval.high == pytest.approx(expected.high, abs=0.006)

    def f1_difference(true: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
        return f1_score(true, other, average="macro") - f1_score(true, one, average="macro")

    random = np.random.default_rng(0)
    drawn = [random.integers(0, 400, 400) for _ in range(150)]
    values = [f1_difference(labels[rows], first[rows], second[rows]) for rows in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    assert found.macro_f1_interval.low == pytest.approx(low, abs=0.015)
    assert found.macro_f1_interval.high == pytest.approx(high, abs=0.015)


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        labels = np.zeros(300, dtype=int)
        first, second = (random.random((2, 300)) > np.array([[0.8], [0.85]])).astype(int)
        interval = compare_predictions(labels, first, second, 2).accuracy_interval
        covered += interval.low <= 0.05 <= interval.high
    assert 0.9 <= covered / 200 <= 0.99


def test_equal_predictions_have_no_significant_difference() -> None:
    labels, first, _ = _random(1)
    found = compare_predictions(labels, first, first, 3)
    assert (found.p_value, found.accuracy_difference, found.significant) == (1.0, 0.0, False)


@pytest.mark.parametrize(("first", "second", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (10, 10, 1.0)])
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    assert mcnemar_exact(first, second) == pytest.approx(p)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 predictions"):
        compare_predictions(np.array([0, 1, 1]), np.array([0, 1, 1]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="counts"):
        mcnemar_exact(-1, 2)
