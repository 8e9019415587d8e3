"""Results as tables for the terminal: 80 columns wide at most, plain where the output is no terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.measures.intervals import Interval
from tenor.measures.metrics import Metrics

_WIDTH = 80
_ROW_NAME = 24


@dataclass(frozen=True)
class ResultRow:
    """One model on one split; shares in 0 … 1, `loss` in nats, None where the model gives no probabilities."""

    name: str
    split: str
    n: int
    accuracy: float
    interval: Interval
    macro_f1: float | None = None
    loss: float | None = None
    note: str = ""


def results_table(rows: Sequence[ResultRow]) -> RenderableType:
    """Models side by side under a heading per split, the most accurate in bold, their notes below."""
    table = _table("Results")
    table.add_column("split / model", overflow="fold", max_width=28)
    confidences = {row.interval.confidence for row in rows}
    interval = f"{100 * confidences.pop():g}% interval" if len(confidences) == 1 else "interval"
    for header in ("accuracy", interval, "macro F1", "loss (nats)"):
        table.add_column(header, justify="right", no_wrap=True)
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    for split, n in dict.fromkeys((row.split, row.n) for row in rows):
        together = [row for row in rows if (row.split, row.n) == (split, n)]
        best = max(row.accuracy for row in together)
        table.add_section()
        table.add_row(Text(f"{split}, n = {n:,}", style="italic"))
        for row in together:
            reference = f" [{notes.index(row.note) + 1}]" if row.note else ""
            table.add_row(*_result_cells(row, reference), style="bold" if row.accuracy == best else "")
    return Group(table, *(Text(f"[{number}] {note}") for number, note in enumerate(notes, start=1)))


def confusion_table(
    confusion: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str], title: str = "Confusion matrix"
) -> RenderableType:
    """Counts, rows true and columns predicted; where that is too wide, what each class is most often taken for.

    Raises ValueError for a matrix that does not fit the names.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    if counts.shape != (len(class_names), len(class_names)):
        raise ValueError(f"expected a confusion matrix for {len(class_names)} classes, found shape {counts.shape}")
    cells = [[f"{count:,}" for count in row] for row in counts.tolist()]
    names = [f"{k} {name}" for k, name in enumerate(class_names)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    named = [max(width, len(name)) for width, name in zip(widths, names, strict=True)]
    room = _WIDTH - _ROW_NAME - 2  # For the columns; each has three spaces before it.
    if sum(widths) + 3 * len(widths) > room:
        return _largest_confusions(counts, names, title)
    fits = sum(named) + 3 * len(named) <= room
    table = _table(title)
    table.add_column("true", max_width=_ROW_NAME, overflow="ellipsis", no_wrap=True)
    for k, name in enumerate(names):
        table.add_column(Text(name if fits else str(k)), justify="right", no_wrap=True)
    for k, row in enumerate(cells):
        table.add_row(Text(names[k]), *(Text(cell, style="bold" if j == k else "") for j, cell in enumerate(row)))
    return Group(table, Text("Counts; rows: true class, columns: predicted class."))


def per_class_table(metrics: Metrics) -> RenderableType:
    """Precision, recall and F1 of every class, and their macro and weighted means."""
    table = _table("Per class")
    table.add_column("class", overflow="fold", max_width=32)
    for header in ("precision", "recall", "F1", "support"):
        table.add_column(header, justify="right", no_wrap=True)
    for k, one in enumerate(metrics.per_class):
        shares = (f"{share:.4f}" for share in (one.precision, one.recall, one.f1))
        table.add_row(Text(f"{k} {one.name}"), *shares, f"{one.support:,}", end_section=k + 1 == len(metrics.per_class))
    means = {
        "macro mean": (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1),
        "weighted mean": (metrics.weighted_precision, metrics.weighted_recall, metrics.weighted_f1),
    }
    for name, shares_of in means.items():
        table.add_row(name, *(f"{share:.4f}" for share in shares_of), f"{metrics.n:,}")
    return table


def _result_cells(row: ResultRow, reference: str) -> list[RenderableType]:
    return [
        Text(f"  {row.name}{reference}"),
        f"{100 * row.accuracy:.2f}%",
        f"{100 * row.interval.low:.2f} - {100 * row.interval.high:.2f}",
        "-" if row.macro_f1 is None else f"{row.macro_f1:.4f}",
        "-" if row.loss is None else f"{row.loss:.4f}",
    ]


def _largest_confusions(counts: np.ndarray, names: Sequence[str], title: str) -> RenderableType:
    table = _table(title)
    for header, right in (("true", False), ("n", True), ("correct", True), ("most often taken for", False), ("", True)):
        table.add_column(header, justify="right" if right else "left", overflow="ellipsis", no_wrap=True, max_width=24)
    for k, row in enumerate(counts):
        wrong = row.copy()
        wrong[k] = 0
        other = int(wrong.argmax())
        taken, times = (names[other], f"{wrong[other]:,}") if wrong[other] else ("-", "")
        table.add_row(Text(names[k]), f"{row.sum():,}", Text(f"{row[k]:,}", style="bold"), Text(taken), times)
    return Group(table, Text("Too wide to show whole: the rows of each true class, and its commonest mistake."))


def _table(title: str) -> Table:
    heading = Text(title, style="bold")
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
