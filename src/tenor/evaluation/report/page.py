"""A run's content → its report: what each part shows, then HTML."""

from collections.abc import Mapping
from dataclasses import dataclass

from tenor.checks.diagnosis.material import number
from tenor.config.schema import Config
from tenor.data.dataset import Absent, LabelledText
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.charts import Chart
from tenor.evaluation.report.classes import ClassRow, MatrixCell, class_rows, commonest_confusions, matrix_rows
from tenor.evaluation.report.collect import EvaluationNumbers, RunContent, SplitNumbers
from tenor.evaluation.report.curves import curves_section
from tenor.evaluation.report.examples import Cell, Example, most_confident_errors, open_cells, texts_of
from tenor.evaluation.report.findings import Checks, checks_section
from tenor.evaluation.report.headline import Headline, headline
from tenor.evaluation.report.html import render
from tenor.evaluation.report.provenance import Provenance, learns_briefly, provenance, status_of
from tenor.evaluation.report.reliability import Calibration, calibration_section, slices_section
from tenor.evaluation.words import duration, moment
from tenor.runs.manifest import Manifest


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
    headline: Headline | Absent
    checks: Checks | Absent
    curves: tuple[Chart, ...] | Absent
    classes: tuple[ClassRow, ...] | Absent
    confusion: Confusion | Absent
    errors: tuple[Example, ...] | Absent
    texts: str
    """Why texts are not shown; empty where they are."""
    calibration: Calibration | Absent
    slices: tuple[Chart, ...] | Absent
    provenance: Provenance
    rows: str = ""
    """Where the rows came from, in the report of a later measurement; empty in that of the run."""


def run_report(content: RunContent, rows: Mapping[str, LabelledText] | Absent) -> str:
    """The report as HTML. `rows` are those of the run, by split, or why they are not at hand."""
    return render("run.html", page=run_page(content, rows))


def run_page(content: RunContent, rows: Mapping[str, LabelledText] | Absent) -> Page:
    """What the report shows."""
    evaluation, config = content.evaluation, content.config
    found = headline(evaluation, dict(content.predictions)) if isinstance(evaluation, EvaluationNumbers) else evaluation
    split = found.split if isinstance(found, Headline) else "test"
    predictions = content.predictions[split]
    texts = texts_of(predictions, split, rows) if isinstance(predictions, Predictions) else Absent("")
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
        checks=content.checks if isinstance(content.checks, Absent) else checks_section(content.checks),
        curves=_curves(content),
        classes=class_rows(numbers.confusion_matrix, _names(evaluation), numbers.accuracy_interval.confidence)
        if isinstance(numbers, SplitNumbers)
        else numbers,
        confusion=_confusion(numbers, _names(evaluation), cells),
        errors=most_confident_errors(predictions, texts) if isinstance(predictions, Predictions) else predictions,
        texts=texts.reason if isinstance(texts, Absent) else "",
        calibration=calibration_section(predictions, confidence)
        if isinstance(predictions, Predictions)
        else predictions,
        slices=slices_section(predictions, confidence) if isinstance(predictions, Predictions) else predictions,
        provenance=provenance(content, rows),
    )


def _names(evaluation: EvaluationNumbers | Absent) -> tuple[str, ...]:
    return evaluation.class_names if isinstance(evaluation, EvaluationNumbers) else ()


def _confusion(numbers: SplitNumbers | Absent, names: tuple[str, ...], cells: tuple[Cell, ...]) -> Confusion | Absent:
    if isinstance(numbers, Absent):
        return numbers
    keys = {cell.key for cell in cells}
    matrix = matrix_rows(numbers.confusion_matrix, names, keys)
    commonest = () if matrix else commonest_confusions(numbers.confusion_matrix, names, keys)
    return Confusion(names, matrix, commonest, cells)


def _curves(content: RunContent) -> tuple[Chart, ...] | Absent:
    if isinstance(content.records, Absent):
        return Absent("no training step was recorded")
    # A run that was cut while it wrote may leave lines that hold less than they should.
    whole = [record for record in content.records if number(record.get("step")) is not None]
    select_by = content.config.training.select_by if isinstance(content.config, Config) else None
    kept = content.evaluation.checkpoint.step if isinstance(content.evaluation, EvaluationNumbers) else None
    return curves_section(whole, select_by, kept) or Absent("no training step was recorded")


def _facts(content: RunContent) -> tuple[str, ...]:
    manifest, config = content.manifest, content.config
    facts = []
    if isinstance(config, Config):
        facts.append(f"{config.model.name}, {learns_briefly(content)}")
        facts.append(f"data: {config.data.source}")
    if isinstance(manifest, Manifest):
        facts.append(f"seed {manifest.seed}")
        facts.append(moment(manifest.started))
        if isinstance(manifest.duration_sec, float | int):
            facts.append(duration(manifest.duration_sec))
    return tuple(facts)
