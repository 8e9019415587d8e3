"""Which of its logged metrics a `transformers.Trainer` chose the best checkpoint by, and in which direction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenor.checks.diagnosis.material import number
from tenor.checks.diagnosis.tenor_run import points
from tenor.checks.diagnosis.trainer_arguments import Selection
from tenor.checks.directions import larger_is_better
from tenor.checks.evidence import CheckpointEvidence, ValidationPoint
from tenor.checks.rules.ckp import ROUNDING, best_validation

Records = Sequence[Mapping[str, Any]]
SAME_VALUE = 1e-9
NO_METRICS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
"""What Trainer logs next to an evaluation's metrics."""


def chosen_by(
    best: float | None, step: float | None, history: Records, selection: Callable[[], Selection]
) -> CheckpointEvidence:
    """Metric, direction and validations; empty where it can't be known which of the logged metrics chose.

    The state does not name the metric: where the arguments don't either, it is one with the value `best` at `step`.
    Of several with this value, one by which the choice was right is taken: nothing shows that another one chose.
    Where none has it, state and log disagree; then a metric counts only if the choice is wrong by all of them.
    """
    candidates = [name for name in _names(history) if best is not None and _is_at(history, name, step, best)]
    if step is None or best is None:
        return CheckpointEvidence()
    if not candidates:
        return _wrong_by_all(history, step)
    readings = [_reading(name, history, step, None) for name in candidates]
    if len(candidates) == 1 and larger_is_better(candidates[0]) is not None:
        return readings[0]
    # Only now, for it may have to open event files.
    recorded = selection()
    if recorded.metric in _names(history):
        return _reading(str(recorded.metric), history, step, recorded)
    if len(candidates) == 1:
        return _reading(candidates[0], history, step, recorded)
    return next((one for one in readings if _is_right(one, int(step))), readings[0])


def _reading(name: str, history: Records, step: float, recorded: Selection | None) -> CheckpointEvidence:
    """The choice as one by this metric. Its name goes before `greater_is_better`: where nobody set that, the arguments
    hold Trainer's default, which is True for every name that does not end with "loss"."""
    logged = points(history, name)
    larger = larger_is_better(name)
    if larger is None and recorded is not None:
        larger = recorded.larger_is_better
    if larger is None and _is_least_alone(logged, int(step)):
        larger = False  # Trainer's default under such a name is the largest, so `greater_is_better=False` was set.
    missing = recorded.missing if recorded is not None and larger is None else ""
    return CheckpointEvidence(validations=logged, metric=name, larger_is_better=larger, selection_unknown=missing)


def _wrong_by_all(history: Records, step: float) -> CheckpointEvidence:
    """The choice as one by the last of the metrics if it is wrong by every one of them, else empty."""
    names = [name for name in _names(history) if name not in NO_METRICS]
    readings = [_reading(name, history, step, None) for name in names]
    at_step = all(any(point.step == int(step) for point in one.validations) for one in readings)
    known = all(one.larger_is_better is not None for one in readings)
    if not readings or not at_step or not known or any(_is_right(one, int(step)) for one in readings):
        return CheckpointEvidence()
    return readings[-1]


def _is_least_alone(logged: tuple[ValidationPoint, ...], step: int) -> bool:
    """Whether the chosen value is the least of the log, and not the largest as well."""
    chosen = [point.value for point in logged if point.step == step]
    values = [point.value for point in logged if point.value == point.value]
    return bool(chosen) and bool(values) and chosen[0] <= min(values) < max(values)


def _is_right(reading: CheckpointEvidence, step: int) -> bool:
    """Whether no validation is better than the chosen one; False where the direction is not known."""
    if reading.larger_is_better is None:
        return False
    best = best_validation(reading.validations, reading.larger_is_better)
    return any(abs(point.value - best.value) <= ROUNDING for point in reading.validations if point.step == step)


def _names(history: Records) -> list[str]:
    return list(dict.fromkeys(name for record in history for name in record if name.startswith("eval_")))


def _is_at(history: Records, name: str, step: float | None, value: float) -> bool:
    logged = (number(record.get(name)) for record in history if number(record.get("step")) == step)
    return any(one is not None and abs(one - value) < SAME_VALUE for one in logged)
