"""Folders of Lightning's loggers: `lightning_logs/version_N` with metrics.csv, hparams.yaml and event files."""

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.event_files import PATTERN, read_event_folders
from tenor.checks.diagnosis.history import classes_in
from tenor.checks.diagnosis.history_files import is_history_file, read_history_file
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

FOLDER, VERSIONS = "lightning_logs", "version_*"
METRICS, SETTINGS = "metrics.csv", "hparams.yaml"
KIND = "a run of Lightning"
RATE_COLUMN = re.compile(r"lr-([A-Za-z]\w*)(?:[-/].*)?")
KEPT = re.compile(r"epoch=(?P<epoch>\d+).*?(?P<metric>val\w*)=\d+\.\d+")
"""A file of `ModelCheckpoint(filename="{epoch}-{val_loss:.2f}")`."""
MAX_VERSIONS = 50


def lightning_versions(path: Path) -> list[Path]:
    """The folders of versions at a path, in order: the path itself, or those in it, in its `lightning_logs`, or in its
    only folder that has any, which has the name that the logger was given."""
    if _is_version(path):
        return [path]
    named = [folder for folder in sorted(path.iterdir()) if any(map(_is_version, folder.glob(VERSIONS)))]
    for parent in (path, path / FOLDER, *(named if len(named) == 1 else ())):
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
    return [_with_kept(artifacts[0], path, versions[0])] if len(artifacts) == len(versions) == 1 else artifacts


def _with_kept(run: Artifacts, path: Path, version: Path) -> Artifacts:
    """The run with the checkpoint that was kept as the best, where its name says its epoch and its metric."""
    kept = _kept_as_best(path)
    if kept is None:
        return run
    epoch, metric = kept
    points = _validations(version / METRICS, metric)
    # Without a monitored metric the last epoch is kept, and the name only shows the value.
    if epoch not in [point.step for point in points] or (epoch == points[-1].step and not _is_called_best(path)):
        return run
    chosen = CheckpointEvidence(validations=points, metric=metric, chosen_step=epoch)
    others = [one for one in run.evidence if not isinstance(one, CheckpointEvidence)]
    note = f"the checkpoint of epoch {epoch} was kept for its {metric}, as its name says"
    return replace(run, evidence=(*others, chosen), notes=(*run.notes, note))


def _kept_as_best(path: Path) -> tuple[int, str] | None:
    """Epoch and metric in the name of the only checkpoint of its folder; None if there is none, or several."""
    found = [match for file in _checkpoints(path) if (match := KEPT.search(file.name)) and _is_alone(file)]
    return (int(found[0]["epoch"]), found[0]["metric"]) if len(found) == 1 else None


def _is_called_best(path: Path) -> bool:
    return any("best" in part.lower() for file in _checkpoints(path) for part in file.relative_to(path).parts)


def _checkpoints(path: Path) -> list[Path]:
    return sorted(file for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for file in path.glob(f"{depth}.ckpt"))


def _is_alone(file: Path) -> bool:
    """Whether no other checkpoint of its folder has a metric in its name (`last.ckpt` may lie next to it)."""
    return sum(bool(KEPT.search(one.name)) for one in file.parent.glob("*.ckpt")) == 1


def _validations(metrics: Path, metric: str) -> tuple[ValidationPoint, ...]:
    """The values of a metric by epoch, from `metrics.csv`."""
    if not metrics.is_file():
        return ()
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(metric) and (row.get("epoch") or "").isdecimal()]
    return tuple(ValidationPoint(int(row["epoch"]), float(row[metric])) for row in rows)


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
