"""CSV, TSV, JSON Lines, Parquet and plain text as a stream of chunks: memory does not grow with the file.

A row that can't be read is a row with a fault, not the end of the stream; the text in it is missing. Where the file as
a whole can't be read, from the start or from some place onwards, that is a UserError.
"""

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sources.files import DELIMITERS, fields_up_to
from tenor.data.sources.rows import SHOWN_COLUMNS, nearest
from tenor.errors import UserError
from tenor.inference.texts import text_fault

JSON_LINES = (".jsonl", ".ndjson")
PLAIN = ".txt"
ACCEPTED = (*DELIMITERS, *JSON_LINES, ".parquet", PLAIN)
TEXT_COLUMN = "text"

CHUNK_ROWS = 4096
CHUNK_CHARACTERS = 16_000_000
"""A chunk ends at whichever comes first. A resumed job needs both as they were: its parts are chunks."""

PARQUET_ROWS = 256
RECORD = "record"
"""The one column of a JSON Lines chunk: each line as it was read."""


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


@dataclass
class Survey:
    """What one pass over the whole file found."""

    sha256: str = ""
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    """Names, in order of appearance."""
    faults: int = 0
    """Rows without a text that can be predicted, as far as can be told without a tokenizer."""
    first_fault: str = ""


def survey(path: Path, text_column: str) -> Survey:
    """Read a file once from end to end: what is in it, and whether all of it can be read.

    Raises:
        UserError: a file that can't be read, or a text column that isn't there.
    """
    found = Survey()
    for chunk in read_chunks(path, text_column):
        found.rows += len(chunk.texts)
        names = _record_names(chunk) if path.suffix.lower() in JSON_LINES else chunk.kept.column_names
        found.columns.update(dict.fromkeys(names))
        for position, text in enumerate(chunk.texts):
            fault = text_fault(text)
            if fault is not None or position in chunk.faults:
                found.faults += 1
                found.first_fault = found.first_fault or told(path, chunk, position, fault or "")
    if path.suffix.lower() in JSON_LINES and found.rows and text_column not in found.columns:
        raise _no_column(path, text_column, list(found.columns))
    with open(path, "rb") as file:
        found.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def told(path: Path, chunk: Chunk, position: int, text_fault: str) -> str:
    """A row's place and what is wrong with it, for people; what is wrong with the row goes before its text."""
    unit = "line" if path.suffix.lower() in (*JSON_LINES, PLAIN) else "row"
    return f"{unit} {chunk.places[position]:,} {chunk.faults.get(position) or f'has a text that {text_fault}'}"


def read_chunks(path: Path, text_column: str = TEXT_COLUMN) -> Iterator[Chunk]:
    """The rows of a file in chunks that are the same at every reading; the suffix decides how it is read.

    A file without rows gives one chunk without rows.

    Raises:
        UserError: a file that can't be read, or a text column that isn't there.
    """
    suffix = path.suffix.lower()
    _require_file(path, suffix)
    if suffix == ".parquet":
        yield from _read_parquet(path, text_column)
        return
    _refuse_utf16(path)
    if suffix in DELIMITERS:
        yield from _read_delimited(path, DELIMITERS[suffix], text_column)
    elif suffix in JSON_LINES:
        yield from _read_json_lines(path, text_column)
    else:
        yield from _read_plain(path)


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


def _read_delimited(path: Path, delimiter: str, text_column: str) -> Iterator[Chunk]:
    with _open(path) as lines, fields_up_to(path.stat().st_size):
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next((record for record in reader if record), [])
            _require_column(path, text_column, header)
            yield from _chunks(_delimited_rows(reader, header, text_column), header)
        except csv.Error as error:
            raise UserError(
                f"{path}: line {reader.line_num:,} is malformed: {error}, so where the rows after it begin is unknown. "
                "A field with a quote, a line break or a delimiter stands within double quotes, and a quote in it is "
                "doubled."
            ) from error


def _delimited_rows(reader: Iterator[list[str]], header: list[str], text_column: str) -> Iterator[_Row]:
    at, width = header.index(text_column), len(header)
    for place, record in enumerate((record for record in reader if record), start=1):
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


def parse_record(line: str) -> tuple[dict[str, object], str | None]:
    """The object on a line, or an empty one and what is wrong with the line."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error})"
    if not isinstance(record, dict):
        return {}, f"holds a JSON {type(record).__name__}, expected an object"
    return record, None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _record_names(chunk: Chunk) -> Iterator[str]:
    for line in chunk.kept[RECORD].to_pylist():
        yield from parse_record(line)[0]


def _read_plain(path: Path) -> Iterator[Chunk]:
    def rows() -> Iterator[_Row]:
        with _open(path) as lines:
            for place, line in enumerate(lines, start=1):
                text = line.rstrip("\r\n")
                yield _Row(text, (text,), place)

    yield from _chunks(rows(), [TEXT_COLUMN])


def _read_parquet(path: Path, text_column: str) -> Iterator[Chunk]:
    try:
        with pq.ParquetFile(path) as parquet:
            _require_column(path, text_column, parquet.schema_arrow.names)
            portion: list[pa.RecordBatch] = []
            first = 1
            for batch in parquet.iter_batches(PARQUET_ROWS):
                portion.append(batch)
                rows = sum(one.num_rows for one in portion)
                if rows >= CHUNK_ROWS or sum(one.nbytes for one in portion) >= CHUNK_CHARACTERS:
                    yield _parquet_chunk(portion, text_column, first, parquet.schema_arrow)
                    portion, first = [], first + rows
            if portion or first == 1:
                yield _parquet_chunk(portion, text_column, first, parquet.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a sound Parquet file: {error}. It may be cut off; write it again.") from error


def _parquet_chunk(batches: list[pa.RecordBatch], text_column: str, first: int, schema: pa.Schema) -> Chunk:
    table = pa.Table.from_batches(batches, schema)
    texts = table[text_column].to_pylist()
    return Chunk(texts, table, list(range(first, first + len(texts))), {})


def _open(path: Path) -> TextIO:
    # A byte that is not UTF-8 spoils its own row alone; `text_fault` finds it.
    line_ends = "" if path.suffix.lower() in DELIMITERS else "\n"
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=line_ends)


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
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{path}: several columns are called {twice[0]!r}; rename all but one")
    if text_column not in columns:
        raise _no_column(path, text_column, columns)


def _no_column(path: Path, text_column: str, columns: list[str]) -> UserError:
    found = ", ".join(repr(name[:60]) for name in columns[:SHOWN_COLUMNS]) or "none"
    return UserError(
        f"{path}: there is no column {text_column!r}{nearest(text_column, columns)}. Columns found: {found}. "
        "Name the one with the texts: --text-column NAME"
    )
