"""The content of a run's folder; a missing or damaged part has a reason and does not affect the others."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tenor.checks.diagnosis.artifacts import earlier_reports
from tenor.checks.finding import Report
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.model.freezing import TrainableSummary
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json
from tenor.runs.manifest import Manifest, read_manifest
from tenor.runs.missing import Missing, is_missing
from tenor.runs.predictions import Predictions, read_predictions
from tenor.runs.step_records import read_records

T = TypeVar("T")
SPLITS = {"validation": "val", "test": "test"}
"""The splits that are measured, and their keys in `eval_best_model.json`."""


@dataclass(frozen=True)
class Bounds:
    """An interval as stored in the file, in 0 … 1."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class SplitNumbers:
    """One split of `eval_best_model.json`. A baseline is an accuracy in 0 … 1, or `{"missing": reason}`."""

    n: int
    accuracy: float
    accuracy_interval: Bounds
    macro_f1: float
    macro_f1_interval: Bounds
    loss: float
    baselines: Mapping[str, float | Mapping[str, str]]
    confusion_matrix: tuple[tuple[int, ...], ...]
    """Counts, shape (K, K): rows true, columns predicted."""

    def baseline(self, name: str) -> float | None:
        """The accuracy of a baseline, or None if it is missing."""
        found = self.baselines.get(name)
        return float(found) if isinstance(found, float | int) else None


@dataclass(frozen=True)
class CheckpointNumbers:
    """Which weights were evaluated."""

    digest: str
    step: int


@dataclass(frozen=True)
class EvaluationNumbers:
    """`eval_best_model.json`."""

    checkpoint: CheckpointNumbers
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitNumbers | Missing]
    """By `validation` and `test`."""


@dataclass(frozen=True, eq=False)
class RunContent:
    """The content of a report, except the texts."""

    run: RunDirectory
    manifest: Manifest | Missing
    trainable: TrainableSummary | Missing
    """As the manifest tells it."""
    config: Config | Missing
    records: tuple[Mapping[str, Any], ...] | Missing
    """The lines of `metrics.jsonl`."""
    checks: tuple[Report, ...] | Missing
    evaluation: EvaluationNumbers | Missing
    predictions: Mapping[str, Predictions | Missing]
    """By split."""


def collect_run(run: RunDirectory) -> RunContent:
    """Read a run's folder; parts that cannot be read are Missing."""
    manifest = _part(lambda: read_manifest(run))
    evaluation = _part(lambda: _evaluation(run))
    return RunContent(
        run=run,
        manifest=manifest,
        trainable=_part(lambda: _trainable(manifest)),
        config=_part(lambda: load_config(run.config)),
        records=_part(lambda: tuple(read_records(run.metrics))),
        checks=_part(lambda: _checks(run)),
        evaluation=evaluation,
        predictions={name: _part(partial(_predictions, run, name, evaluation)) for name in SPLITS},
    )


def _part(read: Callable[[], T]) -> T | Missing:
    try:
        return read()
    except UserError as error:
        return Missing(str(error))


def _trainable(manifest: Manifest | Missing) -> TrainableSummary:
    if isinstance(manifest, Missing):
        raise UserError(manifest.reason)
    if is_missing(manifest.trainable):
        raise UserError(str(manifest.trainable["missing"]))
    try:
        summary = TypeAdapter(TrainableSummary).validate_python(manifest.trainable)
    except ValidationError as error:
        raise UserError("the manifest's key `trainable` is not as Tenor writes it") from error
    if any(value < 0 for value in asdict(summary).values() if isinstance(value, int)):
        raise UserError("the manifest's key `trainable` has a negative count of weights")
    return summary


def _checks(run: RunDirectory) -> tuple[Report, ...]:
    if not run.findings.exists():
        raise UserError("no checks were recorded: the run ended before the first check")
    return earlier_reports(run.findings)


def _evaluation(run: RunDirectory) -> EvaluationNumbers:
    if not run.evaluation.exists():
        raise UserError("the run ended before its evaluation")
    found = read_json(run.evaluation)
    try:
        checkpoint = TypeAdapter(CheckpointNumbers).validate_python(found["checkpoint"])
        names = TypeAdapter(tuple[str, ...]).validate_python(found["class_names"])
        splits = {name: _split(found[key], len(names)) for name, key in SPLITS.items()}
    except (KeyError, TypeError, ValidationError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(f"{run.evaluation.name} is not as Tenor writes it ({what})") from error
    return EvaluationNumbers(checkpoint, names, splits)


def _split(found: Any, n_classes: int) -> SplitNumbers | Missing:
    if is_missing(found):
        return Missing(str(found["missing"]))
    numbers = TypeAdapter(SplitNumbers).validate_python(found)
    matrix = numbers.confusion_matrix
    if len(matrix) != n_classes or any(len(row) != n_classes for row in matrix) or numbers.n < 1:
        raise TypeError(f"a confusion matrix of {len(matrix)} rows for {n_classes} classes")
    return numbers


def _predictions(run: RunDirectory, split: str, evaluation: EvaluationNumbers | Missing) -> Predictions:
    """Predictions of a split. Raises UserError if they do not match the numbers of the evaluation."""
    path = run.predictions / f"{split}.parquet"
    if not path.exists():
        raise UserError(f"the run kept no predictions of the {split} rows")
    found = read_predictions(path)
    numbers = Missing("") if isinstance(evaluation, Missing) else evaluation.splits[split]
    if isinstance(numbers, Missing):
        return found
    right = int((found.predicted == found.labels).sum())
    if len(found.labels) != numbers.n or right != sum(row[k] for k, row in enumerate(numbers.confusion_matrix)):
        raise UserError(
            f"predictions/{path.name} does not belong to {run.evaluation.name}: {right:,} of {len(found.labels):,} "
            f"rows are correct, but the evaluation says {numbers.accuracy:.2%} of {numbers.n:,}"
        )
    return found
