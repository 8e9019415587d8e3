"""Results, calibration, abstention and thresholds as tables for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.evaluation.results import KEY_OF_SPLIT, SplitResult, accuracy_interval
from tenor.measures.calibration import expected_calibration_error
from tenor.measures.intervals import Interval, macro_f1_interval, wilson_interval
from tenor.measures.metrics import Metrics
from tenor.measures.selective import Answered

if TYPE_CHECKING:
    from tenor.workflows.calibrate import Calibrated, ClassThreshold
    from tenor.workflows.evaluate import Evaluation

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
    """Models under a heading per split, the most accurate in bold, with their notes below."""
    table = _table("Results")
    table.add_column("split / model", overflow="fold", max_width=28)
    confidences = {row.interval.confidence for row in rows}
    interval = f"{100 * confidences.pop():g}% CI" if len(confidences) == 1 else "CI"
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
    """Counts, rows true and columns predicted; if that is too wide, the most frequent wrong class of each class.

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
    for header, right in (
        ("true", False),
        ("n", True),
        ("correct", True),
        ("most often taken for", False),
        ("", True),
    ):
        table.add_column(header, justify="right" if right else "left", overflow="ellipsis", no_wrap=True, max_width=24)
    for k, row in enumerate(counts):
        wrong = row.copy()
        wrong[k] = 0
        other = int(wrong.argmax())
        taken, times = (names[other], f"{wrong[other]:,}") if wrong[other] else ("-", "")
        table.add_row(Text(names[k]), f"{row.sum():,}", Text(f"{row[k]:,}", style="bold"), Text(taken), times)
    return Group(table, Text("Too wide to print: the rows of each true class and its most frequent wrong prediction."))


def _table(title: str) -> Table:
    heading = Text(title, style="bold")
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")


NOTHING_BETTER = "no temperature: none improves the validation rows significantly"


def number_facts(split: str, result: SplitResult, confidence: float, seed: int) -> dict[str, str]:
    """Facts below the tables of a result: the interval of macro F1, and the calibration."""
    interval = macro_f1_interval(result.metrics.confusion, confidence, seed)
    raw, calibrated = (
        expected_calibration_error(probabilities, result.labels)
        for probabilities in (result.raw_probabilities, result.probabilities)
    )
    return {
        "macro F1": f"{result.metrics.macro_f1:.4f} on {split} ({100 * confidence:g}% CI {interval.low:.4f} - "
        f"{interval.high:.4f}, bootstrap)",
        "calibration": f"calibration error (ECE) on {split} {calibrated:.2%}, "
        + (NOTHING_BETTER if result.temperature == 1.0 else _fitted(result.temperature, raw)),
    }


def _fitted(temperature: float, raw: float) -> str:
    return f"{raw:.2%} before temperature {temperature:.3f}, fitted on the validation rows"


def show_calibration(console: Console, found: "Calibrated", chosen: "ClassThreshold | None" = None) -> None:
    """Print each split before and after the temperature, where it is applied, and the requested threshold."""
    rows = found.predictions["validation"]
    if found.notes.total_temperature != 1.0:
        how = "fitted now" if found.changed else "fitted before"
        message = f"temperature {found.notes.total_temperature:.4f}, {how} on {len(rows.labels):,} validation rows"
        console.print(message, highlight=False)
    console.print(_calibration_table(found))
    if found.notes.total_temperature != 1.0:
        console.print("ECE and NLL on validation are of the rows on which the temperature was fitted.", style="dim")
    console.print(_where(found), highlight=False, soft_wrap=True)
    if chosen is not None:
        console.print()
        console.print(_threshold_table(chosen))
        message = f"saved in {found.run.model / 'tenor.json'}; tenor predict uses it from now on. It was chosen on the "
        message += "validation rows: expect the result on test"
        console.print(message, highlight=False, soft_wrap=True)
    elif found.notes.threshold is not None:
        message = f"threshold: tenor predict predicts {found.notes.threshold}; --no-threshold removes it"
        console.print(message, highlight=False, soft_wrap=True, markup=False)
    elif found.dropped is not None:
        message = f"the threshold {found.dropped} was removed: it was chosen for other probabilities; choose it again"
        console.print(message, style="yellow", highlight=False, soft_wrap=True, markup=False)


def show_abstention(console: Console, found: "Evaluation", below: float) -> None:
    """Print coverage and accuracy if the model abstains below a confidence, next to the whole curve."""
    asked, curve = found.abstention(below)
    confidence = found.config.evaluation.confidence
    table = _table("Abstaining below a confidence")
    for header in ("confidence from", "answered", "coverage", "accuracy", f"{100 * confidence:g}% CI"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in sorted({asked, *curve}, key=lambda one: one.threshold):
        table.add_row(*_answered_cells(one, confidence), style="bold" if one == asked else "")
    console.print(table)
    interval = asked.interval(confidence)
    if interval is None:
        console.print(f"No row reaches confidence {below:g}: the model would abstain on all rows.")
    else:
        console.print(
            f"Abstaining below {below:g}, the model answers {asked.coverage:.1%} of the rows and is correct on "
            f"{asked.right / asked.answered:.2%} of these ({_percent(interval)}).",
            highlight=False,
        )


def _calibration_table(found: "Calibrated") -> Table:
    table = _table("Calibration")
    for header in ("split", "probabilities", "ECE", "Brier", "NLL (nats)"):
        table.add_column(header, justify="left" if header in ("split", "probabilities") else "right", no_wrap=True)
    for name in found.predictions:
        measured = found.evaluation[KEY_OF_SPLIT[name]]["calibration"]
        for kind in ("raw",) if found.notes.total_temperature == 1.0 else ("raw", "calibrated"):
            numbers = measured[kind]
            first = name if kind == "raw" else ""
            table.add_row(first, kind, f"{numbers['ece']:.2%}", f"{numbers['brier']:.4f}", f"{numbers['nll']:.4f}")
    return table


def _where(found: "Calibrated") -> str:
    notes = found.notes
    if notes.temperature == 1.0 and notes.folded_temperature != 1.0:
        return (
            f"folded into the classifier: {found.run.model} gives calibrated probabilities to every program "
            f"that loads it "
            f"(weights SHA-256 {notes.weights_sha256[:12]}…)"
        )
    if notes.temperature == 1.0:
        return NOTHING_BETTER
    return (
        f"applied by tenor evaluate and tenor predict, and in {found.run.predictions}; for programs without Tenor: "
        f"tenor calibrate {found.run.reference} --fold"
    )


def _threshold_table(chosen: "ClassThreshold") -> Table:
    table = _table(
        f"{chosen.class_name}: {chosen.wanted} of {chosen.value:g} or more, from probability {chosen.threshold:.4f}"
    )
    for header in ("split", "predicted", "precision", "recall"):
        table.add_column(header, justify="left" if header == "split" else "right", no_wrap=True)
    record = chosen.record()
    for name, found in chosen.splits.items():
        cells = (_share_cell(record[name][kind]) for kind in ("precision", "recall"))
        table.add_row(name, f"{found.called:,}", *cells)
    return table


def _share_cell(share: dict[str, Any]) -> str:
    if "missing" in share:
        return str(share["missing"])
    return f"{share['value']:.2%} ({100 * share['low']:.2f} - {100 * share['high']:.2f})"


def _answered_cells(one: Answered, confidence: float) -> Sequence[str]:
    interval = one.interval(confidence)
    right = ("-", "-") if interval is None else (f"{one.right / one.answered:.2%}", _range(interval))
    return (f"{one.threshold:.4f}", f"{one.answered:,}", f"{one.coverage:.1%}", *right)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.confidence:g}% CI {_range(interval)}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.2f} - {100 * interval.high:.2f}"


def result_rows(model_name: str, split: str, result: SplitResult, confidence: float) -> list[ResultRow]:
    """The rows of the results table for one split: the model, then its baselines."""
    metrics = result.metrics
    rows = [
        ResultRow(
            model_name,
            split,
            metrics.n,
            metrics.accuracy,
            accuracy_interval(metrics, confidence),
            metrics.macro_f1,
            metrics.loss,
        )
    ]
    named = {"text baseline (NB-weighted bigrams)": result.baselines.text, "majority class": result.baselines.majority}
    for name, accuracy in named.items():
        if isinstance(accuracy, float):
            interval = wilson_interval(round(accuracy * metrics.n), metrics.n, confidence)
            rows.append(ResultRow(name, split, metrics.n, accuracy, interval))
    return rows
