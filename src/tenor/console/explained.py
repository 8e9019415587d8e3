"""Terminal output of explanations: the words of a text in colours and signs, and the test of a model's explanations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.errors import harmless
from tenor.evaluation.formatting import duration, signed
from tenor.explanations.explainer import Explanation, Word
from tenor.explanations.verdict import Verdict
from tenor.runs.explanations import StoredExplanations, StoredShortcut, StoredTerm

if TYPE_CHECKING:
    from tenor.workflows.explain import ExplainedModel, ExplainedText

FOR, AGAINST = "#56b4e9", "#e69f00"
"""Blue and orange of Okabe and Ito (2008), which people with any kind of colour vision can tell apart."""
STRONG, WEAK = 0.5, 0.2
"""Values, relative to the largest of the text, from which a word has two signs or one."""
LISTED = 5
SHOWN_TERMS = 10


def show_explained(console: Console, one: "ExplainedText", verdict: Verdict) -> None:
    """A prediction, and the text with what each word did; if explanations are not shown, why."""
    prediction, explanation = one.prediction, one.explanation
    label = prediction.label or "(unsure)"
    console.print(Text(f"{label}  {prediction.probability:.4f}", style="bold"))
    if prediction.caution:
        _line(console, f"do not trust this prediction: {prediction.caution}", "yellow")
    if not verdict.shown:
        _line(console, f"no explanation is shown: {verdict.why}", "yellow")
        return
    console.print(coloured(one.text, explanation), soft_wrap=True)
    for name, words in (("for", _strongest(explanation, 1)), ("against", _strongest(explanation, -1))):
        if words:
            listed = ", ".join(f"{_one_line(word.word)} {signed(word.value, 2)}" for word in words)
            _line(console, f"{name + ' ' + explanation.label:>{8 + len(explanation.label)}}: {listed}")
    if explanation.sentence is not None:
        part = one.text[explanation.sentence.start : explanation.sentence.end]
        _line(console, f"the sentence that weighs most ({signed(explanation.sentence.value, 2)}): {_one_line(part)}")
    if explanation.skipped:
        count = sum(end - start for start, end in explanation.skipped)
        _line(console, f"truncated: the encoder did not read {count:,} of {len(one.text):,} characters", "yellow")
    _line(
        console,
        f"values in logits; their sum misses the score by {100 * explanation.gap:.1f}% (completeness gap)",
        "dim",
    )


def coloured(text: str, explanation: Explanation) -> Text:
    """The text: words that speak for the label on blue with +, against it on orange with −; two signs are strong."""
    largest = max((abs(word.value) for word in explanation.words), default=0.0)
    shown, at = Text(), 0
    for word in explanation.words:
        shown.append(harmless(text[at : word.start]))
        at = word.end
        strength = abs(word.value) / largest if largest else 0.0
        if strength < WEAK:
            shown.append(harmless(word.word))
            continue
        sign = ("+" if word.value > 0 else "−") * (2 if strength >= STRONG else 1)
        colour = FOR if word.value > 0 else AGAINST
        style = f"bold black on {colour}" if strength >= STRONG else f"underline {colour}"
        shown.append(f"{harmless(word.word)}{sign}", style=style)
    return shown.append(harmless(text[at:]))


def show_tested(console: Console, tested: "ExplainedModel") -> None:
    """The verdict on a model's explanations, what decides over the held-out rows, and suspected shortcuts."""
    record, verdict = tested.record, tested.verdict
    _line(console, "explanations are shown" if verdict.shown else "explanations are not shown", "bold")
    _line(console, verdict.why)
    if isinstance(record.gap, float):
        _line(console, f"completeness gap {100 * record.gap:.1f}% (median); tested in {duration(record.seconds)}")
    if verdict.shown:
        console.print(_terms_table("words that decide most", record.words))
        console.print(_terms_table("pairs that decide most", record.pairs))
    if isinstance(record.shortcuts, dict):
        _line(console, f"no suspected shortcuts: {record.shortcuts['missing']}")
    else:
        console.print(_shortcuts_table(record, record.shortcuts))
        _line(console, f"labels of {record.labelled}. A word that means nothing for the class is a shortcut.", "dim")
    _line(console, f"written: {tested.place}{'' if tested.report is None else f', report: {tested.report}'}")


def _terms_table(title: str, terms: Sequence[StoredTerm]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    table.add_column("for", overflow="fold")
    for name in ("mean, logits", "occurrences", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in terms[:SHOWN_TERMS]:
        table.add_row(
            Text(_one_line(one.term)), Text(one.label), signed(one.mean, 2), f"{one.count:,}", f"{one.rows:,}"
        )
    return table


def _shortcuts_table(record: StoredExplanations, shortcuts: Sequence[StoredShortcut]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("suspected shortcuts", overflow="fold")
    table.add_column("pulls to", overflow="fold")
    for name in ("inserted", "deleted", "rows of the class"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in shortcuts:
        deleted = "–" if isinstance(one.deleted, dict) else signed(-one.deleted, 3)
        table.add_row(
            Text(_one_line(one.term)),
            Text(one.label),
            signed(one.inserted, 3),
            deleted,
            f"{one.of_label:,} of {one.rows:,}",
        )
    return table


def _strongest(explanation: Explanation, sign: int) -> list[Word]:
    words = [word for word in explanation.words if sign * word.value > 0 and any(map(str.isalnum, word.word))]
    return [word for word in sorted(words, key=lambda word: -sign * word.value)[:LISTED] if abs(word.value) >= 0.005]


def _one_line(text: str) -> str:
    return harmless(" ".join(text.split()))


def _line(console: Console, message: str, style: str | None = None) -> None:
    console.print(message, style=style, highlight=False, soft_wrap=True, markup=False)
