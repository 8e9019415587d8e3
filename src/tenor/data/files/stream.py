"""The rows of a file of any format: blocks of an Arrow table, with the file's own row numbers and the faults by row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

RECORD = "record"
"""The only column of a block of JSON records: each record as JSON text."""
NULL = "\\N"
"""How MySQL and PostgreSQL write NULL into the text files that they export."""
NOT_UTF8 = "contains bytes that are not UTF-8"
Unit = Literal["row", "line", "file"]


@dataclass(frozen=True)
class Limits:
    """A block ends at whichever limit is reached first."""

    rows: int
    characters: int
    """For Arrow files, bytes."""
    arrow_rows: int = 256
    """Rows of an Arrow file that are read at once."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows."""

    table: pa.Table
    """The file's own columns; for JSON the column `record`, or none if columns were chosen."""
    numbers: Sequence[int]
    """The number of each row in its file, counted from 1: its line, or its row."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Faults of rows that cannot be read, by position in the block."""
    records: list[dict[str, object]] | None = None
    """The objects of a JSON file; None for other formats."""
    file: str = ""
    """For messages: the name of the file, if there are several."""

    def values(self, column: str) -> list[object]:
        """The values of a column; None where a JSON object does not have it, and for an unreadable row."""
        if self.records is not None:
            return [record.get(column) for record in self.records]
        values: list[object] = self.table[column].to_pylist()
        return [None if at in self.faults else value for at, value in enumerate(values)] if self.faults else values


@dataclass(frozen=True)
class FileRows:
    """A file, a folder or several files, examined: what is known before the rows are read."""

    where: str
    """For messages: the path."""
    origin: str
    """For the manifest: a file name."""
    unit: Unit
    """What a row is called in messages."""
    kind: Literal["strings", "records", "arrow"]
    """`strings`: every value is a string as written; `records`: JSON objects; `arrow`: typed columns."""
    columns: tuple[str, ...] | None
    """The names, in order; None for JSON, whose keys are known once all records are read."""
    read: Callable[[Limits, Sequence[str] | None], Iterator[Block]]
    """The rows in blocks that are the same at every reading; the second argument chooses columns, None: all.

    Raises UserError for a file that turns out to be unreadable, or that changed since it was examined."""
    files: tuple[Path, ...]
    """All files that are read, in order."""
    notes: tuple[str, ...] = ()
    """Messages for the user about how the rows are read."""
    schema: pa.Schema | None = None
    """For `arrow`: the types and the metadata."""
    reading: Mapping[str, object] = field(default_factory=dict)
    """How the rows are read, where a file of this suffix can be read in several ways; part of a job's identity."""
    below_header: bool = False
    """Whether rows are counted below a header."""
    chosen_by: str = ""
    """The column by which the user chose the rows (`columns_added.py`)."""
    added: tuple[str, ...] = ()
    """Columns that are not the file's own but fields within them, such as `review.text` (`nested.py`)."""

    def place(self, number: int, file: str = "") -> str:
        """The place of a row for messages, such as `row 3` or `b.csv, line 3`; the path of a file that is one row."""
        of_file = f"{file}, " if file else ""
        return str(self.files[number - 1]) if self.unit == "file" else f"{of_file}{self.unit} {number:,}"


def in_blocks(
    rows: Iterator["FileRow"], names: Sequence[str], limits: Limits, choose: Sequence[str] | None = None
) -> Iterator[Block]:
    """Blocks of rows of strings, with the columns `choose`; at least one block, which may be empty."""
    places = [names.index(name) for name in (names if choose is None else choose)]
    chosen = [names[place] for place in places]
    portion: list[FileRow] = []
    characters, is_first = 0, True
    for row in rows:
        portion.append(row)
        characters += sum(len(row.cells[place] or "") for place in places)
        if len(portion) >= limits.rows or characters >= limits.characters:
            yield _block(portion, chosen, places)
            portion, characters, is_first = [], 0, False
    if portion or is_first:
        yield _block(portion, chosen, places)


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of strings."""

    cells: Sequence[str | None]
    number: int
    fault: str | None = None


def _block(rows: list[FileRow], names: Sequence[str], places: Sequence[int]) -> Block:
    columns = [pa.array([storable(row.cells[at]) for row in rows], pa.large_string()) for at in places]
    faults = {at: fault for at, row in enumerate(rows) if (fault := row.fault or not_utf8(row.cells)) is not None}
    return Block(pa.table(columns, names=list(names)), [row.number for row in rows], faults)


def not_utf8(cells: Sequence[str | None]) -> str | None:
    """The fault of cells with bytes that are not UTF-8, which were decoded as lone surrogates."""
    spoiled = any(cell is not None and not cell.isascii() and storable(cell) != cell for cell in cells)
    return NOT_UTF8 if spoiled else None


def storable(cell: str | None) -> str | None:
    """A cell with invalid bytes replaced, so that it can be encoded as UTF-8."""
    if cell is None or cell.isascii():
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def encodable(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, which excludes lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
