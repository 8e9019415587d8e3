"""Terminal output of a comparison of two runs, and of an audit."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.data.dataset import excerpt
from tenor.evaluation.formatting import signed
from tenor.measures.intervals import Interval
from tenor.runs.missing import Missing

if TYPE_CHECKING:
    from tenor.workflows.audit import Audit, Suspect
    from tenor.workflows.compare import Comparison, Disagreement

NAMES = ("A", "B")
"""The first and the second run."""
SHOWN_DISAGREEMENTS = 5
"""Disagreements that are printed; --output and --json contain all of them."""


def show_comparison(console: Console, comparison: "Comparison") -> None:
    """Both results and their difference, the verdict, and the most confident disagreements."""
    paired = comparison.paired
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(f"{comparison.split}, n = {paired.n:,}", no_wrap=True)
    for header in ("accuracy", "macro F1", "only one correct"):
        table.add_column(header, justify="right", no_wrap=True)
    only_right = (paired.first_alone, paired.second_alone)
    for name, run in zip(NAMES, comparison.runs, strict=True):
        console.print(Text(f"{name}  {run.reference}"))
    for name, accuracy, f1, count in zip(NAMES, paired.accuracies, paired.macro_f1, only_right, strict=True):
        table.add_row(name, f"{accuracy:.2%}", f"{f1:.4f}", f"{count:,}")
    table.add_section()
    table.add_row(
        "B − A",
        signed(100 * paired.accuracy_difference, 2),
        signed(paired.macro_f1_difference, 4),
        "",
    )
    table.add_row(
        f"{100 * paired.accuracy_interval.confidence:g}% CI",
        _range(paired.accuracy_interval, 100, 2),
        _range(paired.macro_f1_interval, 1, 4),
        "",
    )
    console.print(table)
    console.print("only one correct: rows that only this run predicts correctly", style="dim")
    console.print(comparison.verdict(), style="bold", highlight=False)
    console.print(
        "This compares two trained models. To compare two ways of training, train each with several seeds: "
        "tenor train CONFIG --seeds 3",
        highlight=False,
    )
    if comparison.texts:
        console.print(comparison.texts, style="yellow", highlight=False)
    for line in _training_rows(comparison):
        console.print(line, style="yellow", highlight=False, markup=False)
    _show_disagreements(console, comparison)


def _training_rows(comparison: "Comparison") -> Iterator[str]:
    """Warnings that a run was trained on some of the compared rows, or that this is unknown."""
    for run, count in zip(comparison.runs, comparison.rows_in_train, strict=True):
        if isinstance(count, Missing):
            yield f"unknown whether {run.reference} was trained on some of these rows: {count.reason}"
        elif count:
            yield (
                f"{count:,} of these {comparison.paired.n:,} rows are training texts of {run.reference}: "
                "its accuracy on them measures memorization"
            )


def _show_disagreements(console: Console, comparison: "Comparison") -> None:
    disagreements = comparison.disagreements
    if not disagreements:
        return
    shown = disagreements[:SHOWN_DISAGREEMENTS]
    which = f"the {len(shown)} most confident" if len(shown) < len(disagreements) else "all"
    console.print(f"\n{len(disagreements):,} rows predicted differently, {which}:", style="bold")
    for row in shown:
        console.print(Text(_line(row)))
        if row.text:
            console.print(Text(f"  {row.text}", style="dim"))


def _line(row: "Disagreement") -> str:
    predictions = ", ".join(
        f"{name} {predicted} ({probability:.2f})"
        for name, predicted, probability in zip(NAMES, row.predicted, row.probability, strict=True)
    )
    return f"{row.id}, true class {row.label}: {predictions}"


def _range(interval: Interval, factor: int, digits: int) -> str:
    return f"{signed(factor * interval.low, digits)} to {signed(factor * interval.high, digits)}"


SHOWN_SUSPECTS = 10
"""Label errors that are printed; the CSV file contains all of them."""

CHARACTERS = 30
"""Of a text in the table."""

BASIS = {
    "both": "the frozen encoder's features and the words",
    "encoder": "the frozen encoder's features",
    "words": "the words",
}


def show_audit(console: Console, audit: "Audit", path: Path, report: Path) -> None:
    """The number of suspects of each kind, the most probable label errors, and the next step."""
    errors, duplicates, ambiguous = (audit.of(kind) for kind in ("label", "duplicate", "ambiguous"))
    console.print(
        f"{audit.n:,} training rows; a cross-validated classifier of {BASIS[audit.features]} agrees with "
        f"{audit.accuracy:.1%} of the labels",
        highlight=False,
    )
    console.print("The lower this agreement, the more of the suspects are mistakes of the classifier.", style="dim")
    console.print(
        f"{len(errors):,} suspected label errors ({len(errors) / audit.n:.1%}){_pairs(errors)}",
        style="bold",
        markup=False,
    )
    console.print(f"{len(duplicates):,} more rows with (nearly) the same text as another row", highlight=False)
    console.print(f"{len(ambiguous):,} more ambiguous rows: two classes are almost equally probable", highlight=False)
    if errors:
        console.print(_table(errors[:SHOWN_SUSPECTS]))
    excluded = sum(suspect.exclude for suspect in audit.suspects)
    console.print(
        f"{path} lists all of them by rank. Read the texts in {report}, set the column exclude to yes or no (now yes "
        f"for {excluded:,} rows), then train without these rows: tenor train … data.exclude={path}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _pairs(errors: "tuple[Suspect, ...]") -> str:
    counts = Counter((suspect.given, suspect.suggested) for suspect in errors).most_common(3)
    text = ", ".join(f"{count:,} labelled {given}, predicted {suggested}" for (given, suggested), count in counts)
    return f": {text}" if text else ""


def _table(errors: "tuple[Suspect, ...]") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("rank", justify="right")
    for header in ("id", "label", "predicted"):
        table.add_column(header, no_wrap=True)
    table.add_column("text", overflow="ellipsis", no_wrap=True, max_width=CHARACTERS)
    for suspect in errors:
        suggested = f"{suspect.suggested} {suspect.probability:.3f}"
        text = Text(excerpt(suspect.text, CHARACTERS))
        table.add_row(str(suspect.rank), Text(suspect.id), Text(suspect.given), Text(suggested), text)
    return table
