"""Nested settings and dotted keys."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any


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
