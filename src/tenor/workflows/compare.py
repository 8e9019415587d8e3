"""Two runs on the same rows: their difference, whether it is significant, and the rows on which they differ."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText, excerpt
from tenor.errors import UserError
from tenor.evaluation.formatting import signed
from tenor.measures.intervals import Paired, compare_predictions
from tenor.runs.directory import RunDirectory
from tenor.runs.files import write_text
from tenor.runs.missing import Missing, missing_because
from tenor.runs.predictions import Predictions, read_predictions
from tenor.workflows.evaluate import split_rows_of
from tenor.workflows.measure import count_training_texts


@dataclass(frozen=True)
class Disagreement:
    """One row for which the two runs predict different classes."""

    id: str
    label: str
    predicted: tuple[str, str]
    probability: tuple[float, float]
    """Of the predicted class."""
    text: str | None
    """Its beginning; None if the data cannot be read again."""

    @property
    def right(self) -> str:
        """`first`, `second` or `neither`."""
        if self.label not in self.predicted:
            return "neither"
        return "first" if self.predicted[0] == self.label else "second"


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same rows: A, the first, and B, the second."""

    runs: tuple[RunDirectory, RunDirectory]
    split: str
    paired: Paired
    disagreements: tuple[Disagreement, ...]
    """The most confident ones first."""
    texts: str
    """Empty if the texts were read again and are the same; else the reason why not."""
    rows_in_train: tuple[int | Missing, int | Missing]
    """Number of rows whose text is a training text of each run; Missing if that is unknown."""

    def verdict(self) -> str:
        """One sentence: whether the difference in accuracy is significant; A is the first run, B the second."""
        paired = self.paired
        interval = paired.accuracy_interval
        points, low, high = (
            signed(100 * value, 2) for value in (paired.accuracy_difference, interval.low, interval.high)
        )
        if paired.first_alone == paired.second_alone == 0:
            return f"No difference: A and B predict the same {paired.both_right:,} of {paired.n:,} rows correctly."
        result = "No significant difference"
        if paired.significant:
            result = f"{'B' if paired.accuracy_difference > 0 else 'A'} is significantly better"
        return (
            f"{result}: B − A = {points} points ({100 * interval.confidence:g}% CI {low} to {high}, "
            f"McNemar p {_p(paired.p_value)}, n = {paired.n:,})"
        )


def compare(first: RunDirectory, second: RunDirectory, split: str = "test") -> Comparison:
    """Compare the predictions of two runs for the rows of a split.

    Raises:
        UserError: a run has no predictions for it, or the rows differ: other ids, labels, classes or texts.
    """
    runs = (first, second)
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"{first.reference} was given twice; give two runs")
    one, other = (_predictions(run, split) for run in runs)
    other = _aligned(one, other, runs, split)
    configs = tuple(load_config(run.config) for run in runs)
    texts, reason = _texts(configs, one, split, runs)
    confidence = configs[0].evaluation.confidence
    paired = compare_predictions(one.labels, one.predicted, other.predicted, len(one.class_names), confidence)
    in_train = (_rows_in_train(first, one, texts, reason), _rows_in_train(second, one, texts, reason))
    return Comparison(runs, split, paired, _disagreements(one, other, texts), reason, in_train)


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "first": str(comparison.runs[0].path),
        "second": str(comparison.runs[1].path),
        "split": comparison.split,
        **asdict(comparison.paired),
        "significant": comparison.paired.significant,
        "verdict": comparison.verdict(),
        "texts": missing_because(comparison.texts) if comparison.texts else "read again and the same",
        "rows_in_train": {
            name: missing_because(count.reason) if isinstance(count, Missing) else count
            for name, count in zip(("first", "second"), comparison.rows_in_train, strict=True)
        },
        "disagreements": [
            {
                **asdict(row),
                "right": row.right,
                "text": missing_because(comparison.texts) if row.text is None else row.text,
            }
            for row in comparison.disagreements
        ],
    }


def write_disagreements(comparison: Comparison, path: Path) -> None:
    """Write all disagreements as CSV, atomically: id, label, both predictions and their probabilities, the run that is
    right, text."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["id", "label", "first", "first_probability", "second", "second_probability", "right", "text"])
    for row in comparison.disagreements:
        (first, second), (p_first, p_second) = row.predicted, (f"{value:.4f}" for value in row.probability)
        writer.writerow([row.id, row.label, first, p_first, second, p_second, row.right, row.text or ""])
    write_text(path, lines.getvalue())


def _predictions(run: RunDirectory, split: str) -> Predictions:
    path = run.predictions / f"{split}.parquet"
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in run.predictions.glob("*.parquet"))) or "none"
        raise UserError(
            f"{run.reference} has no predictions for its {split} rows, only for: {others}; choose one with --split"
        )
    return read_predictions(path)


def _aligned(one: Predictions, other: Predictions, runs: tuple[RunDirectory, RunDirectory], split: str) -> Predictions:
    """`other` in the order of `one`."""
    names = " and ".join(run.reference for run in runs)
    if one.class_names != other.class_names:
        raise UserError(f"{names} have different classes: {one.class_names} and {other.class_names}")
    for run, predictions in zip(runs, (one, other), strict=True):
        if len(set(predictions.ids)) < len(predictions.ids):
            raise UserError(f"{run.reference}: the ids of its {split} rows are not unique; rows cannot be matched")
    common = set(one.ids) & set(other.ids)
    if not len(common) == len(one.ids) == len(other.ids):
        raise UserError(
            f"{names} were evaluated on different rows: {len(one.ids):,} and {len(other.ids):,} {split} rows, "
            f"{len(common):,} of them in both. Validation rows depend on the seed; use --split test or runs of one seed"
        )
    place = {name: row for row, name in enumerate(other.ids)}
    order = np.array([place[name] for name in one.ids])
    labels = other.labels[order]
    if (differing := np.flatnonzero(labels != one.labels)).size:
        raise UserError(
            f"{names} have the same ids but different labels in {len(differing):,} of {len(labels):,} {split} rows, "
            f"for example {one.ids[differing[0]]!r}: either the rows differ, or labels were changed between the runs"
        )
    return Predictions(one.ids, labels, other.probabilities[order], one.class_names, other.temperature)


def _texts(
    configs: tuple[Config, ...], one: Predictions, split: str, runs: tuple[RunDirectory, RunDirectory]
) -> tuple[dict[str, str], str]:
    """Texts by id, and an empty reason; or no texts, and the reason."""
    read: list[dict[str, str]] = []
    for config in configs:
        if read and config.data == configs[0].data and (split == "test" or config.seed == configs[0].seed):
            continue
        try:
            rows = split_rows_of(config, split)
        except UserError as error:
            return {}, f"the data cannot be read again: {str(error).splitlines()[0]}"
        read.append(_by_id(rows))
    for run, texts in zip(runs, read, strict=False):
        if missing := [name for name in one.ids if name not in texts]:
            return {}, f"the data of {run.reference} changed: row {missing[0]!r} is missing now"
    if differing := [name for name in one.ids if read[0][name] != read[-1][name]]:
        raise UserError(
            f"{runs[0].reference} and {runs[1].reference} have the same ids and labels, but different texts in "
            f"{len(differing):,} {split} rows, for example {differing[0]!r}: the rows differ"
        )
    return read[0], ""


def _by_id(rows: LabelledText) -> dict[str, str]:
    return dict(zip(rows.ids, rows.texts, strict=True))


def _rows_in_train(run: RunDirectory, rows: Predictions, texts: dict[str, str], reason: str) -> int | Missing:
    if not texts:
        return Missing(reason)
    try:
        return count_training_texts(run, (texts[name] for name in rows.ids))
    except UserError as error:
        return Missing(str(error))


def _disagreements(one: Predictions, other: Predictions, texts: dict[str, str]) -> tuple[Disagreement, ...]:
    rows = np.flatnonzero(one.predicted != other.predicted)
    confidence = [predictions.probabilities.max(axis=1) for predictions in (one, other)]
    ranked = rows[np.argsort(-(confidence[0] + confidence[1])[rows], kind="stable")]
    names = one.class_names
    return tuple(
        Disagreement(
            id=one.ids[row],
            label=names[one.labels[row]],
            predicted=(names[one.predicted[row]], names[other.predicted[row]]),
            probability=(float(confidence[0][row]), float(confidence[1][row])),
            text=excerpt(texts[one.ids[row]]) if texts else None,
        )
        for row in ranked
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}" if value < 0.1 else f"= {value:.2f}"
