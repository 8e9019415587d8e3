"""Files of rows with named columns, CSV, TSV, JSON Lines or Parquet, of which no type is inferred."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tenor.checks.diagnosis.material import whole_number
from tenor.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".parquet")


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns by name, read when asked for."""

    path: Path
    names: tuple[str, ...]
    rows: int
    read: Callable[[str], list[Any]]
    """A column's cells: text as written in CSV, JSON values, or Parquet's values; None for a missing one."""


def read_sheet(path: Path) -> Sheet:
    """A file by its suffix. Raises UserError for one that can't be read, or with two columns of one name."""
    suffix = path.suffix.lower()
    try:
        if suffix in JSON_LINES:
            return sheet_of_records(path, _json_lines(path))
        table = _parquet(path) if suffix == ".parquet" else _delimited(path, DELIMITERS.get(suffix, ","))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is no {suffix[1:]} file that can be read ({reason}). Write it again.") from error
    return Sheet(path, tuple(table.column_names), table.num_rows, lambda name: _cells(table[name], name, path))


def sheet_of_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Sheet:
    """The same from JSON objects; a key that an object lacks is a missing cell."""
    names = tuple(dict.fromkeys(name for record in records for name in record))
    return Sheet(path, names, len(records), lambda name: [record.get(name) for record in records])


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    table.validate(full=True)
    _require_distinct(table.column_names, path)
    return table


def _delimited(path: Path, delimiter: str) -> pa.Table:
    """Every cell as bytes: numbers and truth values are what a column's meaning makes them."""
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    _require_distinct(names, path)
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
    return csv.read_csv(path, parse_options=parse, convert_options=convert)


def _require_distinct(names: list[str], path: Path) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path}: {names.count(repeated)} columns are called {repeated!r}; rename all but one.")


def _cells(column: pa.ChunkedArray, name: str, path: Path) -> list[Any]:
    cells = column.to_pylist()
    if not pa.types.is_binary(column.type):
        return cells
    try:
        return [None if cell is None else cell.decode() for cell in cells]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: column {name} is not UTF-8 ({error.reason}). Save the file as UTF-8.") from error


def _json_lines(path: Path) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=whole_number)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number:,}: is not JSON ({error}). Expected one object per line; write the file again."
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number:,}: holds no JSON object. Expected one object per line.")
        records.append(record)
    return records
