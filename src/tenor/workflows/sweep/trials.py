"""What became of a study's trials, as people ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from tenor.config.sweep import SweepPlan
from tenor.runs.process_state import warnings_ignored
from tenor.workflows.sweep.space import as_settings

Status = Literal["waiting", "running", "completed", "pruned", "refused", "failed", "lost"]


@dataclass(frozen=True)
class SweepTrial:
    """One trial with all its attempts: a worker that died leaves one behind."""

    phase: str
    number: int
    """Of its first attempt."""
    status: Status
    tried: dict[str, Any]
    """By dotted key; empty before the sampler has spoken."""
    value: float | None
    """The objective, of a completed trial; the last validation's, of one under way or pruned."""
    run: str | None
    """As `tenor report` takes it, where the worker that trained it keeps its runs."""
    reason: str
    """Why it is not complete, where there is a reason."""
    seconds: float
    """What all attempts cost."""
    attempts: int
    is_base: bool
    """Whether it tries the configuration's own values."""
    abandoned: tuple[str, ...] = ()
    """Runs of earlier attempts that were not gone on with: their worker died, and another one could not reach them."""

    @property
    def name(self) -> str:
        """Such as `full/3`."""
        return f"{self.phase}/{self.number}"


def trials_of(plan: SweepPlan, phase: str, study: optuna.Study) -> list[SweepTrial]:
    """All trials that the phase asks for, in the order in which they were begun."""
    return [_trial(plan, phase, attempts) for attempts in _asked_for(plan, phase, study)]


def is_surplus(plan: SweepPlan, phase: str, study: optuna.Study, number: int) -> bool:
    """Whether other workers had begun the last trials that were asked for when this one was begun."""
    return not any(number == attempt.number for trial in _asked_for(plan, phase, study) for attempt in trial)


def spent_seconds(study: optuna.Study, but: int | None = None) -> float:
    """What the study's trials cost so far, as they tell it themselves; `but` leaves one out."""
    return sum(_seconds(trial) for trial in study.get_trials(deepcopy=False) if trial.number != but)


def best_of(plan: SweepPlan, trials: Sequence[SweepTrial]) -> SweepTrial | None:
    """The completed trial with the best objective, the earlier of equals; None where none is complete."""
    sign = 1 if plan.direction == "minimize" else -1
    completed = [trial for trial in trials if trial.status == "completed" and trial.value is not None]
    return min(completed, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _asked_for(plan: SweepPlan, phase: str, study: optuna.Study) -> list[list[FrozenTrial]]:
    """The attempts of each of the first `trials` trials. The order of numbers is the storage's, the same for all
    workers, so that they agree on which is the last."""
    by_first: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if not trial.user_attrs.get("surplus", False):
            by_first.setdefault(_first_attempt(trial), []).append(trial)
    return [by_first[number] for number in sorted(by_first)][: plan.sweep.phases[phase].trials]


def _first_attempt(trial: FrozenTrial) -> int:
    with warnings_ignored():
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def _seconds(trial: FrozenTrial) -> float:
    # A trial that waits to be taken up again still bears what its attempt before told.
    return 0.0 if trial.state == TrialState.WAITING else float(trial.user_attrs.get("seconds", 0.0))


def _trial(plan: SweepPlan, phase: str, attempts: list[FrozenTrial]) -> SweepTrial:
    last = attempts[-1]
    run, runs = last.user_attrs.get("run"), (attempt.user_attrs.get("run") for attempt in attempts)
    status, reported = _status(last), list(last.intermediate_values.values())
    so_far = reported[-1] if reported and status in ("running", "pruned") else None
    return SweepTrial(
        phase=phase,
        number=_first_attempt(last),
        status=status,
        tried=as_settings(last.params, plan.sweep.phases[phase].space),
        value=last.value if status == "completed" else so_far,
        run=run,
        reason=last.user_attrs.get("reason", "its worker died" if status == "lost" else ""),
        seconds=sum(_seconds(attempt) for attempt in attempts),
        attempts=len(attempts),
        is_base=bool(last.user_attrs.get("base", False)),
        abandoned=tuple(one for one in dict.fromkeys(runs) if one not in (None, run)),
    )


def _status(trial: FrozenTrial) -> Status:
    match trial.state:
        case TrialState.COMPLETE:
            return "completed"
        case TrialState.RUNNING:
            return "running"
        case TrialState.WAITING:
            return "waiting"
        case TrialState.PRUNED:
            ended: Status = trial.user_attrs["ended"]
            return ended
        case _:
            return "lost"
