"""The finished parts of a job → one CSV, JSON Lines or Parquet file."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sources.files import DELIMITERS
from tenor.errors import UserError
from tenor.inference.inputs import JSON_LINES, RECORD, parse_record
from tenor.runs.files import atomic_path

ACCEPTED_OUTPUTS = (*DELIMITERS, *JSON_LINES, ".parquet")
Tables = Callable[[], Iterator[pa.Table]]
"""Gives the finished chunks in order, from the first on, each time that it is called."""
DECIMALS = 6
"""Of a probability in text files; Parquet holds it in full."""


def require_output(path: Path) -> None:
    """Raises UserError for a suffix that can't be written."""
    if path.suffix.lower() not in ACCEPTED_OUTPUTS:
        raise UserError(f"{path}: unknown suffix {path.suffix!r}, expected one of {', '.join(ACCEPTED_OUTPUTS)}")


def write_output(path: Path, tables: Tables, columns: list[str], added: list[str], from_records: bool) -> None:
    """Write the chunks to `path`, atomically: the input's `columns`, then those `added`.

    With `from_records` the input's columns are keys of JSON objects, each kept as a line of text.
    """
    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(temporary, tables, columns, added, from_records)
        elif suffix in DELIMITERS:
            rows = _rows(tables, columns, added, from_records)
            _write_delimited(temporary, DELIMITERS[suffix], rows, [*columns, *added])
        else:
            _write_json_lines(temporary, _rows(tables, columns, added, from_records))


def _rows(tables: Tables, columns: list[str], added: list[str], from_records: bool) -> Iterator[dict[str, Any]]:
    for table in tables():
        kept = [RECORD] if from_records else columns
        for row in table.select([*kept, *added]).to_pylist():
            found = {name: _rounded(row[name]) for name in added}
            before = parse_record(row[RECORD])[0] if from_records else {name: row[name] for name in columns}
            yield {**before, **found}


def _rounded(value: Any) -> Any:
    return round(value, DECIMALS) if isinstance(value, float) else value


def _write_delimited(path: Path, delimiter: str, rows: Iterator[dict[str, Any]], names: list[str]) -> None:
    with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(row.get(name)) for name in names] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json(value) if isinstance(value, dict | list) else value


def _write_json_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(_json(row) + "\n")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    # Half of a surrogate pair can stand in a JSON file only as an escape.
    return text if _encodable(text) else json.dumps(value, default=str)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_parquet(path: Path, tables: Tables, columns: list[str], added: list[str], from_records: bool) -> None:
    types = _record_types(tables, columns) if from_records else {}
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables():
            whole = _from_records(table, types, added) if from_records else table.select([*columns, *added])
            writer = writer or pq.ParquetWriter(path, whole.schema, compression="zstd")
            writer.write_table(whole)
    finally:
        if writer is not None:
            writer.close()


def _record_types(tables: Tables, columns: list[str]) -> dict[str, pa.DataType]:
    """One type per key: that of all its values where they share one, else text."""
    kinds: dict[str, set[pa.DataType]] = {name: set() for name in columns}
    for table in tables():
        for line in table[RECORD].to_pylist():
            for name, value in parse_record(line)[0].items():
                if value is not None:
                    kinds[name].add(_type_of(value))
    return {name: _common(found) for name, found in kinds.items()}


def _type_of(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return pa.int64()
    return pa.float64() if isinstance(value, float) else pa.large_string()


def _common(found: set[pa.DataType]) -> pa.DataType:
    if len(found) == 1:
        return next(iter(found))
    return pa.float64() if found == {pa.int64(), pa.float64()} else pa.large_string()


def _from_records(table: pa.Table, types: dict[str, pa.DataType], added: list[str]) -> pa.Table:
    records = [parse_record(line)[0] for line in table[RECORD].to_pylist()]
    columns = {
        name: pa.array([_as(record.get(name), kind) for record in records], kind) for name, kind in types.items()
    }
    return pa.table({**columns, **{name: table[name] for name in added}})


def _as(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != pa.large_string():
        return value
    text = value if isinstance(value, str) else _json(value)
    return text if _encodable(text) else text.encode("utf-8", "replace").decode()
