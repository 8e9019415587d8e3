"""What calibration, abstention and thresholds look like in the terminal, and as plain data."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenor.evaluation.evaluate import SplitResult
from tenor.measures.calibration import expected_calibration_error
from tenor.measures.intervals import Interval, macro_f1_interval
from tenor.measures.selective import Answered
from tenor.model.notes import stored_threshold
from tenor.runs.environment import absent
from tenor.workflows.calibrate import SPLITS, Calibrated
from tenor.workflows.evaluate import Evaluation, abstention
from tenor.workflows.thresholds import ClassThreshold, threshold_record

NOTHING_BETTER = "without a temperature: none fits the validation rows better by more than chance"


def number_facts(split: str, result: SplitResult, confidence: float, seed: int) -> dict[str, str]:
    """What the tables of a result have no room for: macro F1's interval, and the calibration."""
    interval = macro_f1_interval(result.metrics.confusion, confidence, seed)
    raw, calibrated = (
        expected_calibration_error(probabilities, result.labels)
        for probabilities in (result.raw_probabilities, result.probabilities)
    )
    return {
        "macro F1": f"{result.metrics.macro_f1:.4f} on {split} ({100 * confidence:g}% interval {interval.low:.4f} - "
        f"{interval.high:.4f}, bootstrap)",
        "calibration": f"calibration error (ECE) on {split} {calibrated:.2%}, "
        + (NOTHING_BETTER if result.temperature == 1.0 else _fitted(result.temperature, raw)),
    }


def _fitted(temperature: float, raw: float) -> str:
    return f"{raw:.2%} before the temperature {temperature:.3f} that was fitted on the validation rows"


def show_calibration(console: Console, found: Calibrated, chosen: ClassThreshold | None = None) -> None:
    """Before and after the temperature on every split, where it is applied, and the threshold that was asked for."""
    rows = found.predictions["validation"]
    if found.notes.total_temperature != 1.0:
        how = "fitted now" if found.changed else "fitted already"
        told = f"temperature {found.notes.total_temperature:.4f}, {how} on {len(rows.labels):,} validation rows"
        console.print(told, highlight=False)
    console.print(_calibration_table(found))
    if found.notes.total_temperature != 1.0:
        console.print("ECE and NLL on validation are of the rows that the temperature was fitted on.", style="dim")
    console.print(_where(found), highlight=False, soft_wrap=True)
    if chosen is not None:
        console.print()
        console.print(_threshold_table(chosen))
        told = "tenor predict decides by it from now on; chosen on validation, so test is what to expect"
        console.print(f"kept in {found.run.model / 'tenor.json'}: {told}", highlight=False, soft_wrap=True)
    elif found.notes.threshold is not None:
        told = f"threshold: tenor predict calls {found.notes.threshold}; --no-threshold forgets it"
        console.print(told, highlight=False, soft_wrap=True, markup=False)
    elif found.dropped is not None:
        told = f"the threshold {found.dropped} was for other probabilities and is gone; choose it again"
        console.print(told, style="yellow", highlight=False, soft_wrap=True, markup=False)


def calibration_record(found: Calibrated, chosen: ClassThreshold | None = None) -> dict[str, Any]:
    """The same as plain data."""
    record = {
        "run": str(found.run.path),
        "temperature": found.notes.total_temperature,
        "folded": found.notes.temperature == 1.0 != found.notes.folded_temperature,
        "changed": found.changed,
        "calibration": {
            name: found.evaluation[key]["calibration"] for name, key in SPLITS.items() if name in found.predictions
        },
    }
    if chosen is not None:
        return {**record, "threshold": threshold_record(chosen)}
    kept = found.notes.threshold
    return {**record, "threshold": absent("none was chosen") if kept is None else stored_threshold(kept)}


def show_abstention(console: Console, found: Evaluation, below: float) -> None:
    """Coverage and accuracy where the model answers only when it is sure enough, beside the whole curve."""
    asked, curve = abstention(found, below)
    confidence = found.config.evaluation.confidence
    table = _table("Answering only where the model is sure")
    for header in ("confidence from", "answered", "coverage", "accuracy", f"{100 * confidence:g}% interval"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in sorted({asked, *curve}, key=lambda one: one.threshold):
        table.add_row(*_answered_cells(one, confidence), style="bold" if one == asked else "")
    console.print(table)
    interval = asked.interval(confidence)
    if interval is None:
        console.print(f"The model is never as sure as {below:g}: it would answer nothing.")
    else:
        console.print(
            f"Silent below {below:g}, it answers {asked.coverage:.1%} of the rows and is right in "
            f"{asked.right / asked.answered:.2%} of these ({_percent(interval)}).",
            highlight=False,
        )


def _calibration_table(found: Calibrated) -> Table:
    table = _table("Calibration")
    for header in ("split", "probabilities", "ECE", "Brier", "NLL (nats)"):
        table.add_column(header, justify="left" if header in ("split", "probabilities") else "right", no_wrap=True)
    for name in found.predictions:
        measured = found.evaluation[SPLITS[name]]["calibration"]
        for kind in ("raw",) if found.notes.total_temperature == 1.0 else ("raw", "calibrated"):
            numbers = measured[kind]
            first = name if kind == "raw" else ""
            table.add_row(first, kind, f"{numbers['ece']:.2%}", f"{numbers['brier']:.4f}", f"{numbers['nll']:.4f}")
    return table


def _where(found: Calibrated) -> str:
    notes = found.notes
    if notes.temperature == 1.0 and notes.folded_temperature != 1.0:
        return (
            f"folded into the classifier: {found.run.model} gives calibrated probabilities to whoever loads it "
            f"(weights SHA-256 {notes.weights_sha256[:12]}…)"
        )
    if notes.temperature == 1.0:
        return NOTHING_BETTER
    return (
        f"applied by tenor evaluate and tenor predict, and in {found.run.predictions}; for users without Tenor: "
        f"tenor calibrate {found.run.reference} --fold"
    )


def _threshold_table(chosen: ClassThreshold) -> Table:
    table = _table(
        f"{chosen.class_name}: {chosen.wanted} of {chosen.value:g} or more, from probability {chosen.threshold:.4f}"
    )
    for header in ("split", "called", "precision", "recall"):
        table.add_column(header, justify="left" if header == "split" else "right", no_wrap=True)
    record = threshold_record(chosen)
    for name, found in chosen.splits.items():
        cells = (_share_cell(record[name][kind]) for kind in ("precision", "recall"))
        table.add_row(name, f"{found.called:,}", *cells)
    return table


def _share_cell(share: dict[str, Any]) -> str:
    if "absent" in share:
        return str(share["absent"])
    return f"{share['value']:.2%} ({100 * share['low']:.2f} - {100 * share['high']:.2f})"


def _answered_cells(one: Answered, confidence: float) -> Sequence[str]:
    interval = one.interval(confidence)
    right = ("-", "-") if interval is None else (f"{one.right / one.answered:.2%}", _range(interval))
    return (f"{one.threshold:.4f}", f"{one.answered:,}", f"{one.coverage:.1%}", *right)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.confidence:g}% interval {_range(interval)}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.2f} - {100 * interval.high:.2f}"


def _table(title: str) -> Table:
    heading = Text(title, style="bold")
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
