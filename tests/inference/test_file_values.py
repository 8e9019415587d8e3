"""What can stand in a file of texts: kept as it is, or told by its row before anything is predicted."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prediction_files import FORMATS, done, read_output, write_input
from tenor.errors import UserError
from tenor.inference import file_inputs
from tenor.inference.file_job import FileJob, survey
from tenor.inference.file_outputs import is_text
from tenor.inference.predictor import Predictor


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_inputs, "CHUNK_ROWS", 8)
    monkeypatch.setattr(file_inputs, "PARQUET_ROWS", 4)


def of_bytes(values: list[bytes], kind: pa.DataType | None = None) -> pa.Array:
    """Strings that hold any bytes, as a broken program writes them."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(kind or pa.string(), len(values), binary.buffers())


WHEN = pa.array([0, 2**62, 5]).view(pa.timestamp("us"))
NESTED = pa.array([[0], [2**62], None], pa.list_(pa.timestamp("us")))


@pytest.mark.parametrize(
    ("name", "columns", "targets", "words"),
    [
        ("text", {"text": of_bytes([b"film", b"\xff", b"dull"])}, FORMATS, "bytes that are not UTF-8 in column 'text'"),
        ("note", {"note": of_bytes([b"a", b"caf\xe9", b"b"])}, FORMATS, "bytes that are not UTF-8 in column 'note'"),
        ("when", {"when": WHEN}, FORMATS[:3], "a value that cannot be written as text"),
        ("when", {"when": NESTED}, FORMATS[:3], "a value that cannot be written as text"),
    ],
)
def test_a_value_of_parquet_that_can_t_be_kept_spoils_its_row_alone(
    name: str, columns: dict[str, Any], targets: list[str], words: str, small_predictor: Predictor, tmp_path: Path
) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["film", "superb", "dull"], "number": [1, 2, 3], **columns}), source)
    for suffix in targets:
        job = FileJob(source, tmp_path / f"out{suffix}", on_error="null")
        found = survey(source, "text", is_text(job.output))
        assert found.faults == 1
        assert found.first_fault.startswith("row 2 has")
        assert words in found.first_fault
        assert done(small_predictor, job).failed == 1
        rows = read_output(job.output)
        assert [bool(row["prediction"]) for row in rows] == [True, False, True]
        assert [int(row["number"]) for row in rows] == [1, 2, 3]
        assert not rows[1][name]
        assert rows[0][name]
        assert words in rows[1]["error"]


def test_parquet_takes_what_text_can_t_hold(small_predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    before = pa.table({"text": ["film", "superb", "dull"], "when": WHEN, "image": [b"\xff", b"", None]})
    required = pa.schema([field.with_nullable(False) for field in before.schema][:2])
    for table in (before, before.select(["text", "when"]).cast(required)):
        pq.write_table(table, source)
        done(small_predictor, FileJob(source, tmp_path / "out.parquet", restart=True))
        after = pq.read_table(tmp_path / "out.parquet")
        assert all(after[name].equals(table[name]) for name in table.column_names)


@pytest.mark.parametrize("target", FORMATS[:3])
@pytest.mark.parametrize("column", [[b"\xff", None], [[b"\xff"], []], [{"a": b"\xff"}, None]])
def test_bytes_are_refused_where_the_output_is_text(column: list[Any], target: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["film", "dull"], "image": column}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"column 'image' contains bytes .*Set an output that ends with \.parquet"):
        survey(tmp_path / "in.parquet", "text", is_text(tmp_path / f"out{target}"))


@pytest.mark.parametrize("column", [[1.5, 2.0], [b"film", b"dull"], [["film"], ["dull"]]])
def test_a_text_column_without_text_is_refused(column: list[Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"column 'text' has the type .*, expected text"):
        survey(tmp_path / "in.parquet", "text")


def test_categories_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    notes = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1]), of_bytes([b"caf\xe9", b"b"]))
    pq.write_table(pa.table({"text": ["film", "superb", "dull"], "note": notes}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match="UTF8"):
        survey(tmp_path / "in.parquet", "text")


def test_json_output_is_json_whatever_the_numbers(small_predictor: Predictor, tmp_path: Path) -> None:
    numbers = {"score": [math.nan, 1.5, -math.inf], "nested": [[math.nan], [2.5], None]}
    job = FileJob(write_input(tmp_path / "in.parquet", ["film", "dull", "superb"], **numbers), tmp_path / "out.jsonl")
    done(small_predictor, job)
    lines = job.output.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [row["score"] for row in rows] == [None, 1.5, None]
    assert [row["nested"] for row in rows] == [[None], [2.5], None]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "dull", "score": 1e999}', "1e999 is beyond the largest number"),
        ('{"text": "dull", "\\ud800": 1}', "has a key"),
        ('{"text": "dull", "deep": ' + "[" * 200 + "]" * 200 + "}", "more than 100 levels"),
        ('{"text": "a\\u0000b"}', "contains NUL"),
    ],
)
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_a_record_that_can_t_be_written_is_a_fault(
    line: str, words: str, target: str, small_predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text(f'{{"text": "film"}}\n{line}\n')
    found = survey(tmp_path / "in.jsonl", "text", target != ".parquet")
    assert found.faults == 1
    assert words in found.first_fault
    job = FileJob(tmp_path / "in.jsonl", tmp_path / f"out{target}", on_error="null")
    assert done(small_predictor, job).failed == 1
    assert words in read_output(job.output)[1]["error"]


def test_large_integers_beside_decimals_stay_as_they_are(small_predictor: Predictor, tmp_path: Path) -> None:
    values = [2**60 + 1, 0.5, -3]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": "film", "n": n, "m": 2**60}) + "\n" for n in values))
    done(small_predictor, FileJob(tmp_path / "in.jsonl", tmp_path / "out.parquet"))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist() == [str(2**60 + 1), "0.5", "-3"]
    assert table["m"].to_pylist() == [2**60] * 3


def test_a_carriage_return_stays_within_its_field(small_predictor: Predictor, tmp_path: Path) -> None:
    texts = ["film\rdull", "superb\r\nscene", "dull"]
    done(small_predictor, FileJob(write_input(tmp_path / "in.jsonl", texts), tmp_path / "out.csv"))
    assert [row["text"] for row in read_output(tmp_path / "out.csv")] == texts


# Killed and resumed.
