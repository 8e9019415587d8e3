"""Whether a model's confidence can be believed, and on which texts it is good."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenor.data.dataset import Absent
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.charts import Chart, Estimate, coverage_chart, interval_chart, reliability_chart
from tenor.evaluation.words import interval, percent
from tenor.measures.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from tenor.measures.intervals import wilson_interval
from tenor.measures.selective import coverage_curve
from tenor.measures.slices import Slice, accuracy_by_cut, accuracy_by_length


@dataclass(frozen=True)
class Calibration:
    """Whether confidence can be believed."""

    chart: Chart
    """Accuracy over confidence."""
    coverage: Chart
    """Accuracy over the share of rows that are answered, the most confident first."""
    facts: tuple[tuple[str, str, str], ...]
    """Name, value and meaning."""


def calibration_section(predictions: Predictions, confidence: float) -> Calibration:
    """The reliability diagram with its numbers, and what is left where the model answers only when it is sure."""
    probabilities, labels = predictions.probabilities, predictions.labels
    bins = reliability_bins(probabilities, labels)
    error = expected_calibration_error(probabilities, labels)
    mean = float(probabilities.max(axis=1).mean())
    right = float((predictions.predicted == labels).mean())
    chart = Chart(
        "Reliability",
        reliability_chart(bins, confidence, f"Accuracy over confidence; the calibration error is {percent(error)}."),
        "Each dot is a bin of rows: how sure the model was on average, and how often it was right. A model that can "
        "be believed stays on the dashed line. The bars below show how many rows each bin holds.",
        ("confidence", "rows", "mean confidence", "accuracy"),
        tuple((interval(b.low, b.high, 1), f"{b.n:,}", percent(b.mean_confidence), percent(b.accuracy)) for b in bins),
    )
    facts = (
        ("mean confidence", percent(mean), f"the accuracy is {percent(right)}"),
        ("expected calibration error", percent(error), "mean distance of confidence from accuracy over 15 bins"),
        ("Brier score", f"{brier_score(probabilities, labels):.4f}", _brier_scale(probabilities.shape[1])),
        ("negative log-likelihood", f"{negative_log_likelihood(probabilities, labels):.4f}", "nats"),
    )
    return Calibration(chart, _coverage(predictions, confidence), facts)


def _coverage(predictions: Predictions, confidence: float) -> Chart:
    points = coverage_curve(predictions.probabilities, predictions.labels)
    rows = []
    for one in points:
        right = wilson_interval(one.right, one.answered, confidence)
        found = (percent(one.coverage, 1), percent(one.right / one.answered), interval(right.low, right.high))
        rows.append((f"{one.threshold:.4f}", f"{one.answered:,}", *found))
    told = (
        f"Accuracy over the share of rows that are answered; with all of them {percent(points[0].right / points[0].n)}."
    )
    return Chart(
        "Answering only where it is sure",
        coverage_chart(points, confidence, told),
        "At the right the model answers every row; further left it is silent where it is less sure. The steeper "
        "the line rises to the left, the better its confidence tells right from wrong; a level line would say that "
        "silence gains nothing. The numbers say from which confidence on it answers.",
        ("silent below", "answered", "share", "accuracy", f"{100 * confidence:g}% interval"),
        tuple(rows),
    )


def _brier_scale(n_classes: int) -> str:
    return f"mean squared distance from the truth, 0 (best) to {1 if n_classes == 2 else 2}"


def slices_section(predictions: Predictions, confidence: float) -> tuple[Chart, ...] | Absent:
    """Accuracy by the length of the whole text and by the share of it that was cut off."""
    if predictions.tokens is None or predictions.truncated is None:
        return Absent("the predictions were written without the lengths of their texts")
    right = predictions.predicted == predictions.labels
    by_length = accuracy_by_length(right, predictions.tokens, confidence)
    by_cut = accuracy_by_cut(right, predictions.tokens, predictions.truncated, confidence)
    sure = f"{100 * confidence:g}% interval"
    return (
        _slices("By length", by_length, "tokens", f"Tokens of the whole text, before it is cut; dots with {sure}."),
        _slices(
            "By what was cut off",
            by_cut,
            "cut off",
            f"Share of the text's tokens that the model never saw; dots with {sure}.",
        ),
    )


def _slices(title: str, parts: Sequence[Slice], what: str, caption: str) -> Chart:
    estimates = [Estimate(one.name, one.accuracy, one.interval, f"{one.n:,} rows") for one in parts]
    told = "; ".join(f"{one.name} {what}: {percent(one.accuracy, 1)} of {one.n:,}" for one in parts)
    rows = tuple((p.name, f"{p.n:,}", percent(p.accuracy), interval(p.interval.low, p.interval.high)) for p in parts)
    picture = interval_chart(estimates, "accuracy", f"Accuracy {title.lower()}. {told}.", 108)
    return Chart(title, picture, caption, (what, "rows", "accuracy", "interval"), rows)
