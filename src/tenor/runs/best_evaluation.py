"""`eval_best_model.json`: the results of a run's best checkpoint on its validation and test rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, field_validator, model_validator

from tenor.runs.files import PositiveInt, Record, parse_record, read_json, write_json
from tenor.runs.missing import Missing, MissingRecord, is_missing

KEY_OF_SPLIT = {"validation": "val", "test": "test"}
"""Name of a split that is measured → its key in the file."""


@dataclass(frozen=True)
class Bounds:
    """A confidence interval, in 0 … 1."""

    low: float
    high: float
    confidence: float
    method: str = ""


@dataclass(frozen=True)
class CheckpointNumbers:
    """The checkpoint that was evaluated: the SHA-256 of its weights, and its optimizer step."""

    digest: str
    step: int


@dataclass(frozen=True)
class ProbabilityErrors:
    """Three measures of probabilities; lower is better."""

    ece: float
    brier: float
    nll: float
    """Nats per row."""


@dataclass(frozen=True)
class CalibrationNumbers:
    """The probabilities without (`raw`) and with the temperature."""

    temperature: float
    fitted_on: str
    ece_bins: int
    raw: ProbabilityErrors
    calibrated: ProbabilityErrors


@dataclass(frozen=True)
class SplitNumbers:
    """The results on one split."""

    n: PositiveInt
    accuracy: float
    accuracy_interval: Bounds
    macro_f1: float
    macro_f1_interval: Bounds
    loss: float
    baselines: Mapping[str, float | MissingRecord]
    """Accuracies in 0 … 1."""
    confusion_matrix: tuple[tuple[int, ...], ...]
    """Counts, shape (K, K): rows true, columns predicted."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """scikit-learn's `classification_report`, with the keys "0" … "K-1" for the classes."""
    calibration: CalibrationNumbers | None = None
    """None in the files of earlier versions."""

    def baseline(self, name: str) -> float | None:
        """The accuracy of a baseline, or None if it is missing."""
        accuracy = self.baselines.get(name)
        return float(accuracy) if isinstance(accuracy, float | int) else None


@dataclass(frozen=True)
class HybridDecision:
    """Whether the model is a hybrid of encoder and text baseline, and why."""

    used: bool
    why: str


_SPLIT_NUMBERS = TypeAdapter(SplitNumbers)


class BestEvaluation(Record):
    """The content of the file."""

    checkpoint: CheckpointNumbers
    class_names: tuple[str, ...]
    val: SplitNumbers | Missing
    test: SplitNumbers | Missing
    hybrid: HybridDecision | None = None
    """None in an evaluation on other rows."""

    @field_validator("val", "test", mode="plain")
    @classmethod
    def _parse_split(cls, stored: Any) -> SplitNumbers | Missing:
        return Missing(str(stored["missing"])) if is_missing(stored) else _SPLIT_NUMBERS.validate_python(stored)

    @model_validator(mode="after")
    def _require_square_matrices(self) -> "BestEvaluation":
        k = len(self.class_names)
        for split in self.splits.values():
            matrix = () if isinstance(split, Missing) else split.confusion_matrix
            if not isinstance(split, Missing) and [len(row) for row in matrix] != [k] * k:
                raise ValueError(f"a confusion matrix of {len(matrix)} rows for {k} classes")
        return self

    @property
    def splits(self) -> dict[str, SplitNumbers | Missing]:
        """By `validation` and `test`."""
        return {"validation": self.val, "test": self.test}


def write_evaluation(path: Path, content: Mapping[str, Any]) -> BestEvaluation:
    """Write what `evaluation_json` returns, and return it parsed. Raises ValueError for what no reader accepts."""
    evaluation = BestEvaluation.model_validate(content)
    write_json(path, content)
    return evaluation


def read_evaluation(path: Path) -> BestEvaluation:
    """Read the file.

    Raises:
        UserError: it is missing, damaged or not what `write_evaluation` writes.
    """
    return parse_record(BestEvaluation, read_json(path), path, "restore the file, or train again")


def parse_split(content: Mapping[str, Any]) -> SplitNumbers:
    """The results on one split, from plain data. Raises ValueError for other data."""
    return _SPLIT_NUMBERS.validate_python(content)
