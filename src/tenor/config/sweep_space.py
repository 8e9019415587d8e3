"""A sweep's search space: is every range a range, and does the configuration take every value of it?"""

import json
import math
from collections.abc import Mapping
from typing import Any

from tenor.config.describe import schema_nodes
from tenor.config.errors import Problem
from tenor.config.loading import validate
from tenor.config.sweep_schema import Dimension
from tenor.config.values import show, with_values

SAME_FOR_ALL = {
    "name": "it is the sweep's own",
    "seed": "the best of several seeds is luck and not a setting; `tenor train CONFIG --seeds N` shows their spread",
    "data.validation": "trials on other validation rows can't be compared",
    "data.source": "trials on other data can't be compared",
    "data.path": "trials on other data can't be compared",
    "data.hub_name": "trials on other data can't be compared",
    "data.hub_config": "trials on other data can't be compared",
    "data.train_split": "trials on other data can't be compared",
    "data.text_column": "trials on other data can't be compared",
    "data.label_column": "trials on other data can't be compared",
    "data.class_names": "trials on other data can't be compared",
    "data.group_column": "trials on other validation rows can't be compared",
    "checks.policy": "what is refused must be the same for all",
    "checks.allow": "what is refused must be the same for all",
}
"""Keys that trials and phases must share, and why."""


def fixed_because(key: str) -> str | None:
    """Why trials must not differ in a dotted key; None where they may."""
    return next((why for name, why in SAME_FOR_ALL.items() if key == name or key.startswith(f"{name}.")), None)


def dimension_problems(dimension: Dimension) -> list[str]:
    """What is wrong with a range or with choices, whatever key they are for."""
    ranged = {name: value for name in ("low", "high") if (value := getattr(dimension, name)) is not None}
    if dimension.choices is not None:
        return _choices_problems(dimension, ranged)
    if len(ranged) < 2:
        return ["expected low and high, or choices"]
    low, high, step = ranged["low"], ranged["high"], dimension.step
    problems = []
    if low >= high:
        problems.append(f"the range is empty: low is {_figure(low)} and high is {_figure(high)}")
    if dimension.log and low <= 0:
        problems.append(f"log needs a low above 0, found {_figure(low)}")
    if dimension.log and step is not None:
        problems.append("takes log or step, not both")
    if step is not None and low < high and not _is_whole((high - low) / step):
        problems.append(f"high is no whole number of steps of {_figure(step)} above low")
    return problems


def key_problems(settings: Mapping[str, Any], key: str, dimension: Dimension) -> list[Problem]:
    """Whether the configuration has the key and takes the least, the greatest and every chosen value."""
    if (why := fixed_because(key)) is not None:
        return [Problem((), f"{key}: can't be searched: {why}")]
    node = schema_nodes().get(key, {})
    if "properties" in node:
        return [Problem((), f"{key}: is a section; name one of its keys: {', '.join(node['properties'])}")]
    found = [problem for value in values_of(dimension) for problem in validate(with_values(settings, {key: value}))[1]]
    if not found and dimension.choices is None and not is_whole(key, dimension) and not _takes(key, "number"):
        return [
            Problem(
                (), f"{key}: takes whole numbers; found low {_figure(dimension.low)}, high {_figure(dimension.high)}"
            )
        ]
    return list({problem.text: problem for problem in found}.values())


def values_of(dimension: Dimension) -> list[Any]:
    """The values that tell whether a key takes a dimension: its ends, or all choices."""
    if dimension.choices is not None:
        return [list(value) if isinstance(value, tuple) else value for value in dimension.choices]
    assert dimension.low is not None
    assert dimension.high is not None
    return [dimension.low, dimension.high]


def is_whole(key: str, dimension: Dimension) -> bool:
    """Whether a range is one of whole numbers: its ends and step are, and the key takes such."""
    written = [value for value in (dimension.low, dimension.high, dimension.step) if value is not None]
    return all(isinstance(value, int) for value in written) and _takes(key, "integer")


def _takes(key: str, kind: str) -> bool:
    node = schema_nodes().get(key, {})
    return any(option.get("type") == kind for option in node.get("anyOf", [node]))


def _choices_problems(dimension: Dimension, ranged: Mapping[str, Any]) -> list[str]:
    assert dimension.choices is not None
    problems = []
    if ranged or dimension.log or dimension.step is not None:
        problems.append("takes choices, or low and high with log or step, not both")
    if len(dimension.choices) < 2:
        problems.append(f"found {show(list(dimension.choices))}; expected two choices or more")
    written = [json.dumps(value) for value in dimension.choices]
    if twice := {value for value in written if written.count(value) > 1}:
        problems.append(f"found {', '.join(sorted(twice))} twice among the choices")
    return problems


def _is_whole(steps: float) -> bool:
    return math.isfinite(steps) and math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)


def _figure(number: float | None) -> str:
    return json.dumps(number)
