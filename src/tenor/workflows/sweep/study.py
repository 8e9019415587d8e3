"""One Optuna study per phase, and the storage that its workers share."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tenor.config.sweep import SweepPlan
from tenor.config.sweep_schema import Dimension
from tenor.errors import UserError
from tenor.runs.files import make_folder
from tenor.runs.process_state import warnings_ignored
from tenor.workflows.sweep.space import base_values

RETRIES = 5
"""How often a trial is begun again whose worker died: one that kills every worker must come to an end."""
GRACE = 4
"""Heartbeats that a worker may miss."""
SQLITE_WAIT_SECONDS = 60
WHERE_AND_HOW_FAST = ("data.path", "data.test_path", "data.exclude", "training.device", "training.threads")
"""Settings in which workers may differ: paths, and what computes."""


def sweep_folder(root: Path, plan: SweepPlan) -> Path:
    """Where the sweep keeps its study, its page and its winner: the folder of its runs."""
    return root / plan.sweep.name


def open_studies(plan: SweepPlan, root: Path, join: bool) -> dict[str, optuna.Study]:
    """The study of each phase, made where there is none yet, or with `join` only those that are there.

    Raises:
        UserError: a storage that can't be reached, no such study to join, or one that was made for something else.
    """
    folder = sweep_folder(root, plan)
    if join and plan.sweep.storage is None and not (folder / "study.db").is_file():
        raise UserError(f"{folder / 'study.db'}: no study to join; start it without --worker, or give its storage=URL")
    if plan.sweep.storage is None:
        make_folder(folder)
    # Two processes that make the same SQLite file at once would trip over one another's tables.
    with FileLock(folder / ".study.lock") if plan.sweep.storage is None else nullcontext():
        storage = _storage(storage_url(plan, root), plan.sweep.heartbeat_seconds)
        return {phase: _study(plan, phase, storage, join) for phase in plan.sweep.phases}


@contextmanager
def reachable(plan: SweepPlan, root: Path) -> Iterator[None]:
    """Tell in words, and without its password, what keeps the storage from being used.

    Raises:
        UserError: the URL is none, or the database or its driver is not there.
    """
    url = storage_url(plan, root)
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise UserError("storage: not a URL as SQLAlchemy reads it, such as sqlite:///study.db") from error
    try:
        yield
    except NoSuchModuleError as error:
        raise UserError(
            f"storage {shown}: no such kind of database. Expected one that Optuna keeps in SQL, such as sqlite:///…, "
            "postgresql+psycopg2://… or mysql+pymysql://…: only these tell when a worker died"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise UserError(f"storage {shown}: can't be used ({cause}); start the database, or mend the URL") from error


def storage_url(plan: SweepPlan, root: Path) -> str:
    """Where the studies are."""
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
            raise UserError(
                f"storage: the database's driver is not installed; install it: {error.__cause__}"
            ) from error
        except RuntimeError as error:  # Optuna's word for what another version of it made.
            raise UserError(f"storage: {error}") from error


def begin_again(study: optuna.Study, number: int) -> None:
    """Put the trial of a worker that was asked to stop back into the queue, with what it knows of its run."""
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
    """What all trials of a study share, by dotted key; more of them may be asked for, and a budget changed."""
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
