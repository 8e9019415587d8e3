"""Small words that rules share: what must be known, and names for people."""

from collections.abc import Iterable
from typing import TypeVar

from tenor.checks.finding import CannotTell

T = TypeVar("T")
SHOWN_NAMES = 4


def known(value: T | None, what: str, why_not: str | None = None) -> T:
    """The value; raises `CannotTell`, with the reason if there is one, where it is None."""
    if value is None:
        raise CannotTell(f"{what} is not known" + (f" ({why_not})" if why_not else ""))
    return value


def shown(names: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    ordered = sorted(set(names))
    more = len(ordered) - SHOWN_NAMES
    return ", ".join(ordered[:SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")
