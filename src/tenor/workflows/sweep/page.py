"""`sweep.html`: what a sweep found, in one file that loads nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup

from tenor.config.sweep import SweepPlan
from tenor.evaluation.report.html import render
from tenor.evaluation.words import duration
from tenor.runs.files import write_text
from tenor.runs.process_state import warnings_ignored
from tenor.workflows.sweep.show import ELSEWHERE, figure, setting
from tenor.workflows.sweep.trial_charts import history_chart, importance_chart, parallel_chart
from tenor.workflows.sweep.trials import SweepTrial, best_of

ENOUGH_FOR_IMPORTANCE = 10
"""Completed trials below which an importance says more of chance than of the settings."""


@dataclass(frozen=True)
class Plot:
    """A picture, empty where there are too few trials for one; `missing` says so."""

    title: str
    caption: str
    picture: Markup
    missing: str


def write_page(path: Path, plan: SweepPlan, studies: Mapping[str, optuna.Study], trials: Sequence[SweepTrial]) -> Path:
    """Write the page of a sweep that ended or goes on, and return its path."""
    winner = best_of(plan, trials)
    html = render(
        "sweep.html",
        name=plan.sweep.name,
        objective=plan.sweep.objective,
        facts=_facts(plan, trials),
        winner=None if winner is None else _winner(plan, winner, trials),
        phases=[_phase(plan, phase, study, trials, winner, path.parent) for phase, study in studies.items()],
    )
    write_text(path, html)
    return path


def _facts(plan: SweepPlan, trials: Sequence[SweepTrial]) -> list[str]:
    statuses = [trial.status for trial in trials]
    counted = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)]
    minutes = sum(trial.seconds for trial in trials) / 60
    return [
        f"{len(trials)} trials: {', '.join(counted) or 'none yet'}",
        f"{minutes:.1f} minutes over all workers",
        f"base {plan.sweep.base}",
    ]


def _winner(plan: SweepPlan, winner: SweepTrial, trials: Sequence[SweepTrial]) -> dict[str, Any]:
    assert winner.value is not None
    own = [trial for trial in trials if trial.is_base and trial.phase == winner.phase and trial.status == "completed"]
    base = figure(own[0].value or 0.0, plan) if own else None
    return {
        "name": winner.name,
        "value": figure(winner.value, plan),
        "run": winner.run,
        "base": base,
        "settings": [(key, setting(value)) for key, value in winner.tried.items()],
        "completed": sum(trial.status == "completed" for trial in trials),
    }


def _phase(
    plan: SweepPlan,
    phase: str,
    study: optuna.Study,
    trials: Sequence[SweepTrial],
    winner: SweepTrial | None,
    folder: Path,
) -> dict[str, Any]:
    own = [trial for trial in trials if trial.phase == phase]
    settings = plan.sweep.phases[phase]
    minutes = sum(trial.seconds for trial in own) / 60
    limit = f" of {settings.budget_minutes:g}" if settings.budget_minutes is not None else ""
    fixed = ", ".join(f"{key}={setting(value)}" for key, value in settings.set.items())
    return {
        "name": phase,
        "lead": f"{len(own)} of {settings.trials} trials in {minutes:.1f}{limit} minutes. "
        + (f"All of them with {fixed}." if fixed else ""),
        "plots": _plots(plan, phase, study, own),
        "searched": list(settings.space),
        "rows": [_row(plan, trial, list(settings.space), winner, folder) for trial in own],
    }


def _row(
    plan: SweepPlan, trial: SweepTrial, keys: list[str], winner: SweepTrial | None, folder: Path
) -> dict[str, Any]:
    marks = [mark for mark, holds in (("the winner", trial == winner), ("base values", trial.is_base)) if holds]
    again = [f"attempt {trial.attempts}"] if trial.attempts > 1 else []
    run = (trial.run or "").rpartition("/")[2]
    elsewhere = [ELSEWHERE] if run and not (folder / run).is_dir() else []
    return {
        "number": trial.number,
        "status": trial.status,
        "value": "" if trial.value is None else figure(trial.value, plan),
        "value_key": "" if trial.value is None else trial.value,
        "tried": [(setting(trial.tried[key]), trial.tried[key]) if key in trial.tried else ("–", "") for key in keys],
        "seconds": round(trial.seconds),
        "took": duration(trial.seconds),
        "run": run,
        "link": f"{run}/report.html" if run and (folder / run / "report.html").is_file() else "",
        "said": ". ".join([*marks, *again, *elsewhere, *([trial.reason] if trial.reason else [])]),
    }


def _plots(plan: SweepPlan, phase: str, study: optuna.Study, own: Sequence[SweepTrial]) -> list[Plot]:
    completed = [trial for trial in own if trial.status == "completed"]
    one = f"{len(completed)} completed trial{'' if len(completed) == 1 else 's'}; "
    return [
        Plot(
            "History",
            "Each completed trial, and the best so far. Pruned, refused and failed trials are in the table alone.",
            history_chart(completed, plan.direction == "minimize", plan.sweep.objective) if completed else Markup(""),
            "No trial completed.",
        ),
        Plot(
            "Importance",
            "Share of the objective's variation among good trials that each setting explains (PED-ANOVA, Watanabe, "
            "Bansal and Hutter 2023).",
            importance_chart(_importances(study)) if len(completed) >= ENOUGH_FOR_IMPORTANCE else Markup(""),
            f"{one}it takes {ENOUGH_FOR_IMPORTANCE} to tell a setting's importance from chance.",
        ),
        Plot(
            "Parallel coordinates",
            "A line is a completed trial, from its objective through its settings; the best one stands out.",
            _parallel(plan, phase, completed) if len(completed) > 1 else Markup(""),
            f"{one}it takes two to compare.",
        ),
    ]


def _importances(study: optuna.Study) -> dict[str, float]:
    with warnings_ignored():  # Optuna announces changes of defaults; nothing of it is for the page's reader.
        return optuna.importance.get_param_importances(study)


def _parallel(plan: SweepPlan, phase: str, completed: Sequence[SweepTrial]) -> Markup:
    best = best_of(plan, completed)
    assert best is not None
    return parallel_chart(completed, plan.sweep.phases[phase].space, plan.sweep.objective, best)
