"""Probabilities → classes, as the user of a classifier wants it."""

import numpy as np


def decided(probabilities: np.ndarray, member: int | None = None, threshold: float = 0.0) -> np.ndarray:
    """The class of each row, int64, shape (rows,), from probabilities (rows, K): the most probable one.

    With `member`: that class where its probability is `threshold` or more, else the most probable of the others.
    """
    if member is None:
        return probabilities.argmax(axis=1)
    others = probabilities.copy()
    others[:, member] = -np.inf
    return np.where(probabilities[:, member] >= threshold, member, others.argmax(axis=1))
