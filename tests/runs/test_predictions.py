"""Predictions are read back from Parquet bit for bit, and a damaged file is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenor.errors import UserError
from tenor.runs.predictions import read_predictions, write_predictions

NAMES = ["negative", "neutral, so-so", "positiv ☺"]


def written(path: Path, seed: int = 0, n: int = 20, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, 3, n), rng.dirichlet(np.ones(3), n).astype(dtype)
    write_predictions(path, [f"row-{row}" for row in range(n)], labels, probabilities, NAMES)
    return labels, probabilities


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.sampled_from(["float32", "float64"]))
def test_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, dtype: str) -> None:
    path = tmp_path_factory.mktemp("p") / "predictions" / "test.parquet"
    labels, probabilities = written(path, seed, n, dtype)
    found = read_predictions(path)
    assert found.ids == tuple(f"row-{row}" for row in range(n))
    assert np.array_equal(found.labels, labels)
    assert found.probabilities.dtype == probabilities.dtype
    assert np.array_equal(found.probabilities, probabilities)
    assert np.array_equal(found.predicted, probabilities.argmax(axis=1))
    assert found.class_names == tuple(NAMES)


def test_columns_are_readable_without_tenor(tmp_path: Path) -> None:
    labels, probabilities = written(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        *("id", "label", "label_name", "predicted", "predicted_name"),
        *("probability_0", "probability_1", "probability_2"),
    ]
    assert table["label_name"].to_pylist() == [NAMES[k] for k in labels]
    assert table["predicted_name"].to_pylist() == [NAMES[k] for k in probabilities.argmax(axis=1)]
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_lengths_come_back_where_they_were_given(tmp_path: Path) -> None:
    tokens, cut = np.array([12, 700]), np.array([0, 444])
    write_predictions(
        tmp_path / "p.parquet", ["a", "b"], np.array([0, 1]), np.eye(2), ["no", "yes"], lengths=(tokens, cut)
    )
    found = read_predictions(tmp_path / "p.parquet")
    assert found.tokens is not None
    assert found.truncated is not None
    assert (found.tokens.tolist(), found.truncated.tolist()) == ([12, 700], [0, 444])
    written(tmp_path / "without.parquet")
    assert read_predictions(tmp_path / "without.parquet").tokens is None
    with pytest.raises(ValueError, match="truncated"):
        write_predictions(
            tmp_path / "p.parquet", ["a", "b"], np.array([0, 1]), np.eye(2), ["no", "yes"], lengths=(cut, tokens)
        )


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "text", "column", "null", "names", "edited", "nan", "metadata"]
)
def test_a_broken_file_is_refused_with_a_next_step(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p.parquet"
    written(path)
    table = pq.read_table(path)

    def rewrite(column: str, values: list) -> None:
        index = table.column_names.index(column)
        pq.write_table(table.set_column(index, column, pa.array(values, table.schema.field(column).type)), path)

    match damage:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(path.read_bytes()[:-40])
        case "text":
            path.write_text("id,label\n")
        case "column":
            pq.write_table(table.drop_columns(["probability_1"]), path)
        case "null":
            rewrite("id", [None, *table["id"].to_pylist()[1:]])
        case "names":
            rewrite("label_name", ["else"] * 20)
        case "edited":
            rewrite("predicted", [(k + 1) % 3 for k in table["predicted"].to_pylist()])
        case "nan":
            rewrite("probability_0", [float("nan")] * 20)
        case "metadata":
            pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(UserError, match="tenor evaluate"):
        read_predictions(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.parquet"
    written(path)
    before = path.read_bytes()

    def broken(_: pa.Table, where: Path, **__: object) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        written(path, seed=1)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["p.parquet"]


def test_refuses_numbers_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 ids, 2 labels"):
        write_predictions(tmp_path / "p", ["a"], np.array([0, 1]), np.full((2, 2), 0.5), ["a", "b"])
