"""Nested settings, dotted keys, and values in words."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_SHOWN = 60


def with_values(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `settings` in which the dotted keys of `changed` have those values."""
    copy: dict[str, Any] = json.loads(json.dumps(settings))
    for key, value in changed.items():
        *path, last = key.split(".")
        section = copy
        for name in path:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = value
    return copy


def flat(
    nested: Mapping[str, Any], leaf: Callable[[Mapping[str, Any]], bool] = lambda value: not value
) -> dict[str, Any]:
    """By dotted key, whether sections were nested or written with dots; a mapping that is a `leaf` is kept whole.

    Of two mappings for one key the later one changes what it names, of two values the later one holds.
    """
    found: dict[str, Any] = {}
    for name, value in nested.items():
        inner = {"": value} if not isinstance(value, dict) or leaf(value) else flat(value, leaf)
        for rest, one in inner.items():
            key = f"{name}.{rest}" if rest else name
            both = isinstance(one, dict) and isinstance(found.get(key), dict)
            found[key] = {**found[key], **one} if both else one
    return found


def without(values: dict[str, Any], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """A copy without the keys at `paths`."""
    copy: dict[str, Any] = json.loads(json.dumps(values))
    for path in paths:
        section: Any = copy
        for name in path[:-1]:
            section = section.get(name, {})
        section.pop(path[-1], None)
    return copy


def show(value: Any) -> str:
    """A value as a person wrote it, with its kind where that may be the mistake, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    match value:
        case None | bool():
            return text
        case str():
            return f"the text {text}"
        case int() | float():
            return f"the number {text}"
        case list():
            return f"the list {text}"
        case _:
            return f"the mapping {text}"


def one_of(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
