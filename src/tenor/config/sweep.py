"""From a built-in name or a YAML file, and overrides, to a checked sweep."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from tenor.config.errors import Problem, config_error, nearest, problems_of
from tenor.config.loading import apply_overrides, load_config, read_values, validate
from tenor.config.schema import Config
from tenor.config.sweep_schema import KNOWN_WHILE_TRAINING, METRICS, Dimension, Phase, Sweep
from tenor.config.sweep_space import dimension_problems, fixed_because, key_problems
from tenor.config.values import flat, show, with_values, without
from tenor.errors import UserError

HINT = "`tenor sweep --fields` lists every key of a sweep, `tenor configs --fields` those of the configuration."

URL = re.compile(r"[\w+]+://(?:[^:/]*(?::.*)?@)?(?:\[[^/?]*\]|[^/:?]*)(?::\d+)?(?:[/?]|$)")
"""How a database's URL begins: its kind, then perhaps user, host and port."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep whose every key was checked."""

    sweep: Sweep
    settings: Mapping[str, Mapping[str, Any]]
    """By phase: the whole configuration as plain values, without what its trials try."""

    @property
    def metric(self) -> str:
        """The objective's place below `val` in `eval_best_model.json`."""
        return METRICS.get(self.sweep.objective, (self.sweep.objective, ""))[0]

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which way the objective is better."""
        if self.sweep.direction != "auto":
            return self.sweep.direction
        return METRICS[self.sweep.objective][1]

    def config(self, phase: str, tried: Mapping[str, Any]) -> Config:
        """The configuration of a trial, `tried` by dotted key.

        Raises:
            UserError: values that don't go together.
        """
        config, problems = validate(with_values(self.settings[phase], tried))
        if config is None:
            raise UserError("; ".join(problem.text for problem in problems))
        return config


def load_sweep(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SweepPlan:
    """Read a built-in sweep or a YAML file, apply `dotted.key=value` overrides in order, and check it all.

    Raises UserError: for a file that cannot be read, at once; for keys, values, overrides, settings and the search
    space, with all problems together.
    """
    origin, stem, values, places = read_values(name_or_path, "sweep")
    values.setdefault("name", stem)
    problems = apply_overrides(overrides, values, places)
    shape = _shape_problems(values)
    # What is well formed is held against the configuration all the same, so that everything is told at once.
    sweep = Sweep.model_validate_json(json.dumps(without(values, [_part_of(problem.path) for problem in shape])))
    settings, more = _settings(sweep)
    problems += sorted(shape + more, key=lambda problem: _line_of(problem, places))
    if problems:
        raise config_error(origin, problems, places, HINT)
    return SweepPlan(sweep, settings)


def _line_of(problem: Problem, places: Mapping[tuple[str, ...], str]) -> int:
    """Where a problem's key stands; 0 where that is no line, as of an override."""
    known = (places.get(problem.path[:length]) for length in range(len(problem.path), 0, -1))
    place = next(filter(None, known), "")
    return int(place.removeprefix("line ")) if place.startswith("line ") else 0


def _part_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """What falls with a wrong key: a dimension as a whole, else the key alone."""
    return path[:4] if path[0] == "phases" and path[2:3] == ("space",) else path


def _shape_problems(values: dict[str, Any]) -> list[Problem]:
    """What is wrong with the sweep's own keys. Sections within `set` and `space` are turned into dotted keys."""
    problems = _section_problems(Sweep, {**values, "phases": {}}, ())
    _flatten(values)
    phases = values.get("phases")
    if not isinstance(phases, dict) or not phases:
        found = "none" if phases in (None, {}) else show(phases)
        return [*problems, Problem(("phases",), f"phases: found {found}; expected one or more, each with a space")]
    for name, phase in phases.items():
        place = ("phases", name)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            problems.append(Problem(place, f"phases: {show(name)} names no phase; expected letters, digits, - or _"))
        if not isinstance(phase, dict):
            problems.append(
                Problem(place, f"phases.{name}: found {show(phase)}; expected keys such as space and trials")
            )
            continue
        problems += _phase_problems(phase, place)
    return problems


def _phase_problems(phase: dict[str, Any], place: tuple[str, ...]) -> list[Problem]:
    problems = _section_problems(Phase, {**phase, "space": {}}, place)
    _flatten(phase)
    space = phase.get("space")
    if not isinstance(space, dict) or not space:
        found = "none" if space in (None, {}) else show(space)
        example = "training.learning_rate: {low: 1e-5, high: 1e-3, log: true}"
        text = f"{'.'.join(place)}.space: found {found}; expected a key or more, such as {example}"
        return [*problems, Problem((*place, "space"), text)]
    for key, dimension in space.items():
        where = (*place, "space", key)
        if not isinstance(dimension, dict):
            text = f"{'.'.join(where)}: found {show(dimension)}; expected low and high, or choices"
            problems.append(Problem(where, text))
        elif wrong := _section_problems(Dimension, dimension, where):
            problems += wrong
        else:
            checked = Dimension.model_validate_json(json.dumps(dimension))
            problems += [Problem(where, f"{'.'.join(where)}: {text}") for text in dimension_problems(checked)]
    return problems


def _flatten(section: dict[str, Any]) -> None:
    if isinstance(section.get("set"), dict):
        section["set"] = flat(section["set"])
    if isinstance(section.get("space"), dict):
        section["space"] = flat(
            section["space"], lambda value: not value or bool(set(value) & set(Dimension.model_fields))
        )


def _section_problems(schema: type[BaseModel], values: dict[str, Any], place: tuple[str, ...]) -> list[Problem]:
    """What pydantic has against a section at `place`."""
    try:
        schema.model_validate_json(json.dumps(values))
    except ValidationError as error:
        before = "".join(f"{name}." for name in place)
        return [Problem((*place, *one.path), before + one.text) for one in problems_of(error, values, schema)]
    return []


def _settings(sweep: Sweep) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Every phase's configuration, and what is wrong with base, objective, settings and spaces."""
    problems = [*_objective_problems(sweep), *_storage_problems(sweep)]
    try:
        base = load_config(sweep.base).model_dump(mode="json")
    except UserError as error:
        return {}, [*problems, Problem(("base",), f"base: {error}")]
    base["name"] = sweep.name
    if sweep.objective in KNOWN_WHILE_TRAINING:
        base["training"]["select_by"] = sweep.objective
    common, found = _with_set(base, sweep.set, ("set",))
    problems += found
    settings: dict[str, dict[str, Any]] = {}
    for name, phase in sweep.phases.items():
        place = ("phases", name)
        settings[name], found = _with_set(common, phase.set, (*place, "set"))
        problems += found
        for key in phase.set:
            if why := fixed_because(key):
                problems.append(
                    Problem((*place, "set", key), f"{'.'.join(place)}.set.{key}: set it for all phases: {why}")
                )
        for key, dimension in phase.space.items():
            where = (*place, "space", key)
            problems += [
                Problem(where, f"{'.'.join(place)}.space: {one.text}")
                for one in key_problems(settings[name], key, dimension)
            ]
            if key in phase.set:
                problems.append(Problem(where, f"{'.'.join(where)}: is set, too; keep one of them"))
    return settings, problems


def _with_set(
    settings: dict[str, Any], changed: Mapping[str, Any], place: tuple[str, ...]
) -> tuple[dict[str, Any], list[Problem]]:
    """The settings with the changes, or as they were where something is wrong with these."""
    if "name" in changed:
        return settings, [Problem((*place, "name"), f"{'.'.join(place)}.name: the sweep's own `name` names its runs")]
    new = with_values(settings, changed)
    found = validate(new)[1]
    problems = [Problem((*place, *_key_of(one, changed)), f"{'.'.join(place)}: {one.text}") for one in found]
    return (settings if problems else new), problems


def _key_of(problem: Problem, changed: Mapping[str, Any]) -> Iterator[str]:
    """The dotted key of `changed` that a problem is about, if there is one."""
    for key in changed:
        path = tuple(key.split("."))
        shorter = min(len(path), len(problem.path))
        if shorter and path[:shorter] == problem.path[:shorter]:
            yield key
            return


def _storage_problems(sweep: Sweep) -> list[Problem]:
    # What was found is not told: it may hold a password.
    if sweep.storage is None or URL.match(sweep.storage):
        return []
    text = "storage: is not a URL as SQLAlchemy reads it; expected one such as sqlite:///study.db"
    return [Problem(("storage",), text)]


def _objective_problems(sweep: Sweep) -> list[Problem]:
    problems = []
    if sweep.objective not in METRICS and "." not in sweep.objective:
        near = nearest(sweep.objective, tuple(METRICS))
        mend = f"did you mean {near}?" if near else "or a place in eval_best_model.json, such as report.1.recall"
        text = f"objective: found {show(sweep.objective)}; expected one of {', '.join(METRICS)}; {mend}"
        return [Problem(("objective",), text)]
    if sweep.objective not in METRICS and sweep.direction == "auto":
        text = f"direction: say whether more or less of {sweep.objective} is better: maximize or minimize"
        problems.append(Problem(("direction",), text))
    if sweep.objective in METRICS and sweep.direction not in ("auto", METRICS[sweep.objective][1]):
        text = f"direction: found {sweep.direction}, but {sweep.objective} is better the other way; remove it"
        problems.append(Problem(("direction",), text))
    for name, phase in sweep.phases.items():
        if phase.pruner != "none" and sweep.objective not in KNOWN_WHILE_TRAINING:
            text = f"{sweep.objective} is known only at a run's end, so nothing can be pruned by it; set none"
            problems.append(Problem(("phases", name, "pruner"), f"phases.{name}.pruner: {text}"))
    return problems
