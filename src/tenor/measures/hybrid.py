"""The hybrid: an encoder and a text baseline combined by a stacker of K + 1 free numbers, fitted on validation rows.

    logits = encoder · (encoder's logits / temperature) + text · (log-probabilities of the text baseline) + bias

This is Wolpert's (1992) stacked generalization with a logistic regression that has one weight per model and one bias
per class: so few numbers that some hundred rows determine them. The softmax of the sum is calibrated on the same rows
without a further temperature. Both models must not have been trained on these rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenor.errors import UserError
from tenor.measures.metrics import check_labels, check_numbers
from tenor.measures.text_baseline import TextBaseline
from tenor.runs.files import digest_folder
from tenor.runs.model_notes import StoredHybrid

TEXT_BASELINE = "text_baseline"
"""The baseline's folder within a model folder or an export."""

FOLDS = 5
FEWEST_ROWS = 100
"""Minimum count of validation rows. With fewer, a stacker is mostly noise."""
LEVEL = 0.05
"""Of the paired test by which `compare_by_folds` decides."""
PENALTY = 1.0
"""Of the squared distance from the encoder alone (weights 1 and 0, bias 0), added to the summed loss: one row's worth.
It keeps the optimum finite where the rows can be separated without an error."""


@dataclass(frozen=True)
class Stacker:
    """Weights of both models, and a bias per class."""

    encoder: float
    """Weight of the encoder's logits divided by their temperature, 0 or more."""
    text: float
    """Weight of the text baseline's log-probabilities, 0 or more."""
    bias: tuple[float, ...]
    """One per class; their sum is 0."""

    def logits(self, encoder: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Combined logits, float64, shape (n, K), from scaled logits and log-probabilities of the same shape."""
        return self.encoder * encoder.astype(np.float64) + self.text * text + np.array(self.bias)


@dataclass(frozen=True)
class Hybrid:
    """A stacker and the text baseline that it adds to an encoder."""

    stacker: Stacker
    baseline: TextBaseline

    def logits(self, encoder: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Combined logits, float64, shape (n, K), from the encoder's, divided by their temperature, and the texts."""
        return self.stacker.logits(encoder, self.baseline.log_probabilities(texts))


def save_hybrid(hybrid: Hybrid, folder: Path) -> StoredHybrid:
    """Write the text baseline into a model folder; returns the record for `tenor.json` or `export.json`."""
    hybrid.baseline.save(folder / TEXT_BASELINE)
    stacker = hybrid.stacker
    digest = digest_folder(folder / TEXT_BASELINE)
    return StoredHybrid(encoder=stacker.encoder, text=stacker.text, bias=stacker.bias, baseline_sha256=digest)


def load_hybrid(folder: Path, stored: StoredHybrid, class_names: Sequence[str]) -> Hybrid:
    """Read what `save_hybrid` wrote, for a model with these classes.

    Raises:
        UserError: the baseline is missing, was changed, or has another number of classes.
    """
    place = folder / TEXT_BASELINE
    if not place.is_dir():
        raise UserError(f"{place} is missing: the model is a hybrid of encoder and text baseline. Restore the folder")
    if (observed := digest_folder(place)) != stored.baseline_sha256:
        raise UserError(
            f"{place} is not what was saved: SHA-256 {observed[:12]}…, expected {stored.baseline_sha256[:12]}…. "
            "Restore the folder, or train again"
        )
    baseline = TextBaseline.load(place)
    if not len(baseline.class_frequencies) == len(stored.bias) == len(class_names):
        raise UserError(
            f"{place}: the text baseline has {len(baseline.class_frequencies)} classes, the hybrid {len(stored.bias)}, "
            f"and the encoder {len(class_names)}. Restore the model folder, or train again"
        )
    return Hybrid(Stacker(stored.encoder, stored.text, stored.bias), baseline)


@dataclass(frozen=True)
class FoldComparison:
    """Hybrid and encoder alone on the same validation rows; the hybrid's predictions are cross-fitted."""

    rows: int
    encoder_accuracy: float
    hybrid_accuracy: float
    loss_difference: float
    """Mean negative log-likelihood without the text baseline minus that of the hybrid: above 0 if the hybrid is
    better. Without it, the encoder has a cross-fitted weight and bias too, so that calibration alone does not count."""
    p: float
    """One-sided paired t-test of the differences by row: probability of such a mean if the hybrid is not better."""

    @property
    def hybrid_is_better(self) -> bool:
        return self.p < LEVEL and self.hybrid_accuracy >= self.encoder_accuracy


def fit_stacker(encoder: np.ndarray, text: np.ndarray, labels: np.ndarray) -> Stacker:
    """The stacker with the highest penalized likelihood on n rows.

    `encoder` is (n, K), logits divided by their temperature; `text` is (n, K), log-probabilities; `labels` is (n,).
    The problem is convex, so that the result does not depend on a starting point. Raises ValueError for no rows, other
    shapes, values that are not finite, and labels outside 0 … K-1.
    """
    from scipy.optimize import minimize
    from scipy.special import softmax

    encoder, text, labels = _check(encoder, text, labels)
    rows, classes = encoder.shape
    true = np.eye(classes)[labels]
    start = np.array([1.0, 0.0, *np.zeros(classes)])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = parameters[0] * encoder + parameters[1] * text + parameters[2:]
        error = softmax(logits, axis=1) - true
        distance = parameters - start
        slope = np.array([(error * encoder).sum(), (error * text).sum(), *error.sum(axis=0)])
        total = _losses(logits, labels).sum() + PENALTY * (distance @ distance) / 2
        return float(total) / rows, (slope + PENALTY * distance) / rows

    bounds = [(0.0, None), (0.0, None), *[(None, None)] * classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-9})
    bias = found.x[2:] - found.x[2:].mean()
    return Stacker(float(found.x[0]), float(found.x[1]), tuple(float(value) for value in bias))


def compare_by_folds(encoder: np.ndarray, text: np.ndarray, labels: np.ndarray, seed: int) -> FoldComparison:
    """Compare the hybrid with the encoder alone on rows that its stacker was not fitted on.

    Arguments as of `fit_stacker`; the rows are divided into `FOLDS` folds, stratified by label, by `seed`. Raises
    ValueError as `fit_stacker` does, and for fewer than `FEWEST_ROWS` rows.
    """
    from scipy.stats import ttest_1samp

    encoder, text, labels = _check(encoder, text, labels)
    if len(labels) < FEWEST_ROWS:
        raise ValueError(f"expected {FEWEST_ROWS} rows or more, observed {len(labels)}")
    fold = _folds(labels, seed)
    combined = _cross_fitted(encoder, text, labels, fold)
    alone = _cross_fitted(encoder, np.zeros_like(text), labels, fold)
    difference = _losses(alone, labels) - _losses(combined, labels)
    varies = float(np.ptp(difference)) > 0
    p = float(ttest_1samp(difference, 0.0, alternative="greater").pvalue) if varies else 1.0
    without, with_text = (float((logits.argmax(axis=1) == labels).mean()) for logits in (encoder, combined))
    return FoldComparison(len(labels), without, with_text, float(difference.mean()), p)


def _cross_fitted(encoder: np.ndarray, text: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Logits (n, K) of each row from the stacker that was fitted on the other folds."""
    logits = np.empty(encoder.shape)
    for one in range(FOLDS):
        inside = fold == one
        logits[inside] = fit_stacker(encoder[~inside], text[~inside], labels[~inside]).logits(
            encoder[inside], text[inside]
        )
    return logits


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each row, 0 … FOLDS-1: within a class, the rows are dealt to the folds in random order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % FOLDS
    return fold


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each row, shape (n,)."""
    from scipy.special import log_softmax

    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def _check(encoder: np.ndarray, text: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoder, text = check_numbers(encoder, "encoder"), check_numbers(text, "text")
    if encoder.ndim != 2 or not len(encoder) or encoder.shape != text.shape:
        raise ValueError(f"expected two arrays of shape (n, K) with n > 0, observed {encoder.shape} and {text.shape}")
    if not (np.isfinite(encoder).all() and np.isfinite(text).all()):
        raise ValueError("encoder or text contains NaN or infinity")
    labels = check_labels(labels, encoder.shape[1])
    if len(labels) != len(encoder):
        raise ValueError(f"{len(labels)} labels, but {len(encoder)} rows of logits")
    return encoder.astype(np.float64), text.astype(np.float64), labels
