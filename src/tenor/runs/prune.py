"""Deletes old runs, and never one that is under way."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import discard_folder, remove_whole
from tenor.runs.manifest import process_lives, read_manifest
from tenor.runs.summary import forget_checkpoints, remove_rows


@dataclass(frozen=True)
class Pruned:
    """Which runs were removed, and which were old enough but are still under way."""

    removed: tuple[RunDirectory, ...]
    still_running: tuple[RunDirectory, ...]


def prune(root: Path, keep_last: int, dry_run: bool = False) -> Pruned:
    """Remove all but the newest `keep_last` runs of each configuration and their rows in the summary.

    A run whose process lives, or ran on another host and did not end, is kept. `dry_run` only says what would go.
    Raises UserError for a negative `keep_last`, and for a manifest that cannot be read; nothing is removed then.
    """
    if keep_last < 0:
        raise UserError(f"keep_last is {keep_last}; expected the number of runs to keep, 0 or more.")
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
    """Remove a run's checkpoints and its model, and say why in the summary; all else of it stays."""
    if run.checkpoints.exists() or run.model.exists():
        forget_checkpoints(root, run, reason)
        for folder in (run.checkpoints, run.model):
            with suppress(FileNotFoundError):  # Another process may be doing the same.
                remove_whole(folder)
