"""Reads CSV, TSV, JSON Lines, Parquet and plain text in chunks: memory use does not grow with the file."""

import codecs
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.files.delimited import DELIMITERS, Delimited, examine, require_header
from tenor.data.sources.row_files import refuse_fasttext
from tenor.data.sources.rows import SHOWN_COLUMNS, encodable, nearest
from tenor.errors import UserError

RECORD = "record"
"""The only column of a JSON Lines chunk: each line as read."""

MAX_LEVELS = 100
"""Maximum nesting of lists and objects. Python's own limit varies with the depth of the call stack."""


def parse_record(line: str) -> tuple[dict[str, object], str | None]:
    """The JSON object of a line, or an empty one and the fault of the line."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error})"
    if not isinstance(record, dict):
        return {}, f"is a JSON {type(record).__name__}, expected an object"
    if line.count("[") + line.count("{") > MAX_LEVELS and _levels(record) > MAX_LEVELS:
        return {}, f"has more than {MAX_LEVELS} levels of nested lists and objects"
    if (name := next((name for name in record if not encodable(name)), None)) is not None:
        return {}, f"has a key, {name[:40]!r}, with bytes that are not UTF-8, or with a lone surrogate"
    return record, None


def json_text(value: Any) -> str:
    """A value as JSON on one line; NaN and infinity become null, dates and similar types text.

    Raises TypeError for bytes and other types that JSON cannot represent.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)
    except ValueError:
        value = _without_nan(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)
    # A lone surrogate can be written to a JSON file only as an escape.
    return text if encodable(text) else json.dumps(value, default=_as_text)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is beyond the largest number")
    return number


def _levels(value: object) -> int:
    levels, layer = 0, [value]
    while layer:
        inner = [one for one in layer if isinstance(one, dict | list)]
        layer = [one for held in inner for one in (held.values() if isinstance(held, dict) else held)]
        levels += bool(inner)
    return levels


def _as_text(value: object) -> str:
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(held) for name, held in value.items()}
    return [_without_nan(held) for held in value] if isinstance(value, list | tuple) else value


SHOWN = 160
"""Maximum length of another library's message."""

Check = Callable[[pa.ChunkedArray], object]


def refuse_columns(path: Path, schema: pa.Schema, text_column: str, as_text: bool) -> None:
    """Raises UserError for columns that cannot be predicted from, stored, or, with `as_text`, written as text."""
    kind = schema.field(text_column).type
    if not _is_text(kind):
        raise UserError(
            f"{path}: column {text_column!r} has the type {kind}, expected text. Set the column of the texts "
            "(--text-column NAME), or convert it to text"
        )
    for field in schema:
        if as_text and _holds_bytes(field.type):
            raise UserError(
                f"{path}: column {field.name!r} contains bytes ({field.type}), which only a Parquet output can store. "
                "Set an output that ends with .parquet, or remove the column from the input"
            )
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowException as error:
            raise UserError(
                f"{path}: column {field.name!r} has the type {field.type}, which cannot be stored ({error}). Remove it"
            ) from error


def sound_rows(table: pa.Table, as_text: bool) -> tuple[pa.Table, dict[int, str]]:
    """The table without the values that cannot be read or, with `as_text`, written as text; and the faults, by row.

    Raises ArrowInvalid for an inconsistent table.
    """
    table.validate()
    table = _nullable(table)
    faults: dict[int, str] = {}
    for at, field in enumerate(table.schema):
        column = table.column(at)
        unsound = _failing(column, lambda values: values.validate(full=True))
        for row, why in unsound.items():
            how = "bytes that are not UTF-8" if "UTF8" in why else f"a value that cannot be read ({why})"
            faults.setdefault(row, f"has {how} in column {field.name!r}")
        column = _emptied(column, unsound)
        if as_text and not _is_plain(field.type):
            formless = _failing(column, lambda values: json_text(values.to_pylist()))
            for row, why in formless.items():
                how = f"a value that cannot be written as text ({why}), but to a .parquet output,"
                faults.setdefault(row, f"has {how} in column {field.name!r}")
            column = _emptied(column, formless)
        if column is not table.column(at):
            table = table.set_column(at, field, column)
    return table, faults


def _nullable(table: pa.Table) -> pa.Table:
    """The same columns, all of them nullable."""
    fields = [field.with_nullable(True) for field in table.schema]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def _failing(column: pa.ChunkedArray, check: Check) -> dict[int, str]:
    """The rows whose value fails the check, and why; the whole column is checked first."""
    if (whole := _fault(column, check)) is None:
        return {}
    found = {row: why for row in range(len(column)) if (why := _fault(column.take(pa.array([row])), check)) is not None}
    if not found:
        raise pa.ArrowInvalid(whole)
    return found


def _fault(column: pa.ChunkedArray, check: Check) -> str | None:
    try:
        check(column)
    except (pa.ArrowException, ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        return " ".join(str(error).split())[:SHOWN]
    return None


def _emptied(column: pa.ChunkedArray, rows: dict[int, str]) -> pa.ChunkedArray:
    if not rows:
        return column
    kept = pa.array([None if row in rows else row for row in range(len(column))], pa.int64())
    return column.take(kept)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_string or pa.types.is_null(kind))


def _is_plain(kind: pa.DataType) -> bool:
    """Whether every valid value can be written as text."""
    is_number = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return _is_text(kind) or pa.types.is_boolean(kind) or is_number


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(at).type) for at in range(kind.num_fields))
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


JSON_LINES = (".jsonl", ".ndjson")
PLAIN = ".txt"
ACCEPTED = (*DELIMITERS, *JSON_LINES, ".parquet", PLAIN)
TEXT_COLUMN = "text"

CHUNK_ROWS = 4096
CHUNK_CHARACTERS = 16_000_000
"""A chunk ends at whichever limit is reached first. Interrupted jobs depend on both: their parts are chunks."""

PARQUET_ROWS = 256


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file."""

    texts: list[object]
    """The values of the text column; None for a row that could not be read."""
    kept: pa.Table
    """The input's columns, in its order; for JSON Lines the column `record`."""
    places: list[int]
    """The place of each row in the file, counted from 1: its line, or its row below the header."""
    faults: dict[int, str]
    """Rows that could not be read, by position in the chunk."""


def describe_fault(path: Path, chunk: Chunk, position: int, text_fault: str) -> str:
    """The place and the fault of a row, for messages; a fault of the row takes precedence over one of its text."""
    unit = "line" if path.suffix.lower() in (*JSON_LINES, PLAIN) else "row"
    return f"{unit} {chunk.places[position]:,} {chunk.faults.get(position) or f'has a text that {text_fault}'}"


def read_chunks(
    path: Path, text_column: str = TEXT_COLUMN, as_text: bool = False, delimited: Delimited | None = None
) -> Iterator[Chunk]:
    """The rows of a file in chunks that are the same at every reading; the suffix decides the format.

    A file without rows yields one empty chunk. With `as_text` a value that only Parquet can store is a fault of its
    row. `delimited` is the result of `examine_delimited`, which is called here if it is None.

    Raises:
        UserError: a file that cannot be read, a missing text column, or a column that cannot be stored or written.
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
    """Detect delimiter and quoting of a CSV or TSV file; None for other formats.

    Raises UserError for a file that cannot be read, a missing text column, or a malformed line.
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
    return "contains bytes that are not UTF-8" if spoiled else None


def _storable(cell: str | None) -> str | None:
    """A cell with invalid bytes replaced, so that it can be encoded as UTF-8."""
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
            yield _Row(None, cells, place, f"has {len(record)} fields, expected {width} as in the header")


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
        raise UserError(
            f"{path}: is not a valid Parquet file: {error}. It may be incomplete; write it again."
        ) from error


def _parquet_chunk(read: pa.Table, text_column: str, first: int, as_text: bool) -> Chunk:
    table, faults = sound_rows(read, as_text)
    return Chunk(table[text_column].to_pylist(), table, list(range(first, first + table.num_rows)), faults)


def _open(path: Path) -> TextIO:
    # A byte that is not UTF-8 invalidates only its own row; `text_fault` reports it.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _require_file(path: Path, suffix: str) -> None:
    if not path.is_file():
        observed = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {observed}, expected a file of texts ({', '.join(ACCEPTED)})")
    if suffix not in ACCEPTED:
        raise UserError(f"{path}: unknown suffix {suffix!r}, expected one of {', '.join(ACCEPTED)}")


def _refuse_utf16(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"{path}: is encoded in UTF-16, expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW")


def _require_column(path: Path, text_column: str, columns: list[str]) -> None:
    if (spoiled := next((name for name in columns if not encodable(name)), None)) is not None:
        shown = spoiled[:60].encode("utf-8", "surrogateescape")
        raise UserError(
            f"{path}: the column name {shown!r} is not UTF-8. Save the file as UTF-8, for instance: "
            "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{path}: several columns are called {twice[0]!r}. Rename all but one")
    if path.suffix.lower() in DELIMITERS:
        require_header(path, columns, [text_column])
    if text_column not in columns:
        raise no_column(path, text_column, columns)


def no_column(path: Path, text_column: str, columns: list[str]) -> UserError:
    available = ", ".join(repr(name[:60]) for name in columns[:SHOWN_COLUMNS]) or "none"
    return UserError(
        f"{path}: no column {text_column!r}{nearest(text_column, columns)}. Available columns: {available}. "
        "Set the column of the texts: --text-column NAME"
    )
