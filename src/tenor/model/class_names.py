"""A model's class names: distinct, in an order without a gap, and nothing that a terminal obeys."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tenor.data.sources.labels import MAX_CHARACTERS
from tenor.data.sources.rows import shorten
from tenor.errors import UserError, is_command


def class_names(config: Any, origin: str) -> tuple[str, ...]:
    """The names in a `transformers` configuration, in the order of the outputs; `origin` is the model's folder or id.

    Raises:
        UserError: numbers other than 0 … K-1, or names that `require_class_names` refuses.
    """
    where, id2label = f"{origin}/config.json, key id2label", config.id2label
    wanted = list(range(config.num_labels))
    if not isinstance(id2label, dict) or not wanted or sorted(id2label, key=str) != sorted(wanted, key=str):
        found = ", ".join(shorten(key) for key in list(id2label)[:10]) if isinstance(id2label, dict) else id2label
        raise UserError(
            f"{where}: numbers the classes {found or 'not at all'}; expected 0 … K-1, each output of the model once. "
            "Renumber them in the order of the outputs"
        )
    return require_class_names([id2label[index] for index in wanted], where)


def require_class_names(names: Sequence[object], where: str) -> tuple[str, ...]:
    """The names as they are, or a UserError for one that is no name, comes twice, or holds a control character."""
    for name in names:
        fault = _fault(name)
        if fault:
            raise UserError(f"{where}: the class name {shorten(name)} {fault}. Give the class another name")
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if repeated:
        raise UserError(f"{where}: {shorten(repeated[0])} is the name of more than one class; give each its own")
    return tuple(map(str, names))


def _fault(name: object) -> str | None:
    # Numbers are what classes are often called; anything else of JSON was not meant as a name.
    if isinstance(name, bool) or not isinstance(name, str | int):
        return f"is {type(name).__name__}, expected a string"
    if not str(name).strip():
        return "is empty"
    if len(str(name)) > MAX_CHARACTERS["label"]:
        return f"has {len(str(name)):,} characters, expected at most {MAX_CHARACTERS['label']}"
    return "holds a control character" if any(map(is_command, str(name))) else None
