"""The serialization folder of AllenNLP: `metrics_epoch_N.json` for each epoch, `metrics.json` with the test."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.history import History, history_evidence, series_of_records
from tenor.errors import UserError

EPOCHS, FINAL, CONFIG, LABELS = "metrics_epoch_*.json", "metrics.json", "config.json", "vocabulary/labels.txt"
NUMBER = re.compile(r"metrics_epoch_(\d{1,6})\.json")
KIND = "the output of AllenNLP"
MAX_EPOCHS = 10_000


def allennlp_epochs(path: Path) -> list[Path]:
    """The metrics of the epochs in a folder, in their order."""
    files = [file for file in path.glob(EPOCHS) if NUMBER.fullmatch(file.name)]
    return sorted(files, key=_epoch)[:MAX_EPOCHS]


def read_allennlp_folder(path: Path) -> list[Artifacts]:
    """Evidence from the metrics of all epochs and of the test. Raises UserError if none is known."""
    files = allennlp_epochs(path)
    records = [(_epoch(file), _mapping(file)) for file in files]
    if (path / FINAL).is_file():
        final = {name: value for name, value in _mapping(path / FINAL).items() if name.startswith("test_")}
        records.append((records[-1][0], final))
    n_classes = _classes(path / LABELS)
    evidence = history_evidence(History(series_of_records(records), per_epoch=True, is_whole=True), n_classes)
    if not evidence:
        raise UserError(f"{path}: the metrics of {len(files)} epochs contain neither a loss nor an accuracy.")
    config = _mapping(path / CONFIG) if (path / CONFIG).is_file() else {}
    others = [path / name for name in (FINAL, CONFIG, LABELS) if (path / name).is_file()]
    return [Artifacts(KIND, evidence, settings=config, files=(*files, *others))]


def _epoch(file: Path) -> int:
    match = NUMBER.fullmatch(file.name)
    return int(match[1]) if match else -1


def _classes(labels: Path) -> int | None:
    """The number of labels in the vocabulary; None if it is not there."""
    if not labels.is_file() or labels.stat().st_size > 2**20:
        return None
    count = len([line for line in labels.read_bytes().decode("utf-8", "replace").splitlines() if line.strip()])
    return count if count > 1 else None


def _mapping(file: Path) -> Mapping[str, Any]:
    value = read_any_json(file)
    if not isinstance(value, Mapping):
        raise UserError(f"{file}: contains no JSON object. Restore it, or move it away.")
    return value
