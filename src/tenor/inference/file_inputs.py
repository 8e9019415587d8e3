"""The texts of files in chunks, with all columns: memory use does not grow with the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.files.headers import Wanted, missing_columns, refuse_duplicates
from tenor.data.files.json_records import json_text
from tenor.data.files.nested import advice_on_fields, available_names
from tenor.data.files.opening import encoding_fix
from tenor.data.files.reading import open_rows
from tenor.data.files.stream import NULL, FileRows, Limits, encodable
from tenor.errors import UserError

SHOWN = 160
"""Maximum length of another library's message."""

Check = Callable[[pa.ChunkedArray], object]


def refuse_columns(where: str, schema: pa.Schema, text_column: str, as_text: bool) -> None:
    """Raises UserError for columns that cannot be predicted from, stored, or, with `as_text`, written as text."""
    kind = schema.field(text_column).type
    if not _is_text(kind):
        raise UserError(
            f"{where}: column {text_column!r} has the type {kind}, expected text. "
            + (advice_on_fields(schema.field(text_column), "text", OPTION) or CONVERT)
        )
    for field in schema:
        if as_text and _holds_bytes(field.type):
            raise UserError(
                f"{where}: column {field.name!r} contains bytes ({field.type}), which only a Parquet output can store. "
                "Set an output that ends with .parquet, or remove the column from the input"
            )
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowException as error:
            raise UserError(
                f"{where}: column {field.name!r} has the type {field.type}, which cannot be stored ({error}). Remove it"
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


TEXT_COLUMN = "text"
OPTION = "--text-column {}"
CONVERT = "Set the column of the texts (--text-column NAME), or convert it to text."

CHUNK_ROWS = 4096
CHUNK_CHARACTERS = 16_000_000
"""A chunk ends at whichever limit is reached first. Interrupted jobs depend on both: their parts are chunks."""

PARQUET_ROWS = 256


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file."""

    texts: list[object]
    """The values of the text column; None for a missing one, and for a row that could not be read."""
    kept: pa.Table
    """The input's columns, in its order; for JSON the column `record`."""
    places: list[int]
    """The number of each row in its file, counted from 1: its line, or its row."""
    faults: dict[int, str]
    """Rows that could not be read, by position in the chunk."""
    file: str = ""
    """The name of the file, if there are several."""


def describe_fault(rows: FileRows, chunk: Chunk, position: int, text_fault: str) -> str:
    """The place and the fault of a row, for messages; a fault of the row takes precedence over one of its text."""
    fault = chunk.faults.get(position) or f"has a text that {text_fault}"
    return f"{place_of(rows, chunk, position)} {fault}"


def place_of(rows: FileRows, chunk: Chunk, position: int) -> str:
    """The place of a row in its file, for messages."""
    return rows.place(chunk.places[position], chunk.file)


def open_input(path: Path, text_column: str = TEXT_COLUMN, as_text: bool = False) -> FileRows:
    """Examine a file, a folder or a glob of texts. With `as_text` the output is not Parquet.

    Raises UserError for what cannot be read, a missing text column, or a column that cannot be stored or written.
    """
    rows = open_rows(path, [text_column])
    if rows.columns is not None:
        _require_column(rows, text_column, list(rows.columns))
    if rows.schema is not None:
        refuse_columns(rows.where, rows.schema, text_column, as_text)
    return rows


def read_chunks(rows: FileRows, text_column: str = TEXT_COLUMN, as_text: bool = False) -> Iterator[Chunk]:
    """The rows in chunks that are the same at every reading. An input without rows yields one empty chunk.

    With `as_text` a value that only Parquet can store is a fault of its row. Raises UserError for a file that turns out
    to be unreadable.
    """
    limits = Limits(CHUNK_ROWS, CHUNK_CHARACTERS, PARQUET_ROWS)
    try:
        for block in rows.read(limits, None):
            table, faults = block.table, dict(block.faults)
            if rows.kind == "arrow":
                table, faults = sound_rows(table, as_text)
                texts = table[text_column].to_pylist()
            else:
                texts = block.values(text_column)
            texts = [None if text == NULL else text for text in texts]
            yield Chunk(texts, table.drop_columns(list(rows.added)), list(block.numbers), faults, block.file)
    except pa.ArrowException as error:
        raise UserError(
            f"{rows.where}: is not a valid Parquet file: {error}. It may be incomplete; write it again."
        ) from error
    except OSError as error:
        raise UserError(f"{error.filename or rows.where}: cannot be read: {error.strerror or error}.") from error


def _require_column(rows: FileRows, text_column: str, columns: list[str]) -> None:
    if (spoiled := next((name for name in columns if not encodable(name)), None)) is not None:
        shown = spoiled[:60].encode("utf-8", "surrogateescape")
        raise UserError(f"{rows.where}: the column name {shown!r} is not UTF-8. {encoding_fix(rows.files[0])}")
    refuse_duplicates(rows.where, columns)
    if text_column not in columns:
        raise missing_columns(rows.where, [Wanted("text", text_column, OPTION)], available_names(rows, ()))
