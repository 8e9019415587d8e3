"""A run's content → its report as one HTML file; also the report of a model that is evaluated again."""

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
from tenor.data.dataset import LabelledText, Missing
from tenor.evaluation.numbers import duration, moment, percent
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.charts import Chart
from tenor.evaluation.report.results_sections import (
    Calibration,
    ChecksSection,
    ClassRow,
    Headline,
    MatrixCell,
    calibration_section,
    checks_section,
    class_rows,
    commonest_confusions,
    headline,
    matrix_rows,
    slices_section,
)
from tenor.evaluation.report.run_content import EvaluationNumbers, RunContent, SplitNumbers
from tenor.evaluation.report.training_sections import (
    Fact,
    Provenance,
    curves_section,
    provenance,
    status_of,
    trainable_briefly,
)
from tenor.runs.manifest import Manifest

PER_CELL = 12
IN_ALL_CELLS = 180
"""Bounds the file's size: with many classes only the cells with the most rows open."""
MOST_CONFIDENT = 10
TEXT_CHARACTERS = 1600
"""A longer text is shown with its middle left out."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Example:
    """A row and what the model said of it."""

    id: str
    text: str | None
    """None where the texts are not at hand."""
    left_out: int
    """Characters that are not shown."""
    true: str
    predicted: str
    confidence: str
    lengths: str
    """Tokens, and how many of them the model never saw; empty where that is not known."""
    right: bool


@dataclass(frozen=True)
class Cell:
    """Rows of one true class that were taken for one class."""

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
        return Missing(f"the {split} rows of the data are not those that were predicted")
    return rows[split].texts


def open_cells(predictions: Predictions, texts: Sequence[str] | Missing) -> tuple[Cell, ...]:
    """Cells with examples: mistakes with the highest confidence first, correct rows with the lowest."""
    names, confidence = predictions.class_names, predictions.probabilities.max(axis=1)
    pairs, counts = np.unique(np.stack([predictions.labels, predictions.predicted]), axis=1, return_counts=True)
    found, left = [], IN_ALL_CELLS
    for (true, said), n in sorted(zip(pairs.T.tolist(), counts.tolist(), strict=True), key=lambda one: -one[1]):
        rows = np.flatnonzero((predictions.labels == true) & (predictions.predicted == said))
        order = np.argsort(confidence[rows] * (1 if true == said else -1), kind="stable")
        chosen = rows[order[: min(PER_CELL, left)]]
        left -= len(chosen)
        if len(chosen):
            examples = tuple(_example(predictions, texts, row) for row in chosen)
            found.append(Cell(f"{true}-{said}", names[true], names[said], n, true == said, examples))
    return tuple(sorted(found, key=lambda cell: (cell.right, -cell.n)))


def most_confident_errors(predictions: Predictions, texts: Sequence[str] | Missing) -> tuple[Example, ...]:
    """Wrong rows, the most confident first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = np.argsort(-predictions.probabilities.max(axis=1)[wrong], kind="stable")
    return tuple(_example(predictions, texts, row) for row in wrong[order[:MOST_CONFIDENT]])


def _example(predictions: Predictions, texts: Sequence[str] | Missing, row: int) -> Example:
    text, left_out = (None, 0) if isinstance(texts, Missing) else shown_text(texts[row])
    true, said = int(predictions.labels[row]), int(predictions.predicted[row])
    return Example(
        id=clean(predictions.ids[row])[:80],
        text=text,
        left_out=left_out,
        true=predictions.class_names[true],
        predicted=predictions.class_names[said],
        confidence=_sure(float(predictions.probabilities[row, said])),
        lengths=_lengths(predictions, row),
        right=true == said,
    )


def shown_text(text: str) -> tuple[str, int]:
    """A text as it is shown, and how many of its characters are left out of its middle."""
    text = clean(text)
    extra = len(text) - TEXT_CHARACTERS
    if extra <= 0:
        return text, 0
    head = TEXT_CHARACTERS * 5 // 8
    return f"{text[:head]} […] {text[head + extra :]}", extra


def clean(text: str) -> str:
    """Without characters that HTML does not allow."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def _sure(probability: float) -> str:
    return ">99.9%" if 0.9995 <= probability < 1 else percent(min(probability, 1.0), 1)


def _lengths(predictions: Predictions, row: int) -> str:
    if predictions.tokens is None or predictions.truncated is None:
        return ""
    tokens, cut = int(predictions.tokens[row]), int(predictions.truncated[row])
    return f"{tokens:,} tokens" + (f", {cut:,} of them cut off" if cut else "")


def render(template: str, **values: Any) -> str:
    """Fill a template; everything that is not markup made by Tenor is escaped."""
    script = source("report.js")
    # A second wall behind the escaping: the browser runs the script of this digest and loads nothing.
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
    """The matrix, or a list where it is too wide, and the rows behind its cells."""

    names: tuple[str, ...]
    matrix: tuple[tuple[MatrixCell, ...], ...]
    commonest: tuple[MatrixCell, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Page:
    """What the template is filled with. A part that is missing says why."""

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
    texts: str
    """Why texts are not shown; empty where they are."""
    calibration: Calibration | Missing
    slices: tuple[Chart, ...] | Missing
    provenance: Provenance
    rows: str = ""
    """Where the rows came from, in the report of a later measurement; empty in that of the run."""


def run_report(content: RunContent, rows: Mapping[str, LabelledText] | Missing) -> str:
    """The report as HTML. `rows` are those of the run, by split, or why they are not at hand."""
    return render("run.html", page=run_page(content, rows))


def run_page(content: RunContent, rows: Mapping[str, LabelledText] | Missing) -> Page:
    """What the report shows."""
    evaluation, config = content.evaluation, content.config
    found = headline(evaluation, dict(content.predictions)) if isinstance(evaluation, EvaluationNumbers) else evaluation
    split = found.split if isinstance(found, Headline) else "test"
    predictions = content.predictions[split]
    texts = texts_of(predictions, split, rows) if isinstance(predictions, Predictions) else Missing("")
    cells = open_cells(predictions, texts) if isinstance(predictions, Predictions) else ()
    numbers = evaluation.splits[split] if isinstance(evaluation, EvaluationNumbers) else evaluation
    confidence = config.evaluation.confidence if isinstance(config, Config) else 0.95
    status, message = status_of(content.manifest)
    return Page(
        name=content.run.config_name,
        run_id=content.run.run_id,
        status=status,
        message=message,
        facts=_facts(content),
        split=split,
        headline=found,
        checks=content.checks if isinstance(content.checks, Missing) else checks_section(content.checks),
        curves=_curves(content),
        classes=class_rows(numbers.confusion_matrix, _names(evaluation), numbers.accuracy_interval.confidence)
        if isinstance(numbers, SplitNumbers)
        else numbers,
        confusion=_confusion(numbers, _names(evaluation), cells),
        errors=most_confident_errors(predictions, texts) if isinstance(predictions, Predictions) else predictions,
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
    commonest = () if matrix else commonest_confusions(numbers.confusion_matrix, names, keys)
    return Confusion(names, matrix, commonest, cells)


def _curves(content: RunContent) -> tuple[Chart, ...] | Missing:
    if isinstance(content.records, Missing):
        return Missing("no training step was recorded")
    # A run that was cut while it wrote may leave lines that hold less than they should.
    whole = [record for record in content.records if number(record.get("step")) is not None]
    select_by = content.config.training.select_by if isinstance(content.config, Config) else None
    kept = content.evaluation.checkpoint.step if isinstance(content.evaluation, EvaluationNumbers) else None
    return curves_section(whole, select_by, kept) or Missing("no training step was recorded")


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
    """What was measured on what."""

    split: str
    rows: LabelledText
    rows_sha256: str
    weights_sha256: str
    step: int
    """Of the checkpoint that the weights are from."""
    threshold: str
    """What `tenor predict` decides by instead of the most probable class; empty where it doesn't."""
    overlap: str
    """Which rows have a text that the run was trained or chosen on."""
    command: str
    """That measures it again."""
    at: str
    """ISO 8601, UTC."""
    versions: Mapping[str, Any]


def measured_report(content: RunContent, found: Measured) -> str:
    """The report as HTML; `content` is the run's with the numbers and predictions of these rows alone."""
    return render("run.html", page=_page(content, found))


def _page(content: RunContent, found: Measured) -> Page:
    facts = [f"{content.run.reference}, step {found.step:,}", moment(found.at), found.overlap]
    if found.threshold:
        facts.append(f"the most probable classes, without the threshold {found.threshold}")
    page = run_page(content, {found.split: found.rows})
    origin = provenance(content, Missing("told below"))
    groups = (("Rows", _rows(found)), ("Measurement", _measurement(found)))
    training = tuple(("Training: " + name.lower(), facts) for name, facts in origin.groups)
    told = replace(origin, groups=(*groups, *training), commands=(found.command,))
    return replace(page, rows=found.rows.origin, facts=tuple(facts), provenance=told)


def _rows(found: Measured) -> tuple[Fact, ...]:
    return (
        Fact("from", found.rows.origin),
        Fact("split", f"{found.split}, {len(found.rows):,} rows"),
        Fact("rows, SHA-256", found.rows_sha256, code=True),
        Fact("in the run's own splits", found.overlap),
    )


def _measurement(found: Measured) -> tuple[Fact, ...]:
    return (
        Fact("weights, SHA-256", found.weights_sha256, code=True),
        Fact("at", moment(found.at)),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
    )


def split_numbers(found: Mapping[str, Any]) -> SplitNumbers:
    """A split of `evaluation_json`, as a report takes it."""
    from pydantic import TypeAdapter

    return TypeAdapter(SplitNumbers).validate_python(found)
