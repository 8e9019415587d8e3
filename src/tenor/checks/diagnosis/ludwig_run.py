"""The results of Ludwig: `training_statistics.json`, a list per split, feature and metric, and `description.json`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, number, read_any_json
from tenor.checks.diagnosis.history import History, Series, history_evidence, logged_number
from tenor.errors import UserError

STATISTICS, DESCRIPTION = "training_statistics.json", "description.json"
PLACES = ("", "model", "*", "*/*")
"""`results/experiment_run` and its `model`, which has a copy of the statistics."""
SPLITS = {"training": "train", "train": "train", "validation": "val", "vali": "val", "test": "test"}
COMBINED = "combined"
TRAINER = ("trainer", "training")
KIND = "a run of Ludwig"
MAX_RUNS = 50


def ludwig_runs(path: Path) -> list[Path]:
    """The folders with statistics at a path, without the copies in their folders `model`, the newest last."""
    folders = {file.parent for place in PLACES for file in path.glob(f"{place}/{STATISTICS}".lstrip("/"))}
    return sorted(one for one in folders if one.parent not in folders or one.name != "model")


def read_ludwig_runs(path: Path) -> list[Artifacts]:
    """`Artifacts` of each run. Raises UserError if a file cannot be read, or contains no known metric."""
    folders = ludwig_runs(path)[-MAX_RUNS:]
    return [_artifacts(folder, folder.name if len(folders) > 1 else "") for folder in folders]


def read_ludwig_file(path: Path) -> list[Artifacts]:
    """Evidence from the statistics in a file, and from its folder."""
    return [_artifacts(path.parent, "")]


def is_ludwig_value(value: Any) -> bool:
    """Whether a JSON value has lists of metrics by feature, in splits."""
    return isinstance(value, Mapping) and any(
        isinstance(value.get(split), Mapping) and any(isinstance(one, Mapping) for one in value[split].values())
        for split in ("training", "train")
    )


def _artifacts(folder: Path, name: str) -> Artifacts:
    file = folder / STATISTICS
    statistics = read_any_json(file)
    if not is_ludwig_value(statistics):
        raise UserError(
            f"{file}: expected metrics by split and feature. Restore the file, or give the folder's others."
        )
    description = next((one for one in (folder / DESCRIPTION, folder.parent / DESCRIPTION) if one.is_file()), None)
    value = read_any_json(description) if description else {}
    config = value.get("config") if isinstance(value, Mapping) else None
    config = config if isinstance(config, Mapping) else {}
    feature, others = _feature(statistics, config)
    every, per_epoch = _frequency(statistics.get("evaluation_frequency"))
    history = History(dict(_series(statistics, feature, every)), per_epoch=per_epoch, is_whole=True)
    evidence = history_evidence(history)
    if not evidence:
        raise UserError(f"{file}: the metrics of {feature} contain neither a loss nor an accuracy.")
    copies = [folder / "model" / STATISTICS] if (folder / "model" / STATISTICS).is_file() else []
    notes = (f"the metrics of {feature} were read, not those of {', '.join(others)}",) if others else ()
    settings: Mapping[str, Any] = next((config[key] for key in TRAINER if isinstance(config.get(key), Mapping)), {})
    files = (file, *([description] if description else []), *copies)
    return Artifacts(KIND, evidence, name, settings=settings, files=files, notes=notes)


def _feature(statistics: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The output feature to read, and the others: the first that is a class, else the first."""
    training = next(statistics[split] for split in ("training", "train") if isinstance(statistics.get(split), Mapping))
    names = [str(one) for one, metrics in training.items() if isinstance(metrics, Mapping) and one != COMBINED]
    outputs = config.get("output_features")
    kinds = {one.get("name"): one.get("type") for one in outputs if isinstance(one, Mapping)} if outputs else {}
    classes = [one for one in names if kinds.get(one) in ("category", "binary") or "accuracy" in training[one]]
    chosen = next(iter([*classes, *names]), COMBINED)
    return chosen, [one for one in names if one != chosen]


def _frequency(value: Any) -> tuple[int, bool]:
    """Epochs or steps between two values, and whether they are epochs."""
    value = value if isinstance(value, Mapping) else {}
    every = number(value.get("frequency")) or 1
    return max(1, int(every)), value.get("period", "epoch") == "epoch"


def _series(statistics: Mapping[str, Any], feature: str, every: int) -> Iterator[tuple[str, Series]]:
    for split, name in SPLITS.items():
        features = statistics.get(split)
        metrics = features.get(feature) if isinstance(features, Mapping) else None
        for metric, values in metrics.items() if isinstance(metrics, Mapping) else ():
            numbers = [logged_number(one) for one in values] if isinstance(values, list) else []
            points = {every * k: one for k, one in enumerate(numbers, start=1) if one is not None}
            if points:
                yield f"{name}/{metric}", points
