"""Calibration against scikit-learn, SciPy and what is true by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from tenor.measures.calibration import (
    brier_score,
    choose_temperature,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
)

SEEDS = st.integers(0, 10_000)


def _random(seed: int, n: int = 400, classes: int = 3, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from them at temperature 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, scale, (n, classes))
    drawn = random.random(n)[:, None] > np.cumsum(scipy_softmax(logits, axis=1), axis=1)
    return logits, drawn.sum(axis=1).clip(0, classes - 1)


@given(SEEDS, st.integers(2, 6))
def test_brier_and_likelihood_are_scikit_learn_s(seed: int, classes: int) -> None:
    logits, labels = _random(seed, 60, classes)
    probabilities = scipy_softmax(logits, axis=1)
    known = list(range(classes))
    shown = probabilities[:, 1] if classes == 2 else probabilities
    assert brier_score(probabilities, labels) == pytest.approx(brier_score_loss(labels, shown, labels=known))
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(
        log_loss(labels, probabilities, labels=known)
    )


@given(SEEDS, st.integers(1, 30))
def test_the_bins_are_scikit_learn_s_and_hold_every_row(seed: int, bins: int) -> None:
    logits, labels = _random(seed)
    probabilities = scipy_softmax(logits, axis=1)
    found = reliability_bins(probabilities, labels, bins)
    accuracy, confidence = calibration_curve(
        probabilities.argmax(axis=1) == labels, probabilities.max(axis=1), n_bins=bins
    )
    assert [one.accuracy for one in found] == pytest.approx(accuracy)
    assert [one.mean_confidence for one in found] == pytest.approx(confidence)
    assert sum(one.n for one in found) == len(labels)
    assert all(one.low <= one.mean_confidence <= one.high for one in found)
    weights = np.array([one.n for one in found]) / len(labels)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        float((weights * np.abs(accuracy - confidence)).sum())
    )


@pytest.mark.parametrize(("right", "error"), [(9, 0.0), (5, 0.4), (0, 0.9)])
def test_the_error_is_the_distance_of_confidence_and_accuracy(right: int, error: float) -> None:
    labels = np.array([0] * right + [1] * (10 - right))
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert expected_calibration_error(probabilities, labels) == pytest.approx(error)


def test_certainty_is_in_the_last_bin() -> None:
    (only,) = reliability_bins(np.array([[1.0 + 1e-9, 0.0]]), np.array([0]))
    assert (only.high, only.mean_confidence, only.accuracy) == (1.0, 1.0, 1.0)


@given(SEEDS, st.floats(0.2, 5.0))
def test_the_temperature_is_scipy_s_minimum(seed: int, factor: float) -> None:
    logits, labels = _random(seed)
    logits *= factor

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8})
    assert np.log(fit_temperature(logits, labels)) == pytest.approx(found.x, abs=1e-4)


@given(SEEDS, st.floats(0.2, 5.0))
def test_scaled_logits_scale_the_temperature_and_a_second_fit_changes_nothing(seed: int, factor: float) -> None:
    logits, labels = _random(seed)
    temperature = fit_temperature(logits, labels)
    assert fit_temperature(factor * logits + 3.0, labels) == pytest.approx(factor * temperature, rel=1e-6)
    assert fit_temperature(logits / temperature, labels) == pytest.approx(1.0, rel=1e-6)


def test_overconfidence_is_corrected_on_other_rows() -> None:
    logits, labels = _random(1, 8000)
    half = 4000
    temperature = fit_temperature(3 * logits[:half], labels[:half])
    assert temperature == pytest.approx(3.0, rel=0.1)
    before, after = (scipy_softmax(3 * logits[half:] / t, axis=1) for t in (1.0, temperature))
    assert expected_calibration_error(before, labels[half:]) > 0.15
    assert expected_calibration_error(after, labels[half:]) < 0.02


def test_without_an_optimum_nothing_is_scaled() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, np.array([0, 1])) == 1.0, "every row is right"
    assert fit_temperature(logits, np.array([1, 0])) == 1.0, "every row is wrong"
    assert fit_temperature(np.zeros((4, 2)), np.array([0, 1, 0, 1])) == 1.0, "the logits say nothing"


@given(SEEDS)
def test_a_temperature_is_used_only_if_it_is_significant(seed: int) -> None:
    logits, labels = _random(seed)
    assert choose_temperature(4 * logits, labels) == fit_temperature(4 * logits, labels)
    few = slice(0, 5)
    assert choose_temperature(logits[few], labels[few]) in (1.0, fit_temperature(logits[few], labels[few]))


def test_calibrated_probabilities_are_kept_as_often_as_the_level_requires() -> None:
    changed = [choose_temperature(*_random(seed, 200)) != 1.0 for seed in range(300)]
    assert 0.01 <= np.mean(changed) <= 0.1


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "n > 0"),
        (np.array([[2.0, -1.0]]), np.array([0]), "logits"),
        (np.array([[0.5, 0.5]]), np.array([2]), "0 … 1"),
        (np.array([[0.5, 0.5]]), np.array([0, 1]), "2 labels"),
        (np.array([0.5, 0.5]), np.array([0, 1]), "shape"),
    ],
)
def test_invalid_predictions_are_refused(probabilities: np.ndarray, labels: np.ndarray, words: str) -> None:
    for measure in (expected_calibration_error, brier_score, negative_log_likelihood):
        with pytest.raises(ValueError, match=words):
            measure(probabilities, labels)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
