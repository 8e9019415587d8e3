"""Two runs are compared on the same rows, or not at all."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_runs import nulls, quiet
from tenor.console.comparison import show_comparison
from tenor.errors import UserError
from tenor.evaluation.predictions import Predictions, read_predictions, write_predictions
from tenor.runs.directory import RunDirectory
from tenor.workflows.compare import compare, comparison_record, write_disagreements


@dataclass(frozen=True)
class Pair:
    first: RunDirectory
    second: RunDirectory


@pytest.fixture
def pair(copied: RunDirectory) -> Pair:
    """A run, and a copy of it that other runs may be made of."""
    other = RunDirectory(copied.path.with_name("20990101-000000-other"))
    shutil.copytree(copied.path, other.path)
    return Pair(copied, other)


def _rewrite(run: RunDirectory, **changes: Any) -> Predictions:
    path = run.predictions / "test.parquet"
    found = read_predictions(path)
    fields = {
        "ids": found.ids,
        "labels": found.labels,
        "probabilities": found.probabilities,
        "class_names": found.class_names,
    }
    write_predictions(path, **{**fields, **changes})
    return read_predictions(path)


def _flipped(run: RunDirectory, rows: list[int]) -> None:
    """The predicted class of some rows exchanged."""
    probabilities = read_predictions(run.predictions / "test.parquet").probabilities.copy()
    probabilities[rows] = probabilities[rows, ::-1]
    _rewrite(run, probabilities=probabilities)


def test_the_order_of_rows_does_not_matter(pair: Pair) -> None:
    _flipped(pair.second, [0, 3])
    before = compare(pair.first, pair.second)
    found = read_predictions(pair.second.predictions / "test.parquet")
    order = np.random.default_rng(0).permutation(len(found.ids))
    _rewrite(
        pair.second,
        ids=[found.ids[row] for row in order],
        labels=found.labels[order],
        probabilities=found.probabilities[order],
    )
    assert compare(pair.first, pair.second) == before


def test_the_disagreements_are_the_rows_that_differ_with_their_texts(pair: Pair, tmp_path: Path) -> None:
    one = read_predictions(pair.first.predictions / "test.parquet")
    _flipped(pair.second, [1, 5, 6])
    found = compare(pair.first, pair.second)
    assert {row.id for row in found.disagreements} == {one.ids[row] for row in (1, 5, 6)}
    assert found.texts == ""
    assert all(row.text and row.text.startswith("film") for row in found.disagreements)
    for row in found.disagreements:
        named = {"first": row.predicted[0], "second": row.predicted[1]}
        assert named[row.right] == row.label
    sure = [sum(row.probability) for row in found.disagreements]
    assert sure == sorted(sure, reverse=True)
    write_disagreements(found, tmp_path / "differ.csv")
    with open(tmp_path / "differ.csv", encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row.id for row in found.disagreements]


def test_equal_runs_have_no_difference(pair: Pair) -> None:
    found = compare(pair.first, pair.second)
    assert found.disagreements == ()
    assert "No difference: both are right on the same" in found.verdict()


def test_the_sentence_says_which_is_better_only_where_it_is_shown(pair: Pair) -> None:
    one = read_predictions(pair.first.predictions / "test.parquet")
    right = np.flatnonzero(one.predicted == one.labels).tolist()
    _flipped(pair.second, right[:1])
    assert "No difference is shown" in compare(pair.first, pair.second).verdict()
    _flipped(pair.second, right[1:9])
    said = compare(pair.first, pair.second).verdict()
    assert said.startswith(f"{pair.first.reference} is better than {pair.second.reference} by 45.00 points")
    turned = compare(pair.second, pair.first).verdict()
    assert turned.startswith(f"{pair.first.reference} is better than {pair.second.reference} by 45.00 points")


def test_the_record_is_plain_and_complete(pair: Pair) -> None:
    _flipped(pair.second, [2])
    record = comparison_record(compare(pair.first, pair.second))
    assert json.loads(json.dumps(record, allow_nan=False))["disagreements"][0]["predicted"]
    assert nulls(record) == []
    console = quiet()
    show_comparison(console, compare(pair.first, pair.second))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 rows predicted differently" in shown
    assert "seeds" in shown


def test_data_that_is_gone_is_told_and_not_needed(pair: Pair) -> None:
    _flipped(pair.second, [2])
    for run in (pair.first, pair.second):
        run.config.write_text(run.config.read_text().replace("test.csv", "gone.csv"))
    found = compare(pair.first, pair.second)
    assert "can't be read again" in found.texts
    assert found.disagreements[0].text is None
    assert nulls(comparison_record(found)) == []


def test_other_texts_under_the_same_ids_are_refused(pair: Pair, tmp_path: Path) -> None:
    config = pair.second.config.read_text()
    test = Path(next(line.split(": ")[1].strip('"') for line in config.splitlines() if "test_path" in line))
    other = tmp_path / "other.csv"
    other.write_text(test.read_text().replace("film", "book"))
    pair.second.config.write_text(config.replace(str(test), str(other)))
    with pytest.raises(UserError, match="other texts in 20 test rows"):
        compare(pair.first, pair.second)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {"ids": [f"x{name}" for name in found.ids]}, "0 are in both"),
        (lambda found: {"labels": 1 - found.labels}, "other labels in 20 of 20"),
        (lambda found: {"class_names": ("no", "yes")}, "other classes"),
        (lambda found: {"ids": [found.ids[0], *found.ids[:-1]]}, "not unique"),
    ],
)
def test_other_rows_are_refused(change: Any, words: str, pair: Pair) -> None:
    _rewrite(pair.second, **change(read_predictions(pair.second.predictions / "test.parquet")))
    with pytest.raises(UserError, match=words):
        compare(pair.first, pair.second)


def test_one_run_twice_and_one_without_predictions_are_refused(pair: Pair) -> None:
    with pytest.raises(UserError, match="given twice"):
        compare(pair.first, pair.first)
    (pair.second.predictions / "test.parquet").unlink()
    with pytest.raises(UserError, match=r"no predictions for its test rows \(found: validation\)"):
        compare(pair.first, pair.second)
    assert compare(pair.first, pair.second, "validation").paired.n == 16
