"""One Optuna study per phase: its search space, its storage, and its trials."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tenor.config.sweep import Dimension, SweepPlan, is_whole, values_of
from tenor.errors import UserError
from tenor.runs.files import make_folder
from tenor.runs.process_state import warnings_ignored


def distribution(key: str, dimension: Dimension) -> BaseDistribution:
    """A validated dimension as an Optuna distribution."""
    if dimension.choices is not None:
        return CategoricalDistribution([_label(value) for value in values_of(dimension)])
    low, high = values_of(dimension)
    if is_whole(key, dimension):
        return IntDistribution(low, high, dimension.log, 1 if dimension.step is None else int(dimension.step))
    return FloatDistribution(low, high, dimension.log, dimension.step)


def propose(trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The value from the sampler or the queue for each key, in the form of the configuration."""
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
    """Optuna's parameters in the form of the configuration."""
    return {key: _value(params[key], space[key]) for key in space if key in params}


def base_values(plan: SweepPlan, phase: str) -> dict[str, Any] | None:
    """The configuration's own values as Optuna's parameters; None if they are outside the search space."""
    params: dict[str, Any] = {}
    for key, dimension in plan.sweep.phases[phase].space.items():
        value: Any = plan.settings[phase]
        for name in key.split("."):
            value = value[name]
        if not _contains(value, dimension):
            return None
        params[key] = _label(value)
    return params


def _contains(value: Any, dimension: Dimension) -> bool:
    if dimension.choices is not None:
        return value in values_of(dimension)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = values_of(dimension)
    steps = (value - low) / dimension.step if dimension.step is not None else 0
    return bool(low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-9))


def _label(value: Any) -> Any:
    """Optuna's choices must be scalars: a list is encoded as JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def _value(label: Any, dimension: Dimension) -> Any:
    if dimension.choices is None:
        return label
    return next(value for value in values_of(dimension) if _label(value) == label)


RETRIES = 5
"""How often a trial is started again after its worker died: a trial that kills every worker must end, too."""
GRACE = 4
"""Heartbeats that a worker may miss."""
SQLITE_WAIT_SECONDS = 60
WHERE_AND_HOW_FAST = ("data.path", "data.test_path", "data.exclude", "training.device", "training.threads")
"""Settings in which workers may differ: paths and devices."""


def sweep_folder(root: Path, plan: SweepPlan) -> Path:
    """The folder of the sweep's study, page, winner and runs."""
    return root / plan.sweep.name


def open_studies(plan: SweepPlan, root: Path, join: bool) -> dict[str, optuna.Study]:
    """The study of each phase. Missing studies are created, or refused with `join`.

    Raises:
        UserError: the storage can't be reached, there is no study to join, or it was created with other settings.
    """
    folder = sweep_folder(root, plan)
    if join and plan.sweep.storage is None and not (folder / "study.db").is_file():
        raise UserError(
            f"{folder / 'study.db'}: no study to join; start the sweep without --worker, or give its storage=URL"
        )
    if plan.sweep.storage is None:
        make_folder(folder)
    # Two processes that create the same SQLite file at once would both create its tables.
    with FileLock(folder / ".study.lock") if plan.sweep.storage is None else nullcontext():
        storage = _storage(storage_url(plan, root), plan.sweep.heartbeat_seconds)
        return {phase: _study(plan, phase, storage, join) for phase in plan.sweep.phases}


@contextmanager
def reachable(plan: SweepPlan, root: Path) -> Iterator[None]:
    """Turn errors of the storage into messages that do not contain its password.

    Raises:
        UserError: the URL is malformed, or the database or its driver is missing.
    """
    url = storage_url(plan, root)
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise UserError("storage: not a URL; expected one that SQLAlchemy reads, such as sqlite:///study.db") from error
    try:
        yield
    except NoSuchModuleError as error:
        raise UserError(
            f"storage {shown}: unknown kind of database. Expected an SQL database that Optuna supports, such as "
            "sqlite:///…, postgresql+psycopg2://… or mysql+pymysql://…: only with these is a dead worker noticed"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise UserError(f"storage {shown}: cannot be used ({cause}); start the database, or fix the URL") from error


def storage_url(plan: SweepPlan, root: Path) -> str:
    """The URL of the studies' storage."""
    return plan.sweep.storage or f"sqlite:///{(sweep_folder(root, plan) / 'study.db').resolve()}"


def _storage(url: str, heartbeat_seconds: int) -> RDBStorage:
    # Parallel writers wait for SQLite's lock, and heartbeats must survive that wait.
    arguments: dict[str, Any] = {}
    if url.startswith("sqlite"):
        arguments = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}}
    with warnings_ignored(ExperimentalWarning):
        try:
            return RDBStorage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat_seconds,
                grace_period=GRACE * heartbeat_seconds,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
            )
        except ImportError as error:
            raise UserError(
                f"storage: the database's driver is not installed; install it: {error.__cause__}"
            ) from error
        except RuntimeError as error:  # Raised for a storage created by another version of Optuna.
            raise UserError(f"storage: {error}") from error


def requeue(study: optuna.Study, number: int) -> None:
    """Put the trial of an interrupted worker back into the queue, with the reference to its run."""
    with warnings_ignored(ExperimentalWarning):
        RetryHeartbeatStaleTrialCallback()(study, study.trials[number])


def _study(plan: SweepPlan, phase: str, storage: RDBStorage, join: bool) -> optuna.Study:
    name = f"{plan.sweep.name}/{phase}"
    if join and name not in optuna.get_all_study_names(storage):
        raise UserError(f"{name}: no such study to join; start the sweep without --worker")
    study = optuna.create_study(study_name=name, storage=storage, direction=plan.direction, load_if_exists=True)
    definition = definition_of(plan, phase)
    if (stored := study.user_attrs.get("definition")) is None:
        study.set_user_attr("definition", definition)
        if (tried := base_values(plan, phase)) is not None:
            study.enqueue_trial(tried, user_attrs={"base": True}, skip_if_exists=True)
    elif changed := sorted(key for key in {*stored, *definition} if stored.get(key) != definition.get(key)):
        raise UserError(
            f"{name}: the study was created with another {', '.join(changed)}, so its trials cannot be compared with "
            "new ones. Restore these, or give the sweep another name: name=…"
        )
    return study


def definition_of(plan: SweepPlan, phase: str) -> dict[str, Any]:
    """The settings that all trials of a study share, by dotted key; number of trials and budget may change."""
    settings = dict(_leaves(plan.settings[phase]))
    for key in (*WHERE_AND_HOW_FAST, *plan.sweep.phases[phase].space):
        settings.pop(key, None)
    space = {f"space.{key}": _plain(dimension) for key, dimension in plan.sweep.phases[phase].space.items()}
    return {**settings, **space, "objective": plan.metric, "direction": plan.direction}


def _plain(dimension: Dimension) -> dict[str, Any]:
    return dimension.model_dump(mode="json", exclude_defaults=True)


def _leaves(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


Status = Literal["waiting", "running", "completed", "pruned", "refused", "failed", "lost"]


@dataclass(frozen=True)
class SweepTrial:
    """One trial with all its attempts: there is a new attempt after a worker died."""

    phase: str
    number: int
    """The number of its first attempt."""
    status: Status
    tried: dict[str, Any]
    """By dotted key; empty before the sampler proposed values."""
    value: float | None
    """The objective of a completed trial; the last validation's value of a running or pruned one."""
    run: str | None
    """Reference for `tenor report`, on the machine of the worker that trained it."""
    reason: str
    """Why the trial is not complete; empty if there is no reason."""
    seconds: float
    """Duration of all attempts."""
    attempts: int
    is_base: bool
    """Whether it tries the configuration's own values."""
    abandoned: tuple[str, ...] = ()
    """Runs of earlier attempts that were not resumed: their worker died, and another one could not reach them."""

    @property
    def name(self) -> str:
        """Such as `full/3`."""
        return f"{self.phase}/{self.number}"


def trials_of(plan: SweepPlan, phase: str, study: optuna.Study) -> list[SweepTrial]:
    """All requested trials of the phase, in the order in which they were started."""
    return [_trial(plan, phase, attempts) for attempts in _requested(plan, phase, study)]


def is_surplus(plan: SweepPlan, phase: str, study: optuna.Study, number: int) -> bool:
    """Whether other workers had already started all requested trials when this one was started."""
    return not any(number == attempt.number for trial in _requested(plan, phase, study) for attempt in trial)


def spent_seconds(study: optuna.Study, but: int | None = None) -> float:
    """Duration of the study's trials so far, as recorded by each trial; `but` excludes one."""
    return sum(_seconds(trial) for trial in study.get_trials(deepcopy=False) if trial.number != but)


def best_of(plan: SweepPlan, trials: Sequence[SweepTrial]) -> SweepTrial | None:
    """The completed trial with the best objective, the earlier in a tie; None if none is complete."""
    sign = 1 if plan.direction == "minimize" else -1
    completed = [trial for trial in trials if trial.status == "completed" and trial.value is not None]
    return min(completed, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _requested(plan: SweepPlan, phase: str, study: optuna.Study) -> list[list[FrozenTrial]]:
    """The attempts of each of the first `trials` trials. The order of numbers is the storage's, the same for all
    workers, so that they agree on which is the last."""
    by_first: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if not trial.user_attrs.get("surplus", False):
            by_first.setdefault(_first_attempt(trial), []).append(trial)
    return [by_first[number] for number in sorted(by_first)][: plan.sweep.phases[phase].trials]


def _first_attempt(trial: FrozenTrial) -> int:
    with warnings_ignored():
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def _seconds(trial: FrozenTrial) -> float:
    # A waiting trial that is to be resumed still has the seconds of its previous attempt.
    return 0.0 if trial.state == TrialState.WAITING else float(trial.user_attrs.get("seconds", 0.0))


def _trial(plan: SweepPlan, phase: str, attempts: list[FrozenTrial]) -> SweepTrial:
    last = attempts[-1]
    run, runs = last.user_attrs.get("run"), (attempt.user_attrs.get("run") for attempt in attempts)
    status, reported = _status(last), list(last.intermediate_values.values())
    so_far = reported[-1] if reported and status in ("running", "pruned") else None
    return SweepTrial(
        phase=phase,
        number=_first_attempt(last),
        status=status,
        tried=as_settings(last.params, plan.sweep.phases[phase].space),
        value=last.value if status == "completed" else so_far,
        run=run,
        reason=last.user_attrs.get("reason", "its worker died" if status == "lost" else ""),
        seconds=sum(_seconds(attempt) for attempt in attempts),
        attempts=len(attempts),
        is_base=bool(last.user_attrs.get("base", False)),
        abandoned=tuple(one for one in dict.fromkeys(runs) if one not in (None, run)),
    )


def _status(trial: FrozenTrial) -> Status:
    match trial.state:
        case TrialState.COMPLETE:
            return "completed"
        case TrialState.RUNNING:
            return "running"
        case TrialState.WAITING:
            return "waiting"
        case TrialState.PRUNED:
            ended: Status = trial.user_attrs["ended"]
            return ended
        case _:
            return "lost"
