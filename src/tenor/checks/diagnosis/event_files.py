"""Folders of TensorBoard event files: scalars by tag, and the folders that together are one run."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.history import (
    SPLIT_WORDS,
    History,
    Series,
    classes_by_default,
    classes_in,
    history_evidence,
    split_of,
)
from tenor.errors import UserError

PATTERN = "*tfevents*"
KIND = "TensorBoard event files"
MAX_FOLDERS = 50
MAX_ENTRIES = 200_000
MAX_BYTES = 2**30
"""Of the event files in one folder; their reader keeps all scalars in memory."""
PER_EPOCH, PER_BATCH = "epoch_", "batch_"
"""Keras' tags: the step of an epoch's metric is the epoch, that of a batch's metric the batch."""
SETTINGS = ("config.json", "model_config.json")
MODEL_CONFIG = "model_config"


@dataclass(frozen=True)
class EventFolder:
    """A folder of event files and the run that it belongs to."""

    path: Path
    run: Path
    split: str = ""
    """The split of its scalars, if the folder is one of several of a run: Keras' train and validation."""


def event_folders(path: Path) -> list[Path]:
    """The folders at or below `path` that contain event files, at most `MAX_FOLDERS`."""
    return _all_folders(path)[:MAX_FOLDERS]


def read_event_folders(path: Path) -> list[Artifacts]:
    """`Artifacts` of each run with scalars. Raises UserError if there is none."""
    every = _all_folders(path)
    folders = every[:MAX_FOLDERS]
    scalars = {folder: read_scalars(folder) for folder in folders}
    runs: dict[Path, list[EventFolder]] = {}
    for folder in folders:
        one = _placed(folder, path, scalars[folder])
        runs.setdefault(one.run, []).append(one)
    artifacts = [found for run, parts in runs.items() if (found := _artifacts(run, parts, path, scalars))]
    if not artifacts:
        tags = sorted({tag for series in scalars.values() for tag in series})
        content = f"the tags {', '.join(tags[:8])}" if tags else "no scalars"
        raise UserError(
            f"{path}: the event files contain {content}. Expected a loss, or an accuracy with eval, val or test in "
            f"its tag."
        )
    if len(every) > MAX_FOLDERS:
        limit = f"{MAX_FOLDERS} of {len(every)} folders with event files were read; give one of the others by its path"
        artifacts[0] = replace(artifacts[0], notes=(limit, *artifacts[0].notes))
    return artifacts if len(artifacts) > 1 else [replace(artifacts[0], name="")]


def read_scalars(folder: Path) -> dict[str, Series]:
    """The values of every scalar tag by step; of a step logged twice, the last. Raises UserError for broken files."""
    size = sum(file.stat().st_size for file in folder.glob(PATTERN) if file.is_file())
    if size > MAX_BYTES:
        raise UserError(
            f"{folder}: event files of {size:,} bytes; up to {MAX_BYTES:,} are read. Log scalars to a folder of their "
            f"own, without images, histograms and profiles."
        )
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


def classes_in_events(folder: Path) -> int | None:
    """The number of classes in the text `model_config`, as transformers' callback for TensorBoard writes it."""
    for text in read_texts(folder, MODEL_CONFIG):
        try:
            config = json.loads(text)
        except (ValueError, RecursionError):
            continue  # Another program's text under the same tag.
        if isinstance(config, dict) and (count := classes_in(config) or classes_by_default(config)) is not None:
            return count
    return None


def _all_folders(path: Path) -> list[Path]:
    found, entries = set(), 0
    for place, _, names in os.walk(path):
        entries += len(names)
        if entries > MAX_ENTRIES:
            raise UserError(f"{path}: more than {MAX_ENTRIES:,} files. Give the folder of one run.")
        found |= {Path(place)} if any(fnmatch(name, PATTERN) for name in names) else set()
    return sorted(found)


def _placed(folder: Path, root: Path, series: dict[str, Series]) -> EventFolder:
    """The run of a folder: its parent if the folder holds a split of it, or one curve of a chart."""
    word = folder.name.lower()
    splits = {split_of(tag) for tag in series} - {""}  # Keras: "evaluation_loss_vs_iterations" in validation/.
    if folder != root and word in SPLIT_WORDS and splits <= {SPLIT_WORDS[word]}:
        return EventFolder(folder, folder.parent, word)
    for tag in series:  # `SummaryWriter.add_scalars("loss", {"val": …})` writes the tag loss to the folder loss_val.
        prefix = f"{tag.replace('/', '_').replace(' ', '_')}_"
        if folder != root and len(series) == 1 and folder.name.startswith(prefix):
            return EventFolder(folder, folder.parent, folder.name.removeprefix(prefix))
    return EventFolder(folder, folder)


def _artifacts(
    run: Path, parts: list[EventFolder], root: Path, scalars: dict[Path, dict[str, Series]]
) -> Artifacts | None:
    """The scalars of a run's folders together; None if none of them is known."""
    series: dict[str, Series] = {}
    for part in parts:
        for tag, values in scalars[part.path].items():
            series[f"{part.split}/{tag}" if part.split else tag] = values
    per_epoch = [name for name in series if name.rpartition("/")[2].startswith(PER_EPOCH)]
    left_out = [name for name in series if per_epoch and name.rpartition("/")[2].startswith(PER_BATCH)]
    history = History({name: s for name, s in series.items() if name not in left_out}, bool(per_epoch))
    notes = [f"read as one run: {', '.join(part.path.name for part in parts)}"] if len(parts) > 1 else []
    notes += [f"not read: {', '.join(left_out)}, whose steps are batches and not epochs"] if left_out else []
    config = next((run / name for name in SETTINGS if (run / name).is_file()), None)
    settings = read_any_json(config) if config else {}
    n_classes = classes_in(settings) if isinstance(settings, dict) else None
    n_classes = n_classes or next(filter(None, (classes_in_events(part.path) for part in parts)), None)
    evidence = history_evidence(history, n_classes)
    if not evidence:
        return None
    files = [file for part in parts for file in part.path.glob(PATTERN)] + ([config] if config else [])
    name = run.relative_to(root).as_posix() if run != root else root.name
    return Artifacts(KIND, evidence, name, files=tuple(files), notes=tuple(notes))


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
