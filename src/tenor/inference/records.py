"""One object per line: JSON that can be read, kept and written again whatever stands in it."""

import json
import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tenor.data.sources.rows import encodable

RECORD = "record"
"""The one column of a JSON Lines chunk: each line as it was read."""

MAX_LEVELS = 100
"""Of lists and objects within one another. Python's own limit depends on who calls: it may hold now and not later."""


def parse_record(line: str) -> tuple[dict[str, object], str | None]:
    """The object on a line, or an empty one and what is wrong with the line."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error})"
    if not isinstance(record, dict):
        return {}, f"holds a JSON {type(record).__name__}, expected an object"
    if line.count("[") + line.count("{") > MAX_LEVELS and _levels(record) > MAX_LEVELS:
        return {}, f"holds more than {MAX_LEVELS} levels of lists and objects"
    if (name := next((name for name in record if not encodable(name)), None)) is not None:
        return {}, f"has a key, {name[:40]!r}, that holds bytes that are not UTF-8, or half of a surrogate pair"
    return record, None


def json_text(value: Any) -> str:
    """A value as JSON on one line; NaN and infinities, which JSON does not have, become null, dates and the like text.

    Raises TypeError for bytes and whatever else JSON has no form for.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)
    except ValueError:
        value = _without_nan(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)
    # Half of a surrogate pair can stand in a JSON file only as an escape.
    return text if encodable(text) else json.dumps(value, default=_as_text)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is beyond the largest number")
    return number


def _levels(value: object) -> int:
    levels, layer = 0, [value]
    while layer:
        inner = [one for one in layer if isinstance(one, dict | list)]
        layer = [one for held in inner for one in (held.values() if isinstance(held, dict) else held)]
        levels += bool(inner)
    return levels


def _as_text(value: object) -> str:
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(held) for name, held in value.items()}
    return [_without_nan(held) for held in value] if isinstance(value, list | tuple) else value
