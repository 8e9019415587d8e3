"""A whole sweep, or a worker's part in one: study, trials, page, and the winner's configuration."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from tenor.config.describe import to_yaml
from tenor.config.sweep import SweepPlan
from tenor.console.trials import ELSEWHERE, LiveTable, TrialsAndBest, figure
from tenor.runs.directory import DEFAULT_ROOT
from tenor.runs.files import write_text
from tenor.runs.missing import missing_because
from tenor.workflows.prepare import require_available
from tenor.workflows.sweep.study import SweepTrial, best_of, open_studies, reachable, sweep_folder, trials_of
from tenor.workflows.sweep.sweep_page import write_page
from tenor.workflows.sweep.worker import no_result, work


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep."""

    plan: SweepPlan
    trials: tuple[SweepTrial, ...]
    winner: SweepTrial
    config: Path
    """The winner's configuration."""
    page: Path

    @property
    def minutes(self) -> float:
        """Duration of all trials, summed over workers."""
        return sum(trial.seconds for trial in self.trials) / 60

    def description(self) -> str:
        """The best trial, the cost, and the next steps."""
        assert self.winner.value is not None
        value = f"{self.plan.sweep.objective} {figure(self.winner.value, self.plan)}"
        is_here = (self.page.parent / str(self.winner.run).rpartition("/")[2]).is_dir()
        return (
            f"best: {self.winner.name}, validation {value}, run {self.winner.run}"
            f"{'' if is_here else f' ({ELSEWHERE})'}\n"
            f"cost: {self.minutes:.1f} minutes over all workers\n"
            f"plots: {self.page}\n"
            f"train it: tenor train {self.config}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "sweep": self.plan.sweep.name,
            "objective": self.plan.sweep.objective,
            "direction": self.plan.direction,
            "winner": trial_record(self.winner),
            "config": str(self.config),
            "page": str(self.page),
            "cost_minutes": self.minutes,
            "trials": [trial_record(trial) for trial in self.trials],
        }


def run_sweep(plan: SweepPlan, root: Path = DEFAULT_ROOT, console: Console | None = None) -> SweepResult:
    """Start or continue a sweep, until every requested trial has ended, on any worker.

    Raises:
        UserError: the storage cannot be used, or contains another sweep's study; a rule or a tracker is missing.
        InterruptedRunError: the sweep was interrupted; the same call continues it.
        RefusedError: checks refused every trial.
        TenorError: no trial completed.
    """
    _require_available(plan)
    console = console or Console(stderr=True, markup=False)
    folder = sweep_folder(root, plan)
    with reachable(plan, root):
        studies = open_studies(plan, root, join=False)
        with LiveTable(plan, partial(_trials_and_best, plan, studies), console) as table:
            try:
                work(plan, studies, root, table.refresh, wait=True)
            finally:
                trials = _all_trials(plan, studies)
                page = write_page(folder / "sweep.html", plan, studies, trials)
    winner = best_of(plan, trials)
    if winner is None:
        last = f"; the last one was {trials[-1].status}: {trials[-1].reason}" if trials else ""
        raise no_result(trials)(f"no trial of {plan.sweep.name} completed{last}. {page} shows the status of each")
    config = write_winner(folder / "winner.yaml", plan, winner, trials)
    return SweepResult(plan, tuple(trials), winner, config, page)


def join_sweep(plan: SweepPlan, root: Path = DEFAULT_ROOT, console: Console | None = None) -> int:
    """Work on a sweep of another process until no trial is left to start; returns the number of ended trials.

    Raises:
        UserError: there is no such study, or it cannot be reached; a rule or a tracker is missing.
        InterruptedRunError: this worker was interrupted; another one continues the trial.
    """
    _require_available(plan)
    with reachable(plan, root):
        studies = open_studies(plan, root, join=True)
        shown = console or Console(stderr=True, markup=False)
        with LiveTable(plan, partial(_trials_and_best, plan, studies), shown) as table:
            work(plan, studies, root, table.refresh, wait=False)
        return sum(trial.status not in ("waiting", "running") for trial in _all_trials(plan, studies))


def write_winner(path: Path, plan: SweepPlan, winner: SweepTrial, trials: list[SweepTrial]) -> Path:
    """Write the winner's configuration under a new name."""
    config = plan.config(winner.phase, winner.tried)
    config = config.model_copy(update={"name": f"{plan.sweep.name[:57]}-winner"})
    completed = sum(trial.status == "completed" for trial in trials)
    assert winner.value is not None
    lines = (
        f"# The best of {completed} completed trials of the sweep {plan.sweep.name}: {winner.name}, run {winner.run}.",
        f"# Validation {plan.sweep.objective} {figure(winner.value, plan)}: optimistic, as the best of several trials.",
    )
    write_text(path, "\n".join((*lines, to_yaml(config))))
    return path


def trial_record(trial: SweepTrial) -> dict[str, Any]:
    """A trial as plain data without null values."""
    record = {**asdict(trial), "reason": trial.reason or missing_because("no problem")}
    if trial.value is None:
        record["value"] = missing_because("there was no validation")
    if trial.run is None:
        record["run"] = missing_because("no run was started")
    return record


def _all_trials(plan: SweepPlan, studies: Mapping[str, optuna.Study]) -> list[SweepTrial]:
    return [trial for phase, study in studies.items() for trial in trials_of(plan, phase, study)]


def _require_available(plan: SweepPlan) -> None:
    """Raises UserError for missing rules or trackers before the first trial: every trial would fail."""
    for phase in plan.settings:
        require_available(plan.config(phase, {}))


def _trials_and_best(plan: SweepPlan, studies: Mapping[str, optuna.Study]) -> TrialsAndBest:
    trials = _all_trials(plan, studies)
    return trials, best_of(plan, trials)
