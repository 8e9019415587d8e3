"""The report's sections on results: headline, classes, reliability of probabilities, findings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from tenor.checks.catalogue import BY_CODE
from tenor.checks.finding import Finding, Report
from tenor.evaluation.formatting import interval, percent, points
from tenor.evaluation.report.charts import Chart, Estimate, coverage_chart, interval_chart, reliability_chart
from tenor.evaluation.report.run_content import EvaluationNumbers
from tenor.measures.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from tenor.measures.intervals import Interval, wilson_interval
from tenor.measures.selective import Slice, accuracy_by_length, accuracy_by_truncation, coverage_curve
from tenor.runs.best_evaluation import SplitNumbers
from tenor.runs.missing import Missing
from tenor.runs.predictions import Predictions

OTHERS = {"encoder": "encoder alone", "text": "text baseline", "majority": "majority class"}
"""Other models on the same rows: a hybrid's two parts, and the most frequent class."""


@dataclass(frozen=True)
class Figure:
    """A number with its name and a note, such as its interval."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class SplitRow:
    """A line of the table of results; a baseline has no macro F1 and no loss."""

    split: str
    n: str
    model: str
    accuracy: str
    interval: str
    macro_f1: str = ""
    loss: str = ""
    is_baseline: bool = False


@dataclass(frozen=True)
class Headline:
    """The top of a report."""

    split: str
    n: int
    accuracy: str
    interval: str
    confidence: str
    sentence: str
    chart: Markup
    figures: tuple[Figure, ...]
    rows: tuple[SplitRow, ...]
    unmeasured: tuple[str, ...]
    """Splits that were not measured, and why."""


def headline(evaluation: EvaluationNumbers, predictions: dict[str, Predictions | Missing]) -> Headline | Missing:
    """From the test split, or from validation where there is no test split."""
    measured = {name: one for name, one in evaluation.splits.items() if isinstance(one, SplitNumbers)}
    missing = {name: one.reason for name, one in evaluation.splits.items() if isinstance(one, Missing)}
    if not measured:
        return Missing("; ".join(f"{name}: {reason}" for name, reason in missing.items()))
    split = "test" if "test" in measured else next(iter(measured))
    numbers = measured[split]
    bounds = numbers.accuracy_interval
    confidence = f"{100 * bounds.confidence:g}%"
    estimates = _estimates(numbers)
    description = "; ".join(f"{estimate.name} {percent(estimate.value)}" for estimate in estimates)
    return Headline(
        split=split,
        n=numbers.n,
        accuracy=percent(numbers.accuracy),
        interval=interval(bounds.low, bounds.high),
        confidence=confidence,
        sentence=_sentence(numbers),
        chart=interval_chart(
            estimates, f"accuracy on {numbers.n:,} {split} rows, with {confidence} CI", f"Accuracy: {description}."
        ),
        figures=_figures(numbers, predictions.get(split, Missing(""))),
        rows=tuple(row for name, one in reversed(measured.items()) for row in _rows(name, one)),
        unmeasured=tuple(f"No result on {name} rows: {reason}." for name, reason in missing.items()),
    )


def baseline_interval(numbers: SplitNumbers, accuracy: float) -> Interval:
    """Wilson's interval of a baseline on the same rows."""
    return wilson_interval(round(accuracy * numbers.n), numbers.n, numbers.accuracy_interval.confidence)


def _estimates(numbers: SplitNumbers) -> list[Estimate]:
    bounds = numbers.accuracy_interval
    model = Interval(bounds.low, bounds.high, bounds.confidence)
    estimates = [Estimate("this model", numbers.accuracy, model, percent(numbers.accuracy))]
    for (key, name), kind in zip(OTHERS.items(), ("second", "second", "quiet"), strict=True):
        accuracy = numbers.baseline(key)
        if accuracy is not None:
            estimates.append(Estimate(name, accuracy, baseline_interval(numbers, accuracy), percent(accuracy), kind))
    return estimates


def _sentence(numbers: SplitNumbers) -> str:
    text, majority = numbers.baseline("text"), numbers.baseline("majority")
    if text is not None:
        return f"{_against(numbers.accuracy - text)} the text baseline, weighted bigrams of the training rows."
    stored = numbers.baselines.get("text")
    reason = f" No text baseline: {stored['missing']}." if isinstance(stored, dict) and "missing" in stored else ""
    if majority is None:
        return reason.strip()
    return f"{_against(numbers.accuracy - majority)} the majority class.{reason}"


def _against(difference: float) -> str:
    if abs(difference) < 5e-5:
        return "As accurate as"
    return f"{points(abs(difference)).lstrip('+')} {'above' if difference > 0 else 'below'}"


def _figures(numbers: SplitNumbers, predictions: Predictions | Missing) -> tuple[Figure, ...]:
    f1 = numbers.macro_f1_interval
    figures = [
        Figure("macro F1", percent(numbers.macro_f1), interval(f1.low, f1.high)),
        Figure("loss", f"{numbers.loss:.4f}", "mean negative log-likelihood, nats"),
    ]
    if isinstance(predictions, Predictions):
        error = expected_calibration_error(predictions.probabilities, predictions.labels)
        note = "mean difference between confidence and accuracy, 15 bins"
        figures.append(Figure("calibration error", percent(error), note))
    wrong = numbers.n - sum(row[k] for k, row in enumerate(numbers.confusion_matrix))
    figures.append(Figure("wrong predictions", f"{wrong:,}", f"of {numbers.n:,} rows"))
    return tuple(figures)


def _rows(split: str, numbers: SplitNumbers) -> list[SplitRow]:
    bounds, n = numbers.accuracy_interval, f"{numbers.n:,}"
    rows = [
        SplitRow(
            split,
            n,
            "this model" if numbers.baseline("encoder") is None else "this model (hybrid)",
            percent(numbers.accuracy),
            interval(bounds.low, bounds.high),
            percent(numbers.macro_f1),
            f"{numbers.loss:.4f}",
        )
    ]
    for key, name in OTHERS.items():
        accuracy = numbers.baseline(key)
        if accuracy is not None:
            ci = baseline_interval(numbers, accuracy)
            rows.append(SplitRow(split, n, name, percent(accuracy), interval(ci.low, ci.high), is_baseline=True))
    return rows


WIDEST_MATRIX = 12
"""Classes; with more of them, a list of the most frequent confusions is shown."""
MOST_CONFUSIONS = 30


@dataclass(frozen=True)
class ClassRow:
    """One class against the rest."""

    name: str
    precision: str
    precision_interval: str
    recall: str
    recall_interval: str
    f1: str
    rows: str
    predicted: str


@dataclass(frozen=True)
class MatrixCell:
    """A count; `share` is that of its true class, in 0 … 1."""

    key: str
    count: str
    percent: str
    share: float
    right: bool
    true: str
    predicted: str


def class_rows(matrix: Sequence[Sequence[int]], names: Sequence[str], confidence: float) -> tuple[ClassRow, ...]:
    """Precision, recall and F1 from the counts; an undefined share is a dash."""
    counts = np.asarray(matrix)
    rows = []
    for k, name in enumerate(names):
        hits, true, predicted = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        shares = [(percent(hits / n), _wilson(hits, n, confidence)) if n else ("–", "") for n in (predicted, true)]
        f1 = percent(2 * hits / (true + predicted)) if true + predicted else "–"
        rows.append(ClassRow(name, *shares[0], *shares[1], f1, f"{true:,}", f"{predicted:,}"))
    return tuple(rows)


def matrix_rows(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[tuple[MatrixCell, ...], ...]:
    """The confusion matrix, (K, K); `keys` are the cells that can be opened."""
    counts = np.asarray(matrix)
    if len(counts) > WIDEST_MATRIX:
        return ()
    return tuple(
        tuple(_cell(counts, names, true, predicted, keys) for predicted in range(len(counts)))
        for true in range(len(counts))
    )


def most_frequent_confusions(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[MatrixCell, ...]:
    """The cells off the diagonal that are not 0, in descending order."""
    counts = np.array(matrix)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return tuple(_cell(counts, names, int(row), int(column), keys) for row, column in places if wrong[row, column])


def _cell(counts: np.ndarray, names: Sequence[str], true: int, predicted: int, keys: set[str]) -> MatrixCell:
    key, count, total = f"{true}-{predicted}", int(counts[true, predicted]), int(counts[true].sum())
    share = count / total if total else 0.0
    shown = percent(share, 1) if total else "–"
    key = key if key in keys else ""
    return MatrixCell(key, f"{count:,}", shown, share, true == predicted, names[true], names[predicted])


def _wilson(hits: int, n: int, confidence: float) -> str:
    ci = wilson_interval(hits, n, confidence)
    return interval(ci.low, ci.high, 1)


@dataclass(frozen=True)
class Calibration:
    """How well the predicted probabilities match the accuracy."""

    chart: Chart
    """Accuracy over confidence."""
    coverage: Chart
    """Accuracy over coverage, the share of rows that are answered, the most confident first."""
    facts: tuple[tuple[str, str, str], ...]
    """Name, value and meaning."""


def calibration_section(predictions: Predictions, confidence: float) -> Calibration:
    """The reliability diagram with its numbers, and accuracy over coverage if the model abstains."""
    probabilities, labels = predictions.probabilities, predictions.labels
    bins = reliability_bins(probabilities, labels)
    error = expected_calibration_error(probabilities, labels)
    mean = float(probabilities.max(axis=1).mean())
    right = float((predictions.predicted == labels).mean())
    chart = Chart(
        "Reliability",
        reliability_chart(bins, confidence, f"Accuracy over confidence; the calibration error is {percent(error)}."),
        "Each dot is a bin of rows: mean confidence and accuracy. A calibrated model stays on the dashed line. The "
        "bars below show the number of rows in each bin.",
        ("confidence", "rows", "mean confidence", "accuracy"),
        tuple((interval(b.low, b.high, 1), f"{b.n:,}", percent(b.mean_confidence), percent(b.accuracy)) for b in bins),
    )
    facts = (
        ("mean confidence", percent(mean), f"at an accuracy of {percent(right)}"),
        ("expected calibration error", percent(error), "mean difference between confidence and accuracy over 15 bins"),
        ("Brier score", f"{brier_score(probabilities, labels):.4f}", _brier_scale(probabilities.shape[1])),
        ("negative log-likelihood", f"{negative_log_likelihood(probabilities, labels):.4f}", "nats"),
    )
    return Calibration(chart, _coverage(predictions, confidence), facts)


def _coverage(predictions: Predictions, confidence: float) -> Chart:
    points = coverage_curve(predictions.probabilities, predictions.labels)
    rows = []
    for one in points:
        right = wilson_interval(one.right, one.answered, confidence)
        cells = (percent(one.coverage, 1), percent(one.right / one.answered), interval(right.low, right.high))
        rows.append((f"{one.threshold:.4f}", f"{one.answered:,}", *cells))
    all_rows = percent(points[0].right / points[0].n)
    return Chart(
        "Accuracy if the model abstains",
        coverage_chart(
            points, confidence, f"Accuracy over the share of rows answered; {all_rows} if all are answered."
        ),
        "At the right the model answers every row; further left it abstains on the rows with the lowest confidence. "
        "The steeper the line rises to the left, the better confidence separates right from wrong predictions; with a "
        "flat line, abstaining gains nothing. The table gives the confidence below which the model abstains.",
        ("abstains below", "answered", "coverage", "accuracy", f"{100 * confidence:g}% CI"),
        tuple(rows),
    )


def _brier_scale(n_classes: int) -> str:
    return f"mean squared distance from the truth, 0 (best) to {1 if n_classes == 2 else 2}"


def slices_section(predictions: Predictions, confidence: float) -> tuple[Chart, ...] | Missing:
    """Accuracy by the length of the whole text and by the share of it that was truncated."""
    if predictions.tokens is None or predictions.truncated is None:
        return Missing("the predictions file has no text lengths")
    right = predictions.predicted == predictions.labels
    by_length = accuracy_by_length(right, predictions.tokens, confidence)
    by_cut = accuracy_by_truncation(right, predictions.tokens, predictions.truncated, confidence)
    bars = f"{100 * confidence:g}% CI"
    return (
        _slices("By length", by_length, "tokens", f"Tokens of the whole text before truncation; dots with {bars}."),
        _slices(
            "By truncation",
            by_cut,
            "truncated",
            f"Share of the text's tokens that were truncated; dots with {bars}.",
        ),
    )


def _slices(title: str, parts: Sequence[Slice], what: str, caption: str) -> Chart:
    estimates = [Estimate(one.name, one.accuracy, one.interval, f"{one.n:,} rows") for one in parts]
    shares = "; ".join(f"{one.name} {what}: {percent(one.accuracy, 1)} of {one.n:,}" for one in parts)
    rows = tuple((p.name, f"{p.n:,}", percent(p.accuracy), interval(p.interval.low, p.interval.high)) for p in parts)
    picture = interval_chart(estimates, "accuracy", f"Accuracy {title.lower()}. {shares}.", 108)
    return Chart(title, picture, caption, (what, "rows", "accuracy", "CI"), rows)


@dataclass(frozen=True)
class ChecksSection:
    """The checks' results of all stages together."""

    findings: tuple[Finding, ...]
    summary: str
    checked: int
    """Number of rules that were checked at one stage at least."""
    not_applicable: tuple[tuple[str, str, str], ...]
    """Code, title, and why the rule was applicable at no stage."""


def checks_section(reports: Sequence[Report]) -> ChecksSection:
    """Findings of every stage, errors first, and the rules that were applicable at none."""
    weight = {"error": 0, "warning": 1, "note": 2}
    findings = sorted(
        (finding for report in reports for finding in report.findings),
        key=lambda one: (bool(one.allowed), weight.get(one.severity, 3), bool(one.caused_by)),
    )
    counts = [(severity, sum(one.severity == severity for one in findings)) for severity in weight]
    summary = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n) or "no findings"
    checked = {code for report in reports for code in report.checked}
    reasons: dict[str, list[str]] = {}
    for report in reports:
        for one in report.not_applicable:
            reasons.setdefault(one.code, []).append(one.reason)
    not_applicable = tuple(
        (code, BY_CODE[code].title if code in BY_CODE else "", "; ".join(dict.fromkeys(why)))
        for code, why in sorted(reasons.items())
        if code not in checked
    )
    return ChecksSection(tuple(findings), summary, len(checked), not_applicable)
