"""Results as JSON: confusion matrices, classification reports, accuracies, and summaries of experiments."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence, is_class_entry, number, read_any_json
from tenor.checks.evidence import CheckpointEvidence, SplitClaims
from tenor.checks.rules.ckp import SUCCESS_WORDS
from tenor.checks.rules.evl_measures import rounding_of
from tenor.errors import UserError

_BARE = {
    "validation": ("val", "validation", "valid", "dev", "eval"),
    "test": ("test",),
}
SPLIT_KEYS = {
    name: (*keys, *(f"{key}_{what}" for key in keys for what in ("metrics", "results"))) for name, keys in _BARE.items()
}
CONFUSION_KEYS = ("confusion_matrix", "confusion", "cm")
REPORT_KEYS = ("report", "classification_report")
ACCURACY_KEYS = (
    *("accuracy", "acc", "eval_accuracy", "val_accuracy", "val_acc", "test_accuracy", "test_acc"),
    "predict_accuracy",
)
COUNT_KEYS = ("n", "eval_samples", "n_samples", "num_samples", "total", "test_samples", "predict_samples")
MAX_DEPTH = 3
MOST_ROWS = 2**53
"""Rows beyond which a count is no longer exact."""


def is_evaluation(found: object) -> bool:
    """Whether a JSON value is an evaluation: splits, one split, or a bare classification report."""
    if not isinstance(found, Mapping):
        return False
    named = [found[key] for keys in SPLIT_KEYS.values() for key in keys if key in found]
    return _is_split(found) or any(one is None or _is_split(one) for one in named)


def read_evaluation(found: Mapping[str, Any], path: Path) -> list[Artifacts]:
    """Evidence from such a value. Raises UserError for a confusion matrix that is none."""
    splits = splits_of(found, str(path))
    broken = {path.name: not_numbers(found)}
    evidence: list[Any] = [evaluation_evidence(splits, not_numbers=broken)] if splits else []
    nulls = any(key in found and found[key] is None for key in SPLIT_KEYS["validation"])
    checkpoint = found.get("checkpoint")
    if nulls or isinstance(checkpoint, Mapping):
        evidence.append(CheckpointEvidence(metrics_recorded=False if nulls else None))
    return [Artifacts("an evaluation (JSON)", tuple(evidence))]


def splits_of(found: Mapping[str, Any], where: str) -> dict[str, SplitClaims]:
    """What is said of each split; a split that is null or holds no result is left out."""
    splits = {}
    for name, keys in SPLIT_KEYS.items():
        for key in keys:
            claims = claims_of(found.get(key), f"{where}: {key}")
            if claims is not None and name not in splits:
                splits[name] = claims
    bare = claims_of(found, where)
    if not splits and bare is not None:
        file_name = Path(where).name.lower()
        guessed = next((name for name, keys in _BARE.items() if any(key in file_name for key in keys[:2])), "")
        splits[guessed or "evaluation"] = bare
    return splits


def claims_of(found: object, where: str) -> SplitClaims | None:
    """One split's result; None where nothing is said. Raises UserError for a confusion matrix that is none."""
    if not isinstance(found, Mapping) or not _is_split(found):
        return None
    report = found if _is_report(found) else _first(found, REPORT_KEYS)
    report = report if isinstance(report, Mapping) and _is_report(report) else None
    given = _first(found, CONFUSION_KEYS)
    confusion = _confusion(given, where) if given is not None else _confusion_of(report)
    accuracy, is_percent = _accuracy(_first(found, ACCURACY_KEYS))
    baselines = found.get("baselines")
    baselines = baselines if isinstance(baselines, Mapping) else {}
    count = number(_first(found, COUNT_KEYS))
    supports = sum(number(e["support"]) or 0 for e in _classes(report)) if report else 0
    rows = confusion.sum() if confusion is not None else count if count is not None else supports
    return SplitClaims(
        n=int(rows),
        confusion=confusion,
        accuracy=number(report.get("accuracy")) if accuracy is None and report else accuracy,
        report=report,
        expected_n=int(count) if count is not None else None,
        text_baseline_accuracy=_share(baselines.get("text"), f"{where}: baselines.text"),
        majority_accuracy=_share(baselines.get("majority"), f"{where}: baselines.majority"),
        notes=(_percent_note(accuracy, int(rows)),) if accuracy is not None and is_percent else (),
    )


def not_numbers(found: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The metrics in a record that are NaN or infinite, as "name is NaN"; a class's may be undefined."""
    said: list[str] = []
    for key, value in found.items():
        if isinstance(value, float) and not isfinite(value):
            said.append(f"{prefix}{key} is {'NaN' if isnan(value) else 'infinite'}")
        elif isinstance(value, Mapping) and key not in REPORT_KEYS and not is_class_entry((str(key), value)):
            said += not_numbers(value, f"{prefix}{key}.") if prefix.count(".") < MAX_DEPTH else ()
    return tuple(said)


def _percent_note(accuracy: float, rows: int) -> str:
    count = f": {round(accuracy * rows):,} of {rows:,} rows" if rows else ""
    return f"accuracy {100 * accuracy:g} read as percent{count}"


def _accuracy(value: object) -> tuple[float | None, bool]:
    """An accuracy as a share, and whether it was written in percent: above 1, a share is none."""
    found = number(value)
    if found is None or not 1 < found <= 100:
        return found, False
    return float(Decimal(repr(found)).scaleb(-2)), True


def _share(value: object, where: str) -> float | None:
    found = number(value)
    if found is not None and not 0 <= found <= 1:
        raise UserError(f"{where} is {found:g}, expected an accuracy in 0 … 1. Restore the file, or remove the key.")
    return found


def _is_split(found: object) -> bool:
    if not isinstance(found, Mapping):
        return False
    return _is_report(found) or _first(found, (*CONFUSION_KEYS, *REPORT_KEYS, *ACCURACY_KEYS)) is not None


def _is_report(found: Mapping[str, Any]) -> bool:
    return any(
        isinstance(value, Mapping) and {"precision", "recall", "support"} <= set(value) for value in found.values()
    )


def _classes(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [value for key, value in report.items() if is_class_entry((key, value))]


def _first(found: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((found[key] for key in keys if found.get(key) is not None), None)


def _confusion(given: Any, where: str) -> np.ndarray:
    try:
        counts = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.empty(0)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] and counts.size > 0
    if not square or not (counts >= 0).all() or (counts != counts.round()).any() or counts.sum() > MOST_ROWS:
        raise UserError(
            f"{where}: the confusion matrix is no square table of counts ({str(given)[:60]}). Expected K rows (true "
            f"classes) of K counts (predicted classes), not normalised."
        )
    return counts.astype(np.int64)


def _confusion_of(report: Mapping[str, Any] | None) -> np.ndarray | None:
    """The matrix that a report allows to be concluded: of two classes, or of one predicted class."""
    classes = _classes(report) if report else []
    values = [[number(entry.get(name)) for name in ("support", "recall", "precision")] for entry in classes]
    if len(classes) < 2 or any(value is None for row in values for value in row):
        return None
    support, recall, precision = np.array(values, dtype=np.float64).T
    if any(rounding_of(r) * s > 0.25 and r not in (0.0, 1.0) for r, s in zip(recall, support, strict=True)):
        return None
    right = np.round(recall * support)
    if len(classes) == 2:
        return np.array([[right[0], support[0] - right[0]], [support[1] - right[1], right[1]]]).astype(np.int64)
    only = int(right.argmax())
    if right[only] != support[only] or right.sum() != right[only] or not precision[only]:
        return None
    if abs(right[only] / precision[only] - support.sum()) > 0.5:
        return None
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    counts[:, only] = support
    return counts


NAME_KEYS = ("name", "run_name", "experiment", "config_name", "run_id", "id")
STATUS_KEYS = ("status", "state")
PATH_KEYS = ("ckpt_path", "checkpoint_path", "best_ckpt_path", "best_checkpoint", "best_model_checkpoint", "checkpoint")
METRIC_KEYS = tuple(key for key in SPLIT_KEYS["validation"] if "_" in key)
LIST_KEYS = ("runs", "experiments", "results")


def runs_of(found: Any) -> dict[str, Mapping[str, Any]]:
    """The runs in a JSON value by name; none where it is no summary."""
    if isinstance(found, Mapping):
        for key in LIST_KEYS:
            if isinstance(found.get(key), list | Mapping) and runs_of(found[key]):
                return runs_of(found[key])
        if _is_run(found):
            return {_name(found, 0): found}
        return {str(name): run for name, run in found.items() if _is_run(run)}
    if isinstance(found, list):
        return {_name(run, number): run for number, run in enumerate(found) if _is_run(run)}
    return {}


def read_summary(found: Any, path: Path) -> list[Artifacts]:
    """One artifacts per run. Raises UserError for a confusion matrix that is none."""
    return [_artifacts(name, run, path) for name, run in runs_of(found).items()]


def _artifacts(name: str, run: Mapping[str, Any], path: Path) -> Artifacts:
    splits = splits_of(run, str(path))
    for key in ("evaluation", "eval", "metrics", "results"):
        nested = run.get(key)
        if not splits and isinstance(nested, Mapping):
            splits = splits_of(nested, f"{path}: {name}, {key}")
    evidence: list[Any] = [_checkpoint(run, path)]
    settings = run.get("config")
    results = {key: value for key, value in run.items() if key != "config"}
    evidence += [evaluation_evidence(splits, not_numbers={name: not_numbers(results)})] if splits else []
    return Artifacts(
        "an experiments summary (JSON)",
        tuple(evidence),
        name,
        settings=settings if isinstance(settings, Mapping) else run,
    )


def _checkpoint(run: Mapping[str, Any], path: Path) -> CheckpointEvidence:
    status = next((str(run[key]) for key in STATUS_KEYS if isinstance(run.get(key), str)), None)
    ended_well = status is not None and status.strip().lower() in SUCCESS_WORDS
    # A run that failed may lack both; only what claims to be complete, or does not say, is held to them.
    judged = ended_well or status is None
    named = next((key for key in PATH_KEYS if key in run), None)
    recorded = run[named] if named else None
    place = recorded if isinstance(recorded, str) and recorded else None
    return CheckpointEvidence(
        path=place,
        path_recorded=named is not None and (judged or place is not None),
        exists=None if place is None else found_at(place, path.parent),
        metrics_recorded=_metrics_recorded(run, judged),
        status=status,
    )


def found_at(place: str, folder: Path) -> bool | None:
    """Whether something lies at a recorded path; None where it seems to be one of another machine."""
    recorded = Path(place)
    try:
        if any(one.exists() for one in (folder / recorded, folder.parent / recorded, recorded)):
            return True
        if recorded.is_absolute():
            return False if recorded.parent.exists() else None
        return False if (folder / recorded.parts[0]).exists() else None
    except (OSError, ValueError):  # too long, or with a null byte: nothing can lie there
        return False


def _metrics_recorded(run: Mapping[str, Any], judged: bool) -> bool | None:
    named = [run[key] for key in METRIC_KEYS if key in run]
    if not named:
        return None
    there = any(isinstance(value, Mapping) and value and set(value) != {"missing"} for value in named)
    return True if there else False if judged else None


def _is_run(found: object) -> bool:
    keys = (*PATH_KEYS, *METRIC_KEYS, *STATUS_KEYS)
    return isinstance(found, Mapping) and sum(key in found for key in keys) >= 2


def _name(run: Mapping[str, Any], position: int) -> str:
    names = [str(run[key]) for key in NAME_KEYS if isinstance(run.get(key), str | int)]
    config = run.get("config")
    if not names and isinstance(config, Mapping) and isinstance(config.get("name"), str):
        names = [config["name"]]
    if "config_name" in run and "run_id" in run:
        return f"{run['config_name']}/{run['run_id']}"
    return names[0] if names else f"run {position + 1}"


NAME = re.compile(r"result|metric|eval|score", re.IGNORECASE)
OF_TRAINING = "train_results.json"
MOST_BYTES = 2**20
"""Beyond it lie predictions, not results."""


@dataclass(frozen=True)
class FurtherResults:
    """What the files say, and which of them could not be understood."""

    splits: tuple[tuple[str, str, SplitClaims], ...]
    """File, split, result."""
    not_numbers: tuple[tuple[str, tuple[str, ...]], ...]
    """File, and its metrics that are NaN or infinite."""
    notes: tuple[str, ...]


def read_further_results(folder: Path, known: Collection[str]) -> FurtherResults:
    """The JSON files of a folder that are called results, metrics, evaluation or scores, but those that are `known`."""
    splits: list[tuple[str, str, SplitClaims]] = []
    broken: list[tuple[str, tuple[str, ...]]] = []
    notes: list[str] = []
    files = sorted(file for file in folder.glob("*.json") if NAME.search(file.stem) and file.name not in known)
    for file in files:
        found = _record(file)
        if isinstance(found, str):
            notes.append(f"not read: {found}")
            continue
        broken.append((file.name, not_numbers(found)))
        if is_evaluation(found):
            splits += [(file.name, name, claims) for name, claims in splits_of(found, str(file)).items()]
        elif file.name != OF_TRAINING:
            kind = (
                "searched for NaN alone" if any(number(value) is not None for value in found.values()) else "not read"
            )
            notes.append(f"{kind}: {file.name} has no accuracy, report or confusion matrix under a usual name")
    return FurtherResults(tuple(splits), tuple(broken), tuple(notes))


def _record(file: Path) -> Mapping[str, Any] | str:
    """A file's record; else why there is none, in words."""
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return f"{file.name} is larger than results are ({MOST_BYTES:,} bytes)"
    try:
        found = read_any_json(file)
    except UserError as error:
        return str(error)
    return found if isinstance(found, Mapping) else f"{file.name} holds no record of metrics"
