"""A folder of one of Tenor's own runs, whole or cut short."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import (
    Artifacts,
    earlier_reports,
    evaluation_evidence,
    number,
    read_any_json,
)
from tenor.checks.diagnosis.predictions_file import read_claims
from tenor.checks.diagnosis.results_json import not_numbers, splits_of
from tenor.checks.evidence import CheckpointEvidence, SplitClaims, StepEvidence, ValidationPoint
from tenor.checks.rules.ckp import SUCCESS_WORDS
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.step_records import read_records

Record = Mapping[str, Any]


def is_tenor_run(path: Path) -> bool:
    run = RunDirectory(path)
    return any(file.is_file() for file in (run.manifest, run.metrics, run.evaluation))


def read_tenor_run(path: Path) -> list[Artifacts]:
    """Evidence from whatever files are left. Raises UserError for one that is broken."""
    run = RunDirectory(path)
    config = load_config(run.config) if run.config.is_file() else None
    records = read_records(run.metrics)
    evaluation = _mapping(run.evaluation)
    splits, n_classes = _splits(run, evaluation)
    steps = step_evidence([record for record in records if record.get("kind") == "train"], n_classes or None)
    evidence: list[Any] = [_checkpoint(run, config, records, evaluation)]
    if splits:
        broken = {run.evaluation.name: not_numbers(evaluation)}
        evidence.append(evaluation_evidence(splits, n_classes or None, broken))
    if steps is not None:
        clip = config.training.max_grad_norm if config else None
        validations = [record for record in records if record.get("kind") == "validation"]
        evidence.append(replace(steps, clip_at=clip, validation_loss=points(validations, "loss")))
    settings = config.model_dump(mode="json") if config else {}
    return [
        Artifacts(
            "a Tenor run",
            tuple(evidence),
            earlier=earlier_reports(run.findings),
            settings=settings,
            allow=config.checks.allow if config else {},
        )
    ]


def step_evidence(records: list[Any], n_classes: int | None = None) -> StepEvidence | None:
    """Records with step and loss, and rates and norms where every record has them; None where there are none."""
    records = [record for record in records if isinstance(record.get("loss"), int | float)]
    if not records:
        return None
    return StepEvidence(
        steps=np.array([int(record["step"]) for record in records], dtype=np.int64),
        loss=np.array([float(record["loss"]) for record in records]),
        n_classes=n_classes,
        grad_norm=_column(records, "grad_norm"),
        learning_rate=_column(records, "learning_rate"),
    )


def points(records: Sequence[Record], name: str) -> tuple[ValidationPoint, ...]:
    """A metric of the records that hold it as a number, NaN included."""
    return tuple(
        ValidationPoint(int(record["step"]), float(record[name]))
        for record in records
        if isinstance(record.get(name), int | float) and not isinstance(record[name], bool)
    )


def _column(records: list[Any], name: str) -> np.ndarray | None:
    values = [record.get(name) for record in records]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return np.array(values, dtype=np.float64)


def _checkpoint(
    run: RunDirectory, config: Config | None, records: list[dict[str, Any]], evaluation: Record
) -> CheckpointEvidence:
    select_by = config.training.select_by if config else None
    validations = [record for record in records if record.get("kind") == "validation"]
    chosen, evaluated = _mapping(run.model / "tenor.json"), evaluation.get("checkpoint")
    evaluated = evaluated if isinstance(evaluated, Mapping) else {}
    folded = chosen.get("folded")
    # A folded temperature changes the weights, and is told; the evaluation was of the checkpoint.
    checkpoint = folded.get("checkpoint_sha256") if isinstance(folded, Mapping) else chosen.get("weights_sha256")
    status = _mapping(run.manifest).get("status")
    step = number(chosen.get("checkpoint_step", evaluated.get("step")))
    kept = run.checkpoint(int(step)) if step is not None else None
    ended_well = isinstance(status, str) and status in SUCCESS_WORDS
    return CheckpointEvidence(
        validations=points(validations, select_by) if select_by else (),
        metric=select_by,
        selection_unknown="" if config else f"{run.config.name}, which says by which metric, is missing",
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


def _splits(run: RunDirectory, evaluation: Record) -> tuple[dict[str, SplitClaims], int]:
    """Saved metrics and saved predictions, side by side, and the number of classes in the predictions."""
    splits, n_classes = splits_of(evaluation, str(run.evaluation)) if evaluation else {}, 0
    for file in sorted(run.predictions.glob("*.parquet")) if run.predictions.is_dir() else []:
        rows, found = read_claims(file)
        n_classes = max(n_classes, found)
        said = splits.get(file.stem)
        splits[file.stem] = rows if said is None else _beside(said, rows)
    return splits, n_classes


def _beside(said: SplitClaims, rows: SplitClaims) -> SplitClaims:
    return replace(
        said,
        n=rows.n,
        expected_n=said.n,
        labels=rows.labels,
        predicted=rows.predicted,
        probabilities=rows.probabilities,
        ids=rows.ids,
    )


def _mapping(path: Path) -> Record:
    if not path.is_file():
        return {}
    found = read_any_json(path)
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: holds no record. Restore it, or move it away.")
    return found


def _step(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
