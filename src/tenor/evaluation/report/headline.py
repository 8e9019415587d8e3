"""The result in one look: the model beside what it must beat, with intervals, on every split that was measured."""

from dataclasses import dataclass

from markupsafe import Markup

from tenor.data.dataset import Absent
from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.charts import Estimate, interval_chart
from tenor.evaluation.report.collect import EvaluationNumbers, SplitNumbers
from tenor.evaluation.words import interval, percent, points
from tenor.measures.calibration import expected_calibration_error
from tenor.measures.intervals import Interval, wilson_interval

BASELINES = {"text": "text baseline", "majority": "majority class"}


@dataclass(frozen=True)
class Figure:
    """A number with what it is and how sure it is."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class SplitRow:
    """A line of the table of results; empty cells are numbers that a baseline does not give."""

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
    absent: tuple[str, ...]
    """Splits that were not measured, and why."""


def headline(evaluation: EvaluationNumbers, predictions: dict[str, Predictions | Absent]) -> Headline | Absent:
    """From the test split, or from validation where there is no test split."""
    measured = {name: one for name, one in evaluation.splits.items() if isinstance(one, SplitNumbers)}
    missing = {name: one.reason for name, one in evaluation.splits.items() if isinstance(one, Absent)}
    if not measured:
        return Absent("; ".join(f"{name}: {reason}" for name, reason in missing.items()))
    split = "test" if "test" in measured else next(iter(measured))
    numbers = measured[split]
    bounds = numbers.accuracy_interval
    confidence = f"{100 * bounds.confidence:g}%"
    estimates = _estimates(numbers)
    told = "; ".join(f"{one.name} {percent(one.value)}" for one in estimates)
    return Headline(
        split=split,
        n=numbers.n,
        accuracy=percent(numbers.accuracy),
        interval=interval(bounds.low, bounds.high),
        confidence=confidence,
        sentence=_sentence(numbers),
        chart=interval_chart(
            estimates, f"accuracy on {numbers.n:,} {split} rows, with {confidence} interval", f"Accuracy: {told}."
        ),
        figures=_figures(numbers, predictions.get(split, Absent(""))),
        rows=tuple(row for name, one in reversed(measured.items()) for row in _rows(name, one)),
        absent=tuple(f"No result on {name} rows: {reason}." for name, reason in missing.items()),
    )


def baseline_interval(numbers: SplitNumbers, accuracy: float) -> Interval:
    """Wilson's interval of a baseline on the same rows."""
    return wilson_interval(round(accuracy * numbers.n), numbers.n, numbers.accuracy_interval.confidence)


def _estimates(numbers: SplitNumbers) -> list[Estimate]:
    bounds = numbers.accuracy_interval
    model = Interval(bounds.low, bounds.high, bounds.confidence)
    found = [Estimate("this model", numbers.accuracy, model, percent(numbers.accuracy))]
    for (key, name), kind in zip(BASELINES.items(), ("second", "quiet"), strict=True):
        accuracy = numbers.baseline(key)
        if accuracy is not None:
            found.append(Estimate(name, accuracy, baseline_interval(numbers, accuracy), percent(accuracy), kind))
    return found


def _sentence(numbers: SplitNumbers) -> str:
    text, majority = numbers.baseline("text"), numbers.baseline("majority")
    if text is not None:
        return f"{_against(numbers.accuracy - text)} the text baseline, weighted bigrams of the training rows."
    told = numbers.baselines.get("text")
    reason = f" No text baseline: {told['absent']}." if isinstance(told, dict) and "absent" in told else ""
    if majority is None:
        return reason.strip()
    return f"{_against(numbers.accuracy - majority)} the majority class.{reason}"


def _against(difference: float) -> str:
    if abs(difference) < 5e-5:
        return "As accurate as"
    return f"{points(abs(difference)).lstrip('+')} {'above' if difference > 0 else 'below'}"


def _figures(numbers: SplitNumbers, predictions: Predictions | Absent) -> tuple[Figure, ...]:
    f1 = numbers.macro_f1_interval
    found = [
        Figure("macro F1", percent(numbers.macro_f1), interval(f1.low, f1.high)),
        Figure("loss", f"{numbers.loss:.4f}", "mean negative log-likelihood, nats"),
    ]
    if isinstance(predictions, Predictions):
        error = expected_calibration_error(predictions.probabilities, predictions.labels)
        found.append(Figure("calibration error", percent(error), "mean distance of confidence from accuracy, 15 bins"))
    wrong = numbers.n - sum(row[k] for k, row in enumerate(numbers.confusion_matrix))
    found.append(Figure("wrong", f"{wrong:,}", f"of {numbers.n:,} rows"))
    return tuple(found)


def _rows(split: str, numbers: SplitNumbers) -> list[SplitRow]:
    bounds, n = numbers.accuracy_interval, f"{numbers.n:,}"
    rows = [
        SplitRow(
            split,
            n,
            "this model",
            percent(numbers.accuracy),
            interval(bounds.low, bounds.high),
            percent(numbers.macro_f1),
            f"{numbers.loss:.4f}",
        )
    ]
    for key, name in BASELINES.items():
        accuracy = numbers.baseline(key)
        if accuracy is not None:
            found = baseline_interval(numbers, accuracy)
            rows.append(SplitRow(split, n, name, percent(accuracy), interval(found.low, found.high), is_baseline=True))
    return rows
