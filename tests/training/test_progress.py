"""Progress: plain lines in a file, a live bar on a terminal."""

import io
import time

import pytest
from rich.console import Console

from tenor.console.run import PLAIN_INTERVAL_SECONDS, ProgressLine, progress_line

DETAIL = "loss 0.512  lr 8.0e-05  1,066 tokens/s"


class Clock:
    """A clock that changes only when it is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _plain(total: int, done: int = 0) -> tuple[ProgressLine, io.StringIO]:
    written = io.StringIO()
    with progress_line(Console(file=written, width=40), "step", total, done) as line:
        line.started = time.monotonic()
        return line, written


def test_a_plain_line_has_the_detail_and_the_time_left(clock: Clock) -> None:
    line, written = _plain(1200)
    clock.now += 60
    line.advance(100, DETAIL)  # 100 in a minute leave eleven minutes for the rest.
    assert written.getvalue() == f"step 100/1,200  {DETAIL}  11:00 left\n"


def test_progress_prints_the_first_unit_then_one_line_per_interval_and_the_last(clock: Clock) -> None:
    line, written = _plain(20)
    for _ in range(20):
        clock.now += PLAIN_INTERVAL_SECONDS / 5
        line.advance(1)
    message = [text.split()[1] for text in written.getvalue().splitlines()]
    assert message == ["1/20", "6/20", "11/20", "16/20", "20/20"]


def test_steps_before_a_resume_do_not_count_for_the_rate(clock: Clock) -> None:
    line, written = _plain(7300, done=100)
    clock.now += 1
    line.advance(1)
    assert written.getvalue() == "step 101/7,300    1:59:59 left\n"


def test_plain_lines_contain_no_control_sequences(clock: Clock) -> None:
    line, written = _plain(2)
    line.advance(2, "[bold]loss[/bold] 0.5")
    assert "\x1b" not in written.getvalue()


def test_on_a_terminal_one_bar_is_drawn_over_and_gone_at_the_end() -> None:
    written = io.StringIO()
    console = Console(force_terminal=True, file=written, width=120, _environ={"TERM": "xterm"})
    with progress_line(console, "step", 1200, done=100) as line:
        assert line.live is not None
        line.live.refresh()
        before = written.getvalue()
        line.advance(150, DETAIL)
        line.live.refresh()
        after = written.getvalue()[len(before) :]
    assert "100/1,200" in before
    assert "250/1,200" in after
    assert DETAIL in after
    assert "━" in after
    # Carriage return and "erase line": the last thing on the terminal is an empty line where the bar was.
    assert written.getvalue()[len(before) + len(after) :].rstrip().endswith("\x1b[2K")


def test_markup_in_a_title_or_detail_is_shown_as_it_is() -> None:
    written = io.StringIO()
    console = Console(force_terminal=True, file=written, width=120, _environ={"TERM": "xterm"})
    with progress_line(console, "evaluating on a[1].csv", 3) as line:
        line.advance(3, "[red]")
    assert "a[1].csv" in written.getvalue()
    assert "[red]" in written.getvalue()
