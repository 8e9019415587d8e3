"""Columns of classes: cells as text, whatever their type, and which spellings mean the same class."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import isnan
from typing import Any

from tenor.errors import UserError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
NUMBERED = re.compile(r"(?:label|class)[ _-]?(\d+)")
"""`LABEL_1` is transformers' name for class 1 where none was given."""
DIGITS = 15
"""Up to so many, a float holds an integer exactly."""
NO_NUMBER = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "nat"})
"""What programs write for a missing number. Among names they are names: "none" is a class of stance data."""
MOST_CLASSES = 1000
SHOWN = 8
# From the negative to the positive class, as data sets number them.
ORDERS: tuple[tuple[str, ...], ...] = (
    *(("0", "1"), ("-1", "1"), ("1", "2"), ("-1", "0", "1"), ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y")),
    *(("neg", "pos"), ("negative", "positive"), ("neg", "neu", "pos"), ("negative", "neutral", "positive")),
)


@dataclass(frozen=True, eq=False)
class ClassColumn:
    """One class per row."""

    name: str
    keys: list[str]
    """Per row: equal where the class is the same."""
    spellings: dict[str, dict[str, None]]
    """Key → how it is written, the first one first."""

    def shown(self, key: str) -> str:
        """A class as the file writes it first."""
        return next(iter(self.spellings[key]), key)


def read_class_column(name: str, cells: Sequence[Any], where: str, classes: Collection[str] = ()) -> ClassColumn:
    """A column's cells as classes; `classes` are the keys of those that are known to be some.

    Raises UserError for missing cells, fractions, lists, and more values than classes can be.
    """
    texts = [_text(cell, name, where) for cell in cells]
    known: dict[str, str] = {text: class_key(text) for text in dict.fromkeys(texts)}
    numeric = [text for text in known if NUMBER.fullmatch(text)]
    unknown = {text for text, key in known.items() if text.lower() in NO_NUMBER and key not in classes}
    has_names = bool(known.keys() - unknown - {"", *numeric})
    missing = {""} if has_names else {"", *unknown}
    if count := sum(text in missing for text in texts):
        raise UserError(
            f"{where}: {count:,} of {len(texts):,} values of {name} are missing. Complete them, or "
            "leave these rows out."
        )
    fractions = [text for text in numeric if not text.lstrip("+-").isdigit() and not _is_whole(text)]
    if fractions and len(numeric) == len(known):
        raise UserError(
            f"{where}: column {name} holds fractions such as {fractions[0]}; expected a class per row. "
            f"Probabilities of a class belong in a column named prob_CLASS."
        )
    spellings: dict[str, dict[str, None]] = {}
    for text, key in known.items():
        spellings.setdefault(key, {})[key if NUMBER.fullmatch(text) and _is_whole(text) else text] = None
    if len(spellings) > MOST_CLASSES:
        raise UserError(
            f"{where}: column {name} holds {len(spellings):,} different values, such as {next(iter(known))[:40]!r}; "
            f"expected classes, {MOST_CLASSES:,} at most. Rename it if it is not the class."
        )
    return ClassColumn(name, [known[text] for text in texts], spellings)


def class_key(text: str) -> str:
    """What a class's spellings have in common: case, blanks and the zeros of 01 and 1.0 don't count."""
    text = " ".join(text.split())
    if NUMBER.fullmatch(text) and _is_whole(text):
        return str(int(text) if re.fullmatch(r"[+-]?\d+", text) else int(float(text)))
    key = text.casefold()
    return str(int(found[1])) if (found := NUMBERED.fullmatch(key)) and len(key) < 2 * DIGITS else key


def are_numbers(keys: Iterable[str]) -> bool:
    """Whether all classes are integers."""
    return all(re.fullmatch(r"-?\d+", key) for key in keys)


def in_order(keys: Iterable[str]) -> list[str]:
    """Classes by number, else from negative to positive where that is their meaning, else by name."""
    present = set(keys)
    if are_numbers(present):
        return sorted(present, key=int)
    order = usual_order(present)
    return [key for key in order if key in present] if order else sorted(present)


def usual_order(keys: Iterable[str], length: int | None = None) -> tuple[str, ...]:
    """The usual numbering of which these are classes, the shortest or one of `length`; empty where there is none."""
    present = set(keys)
    orders = (*ORDERS, *((tuple(map(str, range(length))),) if length else ()))
    fitting = [order for order in orders if present <= set(order) and length in (None, len(order))]
    return min(fitting, key=len, default=())


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _is_whole(text: str) -> bool:
    return len(text) <= DIGITS + 10 and abs(float(text)) < 10**DIGITS and float(text).is_integer()


def _text(cell: Any, name: str, where: str) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case float() | Decimal():
            return "" if isnan(cell) else str(cell)
        case int():
            return str(cell)
        case str():
            return " ".join(cell.split())
        case date():
            return cell.isoformat()
        case bytes():
            return cell.decode("utf-8", "backslashreplace")
    raise UserError(f"{where}: column {name} holds a {type(cell).__name__}; expected a class per row.")
