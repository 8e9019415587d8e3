"""Descriptions of the configuration: the values of each key, a resolved configuration as YAML, unused settings."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from tenor.config.schema import Config, Data, flat, one_of, unread_keys


@dataclass(frozen=True)
class FieldDescription:
    """One key: its dotted path, its allowed values, its default in YAML, and its documentation."""

    key: str
    allowed: str
    default: str
    doc: str


def describe_fields(schema: type[BaseModel] = Config) -> tuple[FieldDescription, ...]:
    """Every key that takes a value, in the schema's order; sections themselves are left out."""
    return tuple(
        FieldDescription(key, allowed_words(node), flow(node.get("default")), " ".join(node["description"].split()))
        for key, node in schema_nodes(schema).items()
        if "properties" not in node
    )


def to_yaml(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that `load_config` reads back to an equal `Config`."""
    return "\n".join(_block(config.model_dump(mode="json"))) + "\n"


def flow(value: Any) -> str:
    """A value on one line. Quoted text is written as JSON, which YAML 1.2 reads too."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value, allow_nan=False)
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", value) and value.lower() not in ("null", "true", "false"):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable()).replace("\x7f", "\\u007f")


@cache
def schema_nodes(schema: type[BaseModel] = Config) -> MappingProxyType[str, dict[str, Any]]:
    """The JSON Schema of every section and key, by dotted path; a section has `properties`, the root is `""`."""
    root = schema.model_json_schema()
    nodes: dict[str, dict[str, Any]] = {}

    def collect(path: str, node: dict[str, Any]) -> None:
        if "$ref" in node:
            node = {**root["$defs"][node["$ref"].rpartition("/")[2]], **node}
        nodes[path] = node
        for name, child in node.get("properties", {}).items():
            collect(f"{path}.{name}" if path else name, child)

    collect("", root)
    return MappingProxyType(nodes)


def allowed_words(node: dict[str, Any]) -> str:
    """The allowed values of a key: `a number from 0 to 1`, `none, base, or a whole number from 1 to 1000`."""
    if "words" in node:
        return str(node["words"])
    if "anyOf" in node:
        options = sorted(node["anyOf"], key=lambda option: option.get("type") == "null")
        return ", or ".join(allowed_words(option) for option in options)
    if node.get("type") != "array" and (choices := choices_of(node)):
        return one_of(choices)
    match node["type"]:
        case "integer":
            return "a whole number" + _range_words(node)
        case "number":
            return "a number" + _range_words(node)
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "string":
            return "text" if node.get("minLength", 0) == 0 else "text that is not empty"
        case "array":
            return f"a list, each item {allowed_words(node['items'])}"
        case _ if "properties" in node:
            return f"a section with the keys {', '.join(node['properties'])}"
        case _:
            return f"a mapping, each value {allowed_words(node['additionalProperties'])}"


def choices_of(node: dict[str, Any]) -> tuple[str, ...]:
    """The literal values of a key, with those of all alternatives and of a list's items."""
    if "anyOf" in node:
        return tuple(choice for option in node["anyOf"] for choice in choices_of(option))
    if "const" in node:
        return (str(node["const"]),)
    if "items" in node:
        return choices_of(node["items"])
    return tuple(str(choice) for choice in node.get("enum", ()))


def _range_words(node: dict[str, Any]) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if node["type"] == "integer" and below is not None:
        most, below = below - 1, None
    if least is not None and most is not None:
        return f" from {_figure(least)} to {_figure(most)}"
    bounds = (("of at least", least), ("above", above), ("up to", most), ("below", below))
    words = " and ".join(f"{word} {_figure(bound)}" for word, bound in bounds if bound is not None)
    return f" {words}" if words else ""


def _figure(number: float) -> str:
    return str(int(number) if number == int(number) else number)


def _block(mapping: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(key)}:"
            yield from _block(value, indent + "  ")
        else:
            yield f"{indent}{flow(key)}: {flow(value)}"


def unused_settings(config: Config) -> list[str]:
    """A line for each key that is not at its default but has no effect in this configuration, with the reason.

    Example: `data.head_share=0.3 has no effect: data.truncation is head`.
    """
    values, defaults = (flat(one.model_dump(mode="json")) for one in (config, Config()))
    return [
        f"{key}={flow(values[key])} has no effect: {why}"
        for key, why in (*_of_data(config.data), *_of_training(config))
        if values[key] != defaults[key]
    ]


def _of_data(data: Data) -> Iterator[tuple[str, str]]:
    """Keys of `data` that have no effect, whatever their value, and why."""
    if data.truncation != "head_tail":
        yield "data.head_share", f"data.truncation is {data.truncation}"
    if data.subset.size is None:
        yield "data.subset.strategy", "data.subset.size is null, so all training rows are used"
    if data.validation.strategy != "group":
        yield "data.group_column", f"data.validation.strategy is {data.validation.strategy}"
    if data.source == "file" and data.test_path is None:
        yield "data.test_size", "data.test_path is null, so there are no test rows"
    if data.source in ("hub", "sst2") and data.test_split is None:
        yield "data.test_size", "data.test_split is null, so there are no test rows"
    if data.source == "given":
        for name in unread_keys(data):
            yield f"data.{name}", "the rows were passed in Python"


def _of_training(config: Config) -> Iterator[tuple[str, str]]:
    """Keys of `model` and `training` that have no effect, whatever their value, and why."""
    model, training = config.model, config.training
    if model.freeze == "none":
        yield "model.keep_trainable", "model.freeze is none, so all parameters are trainable"
    if model.freeze == "base" and not model.keep_trainable:
        yield "model.attention_dropout", "model.freeze is base, and frozen layers have no dropout"
        yield "training.layer_decay", "model.freeze is base, so no layer is trainable"
        yield "training.short_share", "model.freeze is base, so the encoder runs once, over full texts"
        if training.head_learning_rate is not None:
            yield "training.learning_rate", "model.freeze is base, and the head has its own training.head_learning_rate"
    if training.warmup == 1.0:
        yield "training.schedule", "training.warmup is 1, so the learning rate rises until the end"
    # The first validation is the best so far, and the last one ends training anyway.
    if training.evaluate_every == 1.0 and (training.patience or 0) > training.epochs - 2:
        yield "training.patience", f"training.epochs is {training.epochs}, with one validation each"
