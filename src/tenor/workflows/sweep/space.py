"""A sweep's space in Optuna's terms, and Optuna's proposals in the configuration's."""

import json
import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tenor.config.sweep import SweepPlan
from tenor.config.sweep_schema import Dimension
from tenor.config.sweep_space import is_whole, values_of


def distribution(key: str, dimension: Dimension) -> BaseDistribution:
    """A checked dimension as Optuna draws from it."""
    if dimension.choices is not None:
        return CategoricalDistribution([_label(value) for value in values_of(dimension)])
    low, high = values_of(dimension)
    if is_whole(key, dimension):
        return IntDistribution(low, high, dimension.log, 1 if dimension.step is None else int(dimension.step))
    return FloatDistribution(low, high, dimension.log, dimension.step)


def propose(trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """What the sampler, or the queue, gives for each key, as the configuration takes it."""
    for key, dimension in space.items():
        match distribution(key, dimension):
            case CategoricalDistribution() as drawn:
                trial.suggest_categorical(key, drawn.choices)
            case IntDistribution() as drawn:
                trial.suggest_int(key, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
            case FloatDistribution() as drawn:
                trial.suggest_float(key, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
    return as_settings(trial.params, space)


def as_settings(params: Mapping[str, Any], space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Optuna's parameters as the configuration takes them."""
    return {key: _value(params[key], space[key]) for key in space if key in params}


def base_values(plan: SweepPlan, phase: str) -> dict[str, Any] | None:
    """The configuration's own place in the space, as Optuna's parameters; None where it lies outside."""
    found: dict[str, Any] = {}
    for key, dimension in plan.sweep.phases[phase].space.items():
        value: Any = plan.settings[phase]
        for name in key.split("."):
            value = value[name]
        if not _lies_in(value, dimension):
            return None
        found[key] = _label(value)
    return found


def _lies_in(value: Any, dimension: Dimension) -> bool:
    if dimension.choices is not None:
        return value in values_of(dimension)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = values_of(dimension)
    steps = (value - low) / dimension.step if dimension.step is not None else 0
    return bool(low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-9))


def _label(value: Any) -> Any:
    """Optuna's choices are plain: a list stands for itself as JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def _value(label: Any, dimension: Dimension) -> Any:
    if dimension.choices is None:
        return label
    return next(value for value in values_of(dimension) if _label(value) == label)
