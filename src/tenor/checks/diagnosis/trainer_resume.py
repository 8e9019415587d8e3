"""The learning rates that a Trainer logged before and after a checkpoint: whether a resumed schedule continued."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import number
from tenor.checks.evidence.checkpoint_evidence import ResumeEvidence

LEAST_POINTS = 3
LINEAR = 1e-3
"""Largest relative distance of a logged rate from the line through all of them."""
SKIPPED_STEPS = 3
"""With float16, the schedule does not count a step that was skipped."""


def logged_resume(states: Iterable[Mapping[str, Any]], last: Mapping[str, Any]) -> ResumeEvidence | None:
    """The first rate logged after a checkpoint and the one that was planned: of the first checkpoint after which the
    schedule does not continue, else of the newest.

    Only a linear schedule, the default, can be read from what was logged before. None for any other, or too few logs.
    """
    found = None
    rates = _rates(last)
    earlier = (state for state in states if _same_plan(state, last) and _step(state) < _step(last))
    for state in sorted(earlier, key=_step):
        done = _step(state)
        after = [step for step in sorted(rates) if step > done]
        line = _line([(step, rate) for step, rate in sorted(rates.items()) if step <= done], _planned_steps(last))
        if line is None or not after:
            continue
        slope, rate = line[0], rates[after[0]]
        planned = max(0.0, line[1] + slope * after[0])
        if abs(rate - planned) <= SKIPPED_STEPS * abs(slope):
            planned = rate
        found = ResumeEvidence(int(done), int(after[0]), rate_after=rate, planned_rate_after=planned)
        if planned != rate:
            break
    return found


def _rates(state: Mapping[str, Any]) -> dict[float, float]:
    """The logged learning rates by step."""
    history = state.get("log_history")
    records = [record for record in history if isinstance(record, Mapping)] if isinstance(history, list) else []
    pairs = ((number(record.get("step")), number(record.get("learning_rate"))) for record in records)
    return {step: rate for step, rate in pairs if step is not None and rate is not None}


def _step(state: Mapping[str, Any]) -> float:
    return number(state.get("global_step")) or 0.0


def _planned_steps(state: Mapping[str, Any]) -> float:
    return number(state.get("max_steps")) or 0.0


def _same_plan(state: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Whether a state has the same number of planned steps, and belongs to the same run as far as it was logged."""
    one, other = _rates(state), _rates(last)
    return _planned_steps(state) == _planned_steps(last) > 0 and all(other.get(step) == one[step] for step in one)


def _line(points: list[tuple[float, float]], planned_steps: float) -> tuple[float, float] | None:
    """Slope and intercept of the rates after the warm-up, if they fall in a line to zero at the planned end."""
    peak = max(range(len(points)), key=lambda at: points[at][1], default=0)
    falling = np.array(points[peak:])
    if len(falling) < LEAST_POINTS or falling[0, 1] <= 0:
        return None
    slope, intercept = np.polyfit(falling[:, 0], falling[:, 1], 1)
    residuals = np.abs(falling[:, 1] - (slope * falling[:, 0] + intercept))
    if slope >= 0 or residuals.max() > LINEAR * falling[0, 1]:
        return None
    end = -intercept / slope
    return (float(slope), float(intercept)) if abs(end - planned_steps) <= max(5.0, 0.02 * planned_steps) else None
