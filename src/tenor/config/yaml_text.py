"""A strict reader of a subset of YAML 1.2: mappings, lists, text, numbers, true, false and null.

It reads the events of ruamel.yaml. ruamel's `compose` would build the same tree, but it replaces aliases, which this
reader refuses, and raises RecursionError on deeply nested text.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.nodes import ScalarNode

from tenor.errors import UserError

MAX_DEPTH = 20
MAX_NUMBER_CHARACTERS = 40


@dataclass(frozen=True)
class YamlText:
    """A document's value, and the line number (from 1) of each key, by its path of keys."""

    value: Any
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)


def parse_yaml(text: str, origin: str) -> YamlText:
    """Read one document. Keys are always text; dates are text.

    Raises UserError, with `origin`, line and column, for invalid YAML and for what configurations do not use:
    duplicate keys, anchors, aliases, merge keys, tags, directives, several documents, numbers that are not finite or
    longer than 40 characters, more than 20 levels.
    """
    yaml = YAML(typ="safe", pure=True)
    lines: dict[tuple[str, ...], int] = {}
    try:
        events = yaml.parse(text)
        value = _document(yaml, events, origin, lines)
    except MarkedYAMLError as error:
        reason = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{_place(origin, mark)}: not YAML: {reason}. Fix the syntax.") from error
    except (YAMLError, ValueError, OverflowError) as error:  # the last two: an escape beyond Unicode
        reason = " ".join(str(error).split())
        raise UserError(f"{origin}: not YAML: {reason}. Fix the syntax.") from error
    return YamlText(value, lines)


def _document(yaml: YAML, events: Iterator[Event], origin: str, lines: dict[tuple[str, ...], int]) -> Any:
    value: Any = None
    documents = 0
    for event in events:
        if isinstance(event, StreamStartEvent | StreamEndEvent):
            continue
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse(origin, event, "a second document", "keep one document, and remove the line `---`")
            if event.version or event.tags:
                _refuse(origin, event, "a directive", "remove the line that starts with `%`; YAML 1.2 is read")
            value = _value(yaml, events, next(events), origin, lines, ())
    return value


def _value(
    yaml: YAML,
    events: Iterator[Event],
    event: Event,
    origin: str,
    lines: dict[tuple[str, ...], int],
    path: tuple[str, ...],
) -> Any:
    _refuse_features(origin, event)
    if len(path) > MAX_DEPTH:
        _refuse(origin, event, f"more than {MAX_DEPTH} levels", "a configuration has three")
    if isinstance(event, MappingStartEvent):
        return _mapping(yaml, events, origin, lines, path)
    if isinstance(event, SequenceStartEvent):
        items: list[Any] = []
        while not isinstance(item := next(events), SequenceEndEvent):
            items.append(_value(yaml, events, item, origin, lines, (*path, str(len(items)))))
        return items
    assert isinstance(event, ScalarEvent)
    return _scalar(yaml, event, origin)


def _mapping(
    yaml: YAML, events: Iterator[Event], origin: str, lines: dict[tuple[str, ...], int], path: tuple[str, ...]
) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    while not isinstance(event := next(events), MappingEndEvent):
        _refuse_features(origin, event)
        if not isinstance(event, ScalarEvent):
            _refuse(origin, event, "a list or mapping as a key", "a key is text")
        key = _unicode(event, origin)
        if event.implicit[0] and key == "<<":
            _refuse(origin, event, "the merge key `<<`", "write the keys out")
        if key in mapping:
            _refuse(origin, event, f"the key {key!r} twice (first on line {lines[*path, key]})", "keep one of them")
        lines[*path, key] = event.start_mark.line + 1
        mapping[key] = _value(yaml, events, next(events), origin, lines, (*path, key))
    return mapping


def _scalar(yaml: YAML, event: ScalarEvent, origin: str) -> Any:
    text = _unicode(event, origin)
    kind = str(yaml.resolver.resolve(ScalarNode, text, event.implicit)).rpartition(":")[2]
    if kind in ("int", "float") and len(text) > MAX_NUMBER_CHARACTERS:
        fix = "shorten it, or quote it if it is text"
        _refuse(origin, event, f"a number of {len(text)} characters, at most {MAX_NUMBER_CHARACTERS} are read", fix)
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" | "float":
            number = _number(text, kind)
            if number is None:
                _refuse(
                    origin,
                    event,
                    f"{text!r}, which is not a finite number",
                    "write a number, or quote it if it is text",
                )
            return number
        case _:
            return text


def _number(text: str, kind: str) -> int | float | None:
    digits = text.replace("_", "")
    try:
        if kind == "float":
            number = float(digits)
            return number if math.isfinite(number) else None
        prefixed = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
        return int(digits, 0 if prefixed else 10)
    except ValueError:  # ".inf" and ".nan" as YAML writes them, or a sign without digits
        return None


def _unicode(event: ScalarEvent, origin: str) -> str:
    """The text, with escaped surrogate pairs joined, as JSON writes characters beyond the basic plane."""
    text: str = event.value
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        _refuse(origin, event, "half of a surrogate pair", "write the character itself")


def _refuse_features(origin: str, event: Event) -> None:
    if isinstance(event, AliasEvent):
        _refuse(origin, event, "an alias (`*`)", "write the value out, or quote it if it is text")
    if getattr(event, "anchor", None):
        _refuse(origin, event, "an anchor (`&`)", "write the value out, or quote it if it is text")
    if getattr(event, "ctag", None):
        _refuse(origin, event, "a tag (`!`)", "remove it, or quote the value if it is text")


def _refuse(origin: str, event: Event, observed: str, fix: str) -> NoReturn:
    raise UserError(f"{_place(origin, event.start_mark)}: observed {observed}: {fix}.")


def _place(origin: str, mark: Any) -> str:
    return f"{origin}, line {mark.line + 1}, column {mark.column + 1}" if mark else origin
