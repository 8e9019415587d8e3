"""Which checkpoint `transformers.Trainer` chose, and by which metric."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenor.checks.diagnosis.artifacts import number
from tenor.checks.diagnosis.tenor_run import points
from tenor.checks.diagnosis.trainer_arguments import Selection
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.rules.ckp import ROUNDING, best_validation, larger_is_better

Records = Sequence[Mapping[str, Any]]
SAME_VALUE = 1e-9
NOT_METRICS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
"""Logged by Trainer next to the metrics of an evaluation."""


def chosen_by(
    best: float | None, step: float | None, history: Records, selection: Callable[[], Selection]
) -> CheckpointEvidence:
    """Metric, direction and validations; empty if the metric that selected the checkpoint cannot be determined.

    The state does not name the metric: unless the arguments do, it is one with the value `best` at `step`. Of several
    metrics with this value, one by which the choice was right is taken: nothing shows that another one was used.
    If none has it, state and log disagree; then the choice is reported only if it is wrong by every metric.
    """
    candidates = [name for name in names_of_metrics(history) if best is not None and _is_at(history, name, step, best)]
    if step is None or best is None:
        return CheckpointEvidence()
    if not candidates:
        return _wrong_by_all(history, step)
    readings = [_reading(name, history, step, None) for name in candidates]
    if len(candidates) == 1 and larger_is_better(candidates[0]) is not None:
        return readings[0]
    # Called late, because it may have to open event files.
    recorded = selection()
    if recorded.metric in names_of_metrics(history):
        return _reading(str(recorded.metric), history, step, recorded)
    if len(candidates) == 1:
        return _reading(candidates[0], history, step, recorded)
    return next((reading for reading in readings if _is_right(reading, int(step))), readings[0])


def _reading(name: str, history: Records, step: float, recorded: Selection | None) -> CheckpointEvidence:
    """The choice if this metric was used. The direction in its name takes precedence over `greater_is_better`: unless
    set by the user, that is Trainer's default, which is True for every name that does not end with "loss"."""
    logged = points(history, name)
    larger = larger_is_better(name)
    if larger is None and recorded is not None:
        larger = recorded.larger_is_better
    if larger is None and _is_minimum_only(logged, int(step)):
        larger = False  # Trainer's default for such a name is the largest, so `greater_is_better=False` was set.
    missing = recorded.missing if recorded is not None and larger is None else ""
    return CheckpointEvidence(validations=logged, metric=name, larger_is_better=larger, selection_unknown=missing)


def _wrong_by_all(history: Records, step: float) -> CheckpointEvidence:
    """The choice by the last metric if it is wrong by every metric, else empty."""
    names = [name for name in names_of_metrics(history) if name not in NOT_METRICS]
    readings = [_reading(name, history, step, None) for name in names]
    at_step = all(any(point.step == int(step) for point in reading.validations) for reading in readings)
    known = all(reading.larger_is_better is not None for reading in readings)
    if not readings or not at_step or not known or any(_is_right(reading, int(step)) for reading in readings):
        return CheckpointEvidence()
    return readings[-1]


def _is_minimum_only(logged: tuple[ValidationPoint, ...], step: int) -> bool:
    """Whether the chosen value is the minimum of the log and not also its maximum."""
    chosen = [point.value for point in logged if point.step == step]
    values = [point.value for point in logged if point.value == point.value]
    return bool(chosen) and bool(values) and chosen[0] <= min(values) < max(values)


def _is_right(reading: CheckpointEvidence, step: int) -> bool:
    """Whether no validation is better than the chosen one; False if the direction is unknown."""
    if reading.larger_is_better is None:
        return False
    best = best_validation(reading.validations, reading.larger_is_better)
    return any(abs(point.value - best.value) <= ROUNDING for point in reading.validations if point.step == step)


def names_of_metrics(history: Records) -> list[str]:
    return list(dict.fromkeys(name for record in history for name in record if name.startswith("eval_")))


def _is_at(history: Records, name: str, step: float | None, value: float) -> bool:
    logged = (number(record.get(name)) for record in history if number(record.get("step")) == step)
    return any(other is not None and abs(other - value) < SAME_VALUE for other in logged)
