"""A report is self-contained and escaped, shows the run's numbers, and is written whatever is missing."""

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report_runs import FINDING, HOSTILE, Page, copy_of, finished_run
from tenor.evaluation.report.charts import Estimate, Series, interval_chart, line_chart, reliability_chart, scale
from tenor.evaluation.report.page import TEXT_CHARACTERS, run_report, shown_text, source
from tenor.evaluation.report.run_content import collect_run
from tenor.evaluation.report.runs_index import index_page
from tenor.measures.calibration import reliability_bins
from tenor.measures.intervals import Interval
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json, write_json
from tenor.runs.manifest import update_manifest
from tenor.runs.missing import Missing
from tenor.runs.predictions import read_predictions
from tenor.workflows.report import report, write_run_report

MOST_BYTES = 3_000_000


def written(run: RunDirectory) -> str:
    return write_run_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, str]:
    """A completed run and its report; read only."""
    run = finished_run(tmp_path_factory.mktemp("whole"))
    return run, written(run)


@pytest.fixture
def copied(whole: tuple[RunDirectory, str], tmp_path: Path) -> RunDirectory:
    return copy_of(whole[0], tmp_path)


# It needs nothing.


def test_it_loads_no_external_resource(whole: tuple[RunDirectory, str]) -> None:
    page = Page(whole[1])
    assert not {"link", "img", "iframe", "object", "embed", "audio", "video", "base", "form"} & {
        t for t, _ in page.elements
    }
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert str(attributes.get("href") or "#").startswith("#"), attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", whole[1])
    assert "default-src 'none'" in str(page.all("meta"))


def test_it_is_the_same_file_each_time(whole: tuple[RunDirectory, str]) -> None:
    assert written(whole[0]) == whole[1]


@pytest.mark.slow
def test_25_000_rows_with_long_texts_stay_below_3_mb(tmp_path: Path) -> None:
    texts = [f'{k} "<&>" ' + '"' * (3000 + k % 500) for k in range(25_000)]
    html = written(finished_run(tmp_path, texts))
    assert len(html.encode()) < MOST_BYTES
    assert "7,500 validation" in Page(html).text
    assert "25,000 test rows" in Page(html).text


# It lets nothing in.


@settings(max_examples=4)
@given(st.lists(st.text(min_size=1, max_size=60), min_size=8, max_size=8), st.text(min_size=1, max_size=30))
def test_words_from_elsewhere_stay_words(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[str], observed: str
) -> None:
    texts = [f"{number} {HOSTILE} {text}".replace("\x00", "").replace("\r", " ") for number, text in enumerate(drawn)]
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    finding = replace(FINDING, title=HOSTILE, observed=observed.encode("utf-8", "replace").decode(), fix=HOSTILE)
    run = finished_run(tmp_path_factory.mktemp("hostile"), texts, (HOSTILE, "positive"), finding=finding)
    update_manifest(run, command=["tenor", HOSTILE], error=HOSTILE)
    page = Page(written(run))
    assert len(page.all("script")) == 1
    assert not {"img", "b"} & {tag for tag, attributes in page.elements if "onerror" in attributes}
    assert " ".join(HOSTILE.split()) in page.text


def test_the_index_keeps_words_words(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    update_manifest(run, status="failed", error=HOSTILE)
    page = Page(index_page(tmp_path / "runs"))
    assert len(page.all("script")) == 1
    assert " ".join(HOSTILE.split()) in page.text


@given(st.text(max_size=3 * TEXT_CHARACTERS))
def test_long_texts_lose_their_middle_only(text: str) -> None:
    shown, left_out = shown_text(text)
    if not left_out:
        return
    head, _, tail = shown.partition(" […] ")
    assert text.replace("\r\n", "\n")[:10].startswith(head[:1]) or head[:1] in "\n\N{REPLACEMENT CHARACTER}"
    assert len(head) + len(tail) == TEXT_CHARACTERS


# It shows the run's own numbers.


def test_its_numbers_are_those_of_the_evaluation(whole: tuple[RunDirectory, str]) -> None:
    run, html = whole
    page, found = Page(html), read_json(run.evaluation)["test"]
    low, high = found["accuracy_interval"]["low"], found["accuracy_interval"]["high"]
    for expected in (
        f"Accuracy on {found['n']} test rows {100 * found['accuracy']:.2f}%",
        f"95% CI {100 * low:.2f}–{100 * high:.2f}%",
        f"macro F1 {100 * found['macro_f1']:.2f}%",
        "text baseline",
        "70.00%",
        "majority class",
        "raise data.max_length",
        "MOD004",
    ):
        assert expected in page.text, expected
    cells = [a for a in page.all("a") if "--share" in str(a.get("style"))]
    counts = [count for row in found["confusion_matrix"] for count in row if count]
    assert [int(str(cell["aria-label"]).split()[0]) for cell in cells] == counts


def test_the_report_gives_the_command_that_repeats_the_run(
    whole: tuple[RunDirectory, str], copied: RunDirectory
) -> None:
    def commands(html: str) -> list[str]:
        return html.partition("Commands</h3>\n<pre>")[2].partition("</pre>")[0].splitlines()

    expected = (f"tenor train --repeat {whole[0].reference}", "tenor train config.yaml")
    assert [line.partition("  #")[0] for line in commands(whole[1])[:2]] == list(expected)
    copied.manifest.unlink()
    assert not any("--repeat" in line for line in commands(written(copied))), "nothing says what it rested on"


def test_cells_open_their_own_rows(whole: tuple[RunDirectory, str]) -> None:
    run, html = whole
    predictions = read_predictions(run.predictions / "test.parquet")
    for true in (0, 1):
        for said in (0, 1):
            inside = (
                html.partition(f'id="cell-{true}-{said}"')[2]
                .partition("</details>\n")[0]
                .partition("<details class")[0]
            )
            ids = {int(number) for number in re.findall(r'<span class="mono">(\d+)</span>', inside)}
            rows = {k + 1 for k in range(60) if (predictions.labels[k], predictions.predicted[k]) == (true, said)}
            assert ids
            assert ids <= rows


def test_confident_errors_come_in_their_order(whole: tuple[RunDirectory, str]) -> None:
    inside = whole[1].partition('id="errors"')[2].partition("</section>")[0]
    sure = [float(found) for found in re.findall(r"confidence <b>>?(?:&gt;)?([\d.]+)%</b>", inside)]
    assert sure
    assert sure == sorted(sure, reverse=True)


# It can be read by everyone.


def test_links_headings_and_tables_are_sound(whole: tuple[RunDirectory, str]) -> None:
    page = Page(whole[1])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in page.all("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg") if attributes.get("role") == "img")
    assert page.all("html") == [{"lang": "en"}]


def _colours(css: str) -> dict[str, tuple[float, float, float]]:
    return {
        name: tuple(int(value[k : k + 2], 16) / 255 for k in (0, 2, 4))  # type: ignore[misc]
        for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6});", css)
    }


def _luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_contrast(dark: bool) -> None:
    css = source("report.css")
    start = css.index("@media screen and (prefers-color-scheme: dark)") if dark else 0
    colours = _colours(css[start : css.index("* { box-sizing")] if dark else css[: css.index("@media")])
    page = colours["page"]
    for name in ("ink", "muted", "link", "error", "warning", "note"):
        assert _contrast(colours[name], page) >= 4.5, name  # WCAG 2.2, level AA, text
    for name in ("main", "second", "quiet"):
        assert _contrast(colours[name], page) >= 3, name  # and graphics
    for name, least, slope in (("main", 0.06, 0.34), ("second", 0.05, 0.5)):
        for share in np.linspace(0, 1, 11):
            part = least + slope * share
            cell = tuple(part * c + (1 - part) * p for c, p in zip(colours[name], page, strict=True))
            assert _contrast(colours["ink"], cell) >= 4.5, (name, share)


# It survives whatever is missing.


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "other"])
@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "manifest.json", "metrics.jsonl", "findings.json", "eval_best_model.json"),
        *("predictions/test.parquet", "predictions/validation.parquet"),
    ],
)
def test_one_damaged_part_does_not_affect_the_others(name: str, damage: str, copied: RunDirectory) -> None:
    path = copied.path / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "garbage": b"\xff{[", "other": b'{"val": {"n": "many"}}'}[damage])
    page = Page(written(copied))
    assert "invented" in page.text
    others = {"Per class": "eval_best_model.json", "Reliability": "predictions/test.parquet", "Loss": "metrics.jsonl"}
    for words, from_file in others.items():
        if from_file != name:
            assert words in page.text
    if name != "predictions/validation.parquet" and not (name == "metrics.jsonl" and damage == "empty"):
        assert any(text in page.text for text in ("Not available", "not shown", "No result", "can"))


@pytest.mark.parametrize("status", ["failed", "refused", "interrupted", "running"])
def test_a_run_that_did_not_end_well_says_how(status: str, copied: RunDirectory) -> None:
    run = copied
    for path in (run.evaluation, run.metrics, *run.predictions.iterdir()):
        path.unlink()
    change = {} if status == "running" else {"error": "TenorError: the loss of a batch is nan"}
    update_manifest(run, status=status, **change)
    page = Page(written(run))
    assert status in page.text
    assert "No result" in page.text
    assert ("still running" if status == "running" else "the loss of a batch is nan") in page.text
    assert "Much of the text is truncated" in page.text


def test_without_a_configuration_no_selection_metric_is_shown(copied: RunDirectory) -> None:
    assert "The ring marks the checkpoint that was kept" in written(copied)
    copied.config.unlink()
    assert "The ring marks the checkpoint that was kept" not in written(copied)


def test_a_run_whose_process_is_gone_is_killed(copied: RunDirectory) -> None:
    run = copied
    write_json(run.manifest, {**read_json(run.manifest), "status": "running", "pid": 2**22 - 1, "pid_born": 1.0})
    assert "killed" in Page(written(run)).text


def test_a_folder_with_only_a_manifest_has_a_report(copied: RunDirectory) -> None:
    run = copied
    for path in [path for path in run.path.rglob("*") if path.is_file() and path != run.manifest]:
        path.unlink()
    assert "No result" in Page(written(run)).text


def test_without_a_test_split_validation_is_shown(tmp_path: Path) -> None:
    page = Page(written(finished_run(tmp_path, has_test=False, text_baseline="switched off")))
    assert "Accuracy on 18 validation rows" in page.text
    assert "No result on test rows" in page.text
    assert "No text baseline: switched off" in page.text


def test_data_that_changed_shows_no_texts_and_says_so(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    assert "a review number" in written(run)
    (tmp_path / "test.csv").write_text("text,label\nanother one,negative\na second,positive\n")
    html = written(run)
    assert "the data changed since the run" in html
    assert "a review number" not in html
    (tmp_path / "test.csv").unlink()
    assert "can't be read again" in Page(written(run)).text


def test_predictions_of_another_evaluation_are_not_shown(tmp_path: Path) -> None:
    run, other = finished_run(tmp_path / "a"), finished_run(tmp_path / "b", seed=9)
    (run.predictions / "test.parquet").write_bytes((other.predictions / "test.parquet").read_bytes())
    assert "does not belong to eval_best_model.json" in Page(written(run)).text


def test_many_classes_become_a_list(tmp_path: Path) -> None:
    names = [f"class {k:02}" for k in range(30)]
    page = Page(written(finished_run(tmp_path, [f"text {k}" for k in range(600)], names)))
    assert "30 classes are too many for a matrix" in page.text
    assert "class 29" in page.text


# The index.


def test_the_index_lists_every_run_newest_first(tmp_path: Path) -> None:
    first, second = finished_run(tmp_path), finished_run(tmp_path, seed=9)
    broken = finished_run(tmp_path, seed=10)
    broken.manifest.write_text("{")
    write_run_report(first)
    html = report(str(tmp_path / "runs")).read_text()
    page = Page(html)
    for run in (first, second, broken):
        assert run.run_id in html
    links = [str(a["href"]) for a in page.all("a") if not str(a["href"]).startswith("#")]
    assert links == [f"invented/{first.run_id}/report.html"]
    assert (tmp_path / "runs" / links[0]).is_file()
    keys = [str(cell["data-sort"]) for cell in page.all("td") if cell.get("data-sort", "").startswith("0.")]
    assert all(np.isfinite(float(key)) for key in keys)
    assert keys


def test_a_run_that_is_not_in_the_summary_is_marked(tmp_path: Path) -> None:
    ours, copied = finished_run(tmp_path), finished_run(tmp_path / "other", seed=9)
    shutil.copytree(copied.path, tmp_path / "runs" / copied.reference)
    html = index_page(tmp_path / "runs")
    rows = {
        run.run_id: Page(next(r for r in re.findall("<tr>.*?</tr>", html, re.DOTALL) if run.run_id in r)).text
        for run in (ours, copied)
    }
    assert "not in this folder's summary" in rows[copied.run_id]
    assert "not in this folder's summary" not in rows[ours.run_id]
    update_manifest(RunDirectory(tmp_path / "runs" / copied.reference), status="running")
    assert "not in this folder's summary" not in index_page(tmp_path / "runs"), "its end will write it there"


# Charts.


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.integers(2, 8))
def test_a_scale_holds_its_values_between_round_ticks(values: list[float], ticks: int) -> None:
    found = scale(values, 40, 400, ticks)
    slack = 1e-6 * (found.high - found.low)
    assert found.low - slack <= min(values) <= max(values) <= found.high + slack
    assert 2 <= len(found.ticks) <= 2 * ticks + 2
    assert 40 - 1 <= found(min(values)) <= found(max(values)) <= 400 + 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=12))
def test_any_curve_can_be_drawn(values: list[float]) -> None:
    points = tuple((float(step), value) for step, value in enumerate(values))
    series = [Series("a <b>", "quiet", points), Series("other", "main", points, dots=True)]
    drawn = line_chart(series, "nats", 'said "so"', from_zero=True, best=(0, values[0]) if values else None)
    assert "nan" not in re.sub(r">[^<]*<", "><", drawn).lower()
    ElementTree.fromstring(drawn)


def test_other_charts_are_well_formed() -> None:
    bounds = Interval(0.2, 0.9, 0.95)
    ElementTree.fromstring(interval_chart([Estimate("<a>", 0.5, bounds)], "x & y", "a description"))
    for labels in ([0, 1, 1], [1, 0, 0]):
        bins = reliability_bins(np.array([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0]]), np.array(labels))
        ElementTree.fromstring(reliability_chart(bins, 0.95, "a description"))


def test_rows_handed_over_in_python_are_not_looked_for(tmp_path: Path) -> None:
    content = collect_run(finished_run(tmp_path))
    html = run_report(content, Missing("the rows were given in Python"))
    assert "Texts are not shown: the rows were given in Python" in Page(html).text
