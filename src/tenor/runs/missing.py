"""The one way to say that a value is missing, and why: `Missing` in Python, `{"missing": reason}` in a file."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Missing:
    """A value that is missing (a split, a result, a file), and why."""

    reason: str


MissingRecord = dict[str, str]
"""`{"missing": reason}`, as a file contains it."""


def missing_because(reason: str) -> MissingRecord:
    """What a file contains where a value is missing."""
    return {"missing": reason}


def is_missing(value: Any) -> bool:
    """Whether a value read from a file says that the value is missing."""
    return isinstance(value, dict) and set(value) == {"missing"}


def refuse_nulls(value: Any, key: str = "") -> None:
    """Raises ValueError, with the key, where a record contains None: a missing value must have a reason."""
    if value is None:
        raise ValueError(f"{key} is null; give a value, or missing_because(reason)")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in items:
        refuse_nulls(item, f"{key}.{name}" if key else str(name))
