"""The report in a real browser: it renders, its cells open, and a review with markup stays text."""

import re
from pathlib import Path

import pytest

from browser import IN_BROWSER, PHONE, look, seen, too_wide
from report_runs import HOSTILE, Page, finished_run
from tenor.config.loading import load_config
from tenor.runs.files import read_json, write_json
from tenor.runs.manifest import update_manifest
from tenor.workflows.audit import Audit, Kind, Suspect
from tenor.workflows.audit_report import write_audit_report
from tenor.workflows.report import report, write_run_report

pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose every text, and one class, holds markup and a script."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [f"review {number} {HOSTILE}" for number in range(60)]
    return write_run_report(finished_run(folder, texts, ("<i>negative</i>", "positive")))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of runs with all that a row may hold: changed settings, findings of each kind, and an error."""
    folder = tmp_path_factory.mktemp("index")
    for seed in (3, 9, 12):
        run = finished_run(folder, seed=seed)
    update_manifest(run, status="interrupted", error=f"{HOSTILE} " * 5)
    summary = folder / "runs" / "experiments_summary.json"
    rows = read_json(summary)
    kinds = ["error"] * 2 + ["warning"] * 12 + ["note"] * 10
    rows[1]["findings"] = [{"severity": kind} for kind in kinds]
    rows[1]["config"]["training"]["learning_rate"] = 3e-5
    rows[1]["config"]["data"]["path"] = "/somewhere/" + "a-long-folder-name" * 3
    write_json(summary, rows)
    return report(str(folder / "runs"))


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an audit whose every word may hold markup, or run on without a space."""
    folder = tmp_path_factory.mktemp("audit")

    def suspect(rank: int, kind: Kind) -> Suspect:
        reason = "label has probability 0.0312"
        return Suspect(rank, "i" * 70, "negative", HOSTILE, 0.97, kind, reason, rank % 2 == 0, HOSTILE + "x" * 900)

    kinds: tuple[Kind, ...] = ("label", "label", "duplicate", "ambiguous")
    suspects = tuple(suspect(rank, kind) for rank, kind in enumerate(kinds, start=1))
    bins = tuple(range(20))
    found = Audit(190, "words", 0.87, suspects, bins, bins)
    write_audit_report(found, load_config("demo", []), folder / "a.csv", folder / "a.html", ["tenor", "audit", "demo"])
    return folder / "a.html"


@pytest.fixture(params=["run", "index", "audit"])
def any_page(request: pytest.FixtureRequest) -> Path:
    """Each page in turn."""
    names = {"run": "hostile_report", "index": "index", "audit": "audit_page"}
    return request.getfixturevalue(names[request.param])


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


@pytest.mark.parametrize("width", [PHONE, 820, 1400])
def test_nothing_is_wider_than_the_page(width: int, any_page: Path, tmp_path: Path) -> None:
    assert too_wide(any_page, tmp_path, width) == 0


@pytest.mark.parametrize("width", [1100, 1400])
def test_the_index_shows_its_whole_table(width: int, index: Path, tmp_path: Path) -> None:
    assert too_wide(index, tmp_path, width, part=".scroll") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_words_can_be_read(dark: bool, any_page: Path, tmp_path: Path) -> None:
    found = look(any_page, tmp_path, dark)
    assert (max(found.background) < 40) if dark else (min(found.background) > 240)
    assert found.contrast >= 4.5, found.worst  # WCAG 2.2, level AA


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
