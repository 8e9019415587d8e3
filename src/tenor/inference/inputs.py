"""CSV, TSV, JSON Lines, Parquet and plain text as a stream of chunks: memory does not grow with the file.

A row that can't be read is a row with a fault, not the end of the stream; the text in it is missing. Where the file as
a whole can't be read, from the start or from some place onwards, that is a UserError.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sources.delimited import DELIMITERS, Delimited, examine, require_header
from tenor.data.sources.files import refuse_fasttext
from tenor.data.sources.rows import SHOWN_COLUMNS, encodable, nearest
from tenor.errors import UserError
from tenor.inference.columns import refuse_columns, sound_rows
from tenor.inference.records import RECORD, parse_record

JSON_LINES = (".jsonl", ".ndjson")
PLAIN = ".txt"
ACCEPTED = (*DELIMITERS, *JSON_LINES, ".parquet", PLAIN)
TEXT_COLUMN = "text"

CHUNK_ROWS = 4096
CHUNK_CHARACTERS = 16_000_000
"""A chunk ends at whichever comes first. A resumed job needs both as they were: its parts are chunks."""

PARQUET_ROWS = 256


@dataclass(frozen=True)
class Chunk:
    """Some rows in a row."""

    texts: list[object]
    """What stands in the text column; None where the row could not be read."""
    kept: pa.Table
    """The input's columns, in its order; for JSON Lines the column `record`."""
    places: list[int]
    """Where each row stands in the file, counted from 1: its line, or its row below the header."""
    faults: dict[int, str]
    """Rows that could not be read, by position in the chunk."""


def told(path: Path, chunk: Chunk, position: int, text_fault: str) -> str:
    """A row's place and what is wrong with it, for people; what is wrong with the row goes before its text."""
    unit = "line" if path.suffix.lower() in (*JSON_LINES, PLAIN) else "row"
    return f"{unit} {chunk.places[position]:,} {chunk.faults.get(position) or f'has a text that {text_fault}'}"


def read_chunks(
    path: Path, text_column: str = TEXT_COLUMN, as_text: bool = False, delimited: Delimited | None = None
) -> Iterator[Chunk]:
    """The rows of a file in chunks that are the same at every reading; the suffix decides how it is read.

    A file without rows gives one chunk without rows. With `as_text` a value that only Parquet can hold is a fault of
    its row. `delimited` is what `examine_delimited` found, which otherwise is called here.

    Raises:
        UserError: a file that can't be read, a text column that isn't there, or a column that can't be kept or written.
    """
    suffix = path.suffix.lower()
    _require_file(path, suffix)
    if suffix == ".parquet":
        yield from _read_parquet(path, text_column, as_text)
        return
    _refuse_utf16(path)
    if (found := delimited or examine_delimited(path, text_column)) is not None:
        yield from _chunks(_delimited_rows(found, text_column), found.header)
    elif suffix in JSON_LINES:
        yield from _read_json_lines(path, text_column)
    else:
        yield from _read_plain(path)


def examine_delimited(path: Path, text_column: str) -> Delimited | None:
    """How a CSV or TSV file is written; None for another kind of file.

    Raises UserError for a file that can't be read, a text column that isn't there, or a malformed line.
    """
    suffix = path.suffix.lower()
    if suffix not in DELIMITERS:
        return None
    _require_file(path, suffix)
    _refuse_utf16(path)
    return examine(path, lambda header: _require_column(path, text_column, header))


@dataclass(frozen=True)
class _Row:
    text: object
    cells: tuple[str | None, ...]
    place: int
    fault: str | None = None


def _chunks(rows: Iterator[_Row], names: list[str]) -> Iterator[Chunk]:
    portion: list[_Row] = []
    characters, first = 0, True
    for row in rows:
        portion.append(row)
        characters += sum(len(cell) for cell in row.cells if cell is not None)
        if len(portion) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield _chunk(portion, names)
            portion, characters, first = [], 0, False
    if portion or first:
        yield _chunk(portion, names)


def _chunk(rows: list[_Row], names: list[str]) -> Chunk:
    columns = [pa.array([_storable(row.cells[at]) for row in rows], pa.large_string()) for at in range(len(names))]
    faults = {
        position: fault for position, row in enumerate(rows) if (fault := row.fault or _not_utf8(row)) is not None
    }
    return Chunk([row.text for row in rows], pa.table(columns, names=names), [row.place for row in rows], faults)


def _not_utf8(row: _Row) -> str | None:
    spoiled = any(cell is not None and not cell.isascii() and _storable(cell) != cell for cell in row.cells)
    return "holds bytes that are not UTF-8" if spoiled else None


def _storable(cell: str | None) -> str | None:
    """A cell as UTF-8 can hold it."""
    if cell is None or cell.isascii():
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _delimited_rows(found: Delimited, text_column: str) -> Iterator[_Row]:
    at, width = found.header.index(text_column), len(found.header)
    for place, record in enumerate(found.records(), start=1):
        if len(record) == width:
            yield _Row(record[at], tuple(record), place)
        else:
            cells = (*record[:width], *[None] * (width - len(record)))
            yield _Row(None, cells, place, f"has {len(record)} fields, the header has {width}")


def _read_json_lines(path: Path, text_column: str) -> Iterator[Chunk]:
    def rows() -> Iterator[_Row]:
        with _open(path) as lines:
            for place, line in enumerate(lines, start=1):
                if line.strip():
                    record, fault = parse_record(line)
                    yield _Row(record.get(text_column), (line.rstrip("\r\n"),), place, fault)

    yield from _chunks(rows(), [RECORD])


def _read_plain(path: Path) -> Iterator[Chunk]:
    refuse_fasttext(path)

    def rows() -> Iterator[_Row]:
        with _open(path) as lines:
            for place, line in enumerate(lines, start=1):
                text = line.rstrip("\r\n")
                yield _Row(text, (text,), place)

    yield from _chunks(rows(), [TEXT_COLUMN])


def _read_parquet(path: Path, text_column: str, as_text: bool) -> Iterator[Chunk]:
    try:
        with pq.ParquetFile(path) as parquet:
            schema = parquet.schema_arrow
            _require_column(path, text_column, schema.names)
            refuse_columns(path, schema, text_column, as_text)
            portion: list[pa.RecordBatch] = []
            first = 1
            for batch in parquet.iter_batches(PARQUET_ROWS):
                portion.append(batch)
                rows = sum(one.num_rows for one in portion)
                if rows >= CHUNK_ROWS or sum(one.nbytes for one in portion) >= CHUNK_CHARACTERS:
                    yield _parquet_chunk(pa.Table.from_batches(portion, schema), text_column, first, as_text)
                    portion, first = [], first + rows
            if portion or first == 1:
                yield _parquet_chunk(pa.Table.from_batches(portion, schema), text_column, first, as_text)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a sound Parquet file: {error}. It may be cut off; write it again.") from error


def _parquet_chunk(read: pa.Table, text_column: str, first: int, as_text: bool) -> Chunk:
    table, faults = sound_rows(read, as_text)
    return Chunk(table[text_column].to_pylist(), table, list(range(first, first + table.num_rows)), faults)


def _open(path: Path) -> TextIO:
    # A byte that is not UTF-8 spoils its own row alone; `text_fault` finds it.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _require_file(path: Path, suffix: str) -> None:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {found}, expected a file of texts ({', '.join(ACCEPTED)})")
    if suffix not in ACCEPTED:
        raise UserError(f"{path}: unknown suffix {suffix!r}, expected one of {', '.join(ACCEPTED)}")


def _refuse_utf16(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"{path}: is written in UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW")


def _require_column(path: Path, text_column: str, columns: list[str]) -> None:
    if (spoiled := next((name for name in columns if not encodable(name)), None)) is not None:
        shown = spoiled[:60].encode("utf-8", "surrogateescape")
        raise UserError(
            f"{path}: the column name {shown!r} is not UTF-8. Save the file as UTF-8, for instance: "
            "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{path}: several columns are called {twice[0]!r}; rename all but one")
    if path.suffix.lower() in DELIMITERS:
        require_header(path, columns, [text_column])
    if text_column not in columns:
        raise no_column(path, text_column, columns)


def no_column(path: Path, text_column: str, columns: list[str]) -> UserError:
    found = ", ".join(repr(name[:60]) for name in columns[:SHOWN_COLUMNS]) or "none"
    return UserError(
        f"{path}: there is no column {text_column!r}{nearest(text_column, columns)}. Columns found: {found}. "
        "Name the one with the texts: --text-column NAME"
    )
