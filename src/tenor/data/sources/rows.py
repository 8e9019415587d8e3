"""Rows as a reader found them: what every reader yields, and `labels.py` judges."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal

import pyarrow as pa

from tenor.config.schema import Data
from tenor.errors import UserError

Role = Literal["text", "label", "name"]
Faults = Mapping[int, str]
ONE_LABEL = (
    "Several labels per row (multi-label classification) are not supported: keep the rows that have one, and write it "
    "without brackets."
)
SHOWN_ROWS = 5
SHOWN_COLUMNS = 30


@dataclass(frozen=True)
class Columns:
    """The columns to read; None: not wanted."""

    text: str = "text"
    label: str = "label"
    id: str | None = None
    group: str | None = None

    def roles(self) -> dict[str, Role]:
        """What each wanted column holds, by its name."""
        roles: dict[str, Role] = {self.text: "text"}
        roles.setdefault(self.label, "label")
        for name in (self.id, self.group):
            if name is not None:
                roles.setdefault(name, "name")
        return roles


def columns_of(data: Data) -> Columns:
    return Columns(data.text_column, data.label_column, data.id_column, data.group_column)


def row_place(row: int) -> str:
    """Where a row (0-based) stands, for people: rows count from 1."""
    return f"row {row + 1}"


@dataclass(frozen=True)
class Rows:
    """The wanted columns of one file or split.

    A value that its reader could not understand is a placeholder in `table` and has an entry in `faults`, by column
    and 0-based row. A missing value is null.
    """

    table: pa.Table
    where: str
    """For messages: the path or name that the user gave."""
    origin: str
    """For the manifest: a file name, a package, a hub id."""
    faults: Mapping[str, Faults] = field(default_factory=dict)
    place: Callable[[int], str] = row_place
    notes: tuple[str, ...] = ()
    """What a person should know of how the rows were read."""


def require_columns(available: Sequence[str], columns: Columns, where: str) -> None:
    """Raises UserError unless every wanted column is there exactly once."""
    settings = {
        "data.text_column": columns.text,
        "data.label_column": columns.label,
        "data.id_column": columns.id,
        "data.group_column": columns.group,
    }
    for setting, name in settings.items():
        if name is None or available.count(name) == 1:
            continue
        if name in available:
            raise UserError(f"{where}: {available.count(name)} columns are called {name!r}; rename all but one.")
        shown = ", ".join(repr(column[:60]) for column in available[:SHOWN_COLUMNS]) or "none"
        more = f" and {len(available) - SHOWN_COLUMNS} more" if len(available) > SHOWN_COLUMNS else ""
        raise UserError(
            f"{where}: there is no column {name!r}{nearest(name, available)}. Columns found: {shown}{more}. "
            f"Set {setting} to the right one."
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where nothing is near."""
    by_lower = {other.strip().lower(): other for other in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def python_column(values: Sequence[object], column: str, role: Role) -> tuple[pa.Array, dict[int, str]]:
    """Values of any kind as strings: the column, and what could not be understood in it, by row."""
    strings: list[str | None] = []
    faults: dict[int, str] = {}
    for row, value in enumerate(values):
        string, fault = _as_string(value, column, role)
        strings.append(string)
        if fault is not None:
            faults[row] = fault
    return pa.array(strings, type=pa.large_string()), faults


def _as_string(value: object, column: str, role: Role) -> tuple[str | None, str | None]:
    """The value as a string and None, or a placeholder and what is wrong with it."""
    if value is None:
        return None, None
    if isinstance(value, str):
        if encodable(value):
            return value, None
        return "", f"{column} {shorten(value)} holds half of a surrogate pair, which is no character"
    if role == "label" and isinstance(value, bool):
        return str(value), None
    if role == "label" and isinstance(value, float) and value.is_integer():
        return str(int(value)), None
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    if (role != "text" and is_number) or (role == "name" and isinstance(value, float)):
        return str(value), None
    if role == "label" and isinstance(value, list | tuple | set | dict):
        return (
            "",
            f"{column} is {shorten(value)} ({type(value).__name__}), expected an integer or a string. {ONE_LABEL}",
        )
    expected = {"text": "a string", "label": "an integer or a string", "name": "a string or a number"}[role]
    return "", f"{column} is {shorten(value)} ({type(value).__name__}), expected {expected}"


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: it can't hold half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten(value: object) -> str:
    """A value as Python writes it, cut to 60 characters."""
    shown = repr(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def refuse_faults(rows: Rows, faults: Mapping[str, Faults]) -> None:
    """Raises one UserError for all faults: the first rows, and how many there are."""
    by_row: dict[int, list[str]] = {}
    for of_column in faults.values():
        for row, fault in of_column.items():
            by_row.setdefault(row, []).append(fault)
    if not by_row:
        return
    lines = [f"  {rows.place(row)}: {'; '.join(dict.fromkeys(by_row[row]))}" for row in sorted(by_row)[:SHOWN_ROWS]]
    if len(by_row) > SHOWN_ROWS:
        lines.append(f"  … and {len(by_row) - SHOWN_ROWS:,} more")
    raise UserError(
        f"{rows.where}: {len(by_row):,} of {rows.table.num_rows:,} rows cannot be used:\n"
        + "\n".join(lines)
        + "\nMend these rows or remove them."
    )
