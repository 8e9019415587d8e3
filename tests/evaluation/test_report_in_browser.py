"""The report in a real browser: it renders, its cells open, and a review with markup stays text."""

import base64
import hashlib
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from report_runs import HOSTILE, Page, finished_run
from tenor.runs.files import read_json
from tenor.workflows.report import report, write_run_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose every text, and one class, holds markup and a script."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [f"review {number} {HOSTILE}" for number in range(60)]
    return write_run_report(finished_run(folder, texts, ("<i>negative</i>", "positive")))


def seen(page: Path, profile: Path, fragment: str = "", then: str = "") -> str:
    """The document as Chromium holds it after loading, and after the script `then` ran; any complaint fails."""
    html = page.read_text(encoding="utf-8")
    if then:
        # The copy's policy admits this script, and nothing else is loosened.
        digest = base64.b64encode(hashlib.sha256(then.encode()).digest()).decode()
        html = html.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
        html = html.replace("</body>", f"<script>{then}</script></body>")
    copy = profile / "page.html"
    copy.write_text(html, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [*command, "--dump-dom", f"{copy.as_uri()}{fragment}"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return done.stdout


def test_it_renders_whole_and_markup_stays_text(hostile_report: Path, tmp_path: Path) -> None:
    dom = seen(hostile_report, tmp_path)
    assert Page(dom).text == Page(hostile_report.read_text(encoding="utf-8")).text
    assert " ".join(HOSTILE.split()) in Page(dom).text
    assert "<title>invented" in dom
    assert "owned" not in re.findall("<title>(.*?)</title>", dom)[0]
    assert "<img" not in dom
    assert not re.search('<details class="cell"[^>]* open', dom)


def test_a_cell_opens_its_rows(hostile_report: Path, tmp_path: Path) -> None:
    click = "addEventListener('load', () => document.querySelector('.matrix a[href=\"#cell-0-1\"]').click())"
    dom = seen(hostile_report, tmp_path, then=click)
    assert re.findall('<details class="cell" id="(.*?)" open', dom) == ["cell-0-1"]


def test_a_link_to_a_cell_opens_it(hostile_report: Path, tmp_path: Path) -> None:
    dom = seen(hostile_report, tmp_path, fragment="#cell-1-0")
    assert re.findall('<details class="cell" id="(.*?)" open', dom) == ["cell-1-0"]


def test_a_script_that_got_in_would_not_run(hostile_report: Path, tmp_path: Path) -> None:
    page = tmp_path / "smuggled.html"
    html = hostile_report.read_text(encoding="utf-8")
    page.write_text(html.replace("<main", "<script>document.title = 'owned'</script><main", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match="violates"):
        seen(page, tmp_path)


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_runs_out_of_the_page(width: int, hostile_report: Path, tmp_path: Path) -> None:
    # In a frame, because a window of Chromium is never narrower than 500 pixels.
    frame = (
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(hostile_report.read_text())}"></iframe>'
    )
    measure = """addEventListener("load", () => {
      const inner = document.querySelector("iframe").contentDocument.documentElement;
      document.title = inner.scrollWidth + " in " + inner.clientWidth;
    });"""
    page = tmp_path / "frame.html"
    page.write_text(f"<!doctype html><title></title><body>{frame}<script>{measure}</script>", encoding="utf-8")
    dom = seen(page, tmp_path)
    content, window = map(int, re.findall(r"<title>(\d+) in (\d+)</title>", dom)[0])
    assert content == window
    assert width - 20 <= window <= width  # A scroll bar may stand beside it.


def test_the_index_is_sorted_by_a_heading(tmp_path: Path) -> None:
    accuracies = {}
    for seed in (3, 9, 12):
        run = finished_run(tmp_path / "data", seed=seed)
        accuracies[run.run_id] = float(read_json(run.evaluation)["test"]["accuracy"])
    assert len(set(accuracies.values())) > 1
    page = report(str(tmp_path / "data" / "runs"))
    for clicks, descending in ((1, True), (2, False)):
        press = "document.querySelector('button[aria-label=\"test accuracy\"]').click();" * clicks
        dom = seen(page, tmp_path, then=f"addEventListener('load', () => {{ {press} }})")
        order = [accuracies[found] for found in re.findall(r'data-sort="invented/(.*?)"', dom)]
        assert order == sorted(accuracies.values(), reverse=descending)
        assert f'aria-sort="{"descending" if descending else "ascending"}"' in dom
