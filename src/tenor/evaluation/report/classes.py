"""Precision and recall of every class, and what is taken for what, from the counts of a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.evaluation.words import interval, percent
from tenor.measures.intervals import wilson_interval

WIDEST_MATRIX = 12
"""Classes; more of them are shown as a list of the commonest confusions."""
MOST_CONFUSIONS = 30


@dataclass(frozen=True)
class ClassRow:
    """One class against the rest."""

    name: str
    precision: str
    precision_interval: str
    recall: str
    recall_interval: str
    f1: str
    rows: str
    predicted: str


@dataclass(frozen=True)
class MatrixCell:
    """A count; `share` is that of its true class, in 0 … 1."""

    key: str
    count: str
    percent: str
    share: float
    right: bool
    true: str
    predicted: str


def class_rows(matrix: Sequence[Sequence[int]], names: Sequence[str], confidence: float) -> tuple[ClassRow, ...]:
    """Precision, recall and F1 from the counts; a share of nothing is a dash."""
    counts = np.asarray(matrix)
    rows = []
    for k, name in enumerate(names):
        hits, true, said = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        shares = [(percent(hits / n), _wilson(hits, n, confidence)) if n else ("–", "") for n in (said, true)]
        f1 = percent(2 * hits / (true + said)) if true + said else "–"
        rows.append(ClassRow(name, *shares[0], *shares[1], f1, f"{true:,}", f"{said:,}"))
    return tuple(rows)


def matrix_rows(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[tuple[MatrixCell, ...], ...]:
    """The confusion matrix, (K, K); `keys` are the cells that can be opened."""
    counts = np.asarray(matrix)
    if len(counts) > WIDEST_MATRIX:
        return ()
    return tuple(
        tuple(_cell(counts, names, true, said, keys) for said in range(len(counts))) for true in range(len(counts))
    )


def commonest_confusions(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[MatrixCell, ...]:
    """The cells off the diagonal that hold rows, the most first."""
    counts = np.array(matrix)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return tuple(_cell(counts, names, int(true), int(said), keys) for true, said in places if wrong[true, said])


def _cell(counts: np.ndarray, names: Sequence[str], true: int, said: int, keys: set[str]) -> MatrixCell:
    key, count, total = f"{true}-{said}", int(counts[true, said]), int(counts[true].sum())
    share = count / total if total else 0.0
    told = percent(share, 1) if total else "–"
    return MatrixCell(key if key in keys else "", f"{count:,}", told, share, true == said, names[true], names[said])


def _wilson(hits: int, n: int, confidence: float) -> str:
    found = wilson_interval(hits, n, confidence)
    return interval(found.low, found.high, 1)
