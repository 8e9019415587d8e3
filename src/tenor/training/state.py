"""The position of a run: steps, epochs, validations, and the sums since the last record."""

import json
import math
from dataclasses import dataclass, field
from functools import cache

from pydantic import TypeAdapter

from tenor.measures.objective import Objective


@dataclass(frozen=True)
class StepResult:
    """The numbers of one optimizer step."""

    loss: float
    """Sum of the weighted losses of its examples, nats."""
    weight: float
    """Sum of their weights."""
    grad_norm: float
    """Before clipping."""
    tokens: int
    seconds: float
    predicted_counts: list[int]
    """Predictions per class, made in training mode."""
    label_counts: list[int]
    """Labels per class."""


@dataclass
class Window:
    """The steps since the last record: sums, and the largest gradient norm."""

    loss: float = 0.0
    weight: float = 0.0
    grad_norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    predicted_counts: list[int] = field(default_factory=list)
    label_counts: list[int] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Nats per example."""
        return self.loss / self.weight

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def add(self, step: StepResult) -> None:
        self.loss += step.loss
        self.weight += step.weight
        # With fp16 a step whose gradient overflowed is skipped; JSON has no infinity.
        self.grad_norm = max(self.grad_norm, step.grad_norm if math.isfinite(step.grad_norm) else 0.0)
        self.tokens += step.tokens
        self.seconds += step.seconds
        self.predicted_counts = _added(self.predicted_counts, step.predicted_counts)
        self.label_counts = _added(self.label_counts, step.label_counts)


def _added(sums: list[int], counts: list[int]) -> list[int]:
    return [a + b for a, b in zip(sums, counts, strict=True)] if sums else counts


@dataclass
class Validation:
    """The result of one validation."""

    step: int
    epoch: float
    metrics: dict[str, float]
    """By the objective's names, such as accuracy, macro_f1 and loss."""
    confusion: list[list[int]] = field(default_factory=list)
    """Rows true, columns predicted; kept so that a resumed run can draw it again."""


@dataclass
class TrainState:
    """Everything that a resumed run needs, besides weights, optimizer moments and random state."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    position: int = 0
    """Batches of this epoch done."""
    tokens: int = 0
    """Real tokens seen."""
    stale_validations: int = 0
    """Validations in a row without a better one."""
    finished: bool = False
    validations: list[Validation] = field(default_factory=list)
    best: Validation | None = None
    window: Window = field(default_factory=Window)
    loss_scale: dict[str, int | float] = field(default_factory=dict)
    """State of fp16's gradient scaler; empty with other types."""

    @classmethod
    def from_dict(cls, values: dict) -> "TrainState":
        """The state of which `dataclasses.asdict` made `values`. Raises ValueError for anything else."""
        # Through JSON, because pydantic's strict mode accepts a mapping for a dataclass only from there.
        return _state_reader().validate_json(json.dumps(values), strict=True)

    def add_step(self, result: StepResult, batches_per_epoch: int) -> None:
        """Count one more optimizer step."""
        self.window.add(result)
        self.tokens += result.tokens
        self.step += 1
        self.position += 1
        if self.position == batches_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0

    def best_at(self, step: int, objective: Objective) -> Validation | None:
        """The best validation up to `step`."""
        best = None
        for validation in self.validations:
            if validation.step <= step and _is_better(validation, best, objective):
                best = validation
        return best

    def add_validation(self, validation: Validation, objective: Objective) -> bool:
        """Remember a validation; True if it is the best so far."""
        self.validations.append(validation)
        is_best = _is_better(validation, self.best, objective)
        self.stale_validations = 0 if is_best else self.stale_validations + 1
        if is_best:
            self.best = validation
        return is_best


def _is_better(validation: Validation, best: Validation | None, objective: Objective) -> bool:
    return best is None or objective.prefers(validation.metrics, best.metrics)


@cache
def _state_reader() -> TypeAdapter[TrainState]:
    return TypeAdapter(TrainState)
