"""Which rows a report shows: a few for every cell of the confusion matrix, and the most confident errors."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenor.data.dataset import Absent, LabelledText
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.words import percent

PER_CELL = 12
IN_ALL_CELLS = 180
"""Bounds the file's size: with many classes only the cells with the most rows open."""
MOST_CONFIDENT = 10
TEXT_CHARACTERS = 1600
"""A longer text is shown with its middle left out."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Example:
    """A row and what the model said of it."""

    id: str
    text: str | None
    """None where the texts are not at hand."""
    left_out: int
    """Characters that are not shown."""
    true: str
    predicted: str
    confidence: str
    lengths: str
    """Tokens, and how many of them the model never saw; empty where that is not known."""
    right: bool


@dataclass(frozen=True)
class Cell:
    """Rows of one true class that were taken for one class."""

    key: str
    true: str
    predicted: str
    n: int
    right: bool
    examples: tuple[Example, ...]


def texts_of(predictions: Predictions, split: str, rows: Mapping[str, LabelledText] | Absent) -> Sequence[str] | Absent:
    """The texts of the predicted rows, in their order, where `rows` are the same rows."""
    if isinstance(rows, Absent):
        return rows
    if split not in rows or tuple(rows[split].ids) != predictions.ids:
        return Absent(f"the {split} rows of the data are not those that were predicted")
    return rows[split].texts


def open_cells(predictions: Predictions, texts: Sequence[str] | Absent) -> tuple[Cell, ...]:
    """Cells with examples: mistakes with the highest confidence first, correct rows with the lowest."""
    names, confidence = predictions.class_names, predictions.probabilities.max(axis=1)
    pairs, counts = np.unique(np.stack([predictions.labels, predictions.predicted]), axis=1, return_counts=True)
    found, left = [], IN_ALL_CELLS
    for (true, said), n in sorted(zip(pairs.T.tolist(), counts.tolist(), strict=True), key=lambda one: -one[1]):
        rows = np.flatnonzero((predictions.labels == true) & (predictions.predicted == said))
        order = np.argsort(confidence[rows] * (1 if true == said else -1), kind="stable")
        chosen = rows[order[: min(PER_CELL, left)]]
        left -= len(chosen)
        if len(chosen):
            examples = tuple(_example(predictions, texts, row) for row in chosen)
            found.append(Cell(f"{true}-{said}", names[true], names[said], n, true == said, examples))
    return tuple(sorted(found, key=lambda cell: (cell.right, -cell.n)))


def most_confident_errors(predictions: Predictions, texts: Sequence[str] | Absent) -> tuple[Example, ...]:
    """Wrong rows, the most confident first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = np.argsort(-predictions.probabilities.max(axis=1)[wrong], kind="stable")
    return tuple(_example(predictions, texts, row) for row in wrong[order[:MOST_CONFIDENT]])


def _example(predictions: Predictions, texts: Sequence[str] | Absent, row: int) -> Example:
    text, left_out = (None, 0) if isinstance(texts, Absent) else shown_text(texts[row])
    true, said = int(predictions.labels[row]), int(predictions.predicted[row])
    return Example(
        id=clean(predictions.ids[row])[:80],
        text=text,
        left_out=left_out,
        true=predictions.class_names[true],
        predicted=predictions.class_names[said],
        confidence=_sure(float(predictions.probabilities[row, said])),
        lengths=_lengths(predictions, row),
        right=true == said,
    )


def shown_text(text: str) -> tuple[str, int]:
    """A text as it is shown, and how many of its characters are left out of its middle."""
    text = clean(text)
    extra = len(text) - TEXT_CHARACTERS
    if extra <= 0:
        return text, 0
    head = TEXT_CHARACTERS * 5 // 8
    return f"{text[:head]} […] {text[head + extra :]}", extra


def clean(text: str) -> str:
    """Without characters that HTML does not allow."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def _sure(probability: float) -> str:
    return ">99.9%" if 0.9995 <= probability < 1 else percent(min(probability, 1.0), 1)


def _lengths(predictions: Predictions, row: int) -> str:
    if predictions.tokens is None or predictions.truncated is None:
        return ""
    tokens, cut = int(predictions.tokens[row]), int(predictions.truncated[row])
    return f"{tokens:,} tokens" + (f", {cut:,} of them cut off" if cut else "")
