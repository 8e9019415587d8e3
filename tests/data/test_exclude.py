"""Excluded rows are removed from the training rows, and nothing else changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from small_runs import write_csv
from tenor.config.schema import Data, Subset, ValidationSplit
from tenor.data.sources import read_source
from tenor.data.splits import Splits, make_splits, rows_left
from tenor.errors import UserError
from tiny_rows import labelled


def _splits(tmp_path: Path, content: str | None = None, **data: object) -> Splits:
    rows = write_csv(tmp_path / "rows.csv", 60)
    if content is not None:
        (tmp_path / "out.csv").write_text(content, encoding="utf-8")
        data["exclude"] = str(tmp_path / "out.csv")
    settings = Data(
        source="file",
        path=str(rows),
        text_column="review",
        label_column="verdict",
        validation=ValidationSplit(size=16),
        **data,  # type: ignore[arg-type]
    )
    return make_splits(read_source(settings), settings, seed=3)


@pytest.mark.parametrize("subset", [None, 30])
def test_the_rest_is_as_it_was(subset: int | None, tmp_path: Path) -> None:
    settings = {"subset": Subset(size=subset)}
    whole = _splits(tmp_path, **settings)
    out = [*whole.train.ids[:3], whole.train.ids[-1]]
    left = _splits(tmp_path, "rank,id\n" + "".join(f"1,{name}\n" for name in out), **settings)
    assert left.train.ids == [name for name in whole.train.ids if name not in out]
    assert left.excluded == 4
    assert left.validation.ids == whole.validation.ids
    assert np.array_equal(left.train.labels, read_labels(left))
    assert whole.excluded == 0


def read_labels(splits: Splits) -> np.ndarray:
    """The labels of the training rows, from their places in the source."""
    return splits.source_labels[splits.train_positions]


def test_a_row_of_the_validation_split_stays_there(tmp_path: Path) -> None:
    validation = _splits(tmp_path).validation.ids
    left = _splits(tmp_path, f"id\n{validation[0]}\n")
    assert left.validation.ids == validation
    assert left.excluded == 0


def test_an_id_of_several_rows_takes_none_out(tmp_path: Path) -> None:
    rows = labelled(list("abcd"), [0, 1, 0, 1])
    table = rows.table.set_column(0, "id", pa.array(["x", "y", "x", "z"]))
    (tmp_path / "out.csv").write_text("id,exclude\nx,yes\nz,no\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'x' is the id of 2 rows of a test.* Leave data\.id_column out"):
        rows_left(replace(rows, table=table), np.array([0, 1]), str(tmp_path / "out.csv"))
    (tmp_path / "out.csv").write_text("id,exclude\nx,no\nz,yes\n", encoding="utf-8")
    assert rows_left(replace(rows, table=table), np.arange(4), str(tmp_path / "out.csv")).tolist() == [0, 1, 2]


def test_only_rows_with_yes_are_taken_out_where_the_file_says(tmp_path: Path) -> None:
    train = _splits(tmp_path).train.ids
    left = _splits(tmp_path, f"\ufeffid,exclude\n{train[0]},YES\n{train[1]},no\n")
    assert train[0] not in left.train.ids
    assert train[1] in left.train.ids
    assert _splits(tmp_path, "id,exclude\n").excluded == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name\nx\n", "no column 'id'\\. Available columns: name"),
        ("", "no column 'id'"),
        ("id\nimdb-1\n1\nnope\n", "2 of 3 ids are not training rows of rows.csv: 'imdb-1', 'nope'"),
        ("id,exclude\n1,maybe\n", "line 2: exclude is 'maybe'"),
        ("id,exclude\n1\n", "line 2: exclude is None"),
        ("id,rank\n,2\n", "line 2: the id is missing"),
        ("id\n" + "".join(f"{k}\n" for k in range(1, 61)), "excludes all 44 training rows"),
        ('id\n"1\n', "data.exclude .*out.csv: line 2 is malformed: the double quote that opens there is never closed"),
        (
            'id,text\n1,"so,so"\n2,"swallows\n3,"Good, really"\n',
            "line 3 is malformed: .* closed in line 4 before 'Good",
        ),
        ('id,text\n1,"a,b"\n2,"c\n3,d\n4,e"\n5,f\n6,g\n', "line 3 is malformed: .* joins the lines 3 to 5"),
    ],
)
def test_a_file_that_can_t_be_meant_is_refused(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        _splits(tmp_path, content)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(UserError, match="UTF-8"):
        _splits(tmp_path, exclude=str(tmp_path / "bad.csv"))
    with pytest.raises(UserError, match="cannot be read"):
        _splits(tmp_path, exclude=str(tmp_path / "none.csv"))
    for path in ("a\0b.csv", "~nobody-of-this-name/a.csv", str(tmp_path)):
        with pytest.raises(UserError, match=r"data\.exclude .*cannot be read"):
            _splits(tmp_path, exclude=path)
