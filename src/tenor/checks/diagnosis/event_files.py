"""Folders of TensorBoard event files: loss, learning rate and validation accuracy, identified by their usual tags."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.evidence import CheckpointEvidence, StepEvidence, ValidationPoint
from tenor.errors import UserError

PATTERN = "*tfevents*"
HELD_OUT = re.compile(r"(^|[^a-z])(eval|val|valid|validation|dev|test)", re.IGNORECASE)
LOSS = re.compile(r"loss", re.IGNORECASE)
ACCURACY = re.compile(r"(^|[^a-z])acc(uracy)?([^a-z]|$)", re.IGNORECASE)
RATE = re.compile(r"(learning[_ ]?rate|(^|[^a-z])lr([^a-z]|$))", re.IGNORECASE)
NORM = re.compile(r"grad(ient)?[_ ]?norm", re.IGNORECASE)
MAX_FOLDERS = 50

Series = dict[int, float]


def event_folders(path: Path) -> list[Path]:
    """The folders at or below `path` that contain event files."""
    return sorted({file.parent for file in path.rglob(PATTERN) if file.is_file()})[:MAX_FOLDERS]


def read_event_folders(path: Path) -> list[Artifacts]:
    """`Artifacts` for each folder with scalars. Raises UserError if there is none."""
    folders = event_folders(path)
    artifacts, tags = [], set()
    for folder in folders:
        series = read_scalars(folder)
        tags |= set(series)
        evidence = _evidence(series)
        if evidence:
            artifacts.append(Artifacts("TensorBoard event files", evidence, folder.relative_to(path).as_posix()))
    if not artifacts:
        content = f"the tags {', '.join(sorted(tags)[:8])}" if tags else "no scalars"
        raise UserError(
            f"{path}: the event files contain {content}. Expected a loss, or an accuracy with eval, val or test in "
            f"its tag."
        )
    return artifacts if len(artifacts) > 1 else [Artifacts(artifacts[0].kind, artifacts[0].evidence)]


def read_scalars(folder: Path) -> dict[str, Series]:
    """The values of every scalar tag by step; of a step logged twice, the last. Raises UserError for broken files."""
    with _reading(folder):
        events, tags = _events(folder)
        series = {tag: {event.step: float(event.value) for event in events.Scalars(tag)} for tag in tags["scalars"]}
        for tag in tags["tensors"]:  # TensorFlow 2 writes its scalars as tensors.
            values = [(event.step, _array(event)) for event in events.Tensors(tag)]
            if all(value.size == 1 and value.dtype.kind in "fiu" for _, value in values):
                series[tag] = {step: float(value.reshape(())) for step, value in values}
    return series


def read_texts(folder: Path, tag: str) -> list[str]:
    """The texts logged under a tag, as by `SummaryWriter.add_text`. Raises UserError for broken files."""
    with _reading(folder):
        events, tags = _events(folder)
        names = {tag, f"{tag}/text_summary"}.intersection(tags["tensors"])
        values = [_array(event) for name in sorted(names) for event in events.Tensors(name)]
    return [str(text.decode("utf-8", "replace")) for v in values for text in v.reshape(-1) if isinstance(text, bytes)]


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # The reader raises errors of many types for broken files.
        raise UserError(f"{folder}: the event files cannot be read ({error}). Write them again.") from error


def _events(folder: Path) -> tuple[Any, dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 1})
    events.Reload()
    return events, events.Tags()


def _array(event: Any) -> np.ndarray:
    from tensorboard.util import tensor_util  # type: ignore[import-untyped]

    return np.asarray(tensor_util.make_ndarray(event.tensor_proto))


def _evidence(series: dict[str, Series]) -> tuple[Any, ...]:
    training = {tag: values for tag, values in series.items() if not HELD_OUT.search(tag)}
    held_out = {tag: values for tag, values in series.items() if HELD_OUT.search(tag)}
    loss = _first(training, LOSS)
    evidence: list[Any] = []
    if loss:
        steps = sorted(loss)
        evidence.append(
            StepEvidence(
                steps=np.array(steps, dtype=np.int64),
                loss=np.array([loss[step] for step in steps]),
                grad_norm=_aligned(_first(training, NORM), steps),
                learning_rate=_aligned(_first(training, RATE), steps),
                validation_loss=_points(_first(held_out, LOSS)),
            )
        )
    accuracy = _first(held_out, ACCURACY)
    if accuracy:
        evidence.append(CheckpointEvidence(validations=_points(accuracy), metric="accuracy"))
    return tuple(evidence)


def _points(values: Series) -> tuple[ValidationPoint, ...]:
    return tuple(ValidationPoint(step, value) for step, value in sorted(values.items()))


def _first(series: dict[str, Series], pattern: re.Pattern[str]) -> Series:
    """The series whose tag matches; of several the shortest tag, which is the least specific."""
    return series[min(tags, key=len)] if (tags := [tag for tag in series if pattern.search(tag)]) else {}


def _aligned(values: Series, steps: list[int]) -> np.ndarray | None:
    return np.array([values[step] for step in steps]) if values and all(step in values for step in steps) else None
