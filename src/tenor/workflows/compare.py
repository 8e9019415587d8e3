"""Two runs on the same rows: which is better, by how much, whether that is more than chance, and where they differ."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText, Missing, excerpt
from tenor.errors import UserError
from tenor.evaluation.predictions import Predictions, read_predictions
from tenor.measures.intervals import Paired, compare_predictions
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import missing_because
from tenor.runs.files import write_text
from tenor.workflows.evaluate import split_rows_of
from tenor.workflows.measure import count_training_texts


@dataclass(frozen=True)
class Disagreement:
    """One row that the two runs call by different classes."""

    id: str
    label: str
    predicted: tuple[str, str]
    probability: tuple[float, float]
    """Of the predicted class."""
    text: str | None
    """Its beginning; None where the data can't be read again."""

    @property
    def right(self) -> str:
        """`first`, `second` or `neither`."""
        if self.label not in self.predicted:
            return "neither"
        return "first" if self.predicted[0] == self.label else "second"


@dataclass(frozen=True)
class Comparison:
    """The second run against the first."""

    runs: tuple[RunDirectory, RunDirectory]
    split: str
    paired: Paired
    disagreements: tuple[Disagreement, ...]
    """The surest contradictions first."""
    texts: str
    """Empty where the texts were read again and are the same; else why they were not."""
    rows_in_train: tuple[int | Missing, int | Missing]
    """How many of the rows have a training text of each run; or why that is not known."""

    def verdict(self) -> str:
        """One sentence: whether the difference is one."""
        paired = self.paired
        interval = paired.accuracy_interval
        points, low, high = (100 * value for value in (paired.accuracy_difference, interval.low, interval.high))
        if paired.first_alone == paired.second_alone == 0:
            return f"No difference: both are right on the same {paired.both_right:,} of {paired.n:,} rows."
        range_ = f"{100 * interval.confidence:g}% interval {low:+.2f} to {high:+.2f}"
        test = f"McNemar's exact test p {_p(paired.p_value)}"
        if not paired.significant:
            return (
                f"No difference is shown: {self.runs[1].reference} is {points:+.2f} points against "
                f"{self.runs[0].reference} ({range_}; {test}), which chance alone explains on {paired.n:,} rows."
            )
        better, worse = (self.runs[1], self.runs[0]) if points > 0 else self.runs
        return (
            f"{better.reference} is better than {worse.reference} by {abs(points):.2f} points "
            f"(second minus first: {range_}; {test}): chance alone is an unlikely cause on {paired.n:,} rows."
        )


def compare(first: RunDirectory, second: RunDirectory, split: str = "test") -> Comparison:
    """Compare what two runs predicted for the rows of a split.

    Raises:
        UserError: no predictions for it, or rows that are not the same: other ids, labels, classes or texts.
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


def comparison_record(found: Comparison) -> dict[str, Any]:
    """As plain data."""
    return {
        "first": str(found.runs[0].path),
        "second": str(found.runs[1].path),
        "split": found.split,
        **asdict(found.paired),
        "significant": found.paired.significant,
        "verdict": found.verdict(),
        "texts": missing_because(found.texts) if found.texts else "read again and the same",
        "rows_in_train": {
            name: missing_because(count.reason) if isinstance(count, Missing) else count
            for name, count in zip(("first", "second"), found.rows_in_train, strict=True)
        },
        "disagreements": [
            {**asdict(one), "right": one.right, "text": missing_because(found.texts) if one.text is None else one.text}
            for one in found.disagreements
        ],
    }


def write_disagreements(found: Comparison, path: Path) -> None:
    """All disagreements as CSV, atomically: id, label, what each run said and how sure it was, who is right, text."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["id", "label", "first", "first_probability", "second", "second_probability", "right", "text"])
    for one in found.disagreements:
        sure = [f"{value:.4f}" for value in one.probability]
        writer.writerow(
            [one.id, one.label, one.predicted[0], sure[0], one.predicted[1], sure[1], one.right, one.text or ""]
        )
    write_text(path, lines.getvalue())


def _predictions(run: RunDirectory, split: str) -> Predictions:
    path = run.predictions / f"{split}.parquet"
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in run.predictions.glob("*.parquet"))) or "none"
        raise UserError(f"{run.reference} has no predictions for its {split} rows (found: {others}); choose --split")
    return read_predictions(path)


def _aligned(one: Predictions, other: Predictions, runs: tuple[RunDirectory, RunDirectory], split: str) -> Predictions:
    """`other` in the order of `one`."""
    names = " and ".join(run.reference for run in runs)
    if one.class_names != other.class_names:
        raise UserError(f"{names} know other classes: {one.class_names} and {other.class_names}")
    for run, found in zip(runs, (one, other), strict=True):
        if len(set(found.ids)) < len(found.ids):
            raise UserError(f"{run.reference}: ids of its {split} rows are not unique, so rows can't be told apart")
    common = set(one.ids) & set(other.ids)
    if not len(common) == len(one.ids) == len(other.ids):
        raise UserError(
            f"{names} were measured on other rows: {len(one.ids):,} and {len(other.ids):,} {split} rows, of which "
            f"{len(common):,} are in both. Validation rows depend on the seed; take --split test, or runs of one seed"
        )
    place = {name: row for row, name in enumerate(other.ids)}
    order = np.array([place[name] for name in one.ids])
    labels = other.labels[order]
    if (differing := np.flatnonzero(labels != one.labels)).size:
        raise UserError(
            f"{names} have the same ids with other labels in {len(differing):,} of {len(labels):,} {split} rows, such "
            f"as {one.ids[differing[0]]!r}: these are other rows, or labels that were changed in between"
        )
    return Predictions(one.ids, labels, other.probabilities[order], one.class_names, other.temperature)


def _texts(
    configs: tuple[Config, ...], one: Predictions, split: str, runs: tuple[RunDirectory, RunDirectory]
) -> tuple[dict[str, str], str]:
    """Text by id, or the reason why there is none."""
    found: list[dict[str, str]] = []
    for config in configs:
        if found and config.data == configs[0].data and (split == "test" or config.seed == configs[0].seed):
            continue
        try:
            rows = split_rows_of(config, split)
        except UserError as error:
            return {}, f"the data can't be read again: {str(error).splitlines()[0]}"
        found.append(_by_id(rows))
    for run, texts in zip(runs, found, strict=False):
        if missing := [name for name in one.ids if name not in texts]:
            return {}, f"the data of {run.reference} changed: it has no row {missing[0]!r} any more"
    if differing := [name for name in one.ids if found[0][name] != found[-1][name]]:
        raise UserError(
            f"{runs[0].reference} and {runs[1].reference} have the same ids and labels, but other texts in "
            f"{len(differing):,} {split} rows, such as {differing[0]!r}: these are other rows"
        )
    return found[0], ""


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
    sure = [found.probabilities.max(axis=1) for found in (one, other)]
    surest = rows[np.argsort(-(sure[0] + sure[1])[rows], kind="stable")]
    names = one.class_names
    return tuple(
        Disagreement(
            id=one.ids[row],
            label=names[one.labels[row]],
            predicted=(names[one.predicted[row]], names[other.predicted[row]]),
            probability=(float(sure[0][row]), float(sure[1][row])),
            text=excerpt(texts[one.ids[row]]) if texts else None,
        )
        for row in surest
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}" if value < 0.1 else f"= {value:.2f}"
