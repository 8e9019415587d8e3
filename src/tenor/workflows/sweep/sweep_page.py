"""`sweep.html`: the trials and the best result of a sweep, in one self-contained file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup

from tenor.config.sweep import Dimension, SweepPlan
from tenor.console.trials import ELSEWHERE, figure, setting
from tenor.evaluation.formatting import duration, percent
from tenor.evaluation.report.charts import WIDTH, curve, dot, drawing, line, scale, tag, text
from tenor.evaluation.report.page import render
from tenor.runs.files import write_text
from tenor.runs.process_state import warnings_ignored
from tenor.workflows.sweep.study import SweepTrial, best_of

LEFT, RIGHT, TOP, BOTTOM = 56, 12, 50, 240
MOST_IN_A_LINE = 4
"""Names of axes that fit next to each other; if there are more, every second one is a line higher."""


def history_chart(trials: Sequence[SweepTrial], minimize: bool, objective: str) -> Markup:
    """The objective of each completed trial over its number, and the best so far as a line."""
    points = [(trial.number, trial.value or 0.0) for trial in trials]
    better = min if minimize else max
    best: list[tuple[float, float]] = []
    for number, value in points:
        so_far = best[-1][1] if best else value
        best += [(number, so_far), (number, better(so_far, value))]
    x = scale((number for number, _ in points), LEFT, WIDTH - RIGHT, 5, (0.0,))
    y = scale((value for _, value in points), BOTTOM, TOP, 5)
    parts = [text(0, 14, objective, "label")]
    for tick in y.ticks:
        parts.append(line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, f"{tick:.6g}", anchor="end"))
    parts += [text(x(tick), BOTTOM + 20, f"{tick:,.0f}", anchor="middle") for tick in x.ticks if tick == int(tick)]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, BOTTOM + 42, "trial", "label", "middle"))
    parts.append(curve(best, x, y, "curve main"))
    parts += [dot(x(number), y(value), "mark quiet", f"trial {number}: {value:.4g}") for number, value in points]
    signs = (tag("tspan", "━", kind="sign main"), " best so far   ", tag("tspan", "●", kind="sign quiet"), " a trial")
    parts.append(tag("text", *signs, x=WIDTH - RIGHT, y=14, kind="label", text_anchor="end"))
    return drawing(BOTTOM + 52, f"{objective} of {len(points)} completed trials over their number.", *parts)


def importance_chart(importances: Mapping[str, float]) -> Markup:
    """One bar per setting, the most important first; values are shares in 0 … 1."""
    pitch, top, name_width, note_width = 30, 8, 150, 52
    ranked = sorted(importances.items(), key=lambda one: -one[1])
    longest = max(max(importances.values()), 1e-9)
    parts = []
    for number, (key, share) in enumerate(ranked):
        y = top + pitch * number
        width = (WIDTH - name_width - note_width) * share / longest
        tooltip = tag("title", f"{key}: {percent(share)}")
        parts.append(text(name_width - 12, y + 18, _short(key), "name", "end"))
        parts.append(tag("rect", tooltip, x=name_width, y=y + 4, width=max(width, 1.0), height=pitch - 10, kind="bar"))
        parts.append(text(name_width + width + 8, y + 18, percent(share, 0), "value"))
    described = ", ".join(f"{key} {percent(share, 0)}" for key, share in ranked)
    return drawing(top + pitch * len(ranked) + 8, f"Importance of each setting: {described}.", *parts)


def parallel_chart(
    trials: Sequence[SweepTrial], space: Mapping[str, Dimension], objective: str, best: SweepTrial
) -> Markup:
    """A line per completed trial through its objective and its settings, each on an axis; the best is highlighted."""
    axes = {objective: _heights([trial.value for trial in trials], log=False)}
    axes |= {key: _heights([trial.tried.get(key) for trial in trials], one.log) for key, one in space.items()}
    places = [4 + k * (WIDTH - 8) / max(len(axes) - 1, 1) for k in range(len(axes))]
    parts = []
    for row in sorted(range(len(trials)), key=lambda row: trials[row] == best):
        points = [(x, BOTTOM - heights[row] * (BOTTOM - TOP)) for x, heights in zip(places, axes.values(), strict=True)]
        title = tag("title", f"trial {trials[row].number}: {objective} {trials[row].value:.4g}")
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(tag("path", title, d=path, kind="curve main" if trials[row] == best else "curve quiet"))
    for number, (x, key) in enumerate(zip(places, axes, strict=True)):
        anchor = "start" if number == 0 else "end" if number == len(axes) - 1 else "middle"
        values = [trial.value if key == objective else trial.tried.get(key) for trial in trials]
        parts += [line(x, TOP, x, BOTTOM, "grid"), *_ends(x, values, axes[key], anchor)]
        raised = 14 if len(axes) > MOST_IN_A_LINE and number % 2 else 0
        parts.append(text(x, 28 - raised, _short(key), "label", anchor))
    description = f"{len(trials)} completed trials, each from its {objective} through its settings."
    return drawing(BOTTOM + 26, description, *parts)


def _heights(values: Sequence[Any], log: bool) -> list[float]:
    """Places on an axis from 0 to 1: numbers by size (by order of magnitude with `log`), other values evenly."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) and (not log or min(numbers) > 0):
        placed = [log10(value) if log else float(value) for value in numbers]
    else:
        kinds = sorted({setting(value) for value in values})
        placed = [float(kinds.index(setting(value))) for value in values]
    low, high = min(placed), max(placed)
    return [0.5 if high == low else (value - low) / (high - low) for value in placed]


def _ends(x: float, values: Sequence[Any], heights: Sequence[float], anchor: str) -> list[Markup]:
    """The values at the bottom and at the top of an axis; in the middle if all are equal."""
    ends = dict.fromkeys((min(heights), max(heights)))
    parts = []
    for height in ends:
        value = values[heights.index(height)]
        shown = f"{value:.4g}" if isinstance(value, float) else setting(value)
        y = BOTTOM + 18 if height == 0 else TOP - 6 if height == 1 else BOTTOM - height * (BOTTOM - TOP) - 6
        parts.append(text(x, y, shown, anchor=anchor))
    return parts


def _short(key: str) -> str:
    """A dotted key without its section."""
    return key.rpartition(".")[2]


ENOUGH_FOR_IMPORTANCE = 10
"""Completed trials below which an importance is mostly chance."""


@dataclass(frozen=True)
class Plot:
    """A picture, empty if there are too few trials; then `missing` says so."""

    title: str
    caption: str
    picture: Markup
    missing: str


def write_page(path: Path, plan: SweepPlan, studies: Mapping[str, optuna.Study], trials: Sequence[SweepTrial]) -> Path:
    """Write the page of a finished or running sweep, and return its path."""
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
        + (f"All trials with {fixed}." if fixed else ""),
        "plots": _plots(plan, phase, study, own),
        "searched": list(settings.space),
        "rows": [_row(plan, trial, list(settings.space), winner, folder) for trial in own],
    }


def _row(
    plan: SweepPlan, trial: SweepTrial, keys: list[str], winner: SweepTrial | None, folder: Path
) -> dict[str, Any]:
    marks = [mark for mark, applies in (("the winner", trial == winner), ("base values", trial.is_base)) if applies]
    attempts = [f"attempt {trial.attempts}"] if trial.attempts > 1 else []
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
        "remarks": ". ".join([*marks, *attempts, *elsewhere, *([trial.reason] if trial.reason else [])]),
    }


def _plots(plan: SweepPlan, phase: str, study: optuna.Study, own: Sequence[SweepTrial]) -> list[Plot]:
    completed = [trial for trial in own if trial.status == "completed"]
    count = f"{len(completed)} completed trial{'' if len(completed) == 1 else 's'}; "
    return [
        Plot(
            "History",
            "Each completed trial, and the best so far. Pruned, refused and failed trials are only in the table.",
            history_chart(completed, plan.direction == "minimize", plan.sweep.objective) if completed else Markup(""),
            "No trial completed.",
        ),
        Plot(
            "Importance",
            "Share of the objective's variation among good trials that each setting explains (PED-ANOVA, Watanabe, "
            "Bansal and Hutter 2023).",
            importance_chart(_importances(study)) if len(completed) >= ENOUGH_FOR_IMPORTANCE else Markup(""),
            f"{count}estimating importance needs {ENOUGH_FOR_IMPORTANCE}.",
        ),
        Plot(
            "Parallel coordinates",
            "Each line is a completed trial, from its objective through its settings; the best one is highlighted.",
            _parallel(plan, phase, completed) if len(completed) > 1 else Markup(""),
            f"{count}a comparison needs two.",
        ),
    ]


def _importances(study: optuna.Study) -> dict[str, float]:
    with warnings_ignored():  # Optuna's warnings about changed defaults do not concern users of the page.
        return optuna.importance.get_param_importances(study)


def _parallel(plan: SweepPlan, phase: str, completed: Sequence[SweepTrial]) -> Markup:
    best = best_of(plan, completed)
    assert best is not None
    return parallel_chart(completed, plan.sweep.phases[phase].space, plan.sweep.objective, best)
