"""Records of JSON files: one object per line, an array of objects, or objects nested under one key, as a stream.

Written here because Arrow's reader ends at the first faulty record, and because of ijson's limits (`JsonScanner`).
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from tenor.data.files import dialect
from tenor.data.files.json_layout import JsonLayout, json_layout
from tenor.data.files.json_scanner import JsonScanner
from tenor.data.files.nested import with_fields
from tenor.data.files.opening import open_text
from tenor.data.files.stream import NOT_UTF8, RECORD, Block, FileRows, Limits, Unit, encodable, storable
from tenor.errors import UserError

MAX_LEVELS = 100
"""Maximum nesting of lists and objects. Python's own limit varies with the depth of the call stack."""
EXPECTED = 'expected one JSON object per line, such as {"text": "A fine film.", "label": 1}'


def parse_record(line: str) -> tuple[dict[str, object], str | None]:
    """The JSON object of a line, or an empty one and the fault of the line. NaN, which Python writes for a missing
    number, becomes None."""
    try:
        record = json.loads(line, parse_constant=_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error})"
    if (fault := _record_fault(record)) is not None:
        return {}, fault
    return record, None


def _record_fault(record: object) -> str | None:
    if not isinstance(record, dict):
        return f"is a JSON {type(record).__name__}, expected an object"
    if _levels(record) > MAX_LEVELS:
        return f"has more than {MAX_LEVELS} levels of nested lists and objects"
    if (name := next((name for name in record if not encodable(name)), None)) is not None:
        return f"has a key, {name[:40]!r}, with bytes that are not UTF-8, or with a lone surrogate"
    return None


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


def _constant(name: str) -> object:
    if name == "NaN":
        return None
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is beyond the largest number")
    return number


def _levels(value: object) -> int:
    levels, layer = 0, [value]
    while layer and levels <= MAX_LEVELS:
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


def json_rows(path: Path, required: Sequence[str]) -> FileRows:
    """A JSON file as rows; an object with one of the `required` keys is a record. Raises UserError for a file whose
    records cannot be located."""
    layout = json_layout(path, required)
    nested = [name for name in required if "." in name]

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        found = _lines(path) if layout.form == "lines" else _items(path, layout)
        return _blocks(found, limits, choose is None, nested)

    key = ".".join(layout.key)
    what = "of the table" if layout.form == "table" else "under the key"
    notes = () if not key else (f"{path}: the records are those {what} {key!r}.",)
    reading = {} if layout.form == "lines" else {"records": ascii(key) if key else layout.form}
    unit: Unit = "line" if layout.form == "lines" else "row"
    return FileRows(str(path), path.name, unit, "records", None, read, (path,), notes, reading=reading)


@dataclass(frozen=True)
class _Record:
    number: int
    record: dict[str, object]
    line: str
    """The record as JSON."""
    fault: str | None


def _blocks(found: Iterator[_Record], limits: Limits, keep_lines: bool, nested: Sequence[str]) -> Iterator[Block]:
    portion: list[_Record] = []
    characters, is_first = 0, True
    for one in found:
        portion.append(one)
        characters += len(one.line)
        if len(portion) >= limits.rows or characters >= limits.characters:
            yield _block(portion, keep_lines, nested)
            portion, characters, is_first = [], 0, False
    if portion or is_first:
        yield _block(portion, keep_lines, nested)


def _block(portion: list[_Record], keep_lines: bool, nested: Sequence[str]) -> Block:
    lines = pa.array([storable(one.line) for one in portion], pa.large_string()) if keep_lines else None
    faults: dict[int, str] = {}
    for at, one in enumerate(portion):
        if one.fault is not None:
            faults[at] = one.fault
        elif storable(one.line) != one.line:
            faults[at] = NOT_UTF8
    table = pa.table({} if lines is None else {RECORD: lines})
    return Block(table, [one.number for one in portion], faults, [with_fields(one.record, nested) for one in portion])


def _lines(path: Path) -> Iterator[_Record]:
    with open_text(path, "\n") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(dialect.MOST_CHARACTERS), ""), start=1):
            if len(line) >= dialect.MOST_CHARACTERS:
                raise UserError(
                    f"{path}: line {number:,} has {dialect.MOST_CHARACTERS:,} characters or more; {EXPECTED}."
                )
            if line.strip():
                record, fault = parse_record(line)
                yield _Record(number, record, line.rstrip("\r\n"), fault)


def _items(path: Path, layout: JsonLayout) -> Iterator[_Record]:
    with JsonScanner(path) as scanner:
        if layout.form == "values":
            texts = _values(scanner)
        elif layout.form == "array":
            texts = _arrays(scanner)
        elif layout.form == "table":
            texts = _of_table(scanner)
        else:
            texts = _under(scanner, layout.key)
        for number, text in enumerate(texts, start=1):
            line = json.dumps({"text": json.loads(text)}) if layout.are_texts and text.startswith('"') else text
            record, fault = parse_record(line)
            yield _Record(number, record, line, fault)


def _values(scanner: JsonScanner) -> Iterator[str]:
    while scanner.peek():
        yield scanner.value()


def _arrays(scanner: JsonScanner) -> Iterator[str]:
    while scanner.peek():
        yield from scanner.items()


def _of_table(scanner: JsonScanner) -> Iterator[str]:
    """The rows of the tables in an array of objects: `{"type": "table", "name": …, "data": […]}`."""
    for _ in scanner.objects():
        for name in scanner.names():
            if name == "data" and scanner.peek() == "[":
                yield from scanner.items()
            else:
                scanner.skip()


def _under(scanner: JsonScanner, key: tuple[str, ...]) -> Iterator[str]:
    for name in scanner.names():
        if name == key[0] and scanner.peek() == ("[" if len(key) == 1 else "{"):
            yield from scanner.items() if len(key) == 1 else _under(scanner, key[1:])
        else:
            scanner.skip()
