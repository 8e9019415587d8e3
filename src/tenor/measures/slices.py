"""Accuracy on parts of a split: where a model is good, and where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.data.sequences import array_of
from tenor.measures.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class Slice:
    """The n rows of a part, n > 0; `accuracy` in 0 … 1 with Wilson's interval."""

    name: str
    n: int
    accuracy: float
    interval: Interval


def accuracy_by_length(right: np.ndarray, tokens: np.ndarray, confidence: float = 0.95) -> tuple[Slice, ...]:
    """Parts by the tokens of the whole text, each reaching to twice the length of the one before.

    `right` is (n,) bool: whether each prediction is; `tokens` is (n,). Parts without rows are left out.
    """
    tokens = array_of(tokens, "tokens")
    if not len(tokens):
        return ()
    edges, names = [32], ["up to 32"]
    while edges[-1] < tokens.max():
        names.append(f"{edges[-1] + 1:,}–{2 * edges[-1]:,}")
        edges.append(2 * edges[-1])
    return _slices(right, np.searchsorted(edges, tokens, side="left"), names, confidence)


def accuracy_by_cut(
    right: np.ndarray, tokens: np.ndarray, truncated: np.ndarray, confidence: float = 0.95
) -> tuple[Slice, ...]:
    """Parts by the share of the text that the model never saw: `truncated` of `tokens` were cut off, both (n,)."""
    share = array_of(truncated, "truncated") / np.maximum(array_of(tokens, "tokens"), 1)
    names = ["nothing", "up to 25%", "25–50%", "50–75%", "over 75%"]
    index = np.searchsorted([0.0, 0.25, 0.5, 0.75], share, side="left")
    return _slices(right, index, names, confidence)


def _slices(right: np.ndarray, index: np.ndarray, names: Sequence[str], confidence: float) -> tuple[Slice, ...]:
    right = array_of(right, "right").astype(bool)
    if right.shape != np.shape(index):
        raise ValueError(f"{len(right)} predictions, but {len(index)} rows")
    found = []
    for k in np.unique(index):
        hits, n = int(right[index == k].sum()), int((index == k).sum())
        found.append(Slice(names[k], n, hits / n, wilson_interval(hits, n, confidence)))
    return tuple(found)
