"""The stacker of encoder and text baseline: the best likelihood, no luck, and a comparison that noise does not win."""

import numpy as np
import pytest
from scipy.special import log_softmax

from tenor.measures.hybrid import FEWEST_ROWS, FoldComparison, Stacker, compare_by_folds, fit_stacker


def two_views(rows: int, classes: int, seed: int, text_strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the logits of an encoder and the log-probabilities of a text model that err independently."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    true = np.eye(classes)[labels]
    encoder = 2.0 * true + rng.normal(size=(rows, classes))
    text = log_softmax(text_strength * true + rng.normal(size=(rows, classes)), axis=1)
    return encoder, text, labels


def likelihood(stacker: Stacker, encoder: np.ndarray, text: np.ndarray, labels: np.ndarray) -> float:
    return float(log_softmax(stacker.logits(encoder, text), axis=1)[np.arange(len(labels)), labels].sum())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_no_neighbouring_stacker_is_more_likely(classes: int) -> None:
    encoder, text, labels = two_views(2000, classes, seed=classes, text_strength=1.5)
    best = fit_stacker(encoder, text, labels)
    value = likelihood(best, encoder, text, labels)
    rng = np.random.default_rng(0)
    for _ in range(50):
        step = rng.normal(scale=0.1, size=classes + 2)
        other = Stacker(best.encoder + step[0], best.text + step[1], tuple(np.array(best.bias) + step[2:]))
        # One row's worth of penalty is all that separates the optimum from the most likely stacker.
        assert likelihood(other, encoder, text, labels) < value + 0.5


def test_two_classes_are_a_logistic_regression_on_two_log_odds() -> None:
    from sklearn.linear_model import LogisticRegression

    encoder, text, labels = two_views(5000, 2, seed=1, text_strength=1.5)
    odds = np.stack([encoder[:, 1] - encoder[:, 0], text[:, 1] - text[:, 0]], axis=1)
    regression = LogisticRegression(C=1e6, tol=1e-10).fit(odds, labels)
    found = fit_stacker(encoder, text, labels)
    assert (found.encoder, found.text) == pytest.approx(tuple(regression.coef_[0]), rel=0.01)
    assert found.bias[1] - found.bias[0] == pytest.approx(float(regression.intercept_[0]), abs=0.01)


def test_the_order_of_rows_and_of_classes_does_not_matter() -> None:
    encoder, text, labels = two_views(400, 3, seed=2, text_strength=1.0)
    found = fit_stacker(encoder, text, labels)
    order = np.random.default_rng(0).permutation(400)
    shuffled = fit_stacker(encoder[order], text[order], labels[order])
    assert (shuffled.encoder, shuffled.text) == pytest.approx((found.encoder, found.text), abs=1e-5)
    swap = np.array([2, 0, 1])  # The class at place k becomes class swap⁻¹[k].
    swapped = fit_stacker(encoder[:, swap], text[:, swap], np.argsort(swap)[labels])
    assert swapped.bias == pytest.approx([found.bias[k] for k in swap], abs=1e-5)


def test_rows_without_a_single_error_give_finite_weights() -> None:
    labels = np.arange(200) % 2
    encoder = 8.0 * np.eye(2)[labels]
    found = fit_stacker(encoder, log_softmax(encoder, axis=1), labels)
    assert np.isfinite([found.encoder, found.text, *found.bias]).all()
    assert found.encoder < 10


def test_a_second_view_is_kept_and_noise_is_not() -> None:
    better = compare_by_folds(*two_views(500, 2, seed=3, text_strength=2.0), seed=0)
    assert better.hybrid_is_better
    assert better.hybrid_accuracy > better.encoder_accuracy
    kept = [compare_by_folds(*two_views(300, 2, seed, 0.0), seed=0).hybrid_is_better for seed in range(100)]
    assert sum(kept) <= 5


def test_a_model_that_says_the_same_as_the_encoder_is_not_kept() -> None:
    encoder, _, labels = two_views(500, 2, seed=4, text_strength=0.0)
    assert not compare_by_folds(encoder, log_softmax(encoder, axis=1), labels, seed=0).hybrid_is_better


def test_too_few_rows_and_unusable_values_are_refused() -> None:
    encoder, text, labels = two_views(FEWEST_ROWS - 1, 2, seed=5, text_strength=1.0)
    with pytest.raises(ValueError, match=f"{FEWEST_ROWS} rows or more"):
        compare_by_folds(encoder, text, labels, seed=0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_stacker(encoder, np.full_like(text, np.nan), labels)
    with pytest.raises(ValueError, match="shape"):
        fit_stacker(encoder, text[:, :1], labels)


def test_equal_predictions_are_not_better() -> None:
    assert not FoldComparison(500, 0.9, 0.9, 0.0, 1.0).hybrid_is_better
