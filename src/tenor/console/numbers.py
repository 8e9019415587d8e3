"""Tables of results, calibration, abstention and thresholds for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.evaluation.results import SplitResult, accuracy_interval
from tenor.measures.calibration import expected_calibration_error
from tenor.measures.intervals import Interval, macro_f1_interval, wilson_interval
from tenor.measures.metrics import Metrics
from tenor.measures.selective import Answered

if TYPE_CHECKING:
    from tenor.workflows.calibrate import Calibrated, ClassThreshold
    from tenor.workflows.evaluate import EvaluationResult

_WIDTH = 80
_ROW_NAME = 24


@dataclass(frozen=True)
class ResultRow:
    """One model on one split; shares in 0 … 1, `loss` in nats, None where the model gives no probabilities."""

    name: str
    split: str
    n: int
    accuracy: float
    interval: Interval
    macro_f1: float | None = None
    loss: float | None = None
    note: str = ""


def results_table(rows: Sequence[ResultRow]) -> RenderableType:
    """One line per model under a heading per split, the most accurate in bold, their notes below the table."""
    table = _table("Results")
    table.add_column("split / model", overflow="fold", max_width=28)
    confidences = {row.interval.confidence for row in rows}
    interval = f"{100 * confidences.pop():g}% CI" if len(confidences) == 1 else "CI"
    for header in ("accuracy", interval, "macro F1", "loss (nats)"):
        table.add_column(header, justify="right", no_wrap=True)
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    for split, n in dict.fromkeys((row.split, row.n) for row in rows):
        group = [row for row in rows if (row.split, row.n) == (split, n)]
        best = max(row.accuracy for row in group)
        table.add_section()
        table.add_row(Text(f"{split}, n = {n:,}", style="italic"))
        for row in group:
            reference = f" [{notes.index(row.note) + 1}]" if row.note else ""
            table.add_row(*_result_cells(row, reference), style="bold" if row.accuracy == best else "")
    return Group(table, *(Text(f"[{number}] {note}") for number, note in enumerate(notes, start=1)))


def confusion_table(
    confusion: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str], title: str = "Confusion matrix"
) -> RenderableType:
    """Counts, rows true and columns predicted; if that is too wide, the most frequent mistake of each class.

    Raises ValueError for a matrix whose shape does not match the names.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    if counts.shape != (len(class_names), len(class_names)):
        raise ValueError(f"expected a confusion matrix for {len(class_names)} classes, observed shape {counts.shape}")
    cells = [[f"{count:,}" for count in row] for row in counts.tolist()]
    names = [f"{k} {name}" for k, name in enumerate(class_names)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    named = [max(width, len(name)) for width, name in zip(widths, names, strict=True)]
    available = _WIDTH - _ROW_NAME - 2  # For the columns; each has three spaces before it.
    if sum(widths) + 3 * len(widths) > available:
        return _largest_confusions(counts, names, title)
    names_fit = sum(named) + 3 * len(named) <= available
    table = _table(title)
    table.add_column("true", max_width=_ROW_NAME, overflow="ellipsis", no_wrap=True)
    for k, name in enumerate(names):
        table.add_column(Text(name if names_fit else str(k)), justify="right", no_wrap=True)
    for k, row in enumerate(cells):
        table.add_row(Text(names[k]), *(Text(cell, style="bold" if j == k else "") for j, cell in enumerate(row)))
    return Group(table, Text("Counts; rows: true class, columns: predicted class."))


def per_class_table(metrics: Metrics) -> RenderableType:
    """Precision, recall and F1 of every class, and their macro and weighted means."""
    table = _table("Per class")
    table.add_column("class", overflow="fold", max_width=32)
    for header in ("precision", "recall", "F1", "support"):
        table.add_column(header, justify="right", no_wrap=True)
    for k, row in enumerate(metrics.per_class):
        shares = (f"{share:.4f}" for share in (row.precision, row.recall, row.f1))
        table.add_row(Text(f"{k} {row.name}"), *shares, f"{row.support:,}", end_section=k + 1 == len(metrics.per_class))
    means = {
        "macro mean": (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1),
        "weighted mean": (metrics.weighted_precision, metrics.weighted_recall, metrics.weighted_f1),
    }
    for name, shares_of in means.items():
        table.add_row(name, *(f"{share:.4f}" for share in shares_of), f"{metrics.n:,}")
    return table


def _result_cells(row: ResultRow, reference: str) -> list[RenderableType]:
    return [
        Text(f"  {row.name}{reference}"),
        f"{100 * row.accuracy:.2f}%",
        _range(row.interval),
        "-" if row.macro_f1 is None else f"{row.macro_f1:.4f}",
        "-" if row.loss is None else f"{row.loss:.4f}",
    ]


def _largest_confusions(counts: np.ndarray, names: Sequence[str], title: str) -> RenderableType:
    table = _table(title)
    for header, right in (
        *(("true class", False), ("rows", True), ("correct", True)),
        *(("most often mistaken for", False), ("count", True)),
    ):
        table.add_column(header, justify="right" if right else "left", overflow="ellipsis", no_wrap=True, max_width=24)
    for k, row in enumerate(counts):
        wrong = row.copy()
        wrong[k] = 0
        other = int(wrong.argmax())
        mistake, count = (names[other], f"{wrong[other]:,}") if wrong[other] else ("-", "")
        table.add_row(Text(names[k]), f"{row.sum():,}", Text(f"{row[k]:,}", style="bold"), Text(mistake), count)
    return Group(table, Text("The full matrix is too wide; this is the most frequent mistake of each class."))


def _table(title: str) -> Table:
    heading = Text(title, style="bold")
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")


HYBRID_CALIBRATED = "the hybrid was fitted on the validation rows and needs no temperature"
NO_TEMPERATURE = "no temperature is applied: none fits the validation rows significantly better"


def detail_facts(split: str, result: SplitResult, confidence: float, seed: int) -> dict[str, str]:
    """Details that do not fit into the tables of a result: the interval of macro F1, and the calibration error."""
    interval = macro_f1_interval(result.metrics.confusion, confidence, seed)
    raw, calibrated = (
        expected_calibration_error(probabilities, result.labels)
        for probabilities in (result.raw_probabilities, result.probabilities)
    )
    if isinstance(result.baselines.encoder, float):
        how = f"; {HYBRID_CALIBRATED}"
    else:
        how = f"; {NO_TEMPERATURE}" if result.temperature == 1.0 else f" {_scaled(result.temperature, raw)}"
    return {
        "macro F1": f"{result.metrics.macro_f1:.4f} on {split} ({100 * confidence:g}% CI "
        f"{interval.low:.4f}–{interval.high:.4f}, bootstrap)",
        "calibration": f"expected calibration error (ECE) on {split} {calibrated:.2%}{how}",
    }


def _scaled(temperature: float, raw: float) -> str:
    return f"with temperature {temperature:.3f} (fitted on the validation rows), {raw:.2%} without"


def show_calibration(console: Console, calibrated: "Calibrated", chosen: "ClassThreshold | None" = None) -> None:
    """Calibration of every split before and after the temperature, where the temperature is applied, the threshold."""
    notes, n = calibrated.notes, len(calibrated.predictions["validation"].labels)
    if notes.hybrid is None and notes.total_temperature != 1.0:
        when = "just now" if calibrated.changed else "earlier"
        text = f"temperature {notes.total_temperature:.4f}, fitted {when} on {n:,} validation rows"
        console.print(text, highlight=False)
    console.print(_calibration_table(calibrated))
    if notes.hybrid is None and notes.total_temperature != 1.0:
        text = "The temperature was fitted on the validation rows: calibrated ECE and NLL on them are optimistic."
        console.print(text, style="dim")
    console.print(_where_applied(calibrated), highlight=False, soft_wrap=True)
    if chosen is not None:
        console.print()
        console.print(_threshold_table(chosen))
        text = "tenor predict uses it from now on. It was chosen on validation, so expect the numbers of the test rows"
        console.print(f"saved in {calibrated.run.model / 'tenor.json'}: {text}", highlight=False, soft_wrap=True)
    elif notes.threshold is not None:
        text = f"threshold of tenor predict: {notes.threshold}; remove it with --no-threshold"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    elif calibrated.dropped is not None:
        text = f"removed the threshold {calibrated.dropped}: it was chosen for other probabilities; choose a new one"
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)


def show_abstention(console: Console, evaluation: "EvaluationResult", below: float) -> None:
    """Coverage and accuracy if the model abstains below a confidence, within the whole curve."""
    requested, curve = evaluation.abstention(below)
    confidence = evaluation.config.evaluation.confidence
    table = _table("Accuracy if the model abstains")
    for header in ("abstain below", "answered", "coverage", "accuracy", f"{100 * confidence:g}% CI"):
        table.add_column(header, justify="right", no_wrap=True)
    for point in sorted({requested, *curve}, key=lambda point: point.threshold):
        table.add_row(*_answered_cells(point, confidence), style="bold" if point == requested else "")
    console.print(table)
    interval = requested.interval(confidence)
    if interval is None:
        console.print(f"No prediction has a confidence of {below:g} or more: the model would abstain on all rows.")
    else:
        console.print(
            f"Abstaining below {below:g}, the model answers {requested.coverage:.1%} of the rows, with an accuracy of "
            f"{requested.right / requested.answered:.2%} ({_confidence_interval(interval)}).",
            highlight=False,
        )


def _calibration_table(calibrated: "Calibrated") -> Table:
    table = _table("Calibration")
    for header in ("split", "probabilities", "ECE", "Brier", "NLL (nats)"):
        table.add_column(header, justify="left" if header in ("split", "probabilities") else "right", no_wrap=True)
    for name, measured in calibrated.calibration.items():
        rows = {"raw": measured.raw}
        if calibrated.predictions[name].temperature != 1.0:
            rows["calibrated"] = measured.calibrated
        for kind, numbers in rows.items():
            first = name if kind == "raw" else ""
            table.add_row(first, kind, f"{numbers.ece:.2%}", f"{numbers.brier:.4f}", f"{numbers.nll:.4f}")
    return table


def _where_applied(calibrated: "Calibrated") -> str:
    notes, run = calibrated.notes, calibrated.run
    if notes.hybrid is not None:
        return HYBRID_CALIBRATED
    if notes.temperature == 1.0 and notes.folded_temperature != 1.0:
        return (
            f"folded into the classifier: {run.model} gives calibrated probabilities to every program that loads it "
            f"(weights SHA-256 {notes.weights_sha256[:12]}…)"
        )
    if notes.temperature == 1.0:
        return NO_TEMPERATURE
    return (
        f"tenor evaluate and tenor predict apply it, and {run.predictions} contains calibrated probabilities; to fold "
        f"it into the weights, for use without Tenor: tenor calibrate {run.reference} --fold"
    )


def _threshold_table(chosen: "ClassThreshold") -> Table:
    table = _table(
        f"{chosen.class_name}: {chosen.wanted} of at least {chosen.value:g}, with threshold {chosen.threshold:.4f}"
    )
    for header in ("split", "predicted", "precision", "recall"):
        table.add_column(header, justify="left" if header == "split" else "right", no_wrap=True)
    record = chosen.record()
    for name, operating in chosen.splits.items():
        cells = (_share_cell(record[name][kind]) for kind in ("precision", "recall"))
        table.add_row(name, f"{operating.called:,}", *cells)
    return table


def _share_cell(share: dict[str, Any]) -> str:
    if "missing" in share:
        return str(share["missing"])
    return f"{share['value']:.2%} ({100 * share['low']:.2f}–{100 * share['high']:.2f})"


def _answered_cells(point: Answered, confidence: float) -> Sequence[str]:
    interval = point.interval(confidence)
    accuracy = ("-", "-") if interval is None else (f"{point.right / point.answered:.2%}", _range(interval))
    return (f"{point.threshold:.4f}", f"{point.answered:,}", f"{point.coverage:.1%}", *accuracy)


def _confidence_interval(interval: Interval) -> str:
    return f"{100 * interval.confidence:g}% CI {_range(interval)}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.2f}–{100 * interval.high:.2f}"


def result_rows(model_name: str, split: str, result: SplitResult, confidence: float) -> list[ResultRow]:
    """The lines of the results table for one split: the model, then the baselines."""
    metrics = result.metrics
    rows = [
        ResultRow(
            model_name if isinstance(result.baselines.encoder, str) else f"{model_name} (hybrid)",
            split,
            metrics.n,
            metrics.accuracy,
            accuracy_interval(metrics, confidence),
            metrics.macro_f1,
            metrics.loss,
        )
    ]
    others = {
        "encoder alone": result.baselines.encoder,
        "text baseline (NB-weighted bigrams)": result.baselines.text,
        "majority class": result.baselines.majority,
    }
    for name, accuracy in others.items():
        if isinstance(accuracy, float):
            interval = wilson_interval(round(accuracy * metrics.n), metrics.n, confidence)
            rows.append(ResultRow(name, split, metrics.n, accuracy, interval))
    return rows
