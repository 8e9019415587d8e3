"""What every reader returns: the evidence of one run and the findings of its earlier stages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.errors import UserError
from tenor.runs.files import parse_json
from tenor.runs.findings import Report

ACCEPTED = (
    "the folder of a run of Tenor, transformers.Trainer, SetFit, sentence-transformers, simpletransformers, Lightning, "
    "spaCy, Flair, AllenNLP, Ludwig, Weights & Biases, MLflow, Ray, Sacred, CatBoost or DVCLive, a folder of "
    "TensorBoard event files, a training history (CSV or JSON, as of Keras) or a printed log (.txt, .log), a CSV or "
    "Parquet file of predictions, y_true and y_pred as lists (JSON), an experiments summary (JSON), an evaluation "
    "(JSON with confusion_matrix, report or accuracy), or a classification report or confusion matrix (.txt, CSV, JSON)"
)
NO_SPLIT = ("evaluation", "predictions")
"""What the results of a file are called that names no split."""
LARGEST_INTEGER = 10**300
"""Near the largest float64 (1.8e308): a larger integer cannot be used in a calculation."""


@dataclass(frozen=True, eq=False)
class Artifacts:
    """The readable part of one run."""

    kind: str
    """What it was read from, as text."""
    evidence: tuple[Any, ...]
    """At most one of each kind."""
    name: str = ""
    """The run's name, if there are several."""
    earlier: tuple[Report, ...] = ()
    """Of the stages at which the run was checked before."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration as it was recorded, nested or flat."""
    allow: Mapping[str, str] = field(default_factory=dict)
    """Codes of findings that were allowed in the run → the reason given."""
    files: tuple[Path, ...] = ()
    """The files that were read, where the reader names them."""
    notes: tuple[str, ...] = ()
    """How it was read if there was a choice, and files that could not be read, a sentence each."""
    train_loss: float | None = None
    """The mean training loss of the run, where only this is recorded."""
    outcome: str = ""
    """How the run ended and what follows from it, a sentence; empty if nothing says so."""


def evaluation_evidence(
    splits: Mapping[str, ReportedSplit],
    n_classes: int | None = None,
    not_numbers: Mapping[str, tuple[str, ...]] | None = None,
    course: ValidationCourse | None = None,
) -> EvaluationEvidence:
    """Splits with the number of classes: `n_classes`, or the largest number that any of them shows."""
    counts = [n_classes or 0]
    for claims in splits.values():
        counts += [] if claims.confusion is None else [len(claims.confusion)]
        counts += [] if claims.report is None else [sum(map(is_class_entry, claims.report.items()))]
        counts += [] if claims.probabilities is None else [claims.probabilities.shape[1]]
    return EvaluationEvidence(splits, max(counts) or 2, not_numbers, course)


def is_class_entry(item: tuple[str, object]) -> bool:
    """Whether an item of a classification report belongs to a class and is not an average."""
    key, value = item
    return isinstance(value, Mapping) and "support" in value and not key.endswith(" avg")


def read_any_json(path: Path) -> Any:
    """A JSON value, in which NaN and infinities are accepted: other programs write them. JSON Lines, as Ray writes them
    to result.json, are a list of their objects. Raises UserError for anything else."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a path that exists.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; expected JSON text. Accepted: {ACCEPTED}."
        ) from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty. Accepted: {ACCEPTED}.")
    try:
        return parse_json(text, path, parse_int=whole_number)
    except UserError:
        if (records := _records_of_lines(text)) is None:
            raise
        return records


def _records_of_lines(text: str) -> list[dict[str, Any]] | None:
    """The objects of JSON Lines; None if the text is not at least two lines of one object each."""
    records = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=whole_number)
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        records.append(record)
    return records if len(records) > 1 else None


def number(value: object) -> float | None:
    """A finite number within 64 bits, as a step or a count is, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        return None
    return float(value)


def whole_number(digits: str) -> int:
    """An integer in JSON. Raises ValueError beyond `LARGEST_INTEGER`."""
    value = int(digits)
    if abs(value) > LARGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return value
