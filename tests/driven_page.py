"""The page of `tenor serve` in Chromium, driven by Playwright, with answers in place of the server's where needed."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from playwright.sync_api import Browser, Page, Route, sync_playwright

from browser import CHROMIUM
from tenor.explanations.verdict import Verdict
from tenor.runs.best_evaluation import Bounds, SplitNumbers
from tenor.runs.missing import Missing
from tenor.serving.model_facts import EXAMPLES, ModelFacts

WEIGHTS = {"superb": 2.4, "moving": 1.2, "warm": 0.8, "good": 0.5, "slow": -0.8, "dull": -1.9, "wooden": -1.2}
TESTED = (
    "deleting the words that the explanation calls important lowers the probability by 0.310, random words by 0.070"
)


def described(facts: ModelFacts) -> ModelFacts:
    """The same facts as of a run: evaluated, checked, and with explanations that passed their test."""
    numbers = SplitNumbers(
        n=2000,
        accuracy=0.9045,
        accuracy_interval=Bounds(0.8908, 0.9166, 0.95),
        macro_f1=0.9044,
        macro_f1_interval=Bounds(0.8907, 0.9165, 0.95),
        loss=0.23,
        baselines={},
        confusion_matrix=((900, 100), (91, 909)),
    )
    return replace(
        facts,
        evaluation={"validation": Missing("not evaluated"), "test": numbers},
        checks={
            "checked": True,
            "verdict": "103 rules were checked: 0 open errors, 0 warnings",
            "errors": [],
            "warnings": [],
        },
        explanations=Verdict(True, TESTED),
        card={
            "trained_on": "Trained on 2,000 texts: IMDb reviews.",
            "accuracy": "90.5% of 2,000 test texts were classified correctly (95% CI 89.1–91.7%).",
            "limits": ["It reads at most 64 tokens of a text.", "Other texts may have a lower accuracy"],
        },
        examples=EXAMPLES,
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        arguments = ["--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Watched:
    """A page, and what it complained about or asked other servers for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Addresses of another origin that were asked for."""


def watched_page(browser: Browser, url: str, width: int = 1040, dark: bool = False, **settings: Any) -> Watched:
    """A new page without an address, in a window of `width` pixels; nothing is shared with other pages."""
    colors: Any = "dark" if dark else "light"
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": 800}, color_scheme=colors, accept_downloads=True, **settings
    )
    context.set_default_timeout(15_000)
    watched = Watched(context.new_page())
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    # Chromium reports violations of the policy here, and answers that are no success, which the page itself shows.
    watched.page.on(
        "console",
        lambda line: None if line.text.startswith("Failed to load resource") else watched.complaints.append(line.text),
    )

    def note(address: str) -> None:
        if not address.startswith((f"{url}/", f"blob:{url}/", "data:")):
            watched.left.append(address)

    watched.page.on("request", lambda request: note(request.url))
    return watched


def loaded(page: Page) -> Page:
    """The page with the facts about the model."""
    page.goto("/")
    page.wait_for_selector("#fields:enabled")
    return page


def predict(page: Page, text: str) -> None:
    """Type a text and wait until its prediction and its explanation are shown."""
    page.evaluate("document.getElementById('one').replaceChildren()")  # What is shown already is not waited for.
    page.fill("#texts", text)
    page.click("#go")
    page.wait_for_selector("#one .why .text")


def finished(page: Page) -> None:
    """Wait until all reviews of the table are predicted."""
    page.wait_for_selector("#many")
    page.wait_for_selector("#progress", state="hidden")


def until(page: Page, condition: str) -> None:
    """Wait until a script's expression is true. `wait_for_function` would violate the page's policy."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(condition)


def answer_once(page: Page, path: str, *answers: tuple[int, Any, dict[str, str]]) -> None:
    """The next requests to `path` get these answers (status, JSON, headers); later ones get the server's."""
    left = list(answers)

    def reply(route: Route) -> None:
        if left:
            status, content, headers = left.pop(0)
            route.fulfill(status=status, json=content, headers=headers)
        else:
            route.fallback()

    page.route(f"**{path}", reply)


def change(page: Page, path: str, edit: Callable[[Any, Any], None]) -> None:
    """Answers to `path` are the server's after `edit(answer, request)`."""

    def reply(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        edit(content, json.loads(route.request.post_data or "null"))
        route.fulfill(response=response, json=content)

    page.route(f"**{path}", reply)


def explain_by_words(page: Page, keep: Callable[[str], list[list[int]]] = lambda text: [[0, len(text)]]) -> None:
    """Explanations with known contributions, `WEIGHTS`, for texts of which the stretches `keep(text)` were read."""

    def edit(answer: dict[str, Any], request: dict[str, str]) -> None:
        text = request["text"]
        read = keep(text)
        found = [m for m in re.finditer(r"\w+", text) if any(a <= m.start() and m.end() <= b for a, b in read)]
        words = [
            {"word": m.group(), "start": m.start(), "end": m.end(), "value": WEIGHTS.get(m.group().lower(), 0.01)}
            for m in found
        ]

        def value(part: re.Match[str]) -> float:
            return sum(word["value"] for word in words if part.start() <= word["start"] < part.end())

        best = max(re.finditer(r"[^.!?\s][^.!?]*[.!?]*", text), key=value)
        sentence = {"start": best.start(), "end": best.end(), "value": value(best)}
        answer |= {"explains": "positive", "words": words, "sentence": sentence, "read": read}
        answer |= {"completeness_gap": 0.003, "shown": True, "why": TESTED}
        answer["prediction"]["truncated"] = read != [[0, len(text)]]

    change(page, "/v1/explain", edit)


def truncate_long(page: Page, length: int) -> None:
    """Predictions say that texts above `length` characters were truncated."""

    def edit(answer: dict[str, Any], request: dict[str, Any]) -> None:
        for one, text in zip(answer["predictions"], request["texts"], strict=True):
            one["truncated"] = len(text) > length

    change(page, "/v1/predict", edit)


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file on the page."""
    script = """([name, bytes]) => {
      const dropped = new DataTransfer();
      dropped.items.add(new File([new Uint8Array(bytes)], name));
      return dropped;
    }"""
    dropped = page.evaluate_handle(script, [name, list(content)])
    page.dispatch_event("main", "dragover", {"dataTransfer": dropped})
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})
    page.wait_for_selector("#table-file:visible, .message")


def table_rows(page: Page) -> list[list[str]]:
    """The cells of the result table."""
    script = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    return page.eval_on_selector_all("#rows tr", script)


def percent(share: float) -> str:
    """A probability as the page shows it."""
    if 0.9995 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if not 0 < share < 0.0005 else "<0.1%"
