"""`sweep.html` in a real browser: Optuna's plots are drawn, nothing is loaded, and a reason with markup stays text."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from tenor.config.sweep import SweepPlan
from tenor.workflows.sweep.attempt import Attempt
from tenor.workflows.sweep.page import write_page
from tenor.workflows.sweep.study import open_studies
from tenor.workflows.sweep.trials import trials_of
from tenor.workflows.sweep.work import work

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


@pytest.fixture
def page(
    no_training: list[int], planned: Callable[..., SweepPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The page of a sweep whose every third trial was refused with markup for a reason."""
    value = Attempt.value

    def hostile(attempt: Attempt, console: Any) -> float:
        reached = value(attempt, console)
        if attempt.trial.number % 3 == 2:
            raise attempt._without_result("refused", HOSTILE)
        return reached

    monkeypatch.setattr(Attempt, "value", hostile)
    space = "phases.a.space={training.learning_rate: {low: 1e-3, high: 1e-1}, training.warmup: {low: 0.0, high: 0.5}}"
    plan = planned(space, "phases.a.trials=18")
    studies = open_studies(plan, tmp_path, join=False)
    work(plan, studies, tmp_path, lambda: None, wait=True)
    return write_page(tmp_path / "sweep.html", plan, studies, trials_of(plan, "a", studies["a"]))


def seen(html: Path, profile: Path) -> str:
    """The document as Chromium holds it after loading; any complaint fails."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, html.as_uri()], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return done.stdout


def test_the_plots_are_drawn_and_markup_stays_text(page: Path, tmp_path: Path) -> None:
    dom = re.sub(r"<script.*?</script>", "", seen(page, tmp_path / "profile"), flags=re.DOTALL)
    assert dom.count('class="plot js-plotly-plot"') == 3, "history, importance and parallel coordinates"
    assert HOSTILE in unescape(dom)
    assert "<img" not in dom
    assert "owned" not in re.findall("<title>(.*?)</title>", dom)[0]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_out_of_the_page(width: int, page: Path, tmp_path: Path) -> None:
    # In a frame, because a window of Chromium is never narrower than 500 pixels.
    inner = escape(page.read_text(encoding="utf-8"))
    measure = 'onload="document.title = this.contentDocument.documentElement.scrollWidth"'
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<title></title><iframe width="{width}" height="900" style="border:0" {measure} srcdoc="{inner}"></iframe>',
        encoding="utf-8",
    )
    (found,) = re.findall("<title>(.*?)</title>", seen(frame, tmp_path / "profile").split("<iframe")[0])
    assert int(found) <= width
