"""Records of JSON files: one object per line, an array of objects, or objects nested under one key, as a stream.

Written here because Arrow's reader ends at the first faulty record, and because of ijson's limits (`_Scanner`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from shlex import quote
from typing import Any, Literal
from uuid import UUID

import pyarrow as pa

from tenor.data.files import dialect
from tenor.data.files.commands import content_of
from tenor.data.files.nested import MOST_LEVELS, with_fields
from tenor.data.files.opening import open_text, set_path
from tenor.data.files.stream import NOT_UTF8, RECORD, Block, FileRows, Limits, Unit, encodable, storable
from tenor.errors import UserError

MAX_LEVELS = 100
"""Maximum nesting of lists and objects. Python's own limit varies with the depth of the call stack."""
PART_CHARACTERS = 2**16
SHOWN_KEYS = 8
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


@dataclass(frozen=True)
class _Layout:
    """Where the records of a file are."""

    form: Literal["lines", "values", "array", "key", "table"]
    """One object per line; objects one after another; an array; an array under a key; the rows of phpMyAdmin's table
    among other objects in an array."""
    key: tuple[str, ...] = ()
    """The keys that lead to the array, such as `data`, `reviews`."""
    are_texts: bool = False
    """Whether the array has strings, which are the texts."""


def json_rows(path: Path, required: Sequence[str]) -> FileRows:
    """A JSON file as rows; an object with one of the `required` keys is a record. Raises UserError for a file whose
    records cannot be located."""
    layout = _layout(path, required)
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


def _items(path: Path, layout: _Layout) -> Iterator[_Record]:
    with _Scanner(path) as scanner:
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


def _values(scanner: "_Scanner") -> Iterator[str]:
    while scanner.peek():
        yield scanner.value()


def _arrays(scanner: "_Scanner") -> Iterator[str]:
    while scanner.peek():
        yield from scanner.items()


def _of_table(scanner: "_Scanner") -> Iterator[str]:
    """The rows of the tables in an array of objects: `{"type": "table", "name": …, "data": […]}`."""
    for _ in scanner.objects():
        for name in scanner.names():
            if name == "data" and scanner.peek() == "[":
                yield from scanner.items()
            else:
                scanner.skip()


def _tables(path: Path) -> list[str]:
    """The names of the tables in phpMyAdmin's export; none for another file."""
    names: list[str] = []
    with _Scanner(path) as scanner:
        for at, _ in enumerate(scanner.objects()):
            fields: dict[str, str] = {}
            for name in scanner.names():
                if name in ("type", "name", "comment") and scanner.peek() == '"':
                    fields[name] = json.loads(scanner.value())
                elif name == "data" and scanner.peek() == "[":
                    fields[name] = ""
                    scanner.skip()
                else:
                    scanner.skip()
            if at == 0 and not (fields.get("type") == "header" and PHPMYADMIN in fields.get("comment", "").lower()):
                return []
            if fields.get("type") == "table" and "data" in fields:
                names.append(fields.get("name", "table"))
    return names


PHPMYADMIN = "phpmyadmin"


def _under(scanner: "_Scanner", key: tuple[str, ...]) -> Iterator[str]:
    for name in scanner.names():
        if name == key[0] and scanner.peek() == ("[" if len(key) == 1 else "{"):
            yield from scanner.items() if len(key) == 1 else _under(scanner, key[1:])
        else:
            scanner.skip()


class _Scanner:
    """Reads JSON values one after another from a file, each as its text; memory is bounded by the largest.

    ijson would do, but its C backend ends the process on some inputs, where Python's own decoder raises an error.
    Raises UserError for text that is not JSON, and for a value larger than `dialect.MOST_CHARACTERS`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.buffer, self.at, self.before, self.count = path, "", 0, 0, 0

    def __enter__(self) -> "_Scanner":
        self.text = open_text(self.path, "\n")
        return self

    def __exit__(self, *raised: object) -> None:
        self.text.close()

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """The next character, one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise self._error(f"expected one of {' '.join(expected)}, observed {found or 'the end of the file'!r}")
        self.at += 1
        return found

    def names(self) -> Iterator[str]:
        """The keys of an object; the caller reads each value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self._error("expected a key in double quotes")
            key = json.loads(self.value())
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def items(self) -> Iterator[str]:
        """The texts of the items of an array."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def objects(self) -> Iterator[None]:
        """For each object in an array; the caller reads it. Raises UserError for other items."""
        self.take("[")
        while self.peek() != "]":
            if self.peek() != "{":
                raise self._error("expected an object")
            yield
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def skip(self) -> None:
        """Read a value without keeping it."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def value(self) -> str:
        """The text of the next value."""
        self.peek()
        while True:
            try:
                _, end = _LENIENT.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                near_end = error.pos > len(self.buffer) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
                if near_end and self._more():
                    continue
                raise self._error(error.msg) from error
            except RecursionError as error:
                raise self._error("values are nested too deeply") from error
            if end == len(self.buffer) and self._more():
                continue  # A number may go on.
            found, self.at = self.buffer[self.at : end], end
            self.count += 1
            return found

    def _more(self) -> bool:
        """Read on; the size doubles with the value, so that its beginning is decoded a few times only."""
        kept = self.buffer[self.at :]
        if len(kept) > dialect.MOST_CHARACTERS:
            raise UserError(
                f"{self.path}: a JSON value has {dialect.MOST_CHARACTERS:,} characters or more; expected one object "
                "per text."
            )
        part = self.text.read(max(PART_CHARACTERS, len(kept)))
        self.before += self.at
        self.buffer, self.at = kept + part, 0
        return bool(part)

    def _error(self, reason: str) -> UserError:
        place = f"character {self.before + self.at + 1:,}, after {self.count:,} values"
        return UserError(
            f"{self.path}: is not JSON from {place} on: {reason}. The file may be incomplete; write it again."
        )


_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 16
_LENIENT = json.JSONDecoder(parse_int=len, parse_float=len)
"""Finds where a value ends; numbers are converted later, where a fault is one of the record."""


def _layout(path: Path, required: Sequence[str]) -> _Layout:
    """Where the records are. The first value decides: an array, an object per line, or an object with an array of
    objects under one key."""
    with _Scanner(path) as scanner:
        first = scanner.peek()
        if first == "[":
            scanner.take("[")
            item = scanner.peek()
            if item and item not in '{"]':
                raise UserError(
                    f"{path}: is a JSON array of other values than objects. Expected an array of objects, such as "
                    '[{"text": "A fine film.", "label": 1}].'
                )
            if item != "{" or PHPMYADMIN not in scanner.buffer[:PART_CHARACTERS].lower():
                return _Layout("array", are_texts=item == '"')
    if first == "[":
        tables = _tables(path)
        if len(tables) > 1:
            code = (
                f"import json, sys; [print(json.dumps(row)) for table in json.load(sys.stdin.buffer) "
                f"if table.get('name') == {json.dumps(tables[0])} for row in table.get('data', [])]"
            )
            new = path.with_name(f"{tables[0]}.jsonl")
            shown = ", ".join(map(repr, tables[:SHOWN_KEYS]))
            raise UserError(
                f"{path}: has {len(tables)} tables: {shown}. Write one to a file and {set_path(new)}, for "
                f"instance: {content_of(path)} | python -c {quote(code)} > {quote(str(new))}"
            )
        return _Layout("table", (tables[0],)) if tables else _Layout("array")
    if first != "{":
        return _Layout("lines")
    kinds: dict[str, str] = {}
    arrays: dict[tuple[str, ...], int] = {}
    try:
        is_single, on_one_line = _outline(path, kinds, arrays)
    except UserError:
        if not _spans_lines(path):
            return _Layout("lines")  # Its reader names the line.
        raise
    itself = _Layout("lines" if on_one_line else "values")
    if not is_single or any(kinds.get(name) == "value" or _is_of_object(name, kinds) for name in required):
        return itself
    outer: dict[tuple[str, ...], int] = {key: rows for key, rows in arrays.items() if len(key) == 1}
    arrays = outer if outer and max(outer.values()) == max(arrays.values()) else arrays
    if len(arrays) == 1:
        return _Layout("key", next(iter(arrays)))
    _refuse_layout(path, kinds, dict(sorted(arrays.items(), key=lambda item: -item[1])))
    return itself


def _is_of_object(name: str, kinds: Mapping[str, str]) -> bool:
    """Whether a name with dots is that of a field within an object that is a value of a record."""
    return any(kind == "object" and name.startswith(f"{key}.") for key, kind in kinds.items())


def _arrays_within(value: object, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys that lead to arrays of objects within an object, and the rows of each."""
    if isinstance(value, dict) and len(key) < MOST_LEVELS:
        for name, inner in value.items():
            yield from _arrays_within(inner, (*key, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield key, len(value)


def _outline(path: Path, kinds: dict[str, str], arrays: dict[tuple[str, ...], int]) -> tuple[bool, bool]:
    """Fill `kinds` with the kinds of values in the first object of a file, and `arrays` with the keys that lead to
    arrays of objects and the rows of each. Returns whether it is the only value, and whether it ends in the line in
    which it begins."""
    with _Scanner(path) as scanner:
        for key in scanner.names():
            kinds[key] = {"[": "values", "{": "object"}.get(scanner.peek(), "value")
            if kinds[key] != "values":
                text = scanner.value()
                if kinds[key] == "object":
                    value = json.loads(text, parse_int=len)
                    arrays.update(_arrays_within(value, (key,)))
                    kinds[key] = "column" if all(name.isdigit() for name in value) else "object"
                continue
            scanner.take("[")
            if scanner.peek() == "{":
                kinds[key] = "objects"
                arrays[key,] = 0
            if scanner.peek() == "]":
                scanner.take("]")
                continue
            while True:
                scanner.value()
                if (key,) in arrays:
                    arrays[key,] += 1
                if scanner.take(",]") == "]":
                    break
        is_single = not scanner.peek()
    return is_single, not _spans_lines(path)


def _spans_lines(path: Path) -> bool:
    """Whether the first object of a file goes on beyond its first line; a line of many characters is one."""
    with open_text(path, "\n") as content:
        first = next((line for line in iter(lambda: content.readline(PART_CHARACTERS), "") if line.strip()), "")
    if len(first) >= PART_CHARACTERS:
        return False
    return first.rstrip().endswith(("{", "[", ",", ":"))


def _refuse_layout(path: Path, kinds: Mapping[str, str], arrays: Mapping[tuple[str, ...], int]) -> None:
    """Raises UserError for an object with records under several keys (the longest array first), or with columns
    in place of records."""
    shown = ", ".join(map(repr, list(kinds)[:SHOWN_KEYS]))
    if arrays:
        names = [".".join(key) for key in arrays]
        within = "".join(f"[{json.dumps(name)}]" for name in next(iter(arrays)))
        code = f"import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin.buffer){within}]"
        new = path.with_name(f"{names[0]}.jsonl")
        counts = [f"{name!r} ({rows:,})" for name, rows in zip(names, arrays.values(), strict=True)]
        listed = ", ".join(counts[:SHOWN_KEYS])
        raise UserError(
            f"{path}: has records under several keys, {listed}. Write those of one to a file and {set_path(new)}, for "
            f"instance: {content_of(path)} | python -c {quote(code)} > {quote(str(new))}"
        )
    is_split = {"columns", "data"} <= set(kinds)
    found = set(kinds.values())
    if not is_split and (len(found) != 1 or found == {"value"} or (found == {"object"} and len(kinds) == 1)):
        return
    orient = "split" if is_split else "index" if found == {"object"} else "columns"
    new = path.with_suffix(".csv")
    code = (
        f"import pandas; pandas.read_json({json.dumps(str(path))}, orient={json.dumps(orient)})"
        f".to_csv({json.dumps(str(new))}, index=False)"
    )
    raise UserError(
        f"{path}: has columns, not records: the keys {shown}. Convert it and {set_path(new)}, for instance: python -c "
        f"{quote(code)}"
    )
