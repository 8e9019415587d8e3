"""Notes on how rows were read, as they are shown."""

from collections.abc import Iterable

from rich.console import Console


def show_notes(console: Console, notes: Iterable[str]) -> None:
    """A line for each note."""
    for note in notes:
        console.print(note, style="yellow", highlight=False, soft_wrap=True, markup=False)
