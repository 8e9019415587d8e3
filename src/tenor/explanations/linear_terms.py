"""Attributions of the text baseline, in closed form.

Its class scores are log-sigmoids of sums over the words, so integrated gradients along the straight path from the empty
text are exact: a word's share of each sum, times the mean slope of the log-sigmoid. With two classes the slopes cancel,
and a word's attribution is its weight.
"""

import numpy as np
from scipy.special import expit, log_expit

from tenor.explanations.text_words import Span
from tenor.measures.text_baseline import TextBaseline

SAME = 1e-6
"""Change of a sum below which the slope at its end is used for the mean slope."""


def baseline_attributions(baseline: TextBaseline, text: str, label: int) -> tuple[list[Span], np.ndarray]:
    """The words of a text and what each adds to the score of class `label`, float64, shape (words,).

    The score is the class's log-probability minus the mean of the others', and that of the empty text is subtracted.
    """
    if not baseline.vocabulary:
        return [], np.zeros(0)
    spans, shares = baseline.word_contributions(text)
    start, change = baseline.intercept, shares.sum(axis=0)
    if len(start) == 1:
        start, change, shares = (np.concatenate([-each, each], axis=-1) for each in (start, change, shares))
    return spans, shares @ (_mean_slopes(start, change) * class_weights(label, len(start)))


def class_weights(label: int, n_classes: int) -> np.ndarray:
    """Weights of the classes' logits in the score of one class, shape (K,): its own minus the mean of the others."""
    weights = np.full(n_classes, -1.0 / (n_classes - 1))
    weights[label] = 1.0
    return weights


def _mean_slopes(start: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Of the log-sigmoid between `start` and `start + change`."""
    moved = np.abs(change) > SAME
    rise = log_expit(start + change) - log_expit(start)
    return np.where(moved, rise / np.where(moved, change, 1.0), expit(-start))
