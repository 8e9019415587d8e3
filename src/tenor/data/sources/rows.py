"""Rows as read from a file, their values as strings, and the rows that cannot be used."""

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral
from typing import Literal

import pyarrow as pa

from tenor.config.schema import Data
from tenor.data.files.headers import Wanted, missing_columns, refuse_duplicates
from tenor.data.files.headers import nearest as nearest
from tenor.data.files.stream import encodable as encodable
from tenor.errors import UserError, harmless
from tenor.runs.files import cache_folder, write_text

Role = Literal["text", "label", "name"]
Faults = Mapping[int, str]
ONE_LABEL = "Several labels per row (multi-label classification) are not supported. Keep the rows that have one label."
SHOWN_ROWS = 5
SHOWN_KINDS = 5
SHOWN_PLACES = 3
MAX_CHARACTERS: dict[Role, int] = {"text": 10_000_000, "label": 200, "name": 1_000}
"""Far more than any text that is classified as a whole (War and Peace has 3.2 million characters), or any name."""
MOST_SHOWN = 190
"""Characters of the `repr` of a label's several values; a label has at most 200 (`MAX_CHARACTERS`)."""


@dataclass(frozen=True)
class Columns:
    """The columns to read; None: not required."""

    text: str = "text"
    label: str = "label"
    id: str | None = None
    group: str | None = None

    def roles(self) -> dict[str, Role]:
        """The role of each required column, by its name."""
        roles: dict[str, Role] = {self.text: "text"}
        roles.setdefault(self.label, "label")
        for name in (self.id, self.group):
            if name is not None:
                roles.setdefault(name, "name")
        return roles


def columns_of(data: Data) -> Columns:
    return Columns(data.text_column, data.label_column, data.id_column, data.group_column)


def row_place(row: int) -> str:
    """The place of a row (0-based) for messages, where rows count from 1."""
    return f"row {row + 1}"


@dataclass(frozen=True)
class SourceRows:
    """The required columns of one file or split.

    A value that its reader could not parse is a placeholder in `table` and has an entry in `faults`, by column and
    0-based row. A missing value is null.
    """

    table: pa.Table
    where: str
    """For messages: the path or name that the user gave."""
    origin: str
    """For the manifest: a file name, a package, a hub id."""
    faults: Mapping[str, Faults] = field(default_factory=dict)
    place: Callable[[int], str] = row_place
    notes: tuple[str, ...] = ()
    """Messages for the user about how the rows were read."""
    class_names: tuple[str, ...] | None = None
    """The class names, by index, if the file itself stores them (`stored_class_names`)."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Rows that must not be used, such as rejected annotations, with the reason. They keep their row numbers."""
    has_fields: bool = False
    """Whether a dictionary is an object of JSON or a struct, whose fields can be columns (`files/nested.py`)."""
    advice: str = ""
    """What to do about faults of the file itself."""


def require_columns(available: Sequence[str], columns: Columns, where: str, hint: str = "") -> None:
    """Raises UserError unless every required column exists exactly once. `hint`: what to set, if that is known."""
    roles = {"text": columns.text, "label": columns.label, "id": columns.id, "group": columns.group}
    wanted = [Wanted(role, name, f"data.{role}_column={{}}") for role, name in roles.items() if name is not None]
    refuse_duplicates(where, available, [one.name for one in wanted])
    if any(one.name not in available for one in wanted):
        raise missing_columns(where, wanted, available, hint)


def all_missing(where: str, column: str, rows: int, role: Role) -> UserError:
    """The error for a column without any value."""
    split = " If this is an unlabelled test split, use a labelled split." if role == "label" else ""
    count = f"{rows:,} row{'' if rows == 1 else 's'}"
    return UserError(f"{where}: column {column!r} is missing in all {count}. Choose a column that has values.{split}")


def python_column(values: Sequence[object], column: str, role: Role) -> tuple[pa.Array, dict[int, str]]:
    """Values of any type as strings: the column, and the faults of its values, by row."""
    strings: list[str | None] = []
    faults: dict[int, str] = {}
    for row, value in enumerate(values):
        string, fault = _as_string(value, column, role)
        strings.append(string)
        if fault is not None:
            faults[row] = fault
    return pa.array(strings, type=pa.large_string()), faults


def _as_string(value: object, column: str, role: Role) -> tuple[str | None, str | None]:
    """The value as a string and None, or a placeholder and its fault. A label of several values is their `repr`."""
    if role != "text":
        value = _plain(value)
    if value is None or (role == "label" and isinstance(value, float) and math.isnan(value)):
        return None, None
    if isinstance(value, str):
        if encodable(value):
            return value, None
        return "", f"{column} {shorten(value)} contains a lone surrogate, which is not a character"
    if role == "label" and isinstance(value, list | tuple | set | frozenset | dict):
        return _packed(value, column)
    if role == "label" and isinstance(value, bool):
        return str(value), None
    if role == "label" and isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value), None
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    if (role != "text" and is_number) or (role == "name" and isinstance(value, float)):
        return str(value), None
    expected = {"text": "a string", "label": "an integer or a string", "name": "a string or a number"}[role]
    return "", f"{column} is {shorten(value)} ({type(value).__name__}), expected {expected}"


def _plain(value: object) -> object:
    """A scalar or an array of NumPy, PyTorch or Arrow, a decimal or UTF-8 bytes as a plain Python object."""
    if value is None or isinstance(value, str | bool | int | list | dict):
        return str(value) if type(value) is not str and isinstance(value, str) else value
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    for method in ("as_py", "detach"):  # Arrow's scalars; PyTorch's tensors.
        if hasattr(type(value), method):
            value = getattr(value, method)()
    return getattr(value, "tolist", lambda: value)() if hasattr(type(value), "dtype") else value


def _packed(value: Collection[object], column: str) -> tuple[str | None, str | None]:
    """A list as a label: its only element, None if it is empty, else its `repr`."""
    if not value:
        return None, None
    if isinstance(value, list | tuple) and len(value) == 1:
        return _as_string(value[0], column, "label")
    if isinstance(value, dict) and (name := one_hot_name(value)) is not None:
        value = {name: 1, next(other for other in value if other != name): 0}
    shown = repr(value)
    if len(shown) <= MOST_SHOWN and encodable(shown):
        return shown, None
    return "", f"{column} is {shorten(value)} ({type(value).__name__} of {len(value):,} values). {ONE_LABEL}"


def one_hot_name(value: Mapping[object, object]) -> str | None:
    """The key that has 1 where each other has 0 (or true and false), as in spaCy's `cats`; None for others."""
    if len(value) < 2 or not all(isinstance(key, str) for key in value):
        return None
    if not all(isinstance(score, int | float) and score in (0, 1) for score in value.values()):
        return None
    found = [key for key, score in value.items() if score == 1]
    return str(found[0]) if len(found) == 1 else None


def shorten(value: object) -> str:
    """The `repr` of a value, shortened to 60 characters."""
    shown = repr(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def refuse_faults(rows: SourceRows, faults: Mapping[str, Faults], advice: str = "Fix or remove these rows.") -> None:
    """Raises one UserError for all faults.

    A few rows are listed one by one; of more, each kind of fault with its count, and all of them in a file.
    """
    by_row = faults_by_row(faults)
    if not by_row:
        return
    if len(by_row) <= SHOWN_ROWS:
        lines = [f"  {rows.place(row)}: {fault}" for row, fault in by_row.items()]
    else:
        lines = _kinds_of(rows, by_row)
        advice = f"{advice}\n{list_rows(rows, by_row)}"
    raise UserError(
        f"{rows.where}: {len(by_row):,} of {rows.table.num_rows:,} rows cannot be used:\n"
        + "\n".join(lines)
        + f"\n{advice}"
    )


def faults_by_row(faults: Mapping[str, Faults]) -> dict[int, str]:
    """The faults of each faulty row in one text, by row."""
    by_row: dict[int, dict[str, None]] = {}
    for of_column in faults.values():
        for row, fault in of_column.items():
            by_row.setdefault(row, {})[fault] = None
    return {row: "; ".join(by_row[row]) for row in sorted(by_row)}


def _kinds_of(rows: SourceRows, by_row: Mapping[int, str]) -> list[str]:
    """One line per fault, the most frequent first, with the first rows."""
    kinds: dict[str, list[int]] = {}
    for row, fault in by_row.items():
        kinds.setdefault(fault, []).append(row)
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    lines = []
    for fault, of_kind in ordered[:SHOWN_KINDS]:
        places = "; ".join(map(rows.place, of_kind[:SHOWN_PLACES])) + ("; …" if len(of_kind) > SHOWN_PLACES else "")
        lines.append(f"  {fault}: {len(of_kind):,} row{'s' if len(of_kind) > 1 else ''} ({places})")
    if len(ordered) > SHOWN_KINDS:
        rest = sum(len(of_kind) for _, of_kind in ordered[SHOWN_KINDS:])
        lines.append(f"  … and {rest:,} rows with {len(ordered) - SHOWN_KINDS:,} other faults")
    return lines


def kinds_in_line(by_row: Mapping[int, str]) -> str:
    """The count of rows with each fault, the most frequent first: "43 rows: review is blank"."""
    kinds = Counter(by_row.values()).most_common()
    named = [f"{count:,} row{'s' if count > 1 else ''}: {fault}" for fault, count in kinds[:SHOWN_KINDS]]
    return ", ".join([*named, *(["…"] if len(kinds) > SHOWN_KINDS else [])])


def list_rows(rows: SourceRows, by_row: Mapping[int, str]) -> str:
    """Write all of these rows to a CSV file in the cache folder, with row, place and fault. Returns a sentence with its
    path, or with the reason why it could not be written."""
    digest = hashlib.sha256(rows.where.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "place", "fault"])
    writer.writerows([row + 1, rows.place(row), harmless(fault)] for row, fault in by_row.items())
    try:
        path = cache_folder("faulty_rows") / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', rows.origin)[-60:]}-{digest}.csv"
        write_text(path, text.getvalue())
    except OSError as error:
        return f"The list of these rows could not be written ({error.filename}: {error.strerror})."
    return f"All of these rows are listed in {path}."


def stored_class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the library `datasets` stores in the metadata of its Parquet and Arrow files, by index; None
    if the column has none."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])["info"]
        names = info["features"][column]["names"]
    except (KeyError, TypeError, ValueError):  # Metadata of another program, or none.
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
