"""Which labels are probably wrong: out-of-sample probabilities, and confident learning on them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tenor.data.sequences import array_of, list_of
from tenor.errors import UserError
from tenor.measures.calibration import log_probabilities
from tenor.measures.metrics import check_labels, check_predictions, mean_negative_log_likelihood
from tenor.measures.text_baseline import fit_text_baseline

FOLDS = 5
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Candidates for the regression on standardised features; the one with the best held-out likelihood is used."""


def words_probabilities(texts: Sequence[str], labels: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """Probabilities of each of n texts by naive-Bayes-weighted bigrams, fitted on the other folds: shape (n, K).

    Raises ValueError for labels (n,) outside 0 … K-1 and for a class with a single row.
    """
    texts, labels = list_of(texts, "texts"), array_of(labels, "labels")

    def fit_predict(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        fitted = fit_text_baseline([texts[row] for row in train], labels[train], n_classes, seed)
        return fitted.probabilities([texts[row] for row in held_out])

    return _cross_validated(fit_predict, labels, n_classes, seed)


def features_probabilities(features: np.ndarray, labels: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """Probabilities of each row of features (n, width) by a logistic regression, fitted on the other folds: shape (n,
    K).

    Raises ValueError as `words_probabilities` does.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = array_of(features, "features"), array_of(labels, "labels")

    def fit_with(inverse_penalty: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        def fit_predict(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=1000))
            model.fit(features[train], labels[train])
            filled = np.zeros((len(held_out), n_classes))
            filled[:, model[-1].classes_] = model.predict_proba(features[held_out])
            return filled

        return fit_predict

    candidates = [_cross_validated(fit_with(penalty), labels, n_classes, seed) for penalty in INVERSE_PENALTIES]
    return min(candidates, key=lambda probabilities: mean_negative_log_likelihood(labels, probabilities))


def combined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The normalised geometric mean of two sets of probabilities, shape (n, K)."""
    from scipy.special import softmax

    mean = (log_probabilities(first) + log_probabilities(second)) / 2
    return softmax(mean, axis=1)


def suspected_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows whose label is probably wrong, the likeliest first, by cleanlab's confident learning.

    Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels": a row counts as
    another class's where it is at least as probable there as that class's own rows are on average (the off-diagonals
    of the confident joint; pruning by the noise rates that follow from it names half as many again, with less
    precision: `make bench-audit`). `probabilities` (n, K) must be out-of-sample.
    Raises UserError if cleanlab is not installed, ValueError as `measure` does.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise UserError("an audit requires cleanlab. Install it: pip install 'tenor[audit]'") from error
    probabilities, labels = check_predictions(probabilities, labels)
    # In this process: a pool of processes would cost more than the work.
    rows = find_label_issues(
        labels, probabilities, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return np.asarray(rows, dtype=np.int64)


def _cross_validated(
    fit_predict: Callable[[np.ndarray, np.ndarray], np.ndarray], labels: np.ndarray, n_classes: int, seed: int
) -> np.ndarray:
    labels = check_labels(labels, n_classes)
    probabilities = np.zeros((len(labels), n_classes))
    for train, held_out in _folds(labels, seed):
        probabilities[held_out] = fit_predict(train, held_out)
    return probabilities


def _folds(labels: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stratified folds: `FOLDS`, or as many as the rarest class has rows if these are fewer."""
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels)
    rarest = int(counts[counts > 0].min())
    if rarest < 2:
        raise ValueError(
            f"class {int(np.flatnonzero(counts == 1)[0])} has a single row, expected at least two for cross-validation"
        )
    yield from StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
