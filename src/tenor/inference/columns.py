"""Values of a Parquet file that can be read, kept and written; one that can't be is emptied, and told."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.errors import UserError
from tenor.inference.records import json_text

SHOWN = 160
"""Characters of another library's words."""

Check = Callable[[pa.ChunkedArray], object]


def refuse_columns(path: Path, schema: pa.Schema, text_column: str, as_text: bool) -> None:
    """Raises UserError for columns that can't be predicted from, kept, or, with `as_text`, written as text."""
    kind = schema.field(text_column).type
    if not _is_text(kind):
        raise UserError(
            f"{path}: column {text_column!r} holds {kind}, expected text. Name the one with the texts (--text-column "
            "NAME), or write it as text"
        )
    for field in schema:
        if as_text and _holds_bytes(field.type):
            raise UserError(
                f"{path}: column {field.name!r} holds bytes ({field.type}), which only a Parquet output can hold. Name "
                "an output that ends with .parquet, or leave the column out of the input"
            )
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowException as error:
            raise UserError(
                f"{path}: column {field.name!r} holds {field.type}, which can't be kept ({error}). Leave it out"
            ) from error


def sound_rows(table: pa.Table, as_text: bool) -> tuple[pa.Table, dict[int, str]]:
    """The table without the values that can't be read or, with `as_text`, written as text; what they were, by row.

    Raises ArrowInvalid for a table whose parts don't fit one another.
    """
    table.validate()
    table = _nullable(table)
    faults: dict[int, str] = {}
    for at, field in enumerate(table.schema):
        column = table.column(at)
        unsound = _failing(column, lambda values: values.validate(full=True))
        for row, why in unsound.items():
            how = "bytes that are not UTF-8" if "UTF8" in why else f"a value that can't be read ({why})"
            faults.setdefault(row, f"holds {how} in column {field.name!r}")
        column = _emptied(column, unsound)
        if as_text and not _is_plain(field.type):
            formless = _failing(column, lambda values: json_text(values.to_pylist()))
            for row, why in formless.items():
                how = f"a value without a form as text ({why}), which a .parquet output can hold,"
                faults.setdefault(row, f"holds {how} in column {field.name!r}")
            column = _emptied(column, formless)
        if column is not table.column(at):
            table = table.set_column(at, field, column)
    return table, faults


def _nullable(table: pa.Table) -> pa.Table:
    """The same columns, each of which may hold nothing."""
    fields = [field.with_nullable(True) for field in table.schema]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def _failing(column: pa.ChunkedArray, check: Check) -> dict[int, str]:
    """The rows whose value does not pass, and why; the column is tried as a whole first."""
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
    """Whether every sound value has a form as text."""
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
