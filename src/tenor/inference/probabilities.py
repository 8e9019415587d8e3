"""Logits → probabilities, as the kind of classifier wants it."""

from typing import Literal

import numpy as np
from scipy.special import expit

from tenor.inference.logits import softmax


def probabilities(logits: np.ndarray, temperature: float, activation: Literal["softmax", "sigmoid"]) -> np.ndarray:
    """float64, shape (rows, K). With `sigmoid` every class has a probability of its own."""
    if activation == "softmax":
        return softmax(logits, temperature)
    return expit(logits.astype(np.float64) / temperature)
