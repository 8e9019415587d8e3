"""Sweep files: their settings and search space, and how YAML and overrides become a checked plan."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from tenor.config.describe import schema_nodes
from tenor.config.loading import (
    Problem,
    apply_overrides,
    config_error,
    load_config,
    nearest,
    problems_of,
    read_values,
    validate,
)
from tenor.config.schema import NAME, Config, Count, Section, Share, Text, flat, show, with_values, without
from tenor.errors import UserError

Scalar = bool | int | float | str | None
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", json_schema_extra={"words": NAME})]

METRICS: dict[str, tuple[str, Literal["maximize", "minimize"]]] = {
    "accuracy": ("accuracy", "maximize"),
    "macro_f1": ("macro_f1", "maximize"),
    "loss": ("loss", "minimize"),
    "ece": ("calibration.calibrated.ece", "minimize"),
    "brier": ("calibration.calibrated.brier", "minimize"),
}
"""Named objectives: their path below `val` in `eval_best_model.json`, and the direction that is better."""
KNOWN_WHILE_TRAINING = ("accuracy", "macro_f1", "loss")
"""Metrics that every validation measures; pruning needs one of them."""


class Dimension(Section):
    """The values that trials try for one key: either `choices`, or `low` and `high`."""

    low: int | float | None = Field(default=None, json_schema_extra={"words": "a number"})
    """The smallest value, included."""
    high: int | float | None = Field(default=None, json_schema_extra={"words": "a number"})
    """The largest value, included."""
    log: bool = False
    """Whether values are drawn evenly on a logarithmic scale, as is usual for a learning rate."""
    step: Annotated[int | float, Field(gt=0)] | None = Field(
        default=None, json_schema_extra={"words": "a number above 0"}
    )
    """The distance between two values, counted from `low`; null: 1 for whole numbers, no step for others."""
    choices: tuple[Scalar | tuple[Scalar, ...], ...] | None = Field(
        default=None, json_schema_extra={"words": "a list of two values or more"}
    )
    """A list of values instead of a range."""


class Phase(Section):
    """One search: its trials differ only in the keys of its space."""

    set: dict[str, Any] = Field(default={}, json_schema_extra={"words": "a mapping of configuration keys to values"})
    """Settings of every trial of this phase, after those of the sweep: `{model.freeze: base}`."""
    space: dict[str, Dimension] = Field(
        default={}, json_schema_extra={"words": "a mapping of configuration keys to low and high, or choices"}
    )
    """The search space: `{training.learning_rate: {low: 1e-5, high: 1e-3, log: true}}`."""
    trials: Count = 20
    """Total number of trials, over all workers and earlier calls. Raise it to continue a finished sweep."""
    budget_minutes: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Minutes that the phase may take, summed over all workers. After that no new trial starts, and a running one is
    pruned at its next validation. null: no limit."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: proposes values where good trials are dense (Bergstra et al. 2011; several keys jointly, as in Falkner et
    al. 2018); `random`: samples uniformly."""
    pruner: Literal["median", "halving", "none"] = "median"
    """`median`: ends a trial whose best validation so far is worse than the median of earlier trials at the same
    point; `halving`: continues only the best quarter each time that training has grown fourfold (Li et al. 2020)."""
    pruner_warmup: Share = 0.3
    """Share of a trial's training before which it is not pruned, because early validations predict little."""
    startup_trials: Annotated[int, Field(ge=0, le=10**6)] = 8
    """Trials sampled uniformly before `tpe` proposes any, and completed before `median` prunes any."""


class Sweep(Section):
    """A search for the best configuration, in one or more phases."""

    name: Name = "custom"
    """The folder under `runs/` that contains the sweep and its runs. If missing, the name of the file."""
    base: Text = "demo"
    """The configuration that the trials change: a built-in name or the path of a YAML file."""
    set: dict[str, Any] = Field(default={}, json_schema_extra={"words": "a mapping of configuration keys to values"})
    """Settings of every trial: `{data.subset.size: 500}`."""
    objective: Text = "accuracy"
    """The validation metric to optimize: accuracy, macro_f1, loss, ece, brier, or the path of any other number below
    `val` in eval_best_model.json, such as report.1.recall. The first three also select each trial's best checkpoint,
    unless `training.select_by` is set here. Test rows are never used for selection."""
    direction: Literal["auto", "maximize", "minimize"] = "auto"
    """Whether a higher or a lower value is better; `auto` works for the named metrics."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler. The trials' seed is that of the configuration, the same for all trials."""
    storage: Text | None = None
    """Where the study is stored, as an SQLAlchemy URL: postgresql+psycopg://host/database, mysql+pymysql://…, sqlite:///….
    null: an SQLite file in the sweep's folder, for workers on one machine."""
    heartbeat_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Seconds between two heartbeats of a worker. If none arrives for four times as long, another worker takes over its
    trial."""
    keep_weights: Literal["best", "all"] = "best"
    """`best`: only the best trial of each phase keeps its weights; the others keep all other files, and
    `tenor train --repeat RUN` trains them again; `all`: every run keeps its weights."""
    phases: dict[str, Phase] = Field(default={}, json_schema_extra={"words": "a mapping of names to phases"})
    """The searches by name, in order. Each has a separate study; the result is the best trial of all phases."""


SAME_FOR_ALL = {
    "name": "the sweep names its runs",
    "seed": "the best of several seeds is luck, not a setting; `tenor train CONFIG --seeds N` shows their spread",
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
    """The reason why trials must not differ in a dotted key; None if they may."""
    return next((why for name, why in SAME_FOR_ALL.items() if key == name or key.startswith(f"{name}.")), None)


def dimension_problems(dimension: Dimension) -> list[str]:
    """The errors in a range or in choices that do not depend on the key."""
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
        problems.append(f"log needs a low above 0, observed {_figure(low)}")
    if dimension.log and step is not None:
        problems.append("expected log or step, not both")
    if step is not None and low < high and not _is_whole((high - low) / step):
        problems.append(f"high - low is not a multiple of step {_figure(step)}")
    return problems


def key_problems(settings: Mapping[str, Any], key: str, dimension: Dimension) -> list[Problem]:
    """Errors if the configuration lacks the key, or does not accept both ends of the range or every choice."""
    if (why := fixed_because(key)) is not None:
        return [Problem((), f"{key}: cannot be searched: {why}")]
    node = schema_nodes().get(key, {})
    if "properties" in node:
        return [Problem((), f"{key}: is a section; name one of its keys: {', '.join(node['properties'])}")]
    problems = [one for value in values_of(dimension) for one in validate(with_values(settings, {key: value}))[1]]
    if not problems and dimension.choices is None and not is_whole(key, dimension) and not _takes(key, "number"):
        return [
            Problem(
                (),
                f"{key}: observed low {_figure(dimension.low)}, high {_figure(dimension.high)}; expected whole numbers",
            )
        ]
    return list({problem.text: problem for problem in problems}.values())


def values_of(dimension: Dimension) -> list[Any]:
    """The values to validate for a dimension: the ends of its range, or all choices."""
    if dimension.choices is not None:
        return [list(value) if isinstance(value, tuple) else value for value in dimension.choices]
    assert dimension.low is not None
    assert dimension.high is not None
    return [dimension.low, dimension.high]


def is_whole(key: str, dimension: Dimension) -> bool:
    """Whether a range is one of whole numbers: its ends and step are integers, and the key accepts integers."""
    written = [value for value in (dimension.low, dimension.high, dimension.step) if value is not None]
    return all(isinstance(value, int) for value in written) and _takes(key, "integer")


def _takes(key: str, kind: str) -> bool:
    node = schema_nodes().get(key, {})
    return any(option.get("type") == kind for option in node.get("anyOf", [node]))


def _choices_problems(dimension: Dimension, ranged: Mapping[str, Any]) -> list[str]:
    assert dimension.choices is not None
    problems = []
    if ranged or dimension.log or dimension.step is not None:
        problems.append("expected choices, or low and high with log or step, not both")
    if len(dimension.choices) < 2:
        problems.append(f"observed {show(list(dimension.choices))}; expected two choices or more")
    written = [json.dumps(value) for value in dimension.choices]
    if repeated := {value for value in written if written.count(value) > 1}:
        problems.append(f"observed {', '.join(sorted(repeated))} more than once; expected different choices")
    return problems


def _is_whole(steps: float) -> bool:
    return math.isfinite(steps) and math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)


def _figure(number: float | None) -> str:
    return json.dumps(number)


HINT = "`tenor sweep --fields` lists every key of a sweep, `tenor configs --fields` those of the configuration."

URL = re.compile(r"[\w+]+://(?:[^:/]*(?::.*)?@)?(?:\[[^/?]*\]|[^/:?]*)(?::\d+)?(?:[/?]|$)")
"""The start of a database URL: its dialect, then optionally user, host and port."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep with all its keys checked."""

    sweep: Sweep
    settings: Mapping[str, Mapping[str, Any]]
    """By phase: the complete configuration as plain values, without the values that its trials try."""

    @property
    def metric(self) -> str:
        """The objective's path below `val` in `eval_best_model.json`."""
        return METRICS.get(self.sweep.objective, (self.sweep.objective, ""))[0]

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Whether to maximize or minimize the objective."""
        if self.sweep.direction != "auto":
            return self.sweep.direction
        return METRICS[self.sweep.objective][1]

    def config(self, phase: str, tried: Mapping[str, Any]) -> Config:
        """The configuration of a trial; `tried` maps dotted keys to its values.

        Raises:
            UserError: values that are not valid together.
        """
        config, problems = validate(with_values(self.settings[phase], tried))
        if config is None:
            raise UserError("; ".join(problem.text for problem in problems))
        return config


def load_sweep(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SweepPlan:
    """Read a built-in sweep or a YAML file, apply `dotted.key=value` overrides in order, and check the result.

    Raises UserError for a file that cannot be read; and, with all problems in one message, for invalid keys, values,
    overrides, settings and search spaces.
    """
    origin, stem, values, places = read_values(name_or_path, "sweep")
    values.setdefault("name", stem)
    problems = apply_overrides(overrides, values, places)
    shape = _shape_problems(values)
    # The valid parts are checked against the configuration even if others are invalid, to report all errors at once.
    sweep = Sweep.model_validate_json(json.dumps(without(values, [_part_of(problem.path) for problem in shape])))
    settings, more = _settings(sweep)
    problems += sorted(shape + more, key=lambda problem: _line_of(problem, places))
    if problems:
        raise config_error(origin, problems, places, HINT)
    return SweepPlan(sweep, settings)


def _line_of(problem: Problem, places: Mapping[tuple[str, ...], str]) -> int:
    """The line of a problem's key; 0 if it has none, as for an override."""
    known = (places.get(problem.path[:length]) for length in range(len(problem.path), 0, -1))
    place = next(filter(None, known), "")
    return int(place.removeprefix("line ")) if place.startswith("line ") else 0


def _part_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """The part to leave out because of an invalid key: its whole dimension, or else only the key."""
    return path[:4] if path[0] == "phases" and path[2:3] == ("space",) else path


def _shape_problems(values: dict[str, Any]) -> list[Problem]:
    """The errors in the sweep's keys. Sections in `set` and `space` are converted to dotted keys, in `values`."""
    problems = _section_problems(Sweep, {**values, "phases": {}}, ())
    _flatten(values)
    phases = values.get("phases")
    if not isinstance(phases, dict) or not phases:
        observed = "none" if phases in (None, {}) else show(phases)
        return [
            *problems,
            Problem(("phases",), f"phases: observed {observed}; expected one or more, each with a space"),
        ]
    for name, phase in phases.items():
        place = ("phases", name)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            problems.append(Problem(place, f"phases: {show(name)} is not a name; expected letters, digits, - or _"))
        if not isinstance(phase, dict):
            problems.append(
                Problem(place, f"phases.{name}: observed {show(phase)}; expected keys such as space and trials")
            )
            continue
        problems += _phase_problems(phase, place)
    return problems


def _phase_problems(phase: dict[str, Any], place: tuple[str, ...]) -> list[Problem]:
    problems = _section_problems(Phase, {**phase, "space": {}}, place)
    _flatten(phase)
    space = phase.get("space")
    if not isinstance(space, dict) or not space:
        observed = "none" if space in (None, {}) else show(space)
        example = "training.learning_rate: {low: 1e-5, high: 1e-3, log: true}"
        text = f"{'.'.join(place)}.space: observed {observed}; expected one key or more, such as {example}"
        return [*problems, Problem((*place, "space"), text)]
    for key, dimension in space.items():
        where = (*place, "space", key)
        if not isinstance(dimension, dict):
            text = f"{'.'.join(where)}: observed {show(dimension)}; expected low and high, or choices"
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
    """pydantic's errors in a section at `place`."""
    try:
        schema.model_validate_json(json.dumps(values))
    except ValidationError as error:
        before = "".join(f"{name}." for name in place)
        return [Problem((*place, *one.path), before + one.text) for one in problems_of(error, values, schema)]
    return []


def _settings(sweep: Sweep) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Every phase's configuration, and the errors in base, objective, storage, settings and spaces."""
    problems = [*_objective_problems(sweep), *_storage_problems(sweep)]
    try:
        base = load_config(sweep.base).model_dump(mode="json")
    except UserError as error:
        return {}, [*problems, Problem(("base",), f"base: {error}")]
    base["name"] = sweep.name
    if sweep.objective in KNOWN_WHILE_TRAINING:
        base["training"]["select_by"] = sweep.objective
    common, more = _with_set(base, sweep.set, ("set",))
    problems += more
    settings: dict[str, dict[str, Any]] = {}
    for name, phase in sweep.phases.items():
        place = ("phases", name)
        settings[name], more = _with_set(common, phase.set, (*place, "set"))
        problems += more
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
                problems.append(Problem(where, f"{'.'.join(where)}: is also in `set`; keep one of the two"))
    return settings, problems


def _with_set(
    settings: dict[str, Any], changed: Mapping[str, Any], place: tuple[str, ...]
) -> tuple[dict[str, Any], list[Problem]]:
    """The settings with the changes, or unchanged if the changes are invalid; and the errors."""
    if "name" in changed:
        return settings, [Problem((*place, "name"), f"{'.'.join(place)}.name: the sweep's `name` names its runs")]
    new = with_values(settings, changed)
    errors = validate(new)[1]
    problems = [Problem((*place, *_key_of(one, changed)), f"{'.'.join(place)}: {one.text}") for one in errors]
    return (settings if problems else new), problems


def _key_of(problem: Problem, changed: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted key of `changed` that a problem concerns, if any."""
    for key in changed:
        path = tuple(key.split("."))
        shorter = min(len(path), len(problem.path))
        if shorter and path[:shorter] == problem.path[:shorter]:
            yield key
            return


def _storage_problems(sweep: Sweep) -> list[Problem]:
    # The message does not quote the value: it may contain a password.
    if sweep.storage is None or URL.match(sweep.storage):
        return []
    text = "storage: is not a URL that SQLAlchemy accepts; expected one such as sqlite:///study.db"
    return [Problem(("storage",), text)]


def _objective_problems(sweep: Sweep) -> list[Problem]:
    problems = []
    if sweep.objective not in METRICS and "." not in sweep.objective:
        near = nearest(sweep.objective, tuple(METRICS))
        fix = f"did you mean {near}?" if near else "or a path in eval_best_model.json, such as report.1.recall"
        text = f"objective: observed {show(sweep.objective)}; expected one of {', '.join(METRICS)}; {fix}"
        return [Problem(("objective",), text)]
    if sweep.objective not in METRICS and sweep.direction == "auto":
        text = f"direction: observed auto, which works only for {', '.join(METRICS)}; set maximize or minimize"
        problems.append(Problem(("direction",), text))
    if sweep.objective in METRICS and sweep.direction not in ("auto", METRICS[sweep.objective][1]):
        needed = METRICS[sweep.objective][1]
        text = f"direction: observed {sweep.direction}, but {sweep.objective} needs {needed}; remove it"
        problems.append(Problem(("direction",), text))
    for name, phase in sweep.phases.items():
        if phase.pruner != "none" and sweep.objective not in KNOWN_WHILE_TRAINING:
            text = f"{sweep.objective} is measured only at the end of a run, so it cannot prune trials; set none"
            problems.append(Problem(("phases", name, "pruner"), f"phases.{name}.pruner: {text}"))
    return problems
