"""The run folders in a folder, such as `outputs/DATE/TIME` of Hydra, and the runs of a search."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.settings_files import with_settings
from tenor.errors import UserError

SHOWN = 8
MAX_DEPTH = 3
MAX_FOLDERS = 200
"""Folders of one level that are looked at; one that holds more is no place of a run."""
MAX_TOGETHER = 20
"""Run folders that are diagnosed together."""


def run_folders_in(path: Path, is_run: Callable[[Path], bool]) -> list[Path]:
    """The folders in a folder that a program left, of the first of `MAX_DEPTH` levels that has any."""
    level = [path]
    for _ in range(MAX_DEPTH):
        level = [folder for parent in level for folder in _folders(parent)][:MAX_FOLDERS]
        if found := [folder for folder in level if is_run(folder)]:
            return found
    return []


def _folders(path: Path) -> list[Path]:
    found = sorted(one for one in path.iterdir() if one.is_dir() and not one.is_symlink())
    return [one for one in found if not one.name.startswith((".", "__"))]


def read_runs(path: Path, folders: Sequence[Path], read: Callable[[Path], list[Artifacts]]) -> list[Artifacts]:
    """The runs in the folders, each with the settings next to it.

    Raises UserError if there are more than `MAX_TOGETHER`, or if none can be read.
    """
    names = [folder.relative_to(path).as_posix() for folder in folders]
    if len(folders) > MAX_TOGETHER:
        shown = f"{', '.join(names[:SHOWN])}, …"
        raise UserError(
            f"{path}: contains {len(folders)} run folders ({shown}), of which at most {MAX_TOGETHER} are diagnosed "
            f"together; give one of them: {folders[0]}"
        )
    runs: list[Artifacts] = []
    if len(folders) == 1:
        runs = [replace(run, notes=(f"read from the folder {names[0]} in it", *run.notes)) for run in read(folders[0])]
        return runs if len(runs) > 1 else [with_settings(runs[0], folders[0])]
    refused: list[UserError] = []
    for name, folder in zip(names, folders, strict=True):
        try:
            parts = read(folder)
        except UserError as error:
            refused.append(error)
            continue
        runs += [with_settings(replace(run, name=f"{name} {run.name}".strip()), folder) for run in parts]
    if not runs:
        raise refused[0]
    unread = tuple(f"not read: {' '.join(str(error).split())[:200]}" for error in refused)
    return [replace(runs[0], notes=(*runs[0].notes, *unread)), *runs[1:]]
