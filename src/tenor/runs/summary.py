"""`experiments_summary.json`: one row per run, updated by any number of processes; and the deletion of old runs."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ConfigDict

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import discard_folder, parse_record, read_json, remove_whole, write_json
from tenor.runs.manifest import STATUSES, Status, process_lives, read_manifest
from tenor.runs.missing import MissingRecord, is_missing, missing_because, refuse_nulls

FILE_NAME = "experiments_summary.json"
LOCK_NAME = ".experiments_summary.lock"
LOCK_SECONDS = 60.0


def _not_yet() -> MissingRecord:
    return missing_because("the run has not ended")


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint that the run kept: path relative to the runs' root, optimizer step, validation metrics, SHA-256."""

    path: str
    step: int
    val_metrics: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class SummaryRow:
    """One run. Paths are relative to the runs' root; a missing value is `{"missing": reason}`, never null."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    run_id: str
    config_name: str
    config: Mapping[str, Any]
    """The resolved configuration, `config.model_dump(mode="json")`; only in it may values be null."""
    status: Status
    duration_sec: float | MissingRecord = field(default_factory=_not_yet)
    ckpt_path: str | MissingRecord = field(default_factory=_not_yet)
    val_metrics: Mapping[str, Any] = field(default_factory=_not_yet)
    test_metrics: Mapping[str, Any] = field(default_factory=_not_yet)
    findings: tuple[Mapping[str, Any], ...] = ()
    checkpoints: tuple[CheckpointRow, ...] = ()
    error: str | MissingRecord = field(default_factory=lambda: missing_because("no error"))


def upsert_row(root: Path, row: SummaryRow) -> None:
    """Add the run's row, or replace it at the same position.

    Raises ValueError for a null outside `config`, and for a completed run without a checkpoint on disk, a digest or
    finite metrics. Raises UserError if the summary cannot be read or stays locked.
    """
    _require_complete(Path(root), row)

    def upsert(rows: list[SummaryRow]) -> list[SummaryRow]:
        if any(_same_run(row, old) for old in rows):
            return [row if _same_run(row, old) else old for old in rows]
        return [*rows, row]

    _rewrite(root, upsert)


def read_summary(root: Path) -> list[SummaryRow]:
    """All rows, in the order in which their runs were added; an empty list if there is no summary yet.

    Raises UserError for a file that cannot be read or is not a summary.
    """
    path = Path(root) / FILE_NAME
    if not path.exists():
        return []
    next_step = "restore the file, or move it away to start a new one"
    return parse_record(list[SummaryRow], read_json(path), path, next_step)


def find_row(root: Path, run: RunDirectory) -> SummaryRow | None:
    """The row of a run; None if it has no row. Raises UserError as `read_summary` does."""
    rows = (row for row in read_summary(root) if (row.config_name, row.run_id) == (run.config_name, run.run_id))
    return next(rows, None)


def remove_rows(root: Path, runs: Collection[RunDirectory]) -> None:
    """Remove the rows of the given runs."""
    gone = {(run.config_name, run.run_id) for run in runs}
    _rewrite(root, lambda rows: [row for row in rows if (row.config_name, row.run_id) not in gone])


def forget_checkpoints(root: Path, run: RunDirectory, reason: str) -> None:
    """Record in a run's row that its checkpoints were removed, and why."""

    def forget(rows: list[SummaryRow]) -> list[SummaryRow]:
        gone = [(row.config_name, row.run_id) == (run.config_name, run.run_id) for row in rows]
        return [
            replace(row, ckpt_path=missing_because(reason), checkpoints=()) if is_gone else row
            for row, is_gone in zip(rows, gone, strict=True)
        ]

    _rewrite(root, forget)


def _rewrite(root: Path, change: Callable[[list[SummaryRow]], list[SummaryRow]]) -> None:
    with _locked(Path(root)):
        rows = change(read_summary(root))
        write_json(Path(root) / FILE_NAME, [asdict(row) for row in rows])


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK_NAME)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(
            f"{root / LOCK_NAME}: still locked by another process after {LOCK_SECONDS:.0f} s. End it, then try again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _require_complete(root: Path, row: SummaryRow) -> None:
    record = asdict(row)
    refuse_nulls({name: value for name, value in record.items() if name != "config"})
    if row.status not in STATUSES:
        raise ValueError(f"{row.status!r} is not a status; expected one of {', '.join(STATUSES)}")
    if row.status != "completed":
        return
    if not isinstance(row.ckpt_path, str) or not (row.ckpt_path and (root / row.ckpt_path).exists()):
        raise ValueError(f"{row.run_id}: completed, but there is no checkpoint at {row.ckpt_path!r} below {root}")
    if not any(kept.path == row.ckpt_path and kept.digest for kept in row.checkpoints):
        raise ValueError(f"{row.run_id}: completed, but its checkpoints do not include {row.ckpt_path} with a digest")
    if is_missing(row.val_metrics) or not row.val_metrics:
        raise ValueError(f"{row.run_id}: completed, but validation metrics are missing")
    if not row.test_metrics:
        raise ValueError(f"{row.run_id}: completed, but test metrics are missing without a reason")
    if is_missing(row.duration_sec):
        raise ValueError(f"{row.run_id}: completed, but the duration is missing")
    for name, value in (*row.val_metrics.items(), *row.test_metrics.items()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{row.run_id}: completed, but {name} is {value}")


def _same_run(one: SummaryRow, other: SummaryRow) -> bool:
    return (one.config_name, one.run_id) == (other.config_name, other.run_id)


@dataclass(frozen=True)
class Pruned:
    """The runs that were removed, and the runs that were old enough but are still running."""

    removed: tuple[RunDirectory, ...]
    still_running: tuple[RunDirectory, ...]


def prune(root: Path, keep_last: int, dry_run: bool = False) -> Pruned:
    """Remove all but the newest `keep_last` runs of each configuration and their rows in the summary.

    A run is kept if its process is alive, or if it was started on another host and has not ended. `dry_run` removes
    nothing and returns what would be removed. Raises UserError, before anything is removed, for a negative `keep_last`
    and for a manifest that cannot be read.
    """
    if keep_last < 0:
        raise UserError(f"keep_last is {keep_last}; expected 0 or more, the number of runs to keep.")
    by_config: dict[str, list[RunDirectory]] = {}
    for run in list_runs(root):
        by_config.setdefault(run.config_name, []).append(run)
    old = [run for runs in by_config.values() for run in runs[: max(len(runs) - keep_last, 0)]]
    alive = tuple(run for run in old if process_lives(read_manifest(run)))
    removed = tuple(run for run in old if run not in alive)
    if removed and not dry_run:
        for run in removed:
            discard_folder(run.path)
        remove_rows(root, removed)
    return Pruned(removed, alive)


def drop_weights(root: Path, run: RunDirectory, reason: str) -> None:
    """Remove a run's checkpoints and model, and record the reason in the summary; its other files are kept."""
    if run.checkpoints.exists() or run.model.exists():
        forget_checkpoints(root, run, reason)
        for folder in (run.checkpoints, run.model):
            with suppress(FileNotFoundError):  # Another process may be doing the same.
                remove_whole(folder)
