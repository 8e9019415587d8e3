"""A comparison of two runs in the terminal."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.data.dataset import Absent
from tenor.measures.intervals import Interval
from tenor.workflows.compare import Comparison, Disagreement, verdict

NAMES = ("first", "second")
SHOWN = 5
"""Disagreements; all are in the file that --output names, and in --json."""


def show_comparison(console: Console, found: Comparison) -> None:
    """Both results and their difference, the verdict, and the surest of the disagreements."""
    paired = found.paired
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(f"{found.split}, n = {paired.n:,}", no_wrap=True)
    for header in ("accuracy", "macro F1", "alone"):
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
        f"{100 * paired.accuracy_interval.confidence:g}% interval",
        _range(paired.accuracy_interval, 100, 2),
        _range(paired.macro_f1_interval, 1, 4),
        "",
    )
    console.print(table)
    console.print("alone: rows on which only this one is right", style="dim")
    console.print(verdict(found), style="bold", highlight=False)
    console.print(
        "This holds for these two sets of weights. Whether one way of training is better than another, "
        "several seeds of each tell: tenor train CONFIG --seeds 3",
        highlight=False,
    )
    if found.texts:
        console.print(found.texts, style="yellow", highlight=False)
    for line in _training_rows(found):
        console.print(line, style="yellow", highlight=False, markup=False)
    _show_disagreements(console, found)


def _training_rows(found: Comparison) -> Iterator[str]:
    """What the comparison is worth where a run was trained on some of its rows, or where that is not known."""
    for run, count in zip(found.runs, found.rows_in_train, strict=True):
        if isinstance(count, Absent):
            yield f"whether {run.reference} was trained on some of these rows is not known: {count.reason}"
        elif count:
            yield (
                f"{count:,} of these {found.paired.n:,} rows have a training text of {run.reference}: on them its "
                "accuracy measures memory"
            )


def _show_disagreements(console: Console, found: Comparison) -> None:
    if not found.disagreements:
        return
    shown = found.disagreements[:SHOWN]
    which = f"the {len(shown)} surest" if len(shown) < len(found.disagreements) else "all"
    console.print(f"\n{len(found.disagreements):,} rows that they call differently, {which}:", style="bold")
    for one in shown:
        console.print(Text(_line(one)))
        if one.text:
            console.print(Text(f"  {one.text}", style="dim"))


def _line(one: Disagreement) -> str:
    said = ", ".join(
        f"{name} {predicted} ({probability:.2f})"
        for name, predicted, probability in zip(NAMES, one.predicted, one.probability, strict=True)
    )
    return f"{one.id} is {one.label}: {said}"


def _range(interval: Interval, factor: int, digits: int) -> str:
    return f"{factor * interval.low:+.{digits}f} to {factor * interval.high:+.{digits}f}"
