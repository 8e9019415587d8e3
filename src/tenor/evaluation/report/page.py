"""A run's content → its report as one HTML file; also the report of a later evaluation."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tenor.checks.diagnosis.artifacts import number
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.evaluation.formatting import duration, moment, percent
from tenor.evaluation.report.charts import Chart
from tenor.evaluation.report.explanation_section import (
    ExplanationsSection,
    Piece,
    explanations_section,
    marked_pieces,
    shortened,
)
from tenor.evaluation.report.results_sections import (
    Calibration,
    ChecksSection,
    ClassRow,
    Headline,
    MatrixCell,
    calibration_section,
    checks_section,
    class_rows,
    headline,
    matrix_rows,
    most_frequent_confusions,
    slices_section,
)
from tenor.evaluation.report.run_content import EvaluationNumbers, RunContent
from tenor.evaluation.report.training_sections import (
    Fact,
    Provenance,
    curves_section,
    provenance,
    status_of,
    trainable_briefly,
)
from tenor.explanations.verdict import verdict_of
from tenor.runs.best_evaluation import SplitNumbers
from tenor.runs.explanations import StoredWords
from tenor.runs.manifest import Manifest
from tenor.runs.missing import Missing
from tenor.runs.predictions import Predictions

PER_CELL = 12
IN_ALL_CELLS = 180
"""Limits the file's size: with many classes only the cells with the most rows have examples."""
MOST_CONFIDENT = 10
TEXT_CHARACTERS = 1600
"""Of a longer text the middle is omitted …"""
HEAD_CHARACTERS = 1000
"""… after these."""
START_CHARACTERS = 360
"""Of a text that is not opened."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Example:
    """A row and its prediction."""

    id: str
    text: str | None
    """None if the texts are not available."""
    left_out: int
    """Characters that are not shown."""
    true: str
    predicted: str
    confidence: str
    lengths: str
    """Tokens, and how many of them were truncated; empty if unknown."""
    right: bool
    pieces: tuple[Piece, ...] = ()
    """The shown text, with the words that decided marked; empty if there is no explanation."""

    @property
    def start(self) -> tuple[Piece, ...]:
        """The beginning of the marked text."""
        return shortened(self.pieces, START_CHARACTERS, START_CHARACTERS)


@dataclass(frozen=True)
class Cell:
    """Rows of one true class with one predicted class."""

    key: str
    true: str
    predicted: str
    n: int
    right: bool
    examples: tuple[Example, ...]


def texts_of(
    predictions: Predictions, split: str, rows: Mapping[str, LabelledText] | Missing
) -> Sequence[str] | Missing:
    """The texts of the predicted rows, in their order, where `rows` are the same rows."""
    if isinstance(rows, Missing):
        return rows
    if split not in rows or tuple(rows[split].ids) != predictions.ids:
        return Missing(f"the {split} rows of the data are not the rows that were predicted")
    return rows[split].texts


def open_cells(predictions: Predictions, texts: Sequence[str] | Missing) -> tuple[Cell, ...]:
    """Cells with examples: mistakes in descending order of confidence, correct rows in ascending order."""
    names, confidence = predictions.class_names, predictions.probabilities.max(axis=1)
    pairs, counts = np.unique(np.stack([predictions.labels, predictions.predicted]), axis=1, return_counts=True)
    cells, left = [], IN_ALL_CELLS
    for (true, predicted), n in sorted(zip(pairs.T.tolist(), counts.tolist(), strict=True), key=lambda one: -one[1]):
        rows = np.flatnonzero((predictions.labels == true) & (predictions.predicted == predicted))
        order = np.argsort(confidence[rows] * (1 if true == predicted else -1), kind="stable")
        chosen = rows[order[: min(PER_CELL, left)]]
        left -= len(chosen)
        if len(chosen):
            examples = tuple(_example(predictions, texts, row) for row in chosen)
            cells.append(Cell(f"{true}-{predicted}", names[true], names[predicted], n, true == predicted, examples))
    return tuple(sorted(cells, key=lambda cell: (cell.right, -cell.n)))


def confident_errors(predictions: Predictions) -> np.ndarray:
    """Positions of the wrong rows that the report shows, the most confident first, shape (rows,)."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = np.argsort(-predictions.probabilities.max(axis=1)[wrong], kind="stable")
    return wrong[order[:MOST_CONFIDENT]]


def most_confident_errors(
    predictions: Predictions, texts: Sequence[str] | Missing, words: Sequence[StoredWords] = ()
) -> tuple[Example, ...]:
    """The same rows as examples, with the explanations of those in `words`."""
    of_row = {one.id: one for one in words}
    examples = []
    for row in confident_errors(predictions).tolist():
        example, known = _example(predictions, texts, row), of_row.get(predictions.ids[row])
        if known is not None and known.label == example.predicted and not isinstance(texts, Missing):
            example = replace(example, pieces=_shown_pieces(texts[row], known))
        examples.append(example)
    return tuple(examples)


def _shown_pieces(text: str, words: StoredWords) -> tuple[Piece, ...]:
    """The marked text, shortened as `shown_text` does; empty if the explanation is of another text."""
    pieces = marked_pieces(text, words) if words.characters == len(text) else ()
    return shortened(pieces, TEXT_CHARACTERS, HEAD_CHARACTERS)


def _example(predictions: Predictions, texts: Sequence[str] | Missing, row: int) -> Example:
    text, left_out = (None, 0) if isinstance(texts, Missing) else shown_text(texts[row])
    true, predicted = int(predictions.labels[row]), int(predictions.predicted[row])
    return Example(
        id=clean(predictions.ids[row])[:80],
        text=text,
        left_out=left_out,
        true=predictions.class_names[true],
        predicted=predictions.class_names[predicted],
        confidence=_confidence(float(predictions.probabilities[row, predicted])),
        lengths=_lengths(predictions, row),
        right=true == predicted,
    )


def shown_text(text: str) -> tuple[str, int]:
    """A text as it is shown, and the number of characters omitted from its middle."""
    text = clean(text)
    extra = len(text) - TEXT_CHARACTERS
    if extra <= 0:
        return text, 0
    return f"{text[:HEAD_CHARACTERS]} […] {text[HEAD_CHARACTERS + extra :]}", extra


def clean(text: str) -> str:
    """Without characters that HTML does not allow."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def _confidence(probability: float) -> str:
    return ">99.9%" if 0.9995 <= probability < 1 else percent(min(probability, 1.0), 1)


def _lengths(predictions: Predictions, row: int) -> str:
    if predictions.tokens is None or predictions.truncated is None:
        return ""
    tokens, truncated = int(predictions.tokens[row]), int(predictions.truncated[row])
    return f"{tokens:,} tokens" + (f", {truncated:,} of them truncated" if truncated else "")


def render(template: str, **values: Any) -> str:
    """Render a template; everything except Tenor's own markup is escaped."""
    script = source("report.js")
    # A second defence next to escaping: the browser runs only the script with this digest, and loads nothing.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    html = page.render(**values, policy=policy, style=Markup(source("report.css")), script=Markup(script))
    return html.encode("utf-8", "replace").decode("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tenor.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.tests["missing"] = lambda value: isinstance(value, Missing)
    return environment


def source(name: str) -> str:
    """The text of a file among the templates."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@dataclass(frozen=True)
class Confusion:
    """The matrix, or a list if it is too wide, and the examples of its cells."""

    names: tuple[str, ...]
    matrix: tuple[tuple[MatrixCell, ...], ...]
    most_frequent: tuple[MatrixCell, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Page:
    """The values for the template. A missing part has a reason."""

    name: str
    run_id: str
    status: str
    message: str
    facts: tuple[str, ...]
    split: str
    headline: Headline | Missing
    checks: ChecksSection | Missing
    curves: tuple[Chart, ...] | Missing
    classes: tuple[ClassRow, ...] | Missing
    confusion: Confusion | Missing
    errors: tuple[Example, ...] | Missing
    explanations: ExplanationsSection | Missing
    texts: str
    """Why texts are not shown; empty if they are."""
    calibration: Calibration | Missing
    slices: tuple[Chart, ...] | Missing
    provenance: Provenance
    rows: str = ""
    """Origin of the rows, in the report of a later evaluation; empty in that of the run."""


def run_report(content: RunContent, rows: Mapping[str, LabelledText] | Missing) -> str:
    """The report as HTML. `rows` are those of the run, by split, or why they are not available."""
    return render("run.html", page=run_page(content, rows))


def run_page(content: RunContent, rows: Mapping[str, LabelledText] | Missing) -> Page:
    """The content of the report."""
    evaluation, config = content.evaluation, content.config
    top = headline(evaluation, dict(content.predictions)) if isinstance(evaluation, EvaluationNumbers) else evaluation
    split = top.split if isinstance(top, Headline) else "test"
    predictions = content.predictions[split]
    texts = texts_of(predictions, split, rows) if isinstance(predictions, Predictions) else Missing("")
    cells = open_cells(predictions, texts) if isinstance(predictions, Predictions) else ()
    numbers = evaluation.splits[split] if isinstance(evaluation, EvaluationNumbers) else evaluation
    confidence = config.evaluation.confidence if isinstance(config, Config) else 0.95
    status, message = status_of(content.manifest)
    stored = content.explanations
    explained = stored if isinstance(stored, Missing) else explanations_section(stored)
    words = () if isinstance(stored, Missing) or not verdict_of(stored).shown else stored.errors.get(split, ())
    errors = most_confident_errors(predictions, texts, words) if isinstance(predictions, Predictions) else predictions
    return Page(
        name=content.run.config_name,
        run_id=content.run.run_id,
        status=status,
        message=message,
        facts=_facts(content),
        split=split,
        headline=top,
        checks=content.checks if isinstance(content.checks, Missing) else checks_section(content.checks),
        curves=_curves(content),
        classes=class_rows(numbers.confusion_matrix, _names(evaluation), numbers.accuracy_interval.confidence)
        if isinstance(numbers, SplitNumbers)
        else numbers,
        confusion=_confusion(numbers, _names(evaluation), cells),
        errors=errors,
        explanations=explained,
        texts=texts.reason if isinstance(texts, Missing) else "",
        calibration=calibration_section(predictions, confidence)
        if isinstance(predictions, Predictions)
        else predictions,
        slices=slices_section(predictions, confidence) if isinstance(predictions, Predictions) else predictions,
        provenance=provenance(content, rows),
    )


def _names(evaluation: EvaluationNumbers | Missing) -> tuple[str, ...]:
    return evaluation.class_names if isinstance(evaluation, EvaluationNumbers) else ()


def _confusion(numbers: SplitNumbers | Missing, names: tuple[str, ...], cells: tuple[Cell, ...]) -> Confusion | Missing:
    if isinstance(numbers, Missing):
        return numbers
    keys = {cell.key for cell in cells}
    matrix = matrix_rows(numbers.confusion_matrix, names, keys)
    most_frequent = () if matrix else most_frequent_confusions(numbers.confusion_matrix, names, keys)
    return Confusion(names, matrix, most_frequent, cells)


def _curves(content: RunContent) -> tuple[Chart, ...] | Missing:
    if isinstance(content.records, Missing):
        return Missing("no training step was recorded")
    # A run that was killed while writing may leave incomplete lines.
    complete = [record for record in content.records if number(record.get("step")) is not None]
    select_by = content.config.training.select_by if isinstance(content.config, Config) else None
    kept = content.evaluation.checkpoint.step if isinstance(content.evaluation, EvaluationNumbers) else None
    return curves_section(complete, select_by, kept) or Missing("no training step was recorded")


def _facts(content: RunContent) -> tuple[str, ...]:
    manifest, config = content.manifest, content.config
    facts = []
    if isinstance(config, Config):
        facts.append(f"{config.model.name}, {trainable_briefly(content)}")
        facts.append(f"data: {config.data.source}")
    if isinstance(manifest, Manifest):
        facts.append(f"seed {manifest.seed}")
        facts.append(moment(manifest.started))
        if isinstance(manifest.duration_sec, float | int):
            facts.append(duration(manifest.duration_sec))
    return tuple(facts)


@dataclass(frozen=True)
class Measured:
    """A later evaluation: the rows and the weights that were evaluated."""

    split: str
    rows: LabelledText
    rows_sha256: str
    weights_sha256: str
    step: int
    """Of the checkpoint that the weights are from."""
    threshold: str
    """The threshold that `tenor predict` uses; empty if it predicts the most probable class."""
    overlap: str
    """How many rows have a text of the run's training or validation split."""
    command: str
    """The command that repeats the evaluation."""
    at: str
    """ISO 8601, UTC."""
    versions: Mapping[str, Any]


def measured_report(content: RunContent, measured: Measured) -> str:
    """The report as HTML; `content` is the run's, with the numbers and predictions of these rows only."""
    return render("run.html", page=_page(content, measured))


def _page(content: RunContent, measured: Measured) -> Page:
    facts = [f"{content.run.reference}, step {measured.step:,}", moment(measured.at), measured.overlap]
    if measured.threshold:
        facts.append(f"for the most probable class, without the threshold {measured.threshold}")
    no_explanations = replace(content, explanations=Missing("the run's own report has them"))
    page = run_page(no_explanations, {measured.split: measured.rows})
    origin = provenance(content, Missing("listed under Rows"))
    groups = (("Rows", _rows(measured)), ("Evaluation", _evaluation(measured)))
    training = tuple(("Training: " + name.lower(), facts) for name, facts in origin.groups)
    combined = replace(origin, groups=(*groups, *training), commands=(measured.command,))
    return replace(page, rows=measured.rows.origin, facts=tuple(facts), provenance=combined)


def _rows(measured: Measured) -> tuple[Fact, ...]:
    return (
        Fact("source", measured.rows.origin),
        Fact("split", f"{measured.split}, {len(measured.rows):,} rows"),
        Fact("rows, SHA-256", measured.rows_sha256, code=True),
        Fact("overlap with the run's splits", measured.overlap),
    )


def _evaluation(measured: Measured) -> tuple[Fact, ...]:
    return (
        Fact("weights, SHA-256", measured.weights_sha256, code=True),
        Fact("time", moment(measured.at)),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in measured.versions.items())),
    )
