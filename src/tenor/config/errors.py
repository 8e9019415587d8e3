"""Everything that is wrong with a configuration, in words and at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from tenor.config.describe import allowed_words, choices_of, schema_nodes
from tenor.config.schema import Config
from tenor.config.values import MAX_SHOWN, show
from tenor.errors import UserError

Nodes = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Problem:
    """One wrong key, by the names that lead to it; the text is a whole sentence without its full stop."""

    path: tuple[str, ...]
    text: str


def problems_of(error: ValidationError, found: dict[str, Any], schema: type[BaseModel] = Config) -> list[Problem]:
    """One problem per key that pydantic complains of, however many complaints it has; `found` is what was validated."""
    nodes = schema_nodes(schema)
    problems: dict[tuple[str, ...], Problem] = {}
    for detail in error.errors(include_url=False):
        path = _known_part(detail["loc"], nodes)
        if detail["type"] == "extra_forbidden":
            path = (*path, str(detail["loc"][-1]))
            text = _unknown_key(path, nodes)
        elif detail["type"] == "value_error":
            for line in str(detail["ctx"]["error"]).split("\n"):  # each starts with the key it is about
                key = tuple(line.split()[0].rstrip(":").split("."))
                problems.setdefault(key, Problem(key, line))
            continue
        else:
            text = _wrong_value(path, _value_at(found, path), nodes)
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
    """The known word that looks most like `word`, if one does."""
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
        mend = f"in a file, write {name.rpartition('.')[2]} indented below {name.rpartition('.')[0]}"
    elif (near := nearest(name, keys)) is not None:
        mend = f"did you mean {'.'.join((*section, near))}?"
    elif (elsewhere := _elsewhere(name, nodes)) is not None:
        mend = f"did you mean {elsewhere}?"
    else:
        mend = f"{'.'.join(section) or 'the top level'} has the keys {', '.join(keys)}"
    return f"{_shorten(dotted)}: unknown key; {mend}"


def _elsewhere(name: str, nodes: Nodes) -> str | None:
    dotted = [key for key in nodes if key]
    last = name.rpartition(".")[2]
    near = nearest(last, [key.rpartition(".")[2] for key in dotted])
    return next((key for key in dotted if key.rpartition(".")[2] == near), None) or nearest(name, dotted)


def _wrong_value(path: tuple[str, ...], value: Any, nodes: Nodes) -> str:
    node = _node_at(path, nodes)
    text = f"{_shorten('.'.join(path))}: found {show(value)}; expected {allowed_words(node)}"
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


def _value_at(found: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        found = found[name]
    return found


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
