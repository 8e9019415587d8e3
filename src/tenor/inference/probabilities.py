"""Logits → probabilities → classes, as the kind of classifier and its user want it."""

from typing import Literal

import numpy as np
from scipy.special import expit

from tenor.inference.logits import softmax


def probabilities(logits: np.ndarray, temperature: float, activation: Literal["softmax", "sigmoid"]) -> np.ndarray:
    """float64, shape (rows, K). With `sigmoid` every class has a probability of its own."""
    if activation == "softmax":
        return softmax(logits, temperature)
    return expit(logits.astype(np.float64) / temperature)


def decided(probabilities: np.ndarray, member: int | None = None, threshold: float = 0.0) -> np.ndarray:
    """The class of each row, int64, shape (rows,), from probabilities (rows, K): the most probable one.

    With `member`: that class where its probability is `threshold` or more, else the most probable of the others.
    """
    if member is None:
        return probabilities.argmax(axis=1)
    others = probabilities.copy()
    others[:, member] = -np.inf
    return np.where(probabilities[:, member] >= threshold, member, others.argmax(axis=1))
