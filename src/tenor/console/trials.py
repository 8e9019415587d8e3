"""Terminal output of a sweep: a live table, or one line per trial if stdout is not a terminal."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tenor.config.sweep import SweepPlan
from tenor.evaluation.formatting import percent

if TYPE_CHECKING:
    from tenor.workflows.sweep.study import SweepTrial

COLORS = {"running": "cyan", "pruned": "yellow", "refused": "red", "failed": "red", "lost": "red", "waiting": "dim"}
SHARES = ("accuracy", "macro_f1")
ELSEWHERE = "the run is with another worker"


TrialsAndBest = tuple[list["SweepTrial"], "SweepTrial | None"]


class LiveTable:
    """Shows the trials of all workers during a sweep."""

    def __init__(self, plan: SweepPlan, read: Callable[[], TrialsAndBest], console: Console) -> None:
        """`read()` returns all trials and the best completed one so far."""
        self._plan, self._read, self._console = plan, read, console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._printed: set[str] = set()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:  # Trials that ended in an earlier call are not printed again.
            self._printed = {trial.name for trial in self._read()[0] if _has_ended(trial)}
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh()
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Show the current state of the study."""
        trials, best = self._read()
        if self._live is not None:
            self._live.update(sweep_view(self._plan, trials, best, self._console.height), refresh=True)
            return
        for trial in trials:
            if _has_ended(trial) and trial.name not in self._printed:
                self._printed.add(trial.name)
                self._console.print(trial_line(trial, self._plan), highlight=False, soft_wrap=True, markup=False)


def sweep_view(
    plan: SweepPlan, trials: "Sequence[SweepTrial]", best: "SweepTrial | None", height: int = 10**6
) -> RenderableType:
    """A table per phase; only the newest trials of each if not all fit into `height` lines."""
    rows = max(3, (height - 4) // len(plan.sweep.phases) - 6)
    parts: list[RenderableType] = []
    for phase, settings in plan.sweep.phases.items():
        own = [trial for trial in trials if trial.phase == phase]
        minutes = sum(trial.seconds for trial in own) / 60
        limit = f" of {settings.budget_minutes:g}" if settings.budget_minutes is not None else ""
        title = f"{phase}: {sum(map(_has_ended, own))} of {settings.trials} trials, {minutes:.1f}{limit} min"
        parts += [Text(title, style="bold"), _table(plan, own, own[-rows:], best), *_reasons(own[-rows:])]
    return Group(*parts)


def trial_line(trial: "SweepTrial", plan: SweepPlan) -> str:
    """One trial on one line."""
    value = f" {plan.sweep.objective} {figure(trial.value, plan)}" if trial.value is not None else ""
    tried = "  ".join(f"{key}={setting(value)}" for key, value in trial.tried.items())
    reason = f"  ({trial.reason})" if trial.reason else ""
    return f"{trial.name} {trial.status}{value}  {tried}  {trial.seconds:.0f} s{reason}"


def figure(value: float, plan: SweepPlan) -> str:
    """The objective, as a percentage where it is an accuracy."""
    return percent(value) if plan.sweep.objective in SHARES[:1] else f"{value:.4f}"


def _reasons(shown: "Sequence[SweepTrial]") -> list[Text]:
    """Why trials have no result: too long for a column."""
    failed = [trial for trial in shown if trial.status in ("refused", "failed", "lost")]
    lines = [Text(f"{trial.name} {trial.status}: {trial.reason}", style="red") for trial in failed]
    return [*lines, Text()] if lines else []


def _table(
    plan: SweepPlan, own: "Sequence[SweepTrial]", shown: "Sequence[SweepTrial]", best: "SweepTrial | None"
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right")
    table.add_column("status", no_wrap=True, min_width=9)
    table.add_column(plan.sweep.objective, justify="right")
    keys = list(dict.fromkeys(key for trial in own for key in trial.tried))
    for key in keys:
        table.add_column(key.rpartition(".")[2], justify="right")
    table.add_column("time", justify="right")
    table.add_column("")
    for trial in shown:
        marks = [mark for mark, applies in (("best", trial == best), ("base values", trial.is_base)) if applies]
        attempts = [f"attempt {trial.attempts}"] if trial.attempts > 1 else []
        remarks = ", ".join([*marks, *attempts, *([trial.reason] if trial.status == "pruned" else [])])
        table.add_row(
            str(trial.number),
            Text(trial.status, style=COLORS.get(trial.status, "")),
            "-" if trial.value is None else figure(trial.value, plan),
            *("-" if key not in trial.tried else setting(trial.tried[key]) for key in keys),
            f"{trial.seconds:.0f} s",
            Text(remarks, style="bold green" if trial == best else "dim"),
        )
    return table


def _has_ended(trial: "SweepTrial") -> bool:
    return trial.status not in ("waiting", "running")


def setting(value: Any) -> str:
    """A tried value, floats with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
