"""Injected label errors are detected; most correct labels are not reported."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tenor.measures.label_noise import (
    combined,
    features_probabilities,
    suspected_errors,
    words_probabilities,
)


def _blobs(n: int = 400, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return 3 * np.eye(classes)[labels] + random.normal(0, 0.7, (n, classes)), labels


def test_inverted_labels_are_found_on_features() -> None:
    pytest.importorskip("cleanlab")
    features, truth = _blobs()
    wrong = np.random.default_rng(1).permutation(len(truth))[:20]
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + 1) % 3
    probabilities = features_probabilities(features, labels, 3, seed=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    found = suspected_errors(labels, probabilities)
    hits = np.intersect1d(found, wrong)
    assert len(hits) >= 17
    assert len(hits) / len(found) >= 0.8
    of_label = probabilities[np.arange(len(labels)), labels]
    assert (np.diff(of_label[found]) >= 0).all(), "the least probable label comes first"


def test_inverted_labels_are_found_by_words() -> None:
    pytest.importorskip("cleanlab")
    random = np.random.default_rng(0)
    truth = np.arange(200) % 2
    filler = random.choice([f"word{number}" for number in range(40)], (200, 8))
    texts = [f"{' '.join(row)} {('dreadful waste', 'wonderful joy')[k]}" for row, k in zip(filler, truth, strict=True)]
    labels = truth.copy()
    labels[:8] = 1 - labels[:8]
    found = suspected_errors(labels, words_probabilities(texts, labels, 2, seed=0))
    assert set(found.tolist()) <= set(range(8))
    assert len(found) >= 7


def test_no_row_is_judged_by_a_model_that_saw_it() -> None:
    """Random labels: with as many features as rows, a model that saw them would reproduce them."""
    random = np.random.default_rng(2)
    features, labels = random.normal(size=(60, 200)), np.arange(60) % 2
    probabilities = features_probabilities(features, labels, 2, seed=0)
    assert (probabilities.argmax(axis=1) == labels).mean() < 0.75


def test_the_probabilities_are_scikit_learn_s_cross_validation() -> None:
    from sklearn.model_selection import StratifiedKFold

    features, labels = _blobs(120)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    found = features_probabilities(features, labels, 3, seed=3)
    candidates = [
        cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000)),
            features,
            labels,
            cv=folds,
            method="predict_proba",
        )
        for penalty in (0.001, 0.01, 0.1, 1.0)
    ]
    assert any(np.allclose(found, one) for one in candidates)


def test_a_class_without_rows_has_no_probability_and_one_with_a_single_row_is_refused() -> None:
    features, labels = _blobs(60, classes=2)
    assert (features_probabilities(features, labels, 3, seed=0)[:, 2] == 0).all()
    labels[0] = 2
    with pytest.raises(ValueError, match="class 2 has a single row"):
        features_probabilities(features, labels, 3, seed=0)


def test_the_combination_of_equals_is_the_same() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    np.testing.assert_allclose(combined(probabilities, probabilities), probabilities)
    mixed = combined(np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]]))
    np.testing.assert_allclose(mixed, [[0.5, 0.5]])
