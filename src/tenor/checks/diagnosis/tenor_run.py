"""The folder of a Tenor run, complete or interrupted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import (
    Artifacts,
    evaluation_evidence,
    number,
    read_any_json,
)
from tenor.checks.diagnosis.history import logged_number
from tenor.checks.diagnosis.history_files import first_records, is_history_value
from tenor.checks.diagnosis.predictions_file import read_claims
from tenor.checks.diagnosis.results_json import non_finite_metrics, splits_of
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence, ValidationPoint
from tenor.checks.rules.ckp import SUCCESS_WORDS
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.runs.directory import LOCK_NAME, RunDirectory
from tenor.runs.findings import read_findings
from tenor.runs.step_records import read_records

Record = Mapping[str, Any]


def is_tenor_run(path: Path) -> bool:
    run = RunDirectory(path)
    if any(file.is_file() for file in (run.manifest, run.evaluation)):
        return True
    return run.metrics.is_file() and not is_other_log(run.metrics)


def is_other_log(metrics: Path) -> bool:
    """Whether a `metrics.jsonl` is that of another program: a history none of whose first records has the kind that
    Tenor gives each of its own."""
    records = first_records(metrics)
    return not any("kind" in record for record in records) and is_history_value(records)


def read_tenor_run(path: Path) -> list[Artifacts]:
    """Evidence from the files that exist. Raises UserError for a broken one."""
    run = RunDirectory(path)
    config = load_config(run.config) if run.config.is_file() else None
    records = read_records(run.metrics)
    evaluation = _mapping(run.evaluation)
    splits, n_classes = _splits(run, evaluation)
    steps = step_evidence([record for record in records if record.get("kind") == "train"], n_classes or None)
    is_adaptation = _mapping(run.manifest).get("job") == "adapt"
    evidence: list[Any] = [] if is_adaptation else [_checkpoint(run, config, records, evaluation)]
    if splits:
        broken = {run.evaluation.name: non_finite_metrics(evaluation)}
        evidence.append(evaluation_evidence(splits, n_classes or None, broken))
    if steps is not None:
        epochs = None if config is None else (config.adaptation if is_adaptation else config.training).epochs
        evidence.append(_with_course(steps, run, config, records, epochs, bool(splits)))
    settings = config.model_dump(mode="json") if config else {}
    return [
        Artifacts(
            "a run of tenor adapt" if is_adaptation else "a Tenor run",
            tuple(evidence),
            earlier=read_findings(run.findings),
            settings=settings,
            allow=config.checks.allow if config else {},
            files=_own_files(run),
            outcome=_outcome(run),
        )
    ]


def _own_files(run: RunDirectory) -> tuple[Path, ...]:
    """What belongs to every run, read or not: the rest of its folder came from elsewhere, or is a later evaluation."""
    files = (run.config, run.manifest, run.metrics, run.evaluation, run.findings, run.report, run.adaptation)
    return (
        *files,
        run.text_keys,
        run.path / LOCK_NAME,
        run.tensorboard,
        run.checkpoints,
        run.model,
        run.baseline,
        run.predictions,
    )


def _with_course(
    steps: StepEvidence,
    run: RunDirectory,
    config: Config | None,
    records: list[dict[str, Any]],
    epochs: int | None,
    evaluated: bool,
) -> StepEvidence:
    """The steps together with the validations, the plan and how the run ended."""
    validations = [record for record in records if record.get("kind") == "validation"]
    done = [(record["step"], number(record.get("epoch"))) for record in validations]
    step, epoch = next(((step, epoch) for step, epoch in reversed(done) if epoch), (None, None))
    total = round(step / epoch * epochs) if epochs and step and epoch else None
    last = max(int(record["step"]) for record in records)
    status = _text(_mapping(run.manifest).get("status"))
    return replace(
        steps,
        clip_at=config.training.max_grad_norm if config else None,
        validation_loss=points(validations, "loss"),
        total_steps=total,
        epochs=last * epoch / step if step and epoch else None,
        ended=True,
        last_step=last,
        stopped_because="early stopping (training.patience)" if status in SUCCESS_WORDS else status or "",
        has_evaluation=bool(validations) or evaluated,
        keeps_best=True,
    )


def _outcome(run: RunDirectory) -> str:
    """How the run ended, and what to do next."""
    manifest = _mapping(run.manifest)
    job = "adapt" if manifest.get("job") == "adapt" else "train"
    resume = f"resume it with `tenor {job} --resume {run.path}`"
    match manifest.get("status"):
        case "interrupted":
            return f"the run was interrupted; {resume}"
        case "running":
            return f"the run is in progress, or its process was killed; if it was, {resume}"
        case "failed":
            error = manifest.get("error")
            return f"the run failed{f': {error}' if isinstance(error, str) else ''}; fix the cause, and {resume}"
        case "refused":
            return "a check stopped the run; fix what it names, and start a new run"
        case "completed":
            return "the run is complete"
    return ""


def step_evidence(records: list[Any], n_classes: int | None = None) -> StepEvidence | None:
    """Steps and losses, and rates and norms if every record has them; None if no record has a loss."""
    records = [record for record in records if logged_number(record.get("loss")) is not None]
    if not records:
        return None
    return StepEvidence(
        steps=np.array([int(record["step"]) for record in records], dtype=np.int64),
        loss=np.array([logged_number(record["loss"]) for record in records], dtype=np.float64),
        n_classes=n_classes,
        grad_norm=_column(records, "grad_norm"),
        learning_rate=_column(records, "learning_rate"),
    )


def points(records: Sequence[Record], name: str) -> tuple[ValidationPoint, ...]:
    """A metric from the records that contain it as a number, NaN included, also as text."""
    values = ((record, logged_number(record.get(name))) for record in records)
    return tuple(ValidationPoint(int(record["step"]), value) for record, value in values if value is not None)


def _column(records: list[Any], name: str) -> np.ndarray | None:
    values = [logged_number(record.get(name)) for record in records]
    return None if None in values else np.array(values, dtype=np.float64)


def _checkpoint(
    run: RunDirectory, config: Config | None, records: list[dict[str, Any]], evaluation: Record
) -> CheckpointEvidence:
    select_by = config.training.select_by if config else None
    validations = [record for record in records if record.get("kind") == "validation"]
    chosen, evaluated = _mapping(run.model / "tenor.json"), evaluation.get("checkpoint")
    evaluated = evaluated if isinstance(evaluated, Mapping) else {}
    folded = chosen.get("folded")
    # Folding a temperature into the classifier changes the weights; the evaluation was of the original checkpoint.
    checkpoint = folded.get("checkpoint_sha256") if isinstance(folded, Mapping) else chosen.get("weights_sha256")
    status = _mapping(run.manifest).get("status")
    step = number(chosen.get("checkpoint_step", evaluated.get("step")))
    kept = run.checkpoint(int(step)) if step is not None else None
    ended_well = isinstance(status, str) and status in SUCCESS_WORDS
    return CheckpointEvidence(
        validations=points(validations, select_by) if select_by else (),
        metric=select_by,
        selection_unknown="" if config else f"{run.config.name}, which records the metric, is missing",
        chosen_step=_step(chosen.get("checkpoint_step")),
        evaluated_step=_step(evaluated.get("step")),
        chosen_digest=_text(checkpoint),
        evaluated_digest=_text(evaluated.get("digest")),
        path=None if kept is None else kept.relative_to(run.path).as_posix(),
        path_recorded=kept is not None or ended_well,
        exists=None if kept is None else kept.is_dir() or (run.model / "model.safetensors").is_file(),
        metrics_recorded=True if isinstance(evaluation.get("val"), Mapping) else False if ended_well else None,
        status=_text(status),
    )


def _splits(run: RunDirectory, evaluation: Record) -> tuple[dict[str, ReportedSplit], int]:
    """Saved metrics together with saved predictions, and the number of classes in the predictions."""
    splits, n_classes = splits_of(evaluation, str(run.evaluation)) if evaluation else {}, 0
    for file in sorted(run.predictions.glob("*.parquet")) if run.predictions.is_dir() else []:
        predictions, k = read_claims(file)
        n_classes = max(n_classes, k)
        metrics = splits.get(file.stem)
        splits[file.stem] = predictions if metrics is None else _with_predictions(metrics, predictions)
    return splits, n_classes


def _with_predictions(metrics: ReportedSplit, predictions: ReportedSplit) -> ReportedSplit:
    return replace(
        metrics,
        n=predictions.n,
        expected_n=metrics.n,
        labels=predictions.labels,
        predicted=predictions.predicted,
        probabilities=predictions.probabilities,
        ids=predictions.ids,
        lengths=predictions.lengths,
    )


def _mapping(path: Path) -> Record:
    if not path.is_file():
        return {}
    value = read_any_json(path)
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: contains no JSON object. Restore it, or move it away.")
    return value


def _step(value: object) -> int | None:
    step = number(value)
    return None if step is None else int(step)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
