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
    """The values of the sampler, or of the queue, for each key, in the form of the configuration."""
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
    """The base configuration's values as Optuna's parameters; None if they are outside the search space."""
    values: dict[str, Any] = {}
    for key, dimension in plan.sweep.phases[phase].space.items():
        value: Any = plan.settings[phase]
        for name in key.split("."):
            value = value[name]
        if not _contains(dimension, value):
            return None
        values[key] = _label(value)
    return values


def _contains(dimension: Dimension, value: Any) -> bool:
    if dimension.choices is not None:
        return value in values_of(dimension)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = values_of(dimension)
    steps = (value - low) / dimension.step if dimension.step is not None else 0
    return bool(low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-9))


def _label(value: Any) -> Any:
    """Optuna's choices are scalars: a list becomes JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def _value(label: Any, dimension: Dimension) -> Any:
    if dimension.choices is None:
        return label
    return next(value for value in values_of(dimension) if _label(value) == label)


RETRIES = 5
"""How often a trial whose worker died is started again: a trial that kills every worker must end."""
GRACE = 4
"""Heartbeats that a worker may miss."""
SQLITE_WAIT_SECONDS = 60
WHERE_AND_HOW_FAST = ("data.path", "data.test_path", "data.exclude", "training.device", "training.threads")
"""Settings in which workers may differ: paths and devices."""


def sweep_folder(root: Path, plan: SweepPlan) -> Path:
    """The folder of the sweep's runs, with its study, its page and its winner."""
    return root / plan.sweep.name


def open_studies(plan: SweepPlan, root: Path, join: bool) -> dict[str, optuna.Study]:
    """The study of each phase, created if it does not exist; with `join`, it must exist.

    Raises:
        UserError: the storage cannot be reached, there is no study to join, or the study is of another sweep.
    """
    folder = sweep_folder(root, plan)
    if join and plan.sweep.storage is None and not (folder / "study.db").is_file():
        raise UserError(f"{folder / 'study.db'}: no study to join; start it without --worker, or give its storage=URL")
    if plan.sweep.storage is None:
        make_folder(folder)
    # Two processes must not create the same SQLite file at once.
    with FileLock(folder / ".study.lock") if plan.sweep.storage is None else nullcontext():
        storage = _storage(storage_url(plan, root), plan.sweep.heartbeat_seconds)
        return {phase: _study(plan, phase, storage, join) for phase in plan.sweep.phases}


@contextmanager
def reachable(plan: SweepPlan, root: Path) -> Iterator[None]:
    """Turn errors of the storage into readable ones, without the password.

    Raises:
        UserError: the URL is invalid, or the database or its driver is missing.
    """
    url = storage_url(plan, root)
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise UserError("storage: not a URL that SQLAlchemy accepts, such as sqlite:///study.db") from error
    try:
        yield
    except NoSuchModuleError as error:
        raise UserError(
            f"storage {shown}: no such kind of database. Expected one that Optuna keeps in SQL, such as sqlite:///…, "
            "postgresql+psycopg://… or mysql+pymysql://…: only these detect that a worker died"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise UserError(f"storage {shown}: can't be used ({cause}); start the database, or fix the URL") from error


def storage_url(plan: SweepPlan, root: Path) -> str:
    """The URL of the studies' storage."""
    return plan.sweep.storage or f"sqlite:///{(sweep_folder(root, plan) / 'study.db').resolve()}"


def _storage(url: str, heartbeat_seconds: int) -> RDBStorage:
    # Parallel writers wait for SQLite's lock, which a heartbeat must outlast.
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
            how = f"install it: {error.__cause__}"
            if url.startswith("postgresql"):
                how = "install it (pip install 'tenor[postgresql]') and begin the URL with postgresql+psycopg://"
            raise UserError(f"storage: the database's driver is not installed; {how}") from error
        except RuntimeError as error:  # Raised by Optuna for the storage of another version.
            raise UserError(f"storage: {error}") from error


def requeue(study: optuna.Study, number: int) -> None:
    """Put the trial of an interrupted worker back into the queue, with the reference to its run."""
    with warnings_ignored(ExperimentalWarning):
        RetryHeartbeatStaleTrialCallback()(study, study.trials[number])


def _study(plan: SweepPlan, phase: str, storage: RDBStorage, join: bool) -> optuna.Study:
    name = f"{plan.sweep.name}/{phase}"
    if join and name not in optuna.get_all_study_names(storage):
        raise UserError(f"{name}: there is no such study to join; start it without --worker")
    study = optuna.create_study(study_name=name, storage=storage, direction=plan.direction, load_if_exists=True)
    definition = definition_of(plan, phase)
    if (known := study.user_attrs.get("definition")) is None:
        study.set_user_attr("definition", definition)
        if (tried := base_values(plan, phase)) is not None:
            study.enqueue_trial(tried, user_attrs={"base": True}, skip_if_exists=True)
    elif changed := sorted(key for key in {*known, *definition} if known.get(key) != definition.get(key)):
        raise UserError(
            f"{name}: the study was made with another {', '.join(changed)}, so its trials can't be compared with new "
            "ones. Restore these, or give the sweep another name: name=…"
        )
    return study


def definition_of(plan: SweepPlan, phase: str) -> dict[str, Any]:
    """What all trials of a study share, by dotted key; the number of trials and the budget may change."""
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
    """One trial with all its attempts: each worker that died leaves one."""

    phase: str
    number: int
    """Of its first attempt."""
    status: Status
    tried: dict[str, Any]
    """By dotted key; empty before the sampler has proposed values."""
    value: float | None
    """The objective, of a completed trial; the last validation's, of a running or pruned one."""
    run: str | None
    """The run's reference, in the runs folder of the worker that trained it."""
    reason: str
    """Why it is not complete, if there is a reason."""
    seconds: float
    """Duration of all attempts."""
    attempts: int
    is_base: bool
    """Whether it tries the configuration's own values."""
    abandoned: tuple[str, ...] = ()
    """Runs of earlier attempts that were not resumed: their worker died, and another one could not reach them."""

    @property
    def name(self) -> str:
        """For example `full/3`."""
        return f"{self.phase}/{self.number}"


def trials_of(plan: SweepPlan, phase: str, study: optuna.Study) -> list[SweepTrial]:
    """All requested trials of the phase, in the order in which they were started."""
    return [_trial(plan, phase, attempts) for attempts in _requested(plan, phase, study)]


def is_surplus(plan: SweepPlan, phase: str, study: optuna.Study, number: int) -> bool:
    """Whether other workers had already started the last requested trials when this one was started."""
    return not any(number == attempt.number for trial in _requested(plan, phase, study) for attempt in trial)


def spent_seconds(study: optuna.Study, but: int | None = None) -> float:
    """Recorded duration of the study's trials so far, except the trial number `but`."""
    return sum(_seconds(trial) for trial in study.get_trials(deepcopy=False) if trial.number != but)


def best_of(plan: SweepPlan, trials: Sequence[SweepTrial]) -> SweepTrial | None:
    """The completed trial with the best objective, the earlier one on a tie; None if none is complete."""
    sign = 1 if plan.direction == "minimize" else -1
    completed = [trial for trial in trials if trial.status == "completed" and trial.value is not None]
    return min(completed, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _requested(plan: SweepPlan, phase: str, study: optuna.Study) -> list[list[FrozenTrial]]:
    """The attempts of each of the first `trials` trials. The storage numbers them, so that all workers agree
    on which trial is the last."""
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
    # A requeued trial still has the attribute of its previous attempt.
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
