"""Rows as read from a file, and which spellings of a label are the same class."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from numbers import Integral
from typing import Literal

import pyarrow as pa

from tenor.config.schema import Data
from tenor.data.files.headers import Wanted, missing_columns, refuse_duplicates
from tenor.data.files.headers import nearest as nearest
from tenor.data.files.stream import encodable as encodable
from tenor.errors import UserError

Role = Literal["text", "label", "name"]
Faults = Mapping[int, str]
ONE_LABEL = (
    "Several labels per row (multi-label classification) are not supported. Keep the rows that have one label, and "
    "write it without brackets."
)
SHOWN_ROWS = 5


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


def require_columns(available: Sequence[str], columns: Columns, where: str) -> None:
    """Raises UserError unless every required column exists exactly once."""
    roles = {"text": columns.text, "label": columns.label, "id": columns.id, "group": columns.group}
    wanted = [Wanted(role, name, f"data.{role}_column={{}}") for role, name in roles.items() if name is not None]
    refuse_duplicates(where, available, [one.name for one in wanted])
    if any(one.name not in available for one in wanted):
        raise missing_columns(where, wanted, available)


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
    """The value as a string and None, or a placeholder and its fault."""
    if value is None:
        return None, None
    if isinstance(value, str):
        if encodable(value):
            return value, None
        return "", f"{column} {shorten(value)} contains a lone surrogate, which is not a character"
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


def shorten(value: object) -> str:
    """The `repr` of a value, shortened to 60 characters."""
    shown = repr(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def refuse_faults(rows: SourceRows, faults: Mapping[str, Faults]) -> None:
    """Raises one UserError for all faults, with the first rows and the count."""
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
        + "\nFix or remove these rows."
    )


INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
WHOLE = re.compile(r"([-+]?)0*([0-9]{1,18})\.0*")
BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
"""Spaces within a label. Line breaks and tabs are not included: such a name is refused."""
SHOWN = 6
"""Count of spellings, classes or pairs listed in one note."""
FEWEST_LETTERS = 5
"""Minimum length of words that may differ by a typo in one letter: `hate` and `rate` are two words."""
MOST_NAMES = 200
"""Count of class names that are compared pairwise."""


def tidied(label: str) -> str:
    """A label in Unicode's composed form (NFC), stripped, with single spaces."""
    return BLANKS.sub(" ", unicodedata.normalize("NFC", label).strip())


def folded(label: str) -> str:
    """The key that all spellings of a class share."""
    compatible = unicodedata.normalize("NFKC", label).casefold()
    return tidied(unicodedata.normalize("NFKC", compatible))


def as_integer(label: str) -> str:
    """A whole decimal number as an integer, such as 5 for 5.0; any other label unchanged."""
    match = WHOLE.fullmatch(label)
    return label if match is None else str(int(match[1] + match[2]))


@dataclass(frozen=True)
class Spellings:
    """The classes that the labels themselves define."""

    name_of: Mapping[str, str]
    """The class name, by label as written."""
    counts: Counter[str]
    """Rows by class name, in order of appearance."""


def own_spellings(counts: Counter[str]) -> Spellings:
    """Choose one name for all spellings of a class; `counts` has the rows per spelling, in order of appearance."""
    tidy = {label: tidied(label) for label in counts}
    if all(INTEGER.fullmatch(as_integer(label)) for label in tidy.values()):
        tidy = {label: as_integer(known) for label, known in tidy.items()}
    groups: dict[str, Counter[str]] = {}
    for label, count in counts.items():
        groups.setdefault(folded(tidy[label]), Counter())[tidy[label]] += count
    # Of equally frequent spellings, a Counter returns the first.
    names = {fold: group.most_common(1)[0][0] for fold, group in groups.items()}
    by_class = Counter({names[fold]: group.total() for fold, group in groups.items()})
    return Spellings({label: names[folded(known)] for label, known in tidy.items()}, by_class)


class GivenNames:
    """Class names chosen by the user, and which labels match them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises UserError for names that differ only in spaces or Unicode normalization.

        Names that differ in case are separate classes, because they were given as such; labels must then match the
        case.
        """
        self.names = tuple(names)
        self._as_given = {name: index for index, name in enumerate(names)}
        self._tidied: dict[str, int] = {}
        self._folded: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            if (other := self._tidied.setdefault(tidied(name), index)) != index:
                raise UserError(
                    f"data.class_names contains {names[other]!r} and {name!r}, which are one class: they differ only "
                    "in spaces or Unicode normalization. Give each class a different name."
                )
            self._folded.setdefault(folded(name), []).append(index)

    def index(self, label: str) -> int | None:
        """The class that a label matches; None if it matches none, or more than one."""
        for written in dict.fromkeys((label, as_integer(tidied(label)))):
            for known in (self._as_given.get(written), self._tidied.get(tidied(written))):
                if known is not None:
                    return known
            if len(alike := self._folded.get(folded(written), [])) == 1:
                return alike[0]
        return None

    def alike(self, label: str) -> list[str]:
        """The names that a label matches regardless of case."""
        return [self.names[index] for index in self._folded.get(folded(label), [])]


def merged_note(counts: Counter[str], name_of: Mapping[str, str]) -> str | None:
    """A note on which spellings were read as which class, and in how many rows; None if all are spelled as their class.

    Decimal numbers that are read as integers get a separate sentence.
    """
    spellings: dict[str, dict[str, int]] = {}
    decimals = {}
    for label, name in name_of.items():
        if WHOLE.fullmatch(tidied(label)) and as_integer(tidied(label)) == name:
            decimals[label] = name
        else:
            spellings.setdefault(name, {})[label] = counts[label]
    merged = [
        f"{name!r} is written {', '.join(_of_class(of_class))}"
        for name, of_class in spellings.items()
        if set(of_class) != {name}
    ]
    sentences = []
    if merged:
        sentences.append(
            "labels that differ only in case, spaces or Unicode normalization are one class: " + _shown(merged, "; ")
        )
    if decimals:
        label, name = next(iter(decimals.items()))
        sentences.append(f"whole decimal numbers are read as integers: {label!r} as {name!r}")
    return ". ".join(sentences) or None


def _of_class(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = [f"{_written(label)} ({_rows(count)})" for label, count in ordered]
    return [*listed[:SHOWN], *([f"{len(listed) - SHOWN} more"] if len(listed) > SHOWN else [])]


def near_note(counts: Counter[str]) -> str | None:
    """A note on class names that are nearly the same, with their row counts; None if there are none."""
    pairs = [
        f"{one!r} ({_rows(counts[one])}) and {other!r} ({_rows(counts[other])})"
        for one, other in combinations(list(counts)[:MOST_NAMES], 2)
        if _are_near(one, other)
    ]
    if not pairs:
        return None
    return (
        f"class names that are nearly the same: {_shown(pairs, '; ')}. If one is a typo of the other, correct it; "
        "if they are different classes, list all names in data.class_names"
    )


def _are_near(one: str, other: str) -> bool:
    """Whether two names differ only in punctuation, or in one letter of a word that is long enough for a typo."""
    words, others = (re.findall(r"\w+", name.casefold().replace("_", " ")) for name in (one, other))
    if "".join(words) == "".join(others):
        return bool(words)
    if len(words) != len(others):
        return False
    unequal = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    return len(unequal) == 1 and _one_letter_apart(*unequal[0])


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether one letter is added, missing or different, or two are swapped; but not a digit, nor the first letter."""
    short, long = sorted((one, other), key=len)
    if len(short) < FEWEST_LETTERS or len(long) - len(short) > 1 or short[0] != long[0]:
        return False
    at = next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if any(letter.isdigit() for letter in (short[at : at + 1] + long[at : at + 1])):
        return False
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[at + 1 : at + 2] + short[at : at + 1] == long[at : at + 2]
    return short[at + 1 :] == long[at + 1 :] or (swapped and short[at + 2 :] == long[at + 2 :])


def _written(label: str) -> str:
    """A label quoted so that spellings that look the same can be told apart."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _shown(items: Iterable[str], separator: str) -> str:
    items = list(items)
    return separator.join(items[:SHOWN]) + (f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else "")
