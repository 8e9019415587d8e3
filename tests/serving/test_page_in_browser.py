"""The page of `tenor serve` in a real browser: what it shows, whom it serves, and what it never does."""

import csv
import io
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from browser import CONTRAST, IN_BROWSER, PHONE
from driven_page import (
    TESTED,
    answer_once,
    change,
    chromium,
    described,
    drop,
    explain_by_words,
    finished,
    loaded,
    percent,
    predict,
    table_rows,
    truncate_long,
    until,
    watched_page,
)
from report_runs import HOSTILE
from served import UNTESTED, running
from tenor.evaluation.report.page import source
from tenor.explanations.explainer import Explainer
from tenor.inference.predictor import Predictor
from tenor.serving.exchange import Served
from tenor.serving.limits import ServerLimits
from tenor.serving.model_facts import model_facts
from tenor.serving.service import Service

pytestmark = IN_BROWSER

Open = Callable[..., Page]
FILE = 'id,stars,review\n7,4,"A superb film,\nwith ""quotes""; and commas"\n8,1,dull\n9,2,\n'


@pytest.fixture(scope="module")
def url(predictor: Predictor) -> Iterator[str]:
    """A server of a classifier with random weights, with the facts of a run."""
    service = Service(predictor, ServerLimits(), Explainer.of(predictor))
    facts = described(model_facts("runs/demo", predictor, Path("runs"), UNTESTED))
    with running(Served(service, facts)) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def new_page(browser: Browser, url: str) -> Iterator[Open]:
    """Makes pages; none may complain, violate the policy or ask another server for anything."""
    opened = []

    def make(**settings: Any) -> Page:
        opened.append(watched_page(browser, url, **settings))
        return opened[-1].page

    yield make
    for one in opened:
        one.page.context.close()
        assert not one.complaints
        assert not one.left


@pytest.fixture
def page(new_page: Open) -> Page:
    """The page with the facts about the model, and explanations with known words."""
    made = new_page()
    explain_by_words(made)
    return loaded(made)


def test_a_review_is_predicted_and_explained(page: Page) -> None:
    text = "A superb film. The story is moving, though it is slow at times."
    page.fill("#texts", text)
    page.press("#texts", "Control+Enter")
    page.wait_for_selector(".legend")
    (expected,) = page.request.post("/v1/predict", data={"texts": [text]}).json()["predictions"]
    assert page.inner_text("#one .big") == expected["label"]
    assert page.inner_text("#one .sure") == f"probability {percent(expected['probability'])}"
    shown = dict(
        zip(page.locator(".bars dt").all_inner_texts(), page.locator(".bars .number").all_inner_texts(), strict=True)
    )
    assert shown == {name: percent(share) for name, share in expected["probabilities"].items()}
    # The text itself is unchanged, and its words are marked by class, with a line of their own each.
    assert page.inner_text("#one .text") == text
    assert page.locator(".text mark.for").all_inner_texts() == ["superb", "moving"]
    assert page.locator(".text mark.against").all_inner_texts() == ["slow"]
    lines = [
        page.eval_on_selector(f".text mark.{kind}", "m => getComputedStyle(m).textDecorationStyle")
        for kind in ("for", "against")
    ]
    assert lines == ["solid", "wavy"]
    assert page.inner_text(".text .sentence") == "A superb film."
    assert "(+2.42): A superb film." in page.inner_text(".most").replace("“", "").replace("”", "")
    assert page.locator(".weights ol").nth(0).inner_text().split()[:2] == ["superb", "+2.40"]
    assert page.locator(".weights ol").nth(1).inner_text().split() == ["slow", "−0.80"]
    assert TESTED in page.inner_text("#one")
    assert page.inner_text("#announced").startswith(f"{expected['label']}, probability")


def test_the_servers_own_explanation_is_shown(new_page: Open) -> None:
    page = loaded(new_page())
    text = "It opens well 😀. " + "Then nothing happens for an hour, and I was bored. " * 12 + "The end is superb."
    predict(page, text)
    answer = page.request.post("/v1/explain", data={"text": text}).json()
    assert page.inner_text("#one .text") == text
    ((start, end),) = answer["read"]  # This model reads the beginning of a text.
    assert start == 0
    assert page.locator(".text s").all_text_contents() == [text[end:]]
    strongest = max(answer["words"], key=lambda word: abs(word["value"]))
    assert strongest["word"] in page.locator(".text mark.of4").all_inner_texts()
    marked = page.locator(".text mark").count()
    assert marked == sum(abs(word["value"]) > 0.08 * abs(strongest["value"]) for word in answer["words"])
    best = answer["sentence"]
    assert page.inner_text(".text .sentence").strip() == text[best["start"] : best["end"]].strip()


def test_positions_are_code_points(page: Page) -> None:
    predict(page, "😀 👩‍🚀 𝒳𝒴 e\u0301 superb 🎬 film. Not 😐dull🙃.")
    assert page.locator(".text mark").all_inner_texts() == ["superb", "dull"]
    assert page.inner_text(".text .sentence") == "😀 👩‍🚀 𝒳𝒴 e\u0301 superb 🎬 film."


@pytest.mark.parametrize("hybrid", [False, True])
def test_what_was_truncated_is_struck_out_and_said(hybrid: bool, new_page: Open) -> None:
    page = new_page()
    head, middle, tail = "A superb 😀 start.", " Then it is dull, for hours.", " A warm end."
    explain_by_words(page, lambda text: [[0, len(head)], [len(head + middle), len(text)]])
    truncate_long(page, 30)
    change(page, "/v1/info", lambda answer, _: answer.update(hybrid=hybrid, max_length=128))
    predict(loaded(page), head + middle + tail)
    assert page.inner_text("#one .text") == head + middle + tail
    assert page.locator(".text s").all_text_contents() == [middle]
    said = page.inner_text("#one .truncated")
    reader = "encoder" if hybrid else "model"
    assert said.startswith(f"The {reader} read the first 17 and the last 12 of 57 characters (at most 128 tokens)")
    assert ("text baseline of this hybrid read the whole text" in said) == hybrid


def test_a_truncated_text_says_so_even_if_the_place_is_unknown(new_page: Open) -> None:
    page = new_page()
    truncate_long(page, 3)
    change(page, "/v1/explain", lambda answer, _: answer.update(read=[[0, 7]]))
    predict(loaded(page), "A film.")
    assert page.locator(".text s").count() == 0
    assert "at most 64 tokens" in page.inner_text("#one .truncated")


def test_a_prediction_says_what_must_be_known(new_page: Open) -> None:
    page = new_page()

    def edit(answer: dict[str, Any], _: Any) -> None:
        answer["abstain_below"] = 0.9
        answer["predictions"][0] |= {"label": "", "abstained": True, "windows": 3, "caution": "another script"}

    change(page, "/v1/predict", edit)
    hidden = {"shown": False, "words": [], "sentence": None, "completeness_gap": None, "why": "no better than random"}
    change(page, "/v1/explain", lambda answer, _: answer.update(hidden))
    predict(loaded(page), "A film.")
    assert page.inner_text("#one .big") == "No label"
    notes = page.inner_text("#one .notes")
    assert "no class has a probability of 90.0% or more" in notes
    assert "another script" in notes
    assert "3 windows" in notes
    assert "not shown: no better than random." in page.inner_text("#one .why")
    assert page.locator("mark").count() == 0


def test_a_threshold_is_said(new_page: Open) -> None:
    page = new_page()
    threshold = {"class": "positive", "probability": 0.61}
    change(page, "/v1/predict", lambda answer, _: answer.update(threshold=threshold))
    predict(loaded(page), "A film.")
    assert "positive at a probability of 61.0% or more" in page.inner_text("#one .notes")
    page.fill("#texts", "A film.\n\nAnother.")
    page.click("#go")
    finished(page)
    assert "positive at a probability of 61.0% or more" in page.inner_text("#summary")


def test_an_example_is_predicted_at_a_click(page: Page) -> None:
    page.locator("#samples button").first.click()
    page.wait_for_selector("#one .why .text")
    assert page.inner_text("#one .text") == page.input_value("#texts")


def test_empty_lines_separate_reviews(page: Page) -> None:
    page.fill("#texts", "\n\nA superb film.\nTwo lines.\n \t\n\n\nDull.\n\nGood.\n")
    assert page.inner_text("#go") == "Predict 3 reviews"
    page.click("#go")
    finished(page)
    rows = table_rows(page)
    assert [row[1].splitlines()[0] for row in rows] == ["A superb film. Two lines.", "Dull.", "Good."]
    expected = page.request.post("/v1/predict", data={"texts": ["A superb film.\nTwo lines.", "Dull.", "Good."]}).json()
    assert [row[2:] for row in rows] == [[one["label"], percent(one["probability"])] for one in expected["predictions"]]
    assert page.inner_text("#many-title") == "3 reviews"
    # One review that has empty lines.
    page.uncheck("#split")
    assert page.inner_text("#go") == "Predict"
    page.click("#go")
    page.wait_for_selector("#one .why .text")
    assert page.is_hidden("#many")
    assert page.inner_text("#one .text").count("\n") >= 5


def test_a_row_of_the_table_is_explained(page: Page) -> None:
    page.fill("#texts", "A superb film.\n\nDull.")
    page.click("#go")
    finished(page)
    page.get_by_role("button", name="Explain review 2").click()
    page.wait_for_selector(".legend")
    assert page.inner_text("#one-title") == "Review 2"
    assert page.inner_text("#one .text") == "Dull."
    assert page.evaluate("document.activeElement.id") == "one-title"
    page.get_by_role("button", name="Back to the table").click()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Explain review 2"


def test_a_dropped_file_is_predicted_and_downloaded(page: Page) -> None:
    drop(page, "reviews.csv", b"\xef\xbb\xbf" + FILE.encode())
    assert page.input_value("#column") == "2"  # Known by its name.
    assert page.inner_text("#column-hint") == "1 row without a review: not predicted."
    assert 'with "quotes"; and commas' in page.inner_text("#preview")
    assert page.evaluate("document.activeElement.id") == "file-go"
    page.keyboard.press("Enter")
    finished(page)
    assert [row[0] for row in table_rows(page)] == ["1", "2", "3"]
    assert "1 not predicted" in page.inner_text("#summary")
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "reviews_predicted.csv"
    content = Path(waiting.value.path()).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")  # As the file that was dropped.
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    given = list(csv.reader(io.StringIO(FILE, newline="")))
    labels = page.request.get("/v1/info").json()["labels"]
    added = [
        "prediction",
        "probability",
        *(f"probability_{label}" for label in labels),
        "truncated",
        "windows",
        "error",
    ]
    assert rows[0] == [*given[0], *added]
    assert [row[:3] for row in rows[1:]] == given[1:]
    answer = page.request.post("/v1/predict", data={"texts": [row[2] for row in given[1:3]]}).json()
    for row, one in zip(rows[1:3], answer["predictions"], strict=True):
        assert row[3] == one["label"]
        assert [float(cell) for cell in row[4:-3]] == [one["probability"], *one["probabilities"].values()]
        assert row[-3:] == ["false", "1", ""]
    assert rows[3][3:] == ["", "", *("" for _ in labels), "", "", "the text is empty"]


def test_the_page_asks_for_the_column_that_it_cannot_know(page: Page) -> None:
    page.set_input_files(
        "#file", {"name": "a.tsv", "mimeType": "text/plain", "buffer": b"title\twords\nOne\tA superb film\n"}
    )
    page.wait_for_selector("#table-file")
    assert page.evaluate("document.activeElement.id") == "column"
    page.click("#file-go")
    assert "Choose the column" in page.inner_text("#problem")
    page.select_option("#column", label="words")
    assert page.inner_text("#preview") == "A superb film"
    page.click("#file-go")
    finished(page)
    assert table_rows(page)[0][1].startswith("A superb film")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK", "does not end in .csv"),
        ("a.csv", b"text\n\xff\xfe\n", "is not UTF-8"),
        ("a.csv", b"text,n\ngood,1\nbad, worse,2\n", "line 3: 3 fields, expected 2"),
        ("a.csv", b'text,n\n"good\nbad,2\n', "Line 2: a field begins with a quote there, which is never closed"),
        ("a.csv", b'text,n\n"good" film,1\n', "Line 2: text follows a closing quote"),
        ("a.csv", b"text\n", "needs a first line"),
        ("a.csv", b"", "needs a first line"),
        ("a.csv", b"text,prediction\ngood,1\n", "already has prediction"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(name: str, content: bytes, message: str, page: Page) -> None:
    drop(page, name, content)
    assert message in page.inner_text("#problem")
    assert page.is_hidden("#table-file")


def test_csv_is_read_and_written_as_python_does(page: Page) -> None:
    draw = random.Random(5)
    files, tables = [], []
    for _ in range(150):
        width, delimiter = draw.randint(1, 4), draw.choice(",;\t")
        cells = ["a", '"', '""', ",", ";", "\t", "\n", "\r\n", " ", "é", "😀", "-1", ""]
        table = [["".join(draw.choices(cells, k=draw.randint(1, 6))) for _ in range(width)] for _ in range(4)]
        # The header has the delimiter most often; an empty line is no row.
        table = [[f"c{k}" for k in range(width)], *(row for row in table if row != [""])]
        written = io.StringIO(newline="")
        csv.writer(written, delimiter=delimiter, lineterminator=draw.choice(["\n", "\r\n"])).writerows(table)
        if len(table) > 1:
            files.append(written.getvalue())
            tables.append([table, delimiter])
    script = """async ([files, tables]) => {
      const { readFile, csvLine } = await import("/csv.js");
      const read = await Promise.all(files.map((text) => readFile(new File([text], "a.csv"))));
      const lines = tables.map(([table, delimiter]) => table.map((row) => csvLine(row, delimiter)).join(""));
      return [read.map(({ header, rows }) => [header, ...rows]), lines];
    }"""
    read, lines = page.evaluate(script, [files, tables])
    assert read == [table for table, _ in tables]
    for text, (table, delimiter) in zip(lines, tables, strict=True):
        assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) == table


def _file_of(rows: int) -> bytes:
    return "".join(["review\n", *(f"a film of {k} minutes\n" for k in range(rows))]).encode()


def test_many_rows_are_sent_in_portions_stopped_and_continued(new_page: Open) -> None:
    page, waiting, sizes = new_page(), [], []
    change(page, "/v1/info", lambda answer, _: answer["limits"].update(max_texts=20))
    loaded(page)

    def hold(route: Any) -> None:
        sizes.append(len(route.request.post_data_json["texts"]))
        if len(sizes) == 3:
            waiting.append(route)  # No answer: the user stops it.
        else:
            route.continue_()

    page.route("**/v1/predict", hold)
    drop(page, "a.csv", _file_of(130))
    page.click("#file-go")
    for _ in range(600):
        if not waiting:
            page.wait_for_timeout(25)
    assert f"{sum(sizes[:2])} of 130 reviews" in page.inner_text("#so-far")
    page.click("#stop")
    page.wait_for_selector("#continue")
    assert page.inner_text("#announced") == f"Stopped after {sum(sizes[:2])} of 130 reviews."
    page.click("#continue")
    page.wait_for_selector("#continue", state="hidden")
    finished(page)
    assert max(sizes) <= 20
    assert sum(sizes) - sizes[2] == 130
    assert len(table_rows(page)) == 100
    page.click("#more")
    assert [int(row[0]) for row in table_rows(page)] == list(range(1, 131))
    assert table_rows(page)[129][1].startswith("a film of 129 minutes")


def test_one_text_that_is_refused_fails_alone(new_page: Open) -> None:
    page = loaded(new_page())

    def refuse(route: Any) -> None:
        if any("of 5 minutes" in text for text in route.request.post_data_json["texts"]):
            route.fulfill(status=422, json={"error": f"texts[0] {HOSTILE}", "error_type": "validation"})
        else:
            route.continue_()

    page.route("**/v1/predict", refuse)
    drop(page, "a.csv", _file_of(20))
    page.click("#file-go")
    finished(page)
    rows = table_rows(page)
    assert [row[0] for row in rows if row[2] == "–"] == ["6"]
    assert "texts[0] <script>" in rows[5][1]
    assert "1 not predicted" in page.inner_text("#summary")


def test_markup_stays_text(new_page: Open) -> None:
    page = new_page()
    label = f"positive {HOSTILE}"

    def rename(answer: dict[str, Any], _: Any) -> None:
        for one in answer["predictions"]:
            one["probabilities"] = {label: 0.9, "negative": 0.1}
            one |= {"label": label, "probability": 0.9, "caution": HOSTILE}

    def describe(answer: dict[str, Any], _: Any) -> None:
        answer |= {"model": HOSTILE, "labels": [label, "negative"], "examples": [HOSTILE], "engine_why": HOSTILE}
        answer["card"] = {"trained_on": HOSTILE, "accuracy": HOSTILE, "limits": [HOSTILE]}
        answer["checks"]["verdict"] = HOSTILE

    change(page, "/v1/predict", rename)
    change(page, "/v1/info", describe)
    explain_by_words(page)
    loaded(page)
    predict(page, f"superb {HOSTILE}")
    assert page.inner_text("#model") == HOSTILE
    assert page.inner_text("#one .text") == f"superb {HOSTILE}"
    assert page.inner_text("#one .big") == label
    assert HOSTILE in page.inner_text("#one .notes")
    header, cell = f"review {HOSTILE}", '"' + HOSTILE.replace('"', '""') + '"'
    drop(page, "<b>name.csv", f'"{header.replace(chr(34), chr(34) * 2)}"\n{cell}\n'.encode())
    assert page.inner_text("#file-name") == "<b>name.csv"
    assert header in page.inner_text("#column")
    assert HOSTILE in page.inner_text("#preview")
    page.click("#file-go")
    finished(page)
    assert table_rows(page)[0][1].startswith(HOSTILE[:60])
    assert table_rows(page)[0][2] == label
    answer_once(page, "/v1/predict", (500, {"error": HOSTILE, "error_type": "internal"}, {}))
    page.fill("#texts", "a film")
    page.click("#go")
    page.wait_for_selector(".message")
    assert HOSTILE in page.inner_text("#problem")
    assert page.title() != "owned"
    assert page.locator("img, script:not([src]), main b > b").count() == 0


def test_the_keyboard_is_enough(page: Page) -> None:
    def focused() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.textContent")

    def tab_to(name: str) -> list[str]:
        passed = []
        for _ in range(30):
            page.keyboard.press("Tab")
            passed.append(focused())
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", passed  # The focus can be seen.
            if passed[-1] == name:
                return passed
        raise AssertionError(f"{name} is not reached: {passed}")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the field for reviews"
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'texts'")
    page.keyboard.type("A superb film.")
    assert tab_to("go") == ["go"]
    page.keyboard.press("Enter")
    page.wait_for_selector(".legend")
    assert focused() == "go"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+End")
    page.keyboard.type("\n\nDull.")
    assert tab_to("go") == ["go"]
    page.keyboard.press("Enter")
    finished(page)
    # The order of the controls is that of the page.
    assert tab_to("download")[:3] == ["choose", "split", page.inner_text("#samples button >> nth=0")]
    tab_to("Explain")
    page.keyboard.press("Enter")
    page.wait_for_selector(".legend")
    assert focused() == "one-title"
    tab_to("Back to the table")
    page.keyboard.press("Enter")
    assert focused() == "Explain"


def test_a_stop_button_that_disappears_leaves_the_focus_at_the_results(new_page: Open) -> None:
    page = loaded(new_page())
    page.route("**/v1/predict", lambda route: None)
    drop(page, "a.csv", _file_of(20))
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop")
    page.focus("#stop")
    page.keyboard.press("Enter")
    page.wait_for_selector("#progress", state="hidden")
    assert page.evaluate("document.activeElement.id") == "many-title"


def test_a_screen_reader_gets_names_roles_and_changes(page: Page) -> None:
    drop(page, "reviews.csv", FILE.encode())
    page.click("#file-go")
    finished(page)
    page.get_by_role("button", name="Explain review 1").click()
    page.wait_for_selector(".legend")
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")]
    controls = {"button", "textbox", "combobox", "checkbox", "link", "progressbar", "table", "region", "columnheader"}
    assert not [role for role, name in seen if role in controls and not name.strip()]
    roles = [role for role, _ in seen]
    for role in ("main", "banner", "contentinfo", "navigation", "table", "rowheader", "alert", "status", "heading"):
        assert role in roles, role
    assert ("textbox", "Reviews: one, or several separated by empty lines") in seen
    assert ("combobox", "Column that holds the reviews") in seen
    levels = [int(level) for level in page.eval_on_selector_all("h1, h2, h3", "all => all.map(h => h.tagName[1])")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(b - a for a, b in pairwise(levels)) <= 1
    assert page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize("width", [320, PHONE])
@pytest.mark.parametrize("endless", [False, True], ids=["words", "endless words"])
def test_nothing_is_wider_than_the_window(width: int, endless: bool, new_page: Open) -> None:
    page = new_page(width=width, is_mobile=True, has_touch=True)
    word = "x" * 300 if endless else "superb"

    def rename(answer: dict[str, Any], _: Any) -> None:
        for one in answer["predictions"]:
            one["probabilities"] = {word: 0.9, "negative": 0.1}
            one |= {"label": word, "probability": 0.9, "caution": word}

    if endless:
        change(page, "/v1/predict", rename)
        change(
            page, "/v1/info", lambda answer, _: answer.update(model=word, labels=[word, "negative"], examples=[word])
        )
    explain_by_words(page)
    loaded(page)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if not endless:
            assert page.evaluate("[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth)")

    check()
    predict(page, f"A {word} film. {word} {word}")
    check()
    drop(page, f"{word}.csv", f"{word},b\n{word},{word}\nshort,1\n".encode())
    page.select_option("#column", "1")
    page.click("#file-go")
    finished(page)
    check()
    answer_once(page, "/v1/predict", (422, {"error": word, "error_type": "validation"}, {}))
    page.fill("#texts", word)
    page.click("#go")
    page.wait_for_selector(".message")
    answer_once(page, "/v1/info", (401, {"error": word, "error_type": "unauthorized"}, {}))
    page.evaluate("document.getElementById('key').hidden = false")
    check()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_words_can_be_read(dark: bool, new_page: Open) -> None:
    page = new_page(dark=dark)
    explain_by_words(page, lambda text: [[0, 60], [80, len(text)]])
    truncate_long(page, 60)
    loaded(page)
    drop(page, "reviews.csv", FILE.encode())
    page.click("#file-go")
    finished(page)
    page.get_by_role("button", name="Explain review 2").click()
    page.wait_for_selector(".legend")

    def check() -> None:
        background, contrast, worst = page.evaluate(CONTRAST)
        assert (max(background) < 40) if dark else (min(background) > 240)
        assert contrast >= 4.5, worst  # WCAG 2.2, level AA

    check()
    predict(page, "superb good warm moving dull slow wooden film, " * 3 + ".")
    answer_once(page, "/v1/predict", (422, {"error": "no", "error_type": "validation"}, {}))
    page.fill("#texts", "a")
    page.click("#go")
    page.wait_for_selector(".message")
    page.evaluate("for (const id of ['key', 'progress', 'many']) document.getElementById(id).hidden = false")
    assert {"for of4", "for of1", "against of4", "against of2"} <= set(
        page.eval_on_selector_all("mark", "all => all.map(m => m.className)")
    )
    check()


def test_nothing_moves_for_readers_who_prefer_that(new_page: Open) -> None:
    page = loaded(new_page(reduced_motion="reduce"))
    assert page.eval_on_selector("html", "e => getComputedStyle(e).scrollBehavior") == "auto"
    durations = "all => all.filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    assert page.eval_on_selector_all("*", durations) == 0


def test_a_busy_server_is_asked_again(page: Page) -> None:
    busy = (429, {"error": "overloaded", "error_type": "overloaded"}, {"Retry-After": "1"})
    answer_once(page, "/v1/predict", busy, busy)
    page.fill("#texts", "A superb film.")
    page.click("#go")
    page.wait_for_selector("#waiting:not(:empty)")
    assert page.inner_text("#waiting") == "The server is busy. Trying again in 1 second."
    page.wait_for_selector(".legend")
    assert page.inner_text("#waiting") == ""
    assert page.inner_text("#problem") == ""


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (413, "Too large for the server"),
        (422, "The server cannot use this"),
        (429, "The server is busy"),
        (500, "The server answered 500"),
        (503, "The server is not ready"),
        (504, "The server took too long"),
    ],
)
def test_errors_are_said_with_the_servers_fix(status: int, title: str, page: Page) -> None:
    answer_once(page, "/v1/predict", (status, {"error": "what happened. What to do", "error_type": "x"}, {}))
    page.fill("#texts", "A superb film.")
    page.click("#go")
    page.wait_for_selector(".message")
    assert page.inner_text("#problem") == f"{title}\nwhat happened. What to do."
    assert page.input_value("#texts") == "A superb film."
    page.click("#go")
    page.wait_for_selector(".legend")
    assert page.inner_text("#problem") == ""


def test_a_lost_connection_is_said(page: Page) -> None:
    page.route("**/v1/predict", lambda route: route.abort("connectionrefused"))
    page.fill("#texts", "A superb film.")
    page.click("#go")
    page.wait_for_selector(".message")
    assert page.inner_text("#problem").startswith("No answer from the server\n")
    assert "tenor serve" in page.inner_text("#problem")


def test_the_page_can_be_loaded_again_where_the_facts_failed(new_page: Open) -> None:
    page = new_page()
    answer_once(page, "/v1/info", (500, {"error": "an error", "error_type": "internal"}, {}))
    page.goto("/")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#fields:enabled")
    assert page.inner_text("#problem") == ""


def test_a_key_is_asked_for_and_kept_nowhere(new_page: Open) -> None:
    page, keys = new_page(), []

    def guard(route: Any) -> None:
        keys.append(route.request.headers.get("authorization"))
        if keys[-1] == "Bearer k-71-right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "send the API key", "error_type": "unauthorized"})

    page.route("**/v1/**", guard)
    page.goto("/")
    page.wait_for_selector("#key")
    assert "An API key is required" in page.inner_text("#problem")
    for key in ("wrong", "k-71-rightß"):
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        until(page, "/refused|Not an API key/.test(document.getElementById('problem').textContent)")
    page.fill("#key-value", "k-71-right")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fields:enabled")
    assert page.is_hidden("#key")
    assert page.inner_text("#problem") == ""
    predict(page, "A superb film.")
    assert keys[0] is None
    assert set(keys[2:]) == {"Bearer k-71-right"}
    stored = "[localStorage.length, sessionStorage.length, document.cookie, document.body.innerHTML.includes('k-71')]"
    assert page.evaluate(stored) == [0, 0, "", False]
    assert page.context.cookies() == []
    page.reload()
    page.wait_for_selector("#key")


def test_the_model_is_described(page: Page) -> None:
    info = page.request.get("/v1/info").json()
    about = page.inner_text("#about")
    for words in (info["card"]["trained_on"], info["card"]["accuracy"], *info["card"]["limits"], info["digest"]):
        assert words.rstrip(".") in about
    assert info["checks"]["verdict"].rstrip(".") in about
    assert info["model"] in page.title()


@pytest.mark.parametrize(
    ("checks", "badge"),
    [
        ({"errors": ["DAT002"], "warnings": []}, "1 error"),
        ({"errors": [], "warnings": ["TOK009", "OPT013"]}, "2 warnings"),
        ({"checked": False, "verdict": "not checked: no run"}, "not checked"),
    ],
)
def test_the_verdict_of_the_checks_is_at_the_top(checks: dict[str, Any], badge: str, new_page: Open) -> None:
    page = new_page()
    change(page, "/v1/info", lambda answer, _: answer["checks"].update(checks))
    assert loaded(page).inner_text("#badge") == badge


def test_figures_that_are_missing_have_a_reason(new_page: Open) -> None:
    page = new_page()
    missing = {"test": {"missing": "no test split"}, "validation": {"missing": "not evaluated"}}
    change(page, "/v1/info", lambda answer, _: answer.update(evaluation=missing))
    assert "accuracy missing: no test split" in loaded(page).inner_text("#facts")
    assert "no test split" in page.inner_text(".figures")


def test_the_colours_are_the_reports(page: Page) -> None:
    css = page.request.get("/page.css").text()

    def colors(text: str) -> list[dict[str, str]]:
        return [
            dict(re.findall(r"(--[\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", text, re.S)
        ]

    for mine, reports in zip(colors(css), colors(source("report.css")), strict=True):
        assert mine.items() <= reports.items()
