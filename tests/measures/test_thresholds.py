"""Thresholds and abstention against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from tenor.measures.calibration import at_threshold, best_precision, threshold_for_precision, threshold_for_recall
from tenor.measures.selective import answered_above, coverage_curve


def _scores(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and members that they partly predict."""
    random = np.random.default_rng(seed)
    member = random.random(n) < 0.4
    member[0] = True
    return np.round(np.clip(random.normal(0.4 + 0.2 * member, 0.2), 0, 1), 2), member


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_precision_is_reached_with_the_most_recall(seed: int, wanted: float) -> None:
    scores, member = _scores(seed)
    every = [at_threshold(scores, member, score) for score in np.unique(scores)]
    reached = [one for one in every if one.precision is not None and one.precision >= wanted]
    found = threshold_for_precision(scores, member, wanted)
    if found is None:
        assert not reached
        assert best_precision(scores, member).precision < wanted  # type: ignore[operator]
    else:
        assert at_threshold(scores, member, found).recall == max(one.recall for one in reached)
        lowest = min(one.threshold for one in reached)
        assert found == (max(scores[scores < lowest], default=0.0) + lowest) / 2


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_scores_that_differ_in_their_last_digits_get_the_same_decision(seed: int, wanted: float) -> None:
    """As those of another batch, another processor or another engine do."""
    scores, member = _scores(seed)
    others = scores + np.random.default_rng(seed).uniform(-1e-6, 1e-6, len(scores))
    for found in (threshold_for_precision(scores, member, wanted), threshold_for_recall(scores, member, wanted)):
        if found:  # 0 selects every row: no probability is below it.
            np.testing.assert_array_equal(others >= found, scores >= found)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_recall_is_reached_with_the_highest_threshold(seed: int, wanted: float) -> None:
    scores, member = _scores(seed)
    found = threshold_for_recall(scores, member, wanted)
    assert at_threshold(scores, member, found).recall >= wanted  # type: ignore[operator]
    lowest_called = scores[scores >= found].min()
    for higher in np.unique(scores[scores > lowest_called]):
        assert at_threshold(scores, member, higher).recall < wanted  # type: ignore[operator]


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_precision_and_recall_are_scikit_learn_s(seed: int, threshold: float) -> None:
    scores, member = _scores(seed)
    found = at_threshold(scores, member, threshold)
    assert found.recall == pytest.approx(recall_score(member, scores >= threshold))
    if found.called:
        assert found.precision == pytest.approx(precision_score(member, scores >= threshold))
    else:
        assert found.precision is None


def test_rows_without_a_threshold_are_refused() -> None:
    with pytest.raises(ValueError, match="of the class"):
        threshold_for_recall(np.array([0.1]), np.array([False]), 0.5)
    with pytest.raises(ValueError, match="shape"):
        threshold_for_precision(np.array([0.1]), np.array([True, False]), 0.5)


@given(st.integers(0, 10_000))
def test_each_point_of_the_curve_matches_its_threshold(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, labels = np.round(random.dirichlet([1, 1, 1], 50), 1), random.integers(0, 3, 50)
    probabilities[:, 2] = 1 - probabilities[:, 0] - probabilities[:, 1]
    probabilities = probabilities.clip(0, 1)
    curve = coverage_curve(probabilities, labels)
    assert curve[0].coverage == 1.0
    for point in curve:
        assert point == answered_above(probabilities, labels, point.threshold)
    coverages = [point.coverage for point in curve]
    assert coverages == sorted(set(coverages), reverse=True)


def test_abstention_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.9, 0.1], [0.4, 0.6], [0.55, 0.45]])
    found = answered_above(probabilities, np.array([0, 1, 1, 1]), 0.9)
    assert (found.answered, found.right, found.coverage, found.accuracy) == (2, 1, 0.5, 0.5)
    none = answered_above(probabilities, np.array([0, 1, 1, 1]), 0.99)
    assert (none.coverage, none.accuracy, none.interval()) == (0.0, None, None)
