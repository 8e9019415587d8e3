"""Folders of Lightning's loggers: `lightning_logs/version_N` with metrics.csv, hparams.yaml and event files."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.event_files import PATTERN, read_event_folders
from tenor.checks.diagnosis.history import classes_in
from tenor.checks.diagnosis.history_files import is_history_file, read_history_file
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

FOLDER, VERSIONS = "lightning_logs", "version_*"
METRICS, SETTINGS = "metrics.csv", "hparams.yaml"
KIND = "a run of Lightning"
RATE_COLUMN = re.compile(r"lr-([A-Za-z]\w*)(?:[-/].*)?")
MAX_VERSIONS = 50


def lightning_versions(path: Path) -> list[Path]:
    """The folders of versions at a path, in order: the path itself, or those in it or in its `lightning_logs`."""
    if _is_version(path):
        return [path]
    for parent in (path, path / FOLDER):
        if versions := [folder for folder in parent.glob(VERSIONS) if _is_version(folder)]:
            return sorted(versions, key=_number)
    return []


def read_lightning_versions(path: Path) -> list[Artifacts]:
    """`Artifacts` of each version with a known metric. Raises UserError if there is none."""
    versions, artifacts, notes = lightning_versions(path), list[Artifacts](), list[str]()
    for version in versions[-MAX_VERSIONS:]:
        try:
            artifacts.append(_artifacts(version))
        except UserError as error:
            notes.append(f"not read: {error}")
    if not artifacts:
        raise UserError(f"{path}: no version of Lightning's logs can be read. {notes[0] if notes else ''}")
    if len(versions) > MAX_VERSIONS:
        notes.append(
            f"the last {MAX_VERSIONS} of {len(versions)} versions were read; give one of the others by its folder"
        )
    artifacts[0] = replace(artifacts[0], notes=(*artifacts[0].notes, *notes))
    return artifacts


def _is_version(folder: Path) -> bool:
    """`hparams.yaml` is written by every logger of Lightning, also if it is empty."""
    if not folder.is_dir() or not (folder / SETTINGS).is_file():
        return False
    return (folder / METRICS).is_file() or any(folder.glob(PATTERN))


def _artifacts(version: Path) -> Artifacts:
    settings, notes, files = _settings(version / SETTINGS)
    if (version / METRICS).is_file() and is_history_file(version / METRICS):
        run = read_history_file(version / METRICS, KIND, classes_in(settings))[0]
    else:
        run = read_event_folders(version)[0]
        run = replace(run, evidence=_with_classes(run.evidence, classes_in(settings)))
    if (optimizer := _optimizer(version / METRICS)) and not any("optim" in str(key).lower() for key in settings):
        settings = {**settings, "optimizer": optimizer}
    return replace(
        run, kind=KIND, name=version.name, settings=settings, notes=(*run.notes, *notes), files=(*run.files, *files)
    )


def _optimizer(metrics: Path) -> str:
    """The optimizer in the name of the rate's column, as `LearningRateMonitor` writes it; empty if there is none."""
    if not metrics.is_file():
        return ""
    with metrics.open("rb") as file:
        names = file.readline(10_000).decode("utf-8", "replace").strip().split(",")
    return next((match[1] for name in names if (match := RATE_COLUMN.fullmatch(name))), "")


def _with_classes(evidence: tuple[Any, ...], n_classes: int | None) -> tuple[Any, ...]:
    return tuple(
        replace(one, n_classes=n_classes) if n_classes and hasattr(one, "n_classes") else one for one in evidence
    )


def _settings(path: Path) -> tuple[Mapping[str, Any], list[str], list[Path]]:
    """Settings, notes and files that were read. Objects of Python in the YAML are not constructed but refused."""
    try:
        value = parse_yaml(path.read_bytes().decode("utf-8", "replace"), str(path)).value
    except UserError as error:
        return {}, [f"not read: {error}"], []
    return (value if isinstance(value, Mapping) else {}), [], [path]


def _number(folder: Path) -> tuple[int, str]:
    number = folder.name.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, folder.name)
