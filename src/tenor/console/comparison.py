"""A comparison of two runs, and an audit, in the terminal."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.data.dataset import Missing, excerpt
from tenor.measures.intervals import Interval

if TYPE_CHECKING:
    from tenor.workflows.audit import Audit, Suspect
    from tenor.workflows.compare import Comparison, Disagreement

NAMES = ("first", "second")
SHOWN_DISAGREEMENTS = 5
"""Number of disagreements printed; --output and --json contain all of them."""


def show_comparison(console: Console, found: "Comparison") -> None:
    """Print both results, their difference, the verdict, and the most confident disagreements."""
    paired = found.paired
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(f"{found.split}, n = {paired.n:,}", no_wrap=True)
    for header in ("accuracy", "macro F1", "only this one correct"):
        table.add_column(header, justify="right", no_wrap=True)
    alone = (paired.first_alone, paired.second_alone)
    for name, run in zip(NAMES, found.runs, strict=True):
        console.print(Text(f"{name:<6}  {run.reference}"))
    for name, accuracy, f1, count in zip(NAMES, paired.accuracies, paired.macro_f1, alone, strict=True):
        table.add_row(name, f"{accuracy:.2%}", f"{f1:.4f}", f"{count:,}")
    table.add_section()
    table.add_row(
        "second minus first", f"{100 * paired.accuracy_difference:+.2f}", f"{paired.macro_f1_difference:+.4f}", ""
    )
    table.add_row(
        f"{100 * paired.accuracy_interval.confidence:g}% CI",
        _range(paired.accuracy_interval, 100, 2),
        _range(paired.macro_f1_interval, 1, 4),
        "",
    )
    console.print(table)
    console.print(found.verdict(), style="bold", highlight=False)
    console.print(
        "This compares two sets of weights. To compare two ways of training, train several seeds of each: "
        "tenor train CONFIG --seeds 3",
        highlight=False,
    )
    if found.texts:
        console.print(found.texts, style="yellow", highlight=False)
    for line in _training_rows(found):
        console.print(line, style="yellow", highlight=False, markup=False)
    _show_disagreements(console, found)


def _training_rows(found: "Comparison") -> Iterator[str]:
    """Warn if a run was trained on some of the rows, or if that is unknown."""
    for run, count in zip(found.runs, found.rows_in_train, strict=True):
        if isinstance(count, Missing):
            yield f"it is unknown whether {run.reference} was trained on some of these rows: {count.reason}"
        elif count:
            yield (
                f"{count:,} of these {found.paired.n:,} rows are training texts of {run.reference}: its accuracy on "
                "them measures memorization"
            )


def _show_disagreements(console: Console, found: "Comparison") -> None:
    if not found.disagreements:
        return
    shown = found.disagreements[:SHOWN_DISAGREEMENTS]
    which = f"the {len(shown)} most confident" if len(shown) < len(found.disagreements) else "all"
    console.print(f"\n{len(found.disagreements):,} rows predicted differently, {which}:", style="bold")
    for one in shown:
        console.print(Text(_line(one)))
        if one.text:
            console.print(Text(f"  {one.text}", style="dim"))


def _line(one: "Disagreement") -> str:
    predictions = ", ".join(
        f"{name} {predicted} ({probability:.2f})"
        for name, predicted, probability in zip(NAMES, one.predicted, one.probability, strict=True)
    )
    return f"{one.id} is {one.label}: {predictions}"


def _range(interval: Interval, factor: int, digits: int) -> str:
    return f"{factor * interval.low:+.{digits}f} to {factor * interval.high:+.{digits}f}"


SHOWN_SUSPECTS = 10
"""Number of label errors printed; the file contains all of them."""

LETTERS = 30

BASIS = {
    "both": "the frozen encoder's features and the words",
    "encoder": "the frozen encoder's features",
    "words": "the words alone",
}


def show_audit(console: Console, found: "Audit", path: Path, report: Path) -> None:
    """Print the number of suspects of each kind, the most probable label errors, and the next steps."""
    errors, duplicates, ambiguous = (found.of(kind) for kind in ("label", "duplicate", "ambiguous"))
    console.print(
        f"{found.n:,} training rows; a cross-validated model on {BASIS[found.features]} agrees with "
        f"{found.accuracy:.1%} of the labels",
        highlight=False,
    )
    console.print("The lower this is, the more of the suspects are errors of that model.", style="dim")
    console.print(
        f"{len(errors):,} suspected label errors ({len(errors) / found.n:.1%}){_pairs(errors)}",
        style="bold",
        markup=False,
    )
    console.print(f"{len(duplicates):,} more duplicates or near-duplicates of another row", highlight=False)
    console.print(f"{len(ambiguous):,} more rows that are ambiguous", highlight=False)
    if errors:
        console.print(_table(errors[:SHOWN_SUSPECTS]))
    out = sum(one.exclude for one in found.suspects)
    console.print(
        f"{path} contains all of them by rank. Read them in {report}, set the column exclude to yes or no (now yes "
        f"for {out:,}), then train without them: tenor train … data.exclude={path}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _pairs(errors: "tuple[Suspect, ...]") -> str:
    counts = Counter((one.given, one.suggested) for one in errors).most_common(3)
    pairs = ", ".join(f"{count:,} {given} that look {suggested}" for (given, suggested), count in counts)
    return f": {pairs}" if pairs else ""


def _table(errors: "tuple[Suspect, ...]") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("rank", justify="right")
    for header in ("id", "given", "suggested"):
        table.add_column(header, no_wrap=True)
    table.add_column("text", overflow="ellipsis", no_wrap=True, max_width=LETTERS)
    for one in errors:
        suggested = f"{one.suggested} {one.probability:.3f}"
        table.add_row(str(one.rank), Text(one.id), Text(one.given), Text(suggested), Text(excerpt(one.text, LETTERS)))
    return table
