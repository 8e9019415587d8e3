"""Where a training run stands: plain numbers that JSON holds exactly, so that a resumed run goes on as if never cut."""

import json
import math
from dataclasses import dataclass, field
from functools import cache

from pydantic import TypeAdapter


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step saw."""

    loss: float
    """Sum of the weighted losses of its examples, nats."""
    weight: float
    """Sum of their weights."""
    grad_norm: float
    """Before clipping."""
    tokens: int
    seconds: float
    predicted_counts: list[int]
    """Predictions per class, as the model made them while training."""
    label_counts: list[int]
    """Labels per class."""


@dataclass
class Window:
    """What happened since the last record: sums over steps, and the largest gradient norm."""

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


@dataclass
class Validation:
    """One measurement on the validation rows."""

    step: int
    epoch: float
    accuracy: float
    macro_f1: float
    loss: float
    confusion: list[list[int]] = field(default_factory=list)
    """Rows true, columns predicted: a resumed run draws its pictures once more."""

    def better_than(self, other: "Validation | None", select_by: str) -> bool:
        """Whether this one would be chosen over `other`; equal values are decided by the lower loss."""
        return other is None or self._rank(select_by) > other._rank(select_by)

    def _rank(self, select_by: str) -> tuple[float, float]:
        return (-self.loss if select_by == "loss" else getattr(self, select_by), -self.loss)


@dataclass
class TrainState:
    """All that the loop must know to go on, besides weights, moments and random state."""

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
        """Raises ValueError for anything but what `dataclasses.asdict` made."""
        # By way of JSON, since pydantic's strict mode takes a mapping for a dataclass only from there.
        return _state_reader().validate_json(json.dumps(values), strict=True)

    def advance(self, batches_per_epoch: int) -> None:
        """One more optimizer step is done."""
        self.step += 1
        self.position += 1
        if self.position == batches_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0

    def best_at(self, step: int, select_by: str) -> Validation | None:
        """The best validation up to `step`."""
        best = None
        for validation in self.validations:
            if validation.step <= step and validation.better_than(best, select_by):
                best = validation
        return best

    def add_validation(self, validation: Validation, select_by: str) -> bool:
        """Remember a validation; True where it is the best so far."""
        self.validations.append(validation)
        is_best = validation.better_than(self.best, select_by)
        self.stale_validations = 0 if is_best else self.stale_validations + 1
        if is_best:
            self.best = validation
        return is_best


def _added(sums: list[int], counts: list[int]) -> list[int]:
    return [a + b for a, b in zip(sums, counts, strict=True)] if sums else counts


@cache
def _state_reader() -> TypeAdapter[TrainState]:
    return TypeAdapter(TrainState)
