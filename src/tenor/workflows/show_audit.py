"""An audit in the terminal."""

from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.data.dataset import excerpt
from tenor.workflows.audit import Audit
from tenor.workflows.suspects import Suspect

SHOWN = 10
"""Label errors; all of them are in the file."""

LETTERS = 30

BASIS = {
    "both": "the frozen encoder's features and the words",
    "encoder": "the frozen encoder's features",
    "words": "the words alone",
}


def show_audit(console: Console, found: Audit, path: Path, report: Path) -> None:
    """How many suspects of each kind, the likeliest label errors, and what to do with the files."""
    errors, duplicates, ambiguous = (found.of(kind) for kind in ("label", "duplicate", "ambiguous"))
    console.print(
        f"{found.n:,} training rows; judged by {BASIS[found.features]}, cross-validated: "
        f"right on {found.accuracy:.1%} of the labels as they are",
        highlight=False,
    )
    console.print("The lower this is, the more of its suspects are its own mistakes.", style="dim")
    console.print(
        f"{len(errors):,} suspected label errors ({len(errors) / found.n:.1%}){_pairs(errors)}",
        style="bold",
        markup=False,
    )
    console.print(f"{len(duplicates):,} more that are the text, or nearly, of another row", highlight=False)
    console.print(f"{len(ambiguous):,} more that are hard to tell", highlight=False)
    if errors:
        console.print(_table(errors[:SHOWN]))
    out = sum(one.exclude for one in found.suspects)
    console.print(
        f"{path}: all of them by rank. Read them in {report}, set the column exclude to yes or no (now yes in "
        f"{out:,}), then train without them: tenor train … data.exclude={path}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _pairs(errors: tuple[Suspect, ...]) -> str:
    counts = Counter((one.given, one.suggested) for one in errors).most_common(3)
    told = ", ".join(f"{count:,} {given} that look {suggested}" for (given, suggested), count in counts)
    return f": {told}" if told else ""


def _table(errors: tuple[Suspect, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("rank", justify="right")
    for header in ("id", "given", "suggested"):
        table.add_column(header, no_wrap=True)
    table.add_column("text", overflow="ellipsis", no_wrap=True, max_width=LETTERS)
    for one in errors:
        suggested = f"{one.suggested} {one.probability:.3f}"
        table.add_row(str(one.rank), Text(one.id), Text(one.given), Text(suggested), Text(excerpt(one.text, LETTERS)))
    return table
