"""Progress of a job: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_SECONDS = 15.0


@dataclass
class ProgressLine:
    """One job with a known number of units, shown live or as a plain line every 15 seconds."""

    console: Console
    title: str
    total: int
    live: Progress | None
    task: TaskID | None
    done: int = 0
    started_at: int = 0
    """Units that were done before this process started."""
    started: float = field(default_factory=time.monotonic)
    printed: float = 0.0

    def advance(self, units: int, detail: str = "") -> None:
        self.done += units
        if self.live is not None and self.task is not None:
            self.live.update(self.task, completed=self.done, detail=detail)
        elif time.monotonic() - self.printed >= PLAIN_INTERVAL_SECONDS or self.done == self.total:
            self.printed = time.monotonic()
            self.console.print(
                f"{self.title} {self.done:,}/{self.total:,}  {detail}  {_clock(self._seconds_left())} left",
                highlight=False,
                soft_wrap=True,
            )

    def _seconds_left(self) -> float:
        rate = (self.done - self.started_at) / max(time.monotonic() - self.started, 1e-9)
        return (self.total - self.done) / rate if rate else 0.0


@contextmanager
def progress_line(console: Console, title: str, total: int, done: int = 0) -> Iterator[ProgressLine]:
    """Show a job of `total` units, of which `done` are finished."""
    if not console.is_terminal:
        yield ProgressLine(console, title, total, None, None, done, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(title, total=total, completed=done, detail="")
        yield ProgressLine(console, title, total, live, task, done, done)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
