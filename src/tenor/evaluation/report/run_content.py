"""The content of a run's folder; a missing or damaged part has a reason and does not affect the others."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.model.freezing import TrainableSummary
from tenor.runs.best_evaluation import KEY_OF_SPLIT, CheckpointNumbers, SplitNumbers, read_evaluation
from tenor.runs.directory import RunDirectory
from tenor.runs.explanations import EXPLANATIONS, StoredExplanations, read_explanations
from tenor.runs.findings import Report, read_findings
from tenor.runs.manifest import Manifest, read_manifest
from tenor.runs.missing import Missing, is_missing
from tenor.runs.predictions import Predictions, read_predictions
from tenor.runs.step_records import read_records

T = TypeVar("T")


@dataclass(frozen=True)
class EvaluationNumbers:
    """The results of a checkpoint: those of `eval_best_model.json`, or of one other split."""

    checkpoint: CheckpointNumbers
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitNumbers | Missing]
    """By name."""


@dataclass(frozen=True, eq=False)
class RunContent:
    """The content of a report, except the texts."""

    run: RunDirectory
    manifest: Manifest | Missing
    trainable: TrainableSummary | Missing
    """As recorded in the manifest."""
    config: Config | Missing
    records: tuple[Mapping[str, Any], ...] | Missing
    """The lines of `metrics.jsonl`."""
    checks: tuple[Report, ...] | Missing
    evaluation: EvaluationNumbers | Missing
    predictions: Mapping[str, Predictions | Missing]
    """By split."""
    explanations: StoredExplanations | Missing


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
        predictions={name: _part(partial(_predictions, run, name, evaluation)) for name in KEY_OF_SPLIT},
        explanations=_part(lambda: _explanations(run, evaluation)),
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
    return read_findings(run.findings)


def _evaluation(run: RunDirectory) -> EvaluationNumbers:
    if not run.evaluation.exists():
        raise UserError("the run ended before its evaluation")
    stored = read_evaluation(run.evaluation)
    return EvaluationNumbers(stored.checkpoint, stored.class_names, stored.splits)


def _explanations(run: RunDirectory, evaluation: EvaluationNumbers | Missing) -> StoredExplanations:
    """The stored test of the explanations. Raises UserError if it is of other weights than the evaluation."""
    path = run.path / EXPLANATIONS
    if not path.exists():
        raise UserError("they were not made: tenor explain RUN makes and tests them")
    record = read_explanations(path)
    if isinstance(evaluation, EvaluationNumbers) and evaluation.checkpoint.digest != record.weights_sha256:
        raise UserError(f"{path.name} is of other weights than the evaluation; make it again: tenor explain RUN")
    return record


def _predictions(run: RunDirectory, split: str, evaluation: EvaluationNumbers | Missing) -> Predictions:
    """Predictions of a split. Raises UserError if they do not match the numbers of the evaluation."""
    path = run.predictions / f"{split}.parquet"
    if not path.exists():
        raise UserError(f"the run kept no predictions of the {split} rows")
    predictions = read_predictions(path)
    numbers = Missing("") if isinstance(evaluation, Missing) else evaluation.splits[split]
    if isinstance(numbers, Missing):
        return predictions
    right = int((predictions.predicted == predictions.labels).sum())
    if len(predictions.labels) != numbers.n or right != sum(row[k] for k, row in enumerate(numbers.confusion_matrix)):
        raise UserError(
            f"predictions/{path.name} does not belong to {run.evaluation.name}: {right:,} of "
            f"{len(predictions.labels):,} rows are correct, but the evaluation says {numbers.accuracy:.2%} of "
            f"{numbers.n:,}"
        )
    return predictions
