"""Files of rows with named columns, CSV, TSV, JSON Lines or Parquet, of which no type is inferred."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tenor.checks.diagnosis.material import whole_number
from tenor.data.sources.delimited import DELIMITERS, examine
from tenor.data.sources.rows import encodable
from tenor.errors import UserError

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
    notes: tuple[str, ...] = ()
    """What a person should know of how the file is read."""


def read_sheet(path: Path) -> Sheet:
    """A file by its suffix. Raises UserError for one that can't be read, or with two columns of one name."""
    suffix = path.suffix.lower()
    try:
        if suffix in JSON_LINES:
            return sheet_of_records(path, _json_lines(path))
        if suffix != ".parquet":
            return _delimited(path, DELIMITERS.get(suffix, ","))
        table = _parquet(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is no {suffix[1:]} file that can be read ({reason}). Write it again.") from error
    return Sheet(path, tuple(table.column_names), table.num_rows, lambda name: table[name].to_pylist())


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


def _delimited(path: Path, delimiter: str) -> Sheet:
    """Every cell as text: numbers and truth values are what a column's meaning makes them."""
    found = examine(path, lambda header: _require_distinct(header, path), delimiter)
    if not found.header:
        raise UserError(f"{path}: is empty, expected a header and a row per prediction. Write it again.")
    width = len(found.header)
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row, record in enumerate(found.records(), start=1):
        if len(record) != width:
            raise UserError(
                f"{path}: row {row:,} (not counting the header) has {len(record)} fields, the header has {width}. Put "
                "a text that holds the delimiter within double quotes, and write the file again."
            )
        for column, cell in zip(columns, record, strict=True):
            column.append(cell)
    by_name = dict(zip(found.header, columns, strict=True))

    def read(name: str) -> list[Any]:
        if not all(map(encodable, by_name[name])):
            raise UserError(f"{path}: column {name} is not UTF-8. Save the file as UTF-8.")
        return by_name[name]

    return Sheet(path, tuple(found.header), len(columns[0]), read, found.notes)


def _require_distinct(names: list[str], path: Path) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path}: {names.count(repeated)} columns are called {repeated!r}; rename all but one.")


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
