"""The parts of a report below its headline: findings, curves, classes, calibration, lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from tenor.checks.catalogue import BY_CODE
from tenor.checks.finding import Finding, Report
from tenor.data.dataset import Absent
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.charts import Estimate, Series, interval_chart, line_chart, reliability_chart
from tenor.evaluation.words import interval, percent
from tenor.measures.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from tenor.measures.intervals import wilson_interval
from tenor.measures.slices import Slice, accuracy_by_cut, accuracy_by_length

Records = Sequence[Mapping[str, Any]]
WIDEST_MATRIX = 12
"""Classes; more of them are shown as a list of the commonest confusions."""
MOST_CONFUSIONS = 30


@dataclass(frozen=True)
class Chart:
    """A picture, what it shows, and its numbers for those who want or need them as a table."""

    title: str
    picture: Markup
    caption: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Checks:
    """What the checks said on all occasions together."""

    findings: tuple[Finding, ...]
    summary: str
    ran: int
    skipped: tuple[tuple[str, str, str], ...]
    """Code, title, and why the rule ran on no occasion."""


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


@dataclass(frozen=True)
class Calibration:
    """Whether confidence can be believed."""

    chart: Chart
    facts: tuple[tuple[str, str, str], ...]
    """Name, value and meaning."""


def checks_section(reports: Sequence[Report]) -> Checks:
    """Findings of every occasion, errors first, and rules that could run on none."""
    weight = {"error": 0, "warning": 1, "note": 2}
    found = sorted(
        (finding for report in reports for finding in report.findings),
        key=lambda one: (bool(one.allowed), weight.get(one.severity, 3), bool(one.caused_by)),
    )
    counts = [(severity, sum(one.severity == severity for one in found)) for severity in weight]
    told = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n) or "nothing found"
    ran = {code for report in reports for code in report.ran}
    reasons: dict[str, list[str]] = {}
    for report in reports:
        for one in report.skipped:
            reasons.setdefault(one.code, []).append(one.reason)
    skipped = tuple(
        (code, BY_CODE[code].title if code in BY_CODE else "", "; ".join(dict.fromkeys(why)))
        for code, why in sorted(reasons.items())
        if code not in ran
    )
    return Checks(tuple(found), told, len(ran), skipped)


def curves_section(records: Records, select_by: str) -> tuple[Chart, ...]:
    """Loss, validation metrics, learning rate and gradient norm: as many of them as were recorded."""
    train = [record for record in records if record.get("kind") == "train"]
    validation = [record for record in records if record.get("kind") == "validation"]
    return tuple(
        chart
        for chart in (
            _loss_chart(train, validation, select_by),
            _metrics_chart(validation, select_by),
            _rate_chart(train),
            _norm_chart(train),
        )
        if chart is not None
    )


def class_rows(matrix: Sequence[Sequence[int]], names: Sequence[str], confidence: float) -> tuple[ClassRow, ...]:
    """Precision, recall and F1 from the counts; a share of nothing is a dash."""
    counts = np.asarray(matrix)
    rows = []
    for k, name in enumerate(names):
        hits, true, said = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        shares = [(percent(hits / n), _wilson(hits, n, confidence)) if n else ("–", "") for n in (said, true)]
        f1 = percent(2 * hits / (true + said)) if true + said else "–"
        rows.append(ClassRow(name, *shares[0], *shares[1], f1, f"{true:,}", f"{said:,}"))
    return tuple(rows)


def matrix_rows(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[tuple[MatrixCell, ...], ...]:
    """The confusion matrix, (K, K); `keys` are the cells that can be opened."""
    counts = np.asarray(matrix)
    if len(counts) > WIDEST_MATRIX:
        return ()
    return tuple(
        tuple(_cell(counts, names, true, said, keys) for said in range(len(counts))) for true in range(len(counts))
    )


def commonest_confusions(
    matrix: Sequence[Sequence[int]], names: Sequence[str], keys: set[str]
) -> tuple[MatrixCell, ...]:
    """The cells off the diagonal that hold rows, the most first."""
    counts = np.array(matrix)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return tuple(_cell(counts, names, int(true), int(said), keys) for true, said in places if wrong[true, said])


def calibration_section(predictions: Predictions, confidence: float) -> Calibration:
    """The reliability diagram with its numbers."""
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
        ("Brier score", f"{brier_score(probabilities, labels):.4f}", "mean squared distance from the truth, 0 to 2"),
        ("negative log-likelihood", f"{negative_log_likelihood(probabilities, labels):.4f}", "nats"),
    )
    return Calibration(chart, facts)


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


def _loss_chart(train: Records, validation: Records, select_by: str) -> Chart | None:
    series = [
        Series("training batches", "quiet", _points(train, "loss")),
        Series("validation", "main", _points(validation, "loss"), dots=True),
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    told = "; ".join(f"{s.name} from {s.points[0][1]:.3f} to {s.points[-1][1]:.3f}" for s in series)
    picture = line_chart(
        series,
        "nats",
        f"Loss: {told}.",
        from_zero=True,
        best=_best(validation, "loss") if select_by == "loss" else None,
    )
    header = ("step", "validation loss")
    return Chart("Loss", picture, "Mean negative log-likelihood per row.", header, _number_rows(validation, ("loss",)))


def _metrics_chart(validation: Records, select_by: str) -> Chart | None:
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    series = [
        Series(name, kind, tuple((step, 100 * value) for step, value in _points(validation, key)), dots=True)
        for (key, name), kind in zip(names.items(), ("main", "second"), strict=True)
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    best = _best(validation, select_by) if select_by in names else None
    told = "; ".join(f"{one.name} {one.points[-1][1]:.2f}% at the end" for one in series)
    picture = line_chart(series, "%", f"On validation rows: {told}.", best=(best[0], 100 * best[1]) if best else None)
    caption = f"The ring marks the best {names[select_by]}: the checkpoint that was kept." if best else ""
    return Chart(
        "On validation rows", picture, caption, ("step", *names.values()), _number_rows(validation, tuple(names))
    )


def _rate_chart(train: Records) -> Chart | None:
    series = [
        Series("body", "main", _points(train, "learning_rate")),
        Series("head", "second", _points(train, "head_learning_rate")),
    ]
    if series[1].points in ((), series[0].points):
        series = [Series("all", "main", series[0].points)]
    if not series[0].points:
        return None
    peak = max(value for one in series for _, value in one.points)
    return Chart("Learning rate", line_chart(series, "learning rate", f"Learning rate, at most {peak:.2g}.", True), "")


def _norm_chart(train: Records) -> Chart | None:
    points = _points(train, "grad_norm")
    if not points:
        return None
    picture = line_chart([Series("norm", "main", points)], "norm, before clipping", "Gradient norm.", True)
    return Chart("Gradient norm", picture, "")


def _points(records: Records, name: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(r["step"]), float(r[name])) for r in records if isinstance(r.get(name), int | float))


def _best(validation: Records, name: str) -> tuple[int, float] | None:
    points = [(int(step), value) for step, value in _points(validation, name) if value == value]
    choose = min if name == "loss" else max
    return choose(points, key=lambda point: point[1]) if points else None


def _number_rows(records: Records, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    def cell(record: Mapping[str, Any], name: str) -> str:
        value = record.get(name)
        if not isinstance(value, int | float):
            return "–"
        return f"{value:.4f}" if name == "loss" else percent(value)

    return tuple((f"{record['step']:,.0f}", *(cell(record, name) for name in names)) for record in records)


def _cell(counts: np.ndarray, names: Sequence[str], true: int, said: int, keys: set[str]) -> MatrixCell:
    key, count, total = f"{true}-{said}", int(counts[true, said]), int(counts[true].sum())
    share = count / total if total else 0.0
    told = percent(share, 1) if total else "–"
    return MatrixCell(key if key in keys else "", f"{count:,}", told, share, true == said, names[true], names[said])


def _wilson(hits: int, n: int, confidence: float) -> str:
    found = wilson_interval(hits, n, confidence)
    return interval(found.low, found.high, 1)
