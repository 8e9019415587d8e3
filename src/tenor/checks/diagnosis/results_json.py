"""Results as JSON: confusion matrices, classification reports, accuracies, and summaries of experiments."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import (
    Artifacts,
    evaluation_evidence,
    is_class_entry,
    number,
    read_any_json,
)
from tenor.checks.diagnosis.printed_results import parsed_report, with_report_columns
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import ReportedSplit
from tenor.checks.rules.ckp import SUCCESS_WORDS
from tenor.checks.rules.evl_measures import is_of_subset, rounding_of
from tenor.errors import UserError
from tenor.runs.findings import parse_reports

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
LOSS_KEYS = (
    "loss",
    "eval_loss",
    "val_loss",
    "validation_loss",
    "test_loss",
    "predict_loss",
    "log_loss",
    "cross_entropy",
)
MCC_KEYS = (
    *("mcc", "matthews_correlation", "matthews_corrcoef", "eval_mcc", "eval_matthews_correlation"),
    *("test_mcc", "test_matthews_correlation", "matthewscorrelation"),
)
RECALL_KEYS = ("recalls",)
"""Of readers of other formats: the recall of each class."""
NAME_OF_CLASSES_KEYS = ("class_names", "target_names", "classes", "label_names", "labels")
WRAPPERS = ("result", "results", "metrics", "evaluation")
COUNT_KEYS = ("n", "eval_samples", "n_samples", "num_samples", "total", "test_samples", "predict_samples")
MAX_DEPTH = 3
MAX_ROWS = 2**53
"""Above it, float64 does not represent every count exactly."""


def is_evaluation(value: object) -> bool:
    """Whether a JSON value is an evaluation: several splits, one split, or only a classification report."""
    if not isinstance(value, Mapping):
        return False
    splits = [value[key] for keys in SPLIT_KEYS.values() for key in keys if key in value]
    wrapped = [value[key] for key in WRAPPERS if isinstance(value.get(key), Mapping)]
    return (
        _is_split(value)
        or any(split is None or _is_split(split) for split in splits)
        or any(is_evaluation(one) for one in wrapped)
    )


def is_matrix(value: object) -> bool:
    """Whether a JSON value is a list of K lists of K numbers."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(row, list) and len(row) == len(value) and all(map(_is_number, row)) for row in value)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_evaluation(value: Mapping[str, Any], path: Path) -> list[Artifacts]:
    """Evidence from an evaluation. Raises UserError for an invalid confusion matrix."""
    splits = splits_of(value, str(path))
    findings = value.get("findings")
    stage: dict[str, Any] = {"stage": "evaluation", "checked": [], "not_applicable": [], "findings": findings}
    # `tenor evaluate` records what it found on the rows themselves, which are not in the file.
    earlier = parse_reports({"stages": [stage]}, path) if "origin" in value and isinstance(findings, list) else ()
    broken = {path.name: non_finite_metrics(value)}
    evidence: list[Any] = [evaluation_evidence(splits, not_numbers=broken)] if splits else []
    nulls = any(key in value and value[key] is None for key in SPLIT_KEYS["validation"])
    checkpoint = value.get("checkpoint")
    if nulls or isinstance(checkpoint, Mapping):
        evidence.append(CheckpointEvidence(metrics_recorded=False if nulls else None))
    return [Artifacts("an evaluation (JSON)", tuple(evidence), earlier=earlier)]


def splits_of(value: Mapping[str, Any], where: str) -> dict[str, ReportedSplit]:
    """The result of each split; a split that is null or contains no result is left out."""
    splits = {}
    for name, keys in SPLIT_KEYS.items():
        for key in keys:
            claims = claims_of(value.get(key), f"{where}: {key}")
            if claims is not None and name not in splits:
                splits[name] = claims
    bare = claims_of(value, where)
    if not splits and bare is not None:
        splits[_stated_split(value) or guessed_split(Path(where).name) or "evaluation"] = bare
    for key in WRAPPERS if not splits else ():
        nested = value.get(key)
        if not splits and isinstance(nested, Mapping) and is_evaluation(nested):
            named = {name: value[name] for name in ("split", "class_names") if name in value}
            splits = splits_of({**named, **nested}, where)
    return splits


def _stated_split(value: Mapping[str, Any]) -> str:
    split = value.get("split")
    return guessed_split(split) if isinstance(split, str) else ""


def guessed_split(name: str) -> str:
    """The split that a file's name or a heading names, or an empty text."""
    words = name.lower()
    held_out = next((split for split, keys in _BARE.items() if any(key in words for key in keys[:2])), "")
    return held_out or ("train" if "train" in words else "")


def claims_of(value: object, where: str) -> ReportedSplit | None:
    """The result of one split; None if there is none. Raises UserError for an invalid confusion matrix."""
    if not isinstance(value, Mapping) or not _is_split(value):
        return None
    report = report_of(value)
    matrix = _first(value, CONFUSION_KEYS)
    confusion = _confusion(matrix, where) if matrix is not None else _confusion_of(report)
    accuracy, is_percent = _accuracy(_first(value, ACCURACY_KEYS))
    baselines = value.get("baselines")
    baselines = baselines if isinstance(baselines, Mapping) else {}
    count = number(_first(value, COUNT_KEYS))
    rows = confusion.sum() if confusion is not None else count if count is not None else _rows_of(report)
    # An accuracy of all rows does not belong to a matrix of some of the classes.
    is_partial = report is not None and is_of_subset(report) and confusion is not None
    is_partial = is_partial and len(_classes(report or {})) == len(confusion if confusion is not None else ())
    accuracy = None if is_partial else accuracy
    macro = _macro_f1(value, report)
    return ReportedSplit(
        n=int(rows),
        confusion=confusion,
        accuracy=number(report.get("accuracy")) if accuracy is None and report else accuracy,
        loss=number(_first(value, LOSS_KEYS)),
        macro_f1=None if macro is None else macro[1],
        macro_name="macro F1" if macro is None else macro[0],
        mcc=number(_first(value, MCC_KEYS)),
        recalls=_recalls(_first(value, RECALL_KEYS)),
        report=report,
        expected_n=int(count) if count is not None else None,
        text_baseline_accuracy=_share(baselines.get("text"), f"{where}: baselines.text"),
        majority_accuracy=_majority(report)
        if baselines.get("majority") is None
        else _share(baselines["majority"], f"{where}: baselines.majority"),
        class_names=_class_names(value, report, confusion),
        notes=(
            *((_percent_note(accuracy, int(rows)),) if accuracy is not None and is_percent else ()),
            *((SUBSET_NOTE,) if report and is_of_subset(report) else ()),
        ),
    )


SUBSET_NOTE = (
    "the report has a micro average and no accuracy: it is of some of the classes only, or of several labels per row"
)


def report_of(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The classification report in a split's result, in scikit-learn's form; None if there is none."""
    found = value if _is_report(value) else parsed_report(_first(value, REPORT_KEYS))
    return with_report_columns(found) if found is not None and _is_report(found) else None


def _rows_of(report: Mapping[str, Any] | None) -> float:
    """The rows that a report counts; 0 if it is of some of the classes only."""
    if not report or is_of_subset(report):
        return 0
    return sum(number(entry["support"]) or 0 for entry in _classes(report))


def _recalls(value: Any) -> Mapping[str, float] | None:
    """Shares by class; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    recalls = {str(name): number(one) for name, one in value.items()}
    known = {name: one for name, one in recalls.items() if one is not None and 0 <= one <= 1}
    return known if known and len(known) == len(recalls) else None


NOT_OF_MEAN = frozenset({"eval", "val", "test", "validation", "predict", "score", "avg", "average"})
"""Words in the name of a macro F1 that do not change its meaning."""


def _majority(report: Mapping[str, Any] | None) -> float | None:
    """The share of the most frequent class in a report of all classes."""
    supports = [number(entry["support"]) or 0.0 for entry in _classes(report or {})]
    return max(supports) / sum(supports) if _rows_of(report) and sum(supports) > 0 else None


OTHER_MEANS: tuple[tuple[str, frozenset[str]], ...] = (
    ("balanced accuracy", frozenset({"balanced", "accuracy"})),
    ("macro recall", frozenset({"macro", "recall"})),
    ("F1", frozenset({"f1"})),
)
"""What falls where a class is lost, if no macro F1 is recorded. An F1 without a mean is that of one class of two, or a
mean over all."""


def _macro_f1(value: Mapping[str, Any], report: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """A recorded macro F1, under any of its names, that of a report of all classes, or another such mean; its name."""
    by_words = {_words_of_mean(str(key)): content for key, content in value.items()}
    recorded = [("macro F1", by_words.get(words)) for words in (frozenset({"macro", "f1"}), frozenset({"macrof1"}))]
    average = report.get("macro avg") if report and not is_of_subset(report) else None
    recorded += [("macro F1", average.get("f1-score"))] if isinstance(average, Mapping) else []
    recorded += [(name, by_words.get(words)) for name, words in OTHER_MEANS]
    for name, content in recorded:
        if (found := number(content)) is not None:
            return name, float(_accuracy(found)[0] or 0.0)
    return None


def _words_of_mean(key: str) -> frozenset[str]:
    words = frozenset(re.findall(r"f1|[a-z]+", key.lower()))
    return words - NOT_OF_MEAN


def _class_names(
    value: Mapping[str, Any], report: Mapping[str, Any] | None, confusion: np.ndarray | None
) -> tuple[str, ...] | None:
    """Names of the rows of the matrix, where as many are recorded; numbers alone are not names."""
    size = 0 if confusion is None else len(confusion)
    keys = [key for key, entry in (report or {}).items() if is_class_entry((key, entry))]
    for names in (*(value.get(key) for key in NAME_OF_CLASSES_KEYS), keys):
        if isinstance(names, list) and len(names) == size > 0 and all(isinstance(name, str) for name in names):
            return tuple(names) if not all(name.isdecimal() for name in names) else None
    return None


def non_finite_metrics(record: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The metrics in a record that are NaN or infinite, as "name is NaN"; those of single classes may be undefined."""
    messages: list[str] = []
    for key, value in record.items():
        if isinstance(value, float) and not isfinite(value):
            messages.append(f"{prefix}{key} is {'NaN' if isnan(value) else 'infinite'}")
        elif isinstance(value, Mapping) and key not in REPORT_KEYS and not is_class_entry((str(key), value)):
            messages += non_finite_metrics(value, f"{prefix}{key}.") if prefix.count(".") < MAX_DEPTH else ()
    return tuple(messages)


def _percent_note(accuracy: float, rows: int) -> str:
    count = f": {round(accuracy * rows):,} of {rows:,} rows" if rows else ""
    return f"accuracy {100 * accuracy:g} read as percent{count}"


def _accuracy(value: object) -> tuple[float | None, bool]:
    """An accuracy as a share, and whether it was written in percent, as a value above 1 is."""
    accuracy = number(value)
    if accuracy is None or not 1 < accuracy <= 100:
        return accuracy, False
    return float(Decimal(repr(accuracy)).scaleb(-2)), True


def _share(value: object, where: str) -> float | None:
    share = number(value)
    if share is not None and not 0 <= share <= 1:
        raise UserError(f"{where} is {share:g}, expected an accuracy in 0 … 1. Restore the file, or remove the key.")
    return share


def _is_split(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    keys = (*CONFUSION_KEYS, *REPORT_KEYS, *ACCURACY_KEYS, *MCC_KEYS, *RECALL_KEYS)
    return _is_report(value) or _first(value, keys) is not None


def _is_report(record: Mapping[str, Any]) -> bool:
    columns = ({"precision", "recall", "support"}, {"pre", "rec", "sup"})
    is_turned = all(isinstance(record.get(name), Mapping) for name in ("precision", "recall", "support"))
    return is_turned or any(
        isinstance(value, Mapping) and any(names <= set(value) for names in columns) for value in record.values()
    )


def _classes(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [value for key, value in report.items() if is_class_entry((key, value))]


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _confusion(matrix: Any, where: str) -> np.ndarray:
    try:
        counts = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.empty(0)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] and counts.size > 0
    if not square or not (counts >= 0).all() or (counts != counts.round()).any() or counts.sum() > MAX_ROWS:
        raise UserError(
            f"{where}: the confusion matrix is not a square table of counts ({str(matrix)[:60]}). Expected K rows "
            f"(true classes) of K counts (predicted classes), not normalised."
        )
    return counts.astype(np.int64)


def _confusion_of(report: Mapping[str, Any] | None) -> np.ndarray | None:
    """The matrix that follows from a report: for two classes, or for one predicted class; else None."""
    if report and is_of_subset(report):
        return None  # Predictions outside these classes are missing from every number in it.
    classes = _classes(report) if report else []
    values = [[number(entry.get(name)) for name in ("support", "recall", "precision")] for entry in classes]
    if len(classes) < 2 or any(value is None for row in values for value in row):
        return None
    support, recall, precision = np.array(values, dtype=np.float64).T
    if (support < 0).any() or support.sum() > MAX_ROWS or not ((recall >= 0) & (recall <= 1)).all():
        return None
    # One program writes all of them, so that a short number next to a long one is exact.
    rounding = min(map(rounding_of, (*recall.tolist(), *precision.tolist())))
    if any(rounding * s > 0.25 and r not in (0.0, 1.0) for r, s in zip(recall, support, strict=True)):
        return None
    correct = np.round(recall * support)
    if len(classes) == 2:
        return np.array([[correct[0], support[0] - correct[0]], [support[1] - correct[1], correct[1]]]).astype(np.int64)
    only = int(correct.argmax())
    if correct[only] != support[only] or correct.sum() != correct[only] or not precision[only]:
        return None
    if abs(correct[only] / precision[only] - support.sum()) > 0.5:
        return None
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    counts[:, only] = support
    return counts


NAME_KEYS = ("name", "run_name", "experiment", "config_name", "run_id", "id")
STATUS_KEYS = ("status", "state")
PATH_KEYS = ("ckpt_path", "checkpoint_path", "best_ckpt_path", "best_checkpoint", "best_model_checkpoint", "checkpoint")
METRIC_KEYS = tuple(key for key in SPLIT_KEYS["validation"] if "_" in key)
LIST_KEYS = ("runs", "experiments", "results")


def runs_of(value: Any) -> dict[str, Mapping[str, Any]]:
    """The runs in a JSON value by name; empty if it is not a summary."""
    if isinstance(value, Mapping):
        for key in LIST_KEYS:
            if isinstance(value.get(key), list | Mapping) and runs_of(value[key]):
                return runs_of(value[key])
        if _is_run(value):
            return {_name(value, 0): value}
        return {str(name): run for name, run in value.items() if _is_run(run)}
    if isinstance(value, list):
        return {_name(run, position): run for position, run in enumerate(value) if _is_run(run)}
    return {}


def read_summary(value: Any, path: Path) -> list[Artifacts]:
    """`Artifacts` of each run. Raises UserError for an invalid confusion matrix."""
    return [_artifacts(name, run, path) for name, run in runs_of(value).items()]


def _artifacts(name: str, run: Mapping[str, Any], path: Path) -> Artifacts:
    splits = splits_of(run, str(path))
    for key in ("evaluation", "eval", "metrics", "results"):
        nested = run.get(key)
        if not splits and isinstance(nested, Mapping):
            splits = splits_of(nested, f"{path}: {name}, {key}")
    evidence: list[Any] = [_checkpoint(run, path)]
    settings = run.get("config")
    results = {key: value for key, value in run.items() if key != "config"}
    evidence += [evaluation_evidence(splits, not_numbers={name: non_finite_metrics(results)})] if splits else []
    return Artifacts(
        "an experiments summary (JSON)",
        tuple(evidence),
        name,
        settings=settings if isinstance(settings, Mapping) else run,
    )


def _checkpoint(run: Mapping[str, Any], path: Path) -> CheckpointEvidence:
    status = next((str(run[key]) for key in STATUS_KEYS if isinstance(run.get(key), str)), None)
    ended_well = status is not None and status.strip().lower() in SUCCESS_WORDS
    # A failed run need not have checkpoint and metrics; a run with status ok, or without a status, must have them.
    must_have = ended_well or status is None
    key = next((key for key in PATH_KEYS if key in run), None)
    recorded = run[key] if key else None
    checkpoint = recorded if isinstance(recorded, str) and recorded else None
    return CheckpointEvidence(
        path=checkpoint,
        path_recorded=key is not None and (must_have or checkpoint is not None),
        exists=None if checkpoint is None else path_exists(checkpoint, path.parent),
        metrics_recorded=_metrics_recorded(run, must_have),
        status=status,
    )


def path_exists(recorded_path: str, folder: Path) -> bool | None:
    """Whether a recorded path exists; None if it seems to be a path of another machine."""
    recorded = Path(recorded_path)
    try:
        if any(place.exists() for place in (folder / recorded, folder.parent / recorded, recorded)):
            return True
        if recorded.is_absolute():
            return False if recorded.parent.exists() else None
        return False if (folder / recorded.parts[0]).exists() else None
    except (OSError, ValueError):  # too long, or with a null byte: no such path can exist
        return False


def _metrics_recorded(run: Mapping[str, Any], must_have: bool) -> bool | None:
    values = [run[key] for key in METRIC_KEYS if key in run]
    if not values:
        return None
    recorded = any(isinstance(value, Mapping) and value and set(value) != {"missing"} for value in values)
    return True if recorded else False if must_have else None


def _is_run(value: object) -> bool:
    keys = (*PATH_KEYS, *METRIC_KEYS, *STATUS_KEYS)
    return isinstance(value, Mapping) and sum(key in value for key in keys) >= 2


def _name(run: Mapping[str, Any], position: int) -> str:
    names = [str(run[key]) for key in NAME_KEYS if isinstance(run.get(key), str | int)]
    config = run.get("config")
    if not names and isinstance(config, Mapping) and isinstance(config.get("name"), str):
        names = [config["name"]]
    if "config_name" in run and "run_id" in run:
        return f"{run['config_name']}/{run['run_id']}"
    return names[0] if names else f"run {position + 1}"


NAME = re.compile(r"result|metric|eval|score", re.IGNORECASE)
TRAINING_RESULTS = "train_results.json"
MAX_BYTES = 2**20
"""A larger file contains predictions, not results."""


@dataclass(frozen=True)
class FurtherResults:
    """The results in further files, and the files that were not recognized."""

    splits: tuple[tuple[str, str, ReportedSplit], ...]
    """File, split, result."""
    not_numbers: tuple[tuple[str, tuple[str, ...]], ...]
    """File and its metrics that are NaN or infinite."""
    notes: tuple[str, ...]
    files: tuple[str, ...] = ()
    """Names of the files that were read, or are named in `notes`."""


def read_further_results(folder: Path, known: Collection[str]) -> FurtherResults:
    """The JSON files of a folder named like results, metrics, evaluation or scores, except those in `known`."""
    splits: list[tuple[str, str, ReportedSplit]] = []
    broken: list[tuple[str, tuple[str, ...]]] = []
    notes: list[str] = []
    files = sorted(file for file in folder.glob("*.json") if NAME.search(file.stem) and file.name not in known)
    for file in files:
        record = _record(file)
        if isinstance(record, str):
            notes.append(f"not read: {record}")
            continue
        broken.append((file.name, non_finite_metrics(record)))
        if is_evaluation(record):
            splits += [(file.name, name, claims) for name, claims in splits_of(record, str(file)).items()]
        elif file.name != TRAINING_RESULTS:
            kind = (
                "only searched for NaN" if any(number(value) is not None for value in record.values()) else "not read"
            )
            notes.append(f"{kind}: {file.name} has no accuracy, report or confusion matrix under a usual name")
    return FurtherResults(tuple(splits), tuple(broken), tuple(notes), tuple(file.name for file in files))


def _record(file: Path) -> Mapping[str, Any] | str:
    """A file's record, or the reason why there is none."""
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        return f"{file.name} is larger than a file of results ({MAX_BYTES:,} bytes)"
    try:
        value = read_any_json(file)
    except UserError as error:
        return str(error)
    return value if isinstance(value, Mapping) else f"{file.name} contains no record of metrics"
