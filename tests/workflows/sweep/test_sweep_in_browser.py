"""`sweep.html` in a real browser: the charts are drawn, no resource is loaded, and a reason with markup stays text."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from browser import IN_BROWSER, PHONE, look, seen, too_wide
from tenor.config.sweep import SweepPlan
from tenor.workflows.sweep.study import open_studies, trials_of
from tenor.workflows.sweep.sweep_page import write_page
from tenor.workflows.sweep.worker import Attempt, work

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"

pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def drawn() -> dict[str, Path]:
    """The page, once it is drawn: 18 trials take half a minute."""
    return {}


@pytest.fixture
def page(
    drawn: dict[str, Path],
    no_training: list[int],
    planned: Callable[..., SweepPlan],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The page of a sweep whose every third trial was refused with markup for a reason."""
    if "page" in drawn:
        return drawn["page"]
    value = Attempt.value

    def hostile(attempt: Attempt, console: Any) -> float:
        reached = value(attempt, console)
        if attempt.trial.number % 3 == 2:
            raise attempt._without_result("refused", HOSTILE)
        return reached

    monkeypatch.setattr(Attempt, "value", hostile)
    space = "phases.a.space={training.learning_rate: {low: 1e-3, high: 1e-1}, training.warmup: {low: 0.0, high: 0.5}}"
    folder, plan = tmp_path_factory.mktemp("sweep"), planned(space, "phases.a.trials=18")
    studies = open_studies(plan, folder, join=False)
    work(plan, studies, folder, lambda: None, wait=True)
    drawn["page"] = write_page(folder / "sweep.html", plan, studies, trials_of(plan, "a", studies["a"]))
    return drawn["page"]


def test_the_plots_are_drawn_and_markup_stays_text(page: Path, tmp_path: Path) -> None:
    dom = re.sub(r"<script.*?</script>", "", seen(page, tmp_path), flags=re.DOTALL)
    assert dom.count("<svg") == 3, "history, importance and parallel coordinates"
    assert HOSTILE in unescape(dom)
    assert "<img" not in dom
    assert "owned" not in re.findall("<title>(.*?)</title>", dom)[0]


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_nothing_is_wider_than_the_page(width: int, page: Path, tmp_path: Path) -> None:
    assert too_wide(page, tmp_path, width) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_words_can_be_read(dark: bool, page: Path, tmp_path: Path) -> None:
    found = look(page, tmp_path, dark)
    assert (max(found.background) < 40) if dark else (min(found.background) > 240)
    assert found.contrast >= 4.5, found.worst  # WCAG 2.2, level AA
