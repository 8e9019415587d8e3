"""From a built-in name or a YAML file, and overrides, to a checked configuration; all errors are reported at once."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from tenor.config.describe import allowed_words, choices_of, schema_nodes
from tenor.config.schema import MAX_SHOWN, Config, show, without
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

Nodes = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Problem:
    """An error in one key, which `path` names; the text is a sentence without its full stop."""

    path: tuple[str, ...]
    text: str


def problems_of(error: ValidationError, values: dict[str, Any], schema: type[BaseModel] = Config) -> list[Problem]:
    """One problem per key with errors, however many errors pydantic has for it; `values` is what was validated."""
    nodes = schema_nodes(schema)
    problems: dict[tuple[str, ...], Problem] = {}
    for detail in error.errors(include_url=False):
        path = _known_part(detail["loc"], nodes)
        if detail["type"] == "extra_forbidden":
            path = (*path, str(detail["loc"][-1]))
            text = _unknown_key(path, nodes)
        elif detail["type"] == "value_error":
            for line in str(detail["ctx"]["error"]).split("\n"):  # each starts with its key
                key = tuple(line.split()[0].rstrip(":").split("."))
                problems.setdefault(key, Problem(key, line))
            continue
        else:
            text = _wrong_value(path, _value_at(values, path), nodes)
        problems.setdefault(path, Problem(path, text))
    return list(problems.values())


def config_error(
    origin: str,
    problems: Sequence[Problem],
    places: dict[tuple[str, ...], str],
    hint: str = "`tenor configs --fields` lists every key and what it takes.",
) -> UserError:
    """One error for all problems, each with the place of its key; `places` maps a key's path to words like `line 3`."""
    head = f"{origin}: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the configuration"
    lines = [f"  {_place_of(problem.path, places)}{problem.text}" for problem in problems]
    return UserError("\n".join([head, *lines, hint]))


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that is most similar to `word`, if any is."""
    matches = get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    return next((name for name in known if matches and name.lower() == matches[0]), None)


def _known_part(location: Sequence[int | str], nodes: Nodes) -> tuple[str, ...]:
    """The keys at the start of pydantic's location, without the branches of unions and the positions in lists."""
    path: tuple[str, ...] = ()
    for part in location:
        node = nodes[".".join(path)]
        if part in node.get("properties", {}):
            path = (*path, str(part))
        elif "properties" not in node and isinstance(node.get("additionalProperties"), dict):
            return (*path, str(part))
        else:
            break
    return path


def _unknown_key(path: tuple[str, ...], nodes: Nodes) -> str:
    *section, name = path
    keys = list(nodes[".".join(section)]["properties"])
    dotted = ".".join(path)
    if "." in name and name in nodes:
        fix = f"in a file, write {name.rpartition('.')[2]} indented below {name.rpartition('.')[0]}"
    elif (near := nearest(name, keys)) is not None:
        fix = f"did you mean {'.'.join((*section, near))}?"
    elif (elsewhere := _elsewhere(name, nodes)) is not None:
        fix = f"did you mean {elsewhere}?"
    else:
        fix = f"{'.'.join(section) or 'the top level'} has the keys {', '.join(keys)}"
    return f"{_shorten(dotted)}: unknown key; {fix}"


def _elsewhere(name: str, nodes: Nodes) -> str | None:
    dotted = [key for key in nodes if key]
    last = name.rpartition(".")[2]
    near = nearest(last, [key.rpartition(".")[2] for key in dotted])
    return next((key for key in dotted if key.rpartition(".")[2] == near), None) or nearest(name, dotted)


def _wrong_value(path: tuple[str, ...], value: Any, nodes: Nodes) -> str:
    node = _node_at(path, nodes)
    text = f"{_shorten('.'.join(path))}: observed {show(value)}; expected {allowed_words(node)}"
    wrong = next((word for word in _words_in(value) if word not in choices_of(node)), "")
    if wrong and (near := nearest(wrong, choices_of(node))) is not None:
        return f"{text}; did you mean {near}?"
    if isinstance(value, bool | int | float) and _takes(node, "string"):
        return f"{text}; put it in quotes"
    if isinstance(value, str) and _is_number(value) and (_takes(node, "number") or _takes(node, "integer")):
        return f"{text}; remove the quotes"
    return text


def _takes(node: dict[str, Any], kind: str) -> bool:
    return any(option.get("type") == kind and not choices_of(option) for option in node.get("anyOf", [node]))


def _node_at(path: tuple[str, ...], nodes: Nodes) -> dict[str, Any]:
    if (node := nodes.get(".".join(path))) is not None:
        return node
    items: dict[str, Any] = nodes[".".join(path[:-1])]["additionalProperties"]
    return items


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def _words_in(value: Any) -> Iterator[str]:
    yield from (word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place_of(path: tuple[str, ...], places: dict[tuple[str, ...], str]) -> str:
    known = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in places), None)
    return f"{places[known]}: " if known else ""


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


MAX_FILE_BYTES = 1_000_000

Places = dict[tuple[str, ...], str]
Kind = Literal["configuration", "sweep"]
FOLDERS: dict[Kind, str] = {"configuration": "builtin", "sweep": "builtin_sweeps"}


def load_config(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a built-in configuration or a YAML file, apply `dotted.key=value` overrides in order, and check it all.

    A value is read as YAML. An override of a section (`data.subset={size: 10}`) replaces the whole section. A
    configuration without a name is named after its file, without the suffix. Raises UserError: for a file that cannot
    be read, at once; for keys, values and overrides, with all problems together.
    """
    origin, stem, values, places = read_values(name_or_path)
    values.setdefault("name", stem)
    problems = apply_overrides(overrides, values, places)
    config, more = validate(values)
    problems += more
    if problems or config is None:
        raise config_error(origin, problems, places)
    return config


def builtin_names(kind: Kind = "configuration") -> tuple[str, ...]:
    """The names of the configurations, or the sweeps, that come with Tenor, sorted."""
    folder = files("tenor.config") / FOLDERS[kind]
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def builtin_text(name: str, kind: Kind = "configuration") -> str:
    """The YAML of a built-in configuration or sweep, comments included. Raises UserError for an unknown name."""
    names = builtin_names(kind)
    if name not in names:
        near = nearest(name, names)
        hint = f" Did you mean {near}?" if near else ""
        raise UserError(
            f"{name!r} is not a built-in {kind}.{hint} Built in: {', '.join(names)};"
            " for your own file give its path, such as ./mine.yaml."
        )
    return (files("tenor.config") / FOLDERS[kind] / f"{name}.yaml").read_text(encoding="utf-8")


def read_values(name_or_path: str | Path, kind: Kind = "configuration") -> tuple[str, str, dict[str, Any], Places]:
    """The origin for messages, the file's name without its suffix, its keys with their values, and their places.

    Raises UserError for a file that cannot be read or contains something else.
    """
    origin, stem, text = _read(name_or_path, kind)
    parsed = parse_yaml(text, origin)
    if not isinstance(parsed.value, dict):
        raise UserError(f"{origin}: observed {show(parsed.value)}; expected keys with values, such as `seed: 1`.")
    return origin, stem, parsed.value, {path: f"line {line}" for path, line in parsed.lines.items()}


def apply_overrides(overrides: Sequence[str], values: dict[str, Any], places: Places) -> list[Problem]:
    """Put `dotted.key=value` overrides into `values`, in order; return the problems.

    Raises UserError for a string instead of a list of them.
    """
    if isinstance(overrides, str):
        raise UserError(f"the overrides are a string, expected a list of strings: [{overrides!r}]")
    return [problem for override in overrides for problem in _apply(override, values, places)]


def _read(name_or_path: str | Path, kind: Kind) -> tuple[str, str, str]:
    """The origin for messages, the default name, and the text."""
    name = str(name_or_path)
    if isinstance(name_or_path, str) and (name in builtin_names(kind) or not _is_path(name)):
        return f"built-in {name}", name, builtin_text(name, kind)
    path = Path(name_or_path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        near = f" Did you mean the built-in {path.stem}, without a suffix?" if path.stem in builtin_names(kind) else ""
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({reason}); expected a YAML file.{near}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UserError(f"{path}: more than {MAX_FILE_BYTES:,} bytes; expected a configuration, which is a few lines.")
    return str(path), path.stem, _decode(raw, path)


def _is_path(name: str) -> bool:
    separators = {os.sep, os.altsep} - {None}
    return name.endswith((".yaml", ".yml")) or any(mark in name for mark in separators if mark) or os.path.isfile(name)


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise UserError(
            f"{path}, line {line}, column {column}: observed the byte 0x{raw[error.start]:02x}, which is not UTF-8;"
            " save the file as UTF-8."
        ) from error


def _apply(override: str, values: dict[str, Any], places: Places) -> list[Problem]:
    """Put one override into `values`; return its problems."""
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals:
        return [_bad(override, "has no `=`; expected key=value, such as training.epochs=3")]
    if not all(path):
        return [_bad(override, "has an empty key; expected key=value, such as training.epochs=3")]
    try:
        value = text.strip() if _is_plain_text(path, text) else parse_yaml(text, f"override {override!r}").value
    except UserError as error:
        return [Problem((), str(error).removesuffix("."))]
    section = values
    for depth, part in enumerate(path[:-1], start=1):
        section.setdefault(part, {})
        if not isinstance(section[part], dict):
            return [
                _bad(override, f"goes below {'.'.join(path[:depth])}, which is {show(section[part])}, not a section")
            ]
        section = section[part]
    section[path[-1]] = value
    for old in [place for place in places if place[: len(path)] == path]:
        del places[old]
    places[path] = "override"
    return []


def _is_plain_text(path: tuple[str, ...], text: str) -> bool:
    """Whether an override is text as it stands: its key takes nothing but text, such as the name of a column, which may
    have a colon or a # or be a number. In quotes it is YAML, and so is null."""
    node = schema_nodes().get(".".join(path), {})
    options = [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]
    only_text = len(options) == 1 and options[0].get("type") == "string" and not choices_of(options[0])
    written = text.strip()
    return only_text and not written.startswith(('"', "'")) and written.lower() not in ("", "~", "null")


def _bad(override: str, text: str) -> Problem:
    return Problem((), f"override {override!r} {text}")


def validate(values: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The checked configuration, or all problems with the values."""
    try:
        return _parse(values), []
    except ValidationError as error:
        problems = problems_of(error, values)
    # Pydantic skips a section's validators while one of its keys is wrong, so they run again without those keys. A
    # validator that depends on such a key is left out.
    wrong = [".".join(problem.path) for problem in problems]
    try:
        _parse(without(values, [problem.path for problem in problems]))
    except ValidationError as error:
        rules = problems_of(error, values)
        problems += [rule for rule in rules if not any(key in rule.text for key in wrong)]
    return None, problems


def _parse(values: dict[str, Any]) -> Config:
    # Through JSON, because pydantic's strict mode accepts a list for a tuple only from there.
    return Config.model_validate_json(json.dumps(values))
