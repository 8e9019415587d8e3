"""Where the records of a JSON file are: line by line, in an array, or under a key."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from tenor.data.files.commands import content_of
from tenor.data.files.json_scanner import PART_CHARACTERS, JsonScanner
from tenor.data.files.nested import MOST_LEVELS
from tenor.data.files.opening import open_text, set_path
from tenor.errors import UserError

SHOWN_KEYS = 8
PHPMYADMIN = "phpmyadmin"


@dataclass(frozen=True)
class JsonLayout:
    """Where the records of a file are."""

    form: Literal["lines", "values", "array", "key", "table"]
    """One object per line; objects one after another; an array; an array under a key; the rows of phpMyAdmin's table
    among other objects in an array."""
    key: tuple[str, ...] = ()
    """The keys that lead to the array, such as `data`, `reviews`."""
    are_texts: bool = False
    """Whether the array has strings, which are the texts."""


def json_layout(path: Path, required: Sequence[str]) -> JsonLayout:
    """Where the records are, by the first value: an array, an object per line, or an object with an array of objects
    under one key. An object with one of the `required` keys is a record.

    Raises UserError for a file whose records cannot be located.
    """
    with JsonScanner(path) as scanner:
        first = scanner.peek()
    if first == "[":
        return _layout_of_array(path)
    return _layout_of_objects(path, required) if first == "{" else JsonLayout("lines")


def _layout_of_array(path: Path) -> JsonLayout:
    with JsonScanner(path) as scanner:
        scanner.take("[")
        item = scanner.peek()
        if item and item not in '{"]':
            raise UserError(
                f"{path}: is a JSON array of other values than objects. Expected an array of objects, such as "
                '[{"text": "A fine film.", "label": 1}].'
            )
        if item != "{" or PHPMYADMIN not in scanner.buffer[:PART_CHARACTERS].lower():
            return JsonLayout("array", are_texts=item == '"')
    tables = _tables(path)
    if len(tables) > 1:
        raise _several_tables(path, tables)
    return JsonLayout("table", (tables[0],)) if tables else JsonLayout("array")


def _several_tables(path: Path, tables: Sequence[str]) -> UserError:
    code = (
        f"import json, sys; [print(json.dumps(row)) for table in json.load(sys.stdin.buffer) "
        f"if table.get('name') == {json.dumps(tables[0])} for row in table.get('data', [])]"
    )
    new = path.with_name(f"{tables[0]}.jsonl")
    shown = ", ".join(map(repr, tables[:SHOWN_KEYS]))
    return UserError(
        f"{path}: has {len(tables)} tables: {shown}. Write one to a file and {set_path(new)}, for "
        f"instance: {content_of(path)} | python -c {quote(code)} > {quote(str(new))}"
    )


def _layout_of_objects(path: Path, required: Sequence[str]) -> JsonLayout:
    kinds: dict[str, str] = {}
    arrays: dict[tuple[str, ...], int] = {}
    try:
        is_single, on_one_line = _outline(path, kinds, arrays)
    except UserError:
        if not _spans_lines(path):
            return JsonLayout("lines")  # Its reader names the line.
        raise
    itself = JsonLayout("lines" if on_one_line else "values")
    if not is_single or any(kinds.get(name) == "value" or _is_of_object(name, kinds) for name in required):
        return itself
    outer: dict[tuple[str, ...], int] = {key: rows for key, rows in arrays.items() if len(key) == 1}
    arrays = outer if outer and max(outer.values()) == max(arrays.values()) else arrays
    if len(arrays) == 1:
        return JsonLayout("key", next(iter(arrays)))
    _refuse_layout(path, kinds, dict(sorted(arrays.items(), key=lambda item: -item[1])))
    return itself


def _tables(path: Path) -> list[str]:
    """The names of the tables in phpMyAdmin's export; none for another file."""
    names: list[str] = []
    with JsonScanner(path) as scanner:
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
    with JsonScanner(path) as scanner:
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
