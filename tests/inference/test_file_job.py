"""A file of texts with predictions: no row lost or doubled, whatever the format and however often it was killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from prediction_files import done, read_output, texts_of, write_input
from tenor.errors import TenorError, TextError, UserError
from tenor.inference import file_inputs, file_job
from tenor.inference.file_job import SAMPLE_CHARACTERS, SAMPLE_ROWS, FileJob, interrupted_job, predict_file, survey
from tenor.inference.file_outputs import require_output
from tenor.inference.predictor import Predictor

ROWS = 50


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_inputs, "CHUNK_ROWS", 8)
    monkeypatch.setattr(file_inputs, "PARQUET_ROWS", 4)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *((".csv", ".jsonl"), (".tsv", ".csv"), (".jsonl", ".parquet"), (".parquet", ".tsv"), (".txt", ".parquet")),
        *((".json", ".csv"), (".json", ".parquet"), (".arrow", ".jsonl"), (".csv.gz", ".parquet"), (".arrow", ".csv")),
    ],
)
def test_every_row_once_in_order_with_its_columns(
    source: str, target: str, small_predictor: Predictor, tmp_path: Path
) -> None:
    texts = texts_of(ROWS)
    if source == ".txt":
        texts = [text.replace("\n", " ") for text in texts]
    job = FileJob(write_input(tmp_path / f"in{source}", texts), tmp_path / f"out{target}")
    result = done(small_predictor, job)
    rows = read_output(job.output)
    assert [row["text"] for row in rows] == texts
    if source != ".txt":
        assert [int(row["number"]) for row in rows] == list(range(ROWS))
    expected = small_predictor.predict(texts)
    assert [row["prediction"] for row in rows] == [one.label for one in expected]
    found = [float(row["probability_positive"]) for row in rows]
    np.testing.assert_allclose(found, [one.probabilities["positive"] for one in expected], atol=1e-4)
    assert [str(row["truncated"]).lower() for row in rows] == [str(one.truncated).lower() for one in expected]
    assert (result.rows, result.failed, result.resumed) == (ROWS, 0, 0)
    assert sum(result.predicted.values()) == ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([job.input.name, job.output.name])


def test_parquet_keeps_the_types_of_its_columns(small_predictor: Predictor, tmp_path: Path) -> None:
    columns = {"stars": [1.5, None, 3.0], "tags": [["a"], [], None], "seen": [True, False, None]}
    job = FileJob(write_input(tmp_path / "in.parquet", ["film", "dull", "superb"], **columns), tmp_path / "out.parquet")
    done(small_predictor, job)
    before, after = pq.read_table(job.input), pq.read_table(job.output)
    assert after.select(before.column_names).equals(before)
    assert after.schema.field("probability").type == pa.float64()


def test_what_a_killed_writer_left_next_to_the_output_is_removed(small_predictor: Predictor, tmp_path: Path) -> None:
    """Killed between writing the whole output and renaming it; files of others stay."""
    job = FileJob(write_input(tmp_path / "in.csv", ["film", "dull"]), tmp_path / "out.csv")
    others = [tmp_path / name for name in (".tmp-0a1b2c3d-other.csv", ".tmp-0a1b2c3d-part-out.csv")]
    for left in (tmp_path / ".tmp-910921cc-out.csv", *others):
        left.write_text("partly")
    done(small_predictor, job)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([job.input.name, job.output.name, *(other.name for other in others)])


def test_json_lines_keep_what_stands_in_them(small_predictor: Predictor, tmp_path: Path) -> None:
    records = [
        {"text": "film", "nested": {"a": [1, None]}, "mixed": 1},
        {"mixed": "one", "text": "dull", "half": "\ud83d", "large": 2**70},
    ]
    (tmp_path / "in.jsonl").write_text("\n\n".join(json.dumps(record) for record in records))
    for suffix in (".jsonl", ".parquet", ".csv"):
        done(small_predictor, FileJob(tmp_path / "in.jsonl", tmp_path / f"out{suffix}"))
    rows = read_output(tmp_path / "out.jsonl")
    assert [{name: row[name] for name in record} for row, record in zip(rows, records, strict=True)] == records
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["mixed"] == ["1", "one"]
    assert table["nested"] == ['{"a": [1, null]}', None]
    assert table["large"] == [None, str(2**70)]


@pytest.mark.parametrize(
    ("suffix", "target"), [(".csv", ".jsonl"), (".jsonl", ".parquet"), (".parquet", ".csv"), (".txt", ".parquet")]
)
def test_zero_rows(suffix: str, target: str, small_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / f"in{suffix}", [])
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), source)
    result = done(small_predictor, FileJob(source, tmp_path / f"out{target}"))
    assert result.rows == 0
    assert read_output(tmp_path / f"out{target}") == []


def test_windows_are_counted(small_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", ["film " * 60, "dull"])
    done(small_predictor, FileJob(source, tmp_path / "out.csv", long_text="windows"))
    first, second = read_output(tmp_path / "out.csv")
    assert int(first["windows"]) > 3
    assert int(second["windows"]) == 1


def test_folders_and_patterns_are_one_job(small_predictor: Predictor, tmp_path: Path) -> None:
    texts = texts_of(ROWS)
    for part in range(3):
        write_input(_made(tmp_path / "shards") / f"part-{part}.csv", texts[part * 20 : part * 20 + 20])
    job = FileJob(tmp_path / "shards", tmp_path / "out.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(4, patch)
        with pytest.raises(Killed):
            done(small_predictor, job)
    assert done(small_predictor, job).resumed == 28, "the first shard has chunks of 8, 8 and 4 rows"
    assert [row["text"] for row in read_output(job.output)] == texts
    other = FileJob(tmp_path / "shards" / "part-[12].csv", tmp_path / "other.jsonl")
    assert done(small_predictor, other).rows == 30
    with pytest.MonkeyPatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(Killed):
            done(small_predictor, replace(job, restart=True))
    (tmp_path / "shards" / "part-2.csv").rename(tmp_path / "shards" / "part-3.csv")
    with pytest.raises(UserError, match="with other settings: input_sha256"):
        done(small_predictor, job)


def test_a_record_that_is_no_record_keeps_its_place(small_predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(
        '[{"text": "film", "n": NaN}, [1], {"text": "dull", "n": 1e999}, {"text": "film"}]'
    )
    job = FileJob(tmp_path / "in.json", tmp_path / "out.jsonl", on_error="null")
    assert done(small_predictor, job).failed == 2
    rows = read_output(job.output)
    assert [row["prediction"] is not None for row in rows] == [True, False, False, True]
    assert rows[0]["n"] is None
    assert rows[1]["error"] == "row 2 is a JSON list, expected an object"


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# Rows that can't be predicted.

BAD = b"""text,number
film,1
,2
dull,3,4
film\xe9,5
"  ",6
"two
lines",7
short
"""


def test_a_bad_row_is_kept_without_a_prediction(small_predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(BAD)
    job = FileJob(tmp_path / "in.csv", tmp_path / "out.csv", on_error="null")
    result = done(small_predictor, job)
    rows = read_output(job.output)
    assert [bool(row["prediction"]) for row in rows] == [True, False, False, False, False, True, False]
    assert [bool(row["error"]) for row in rows] == [not row["prediction"] for row in rows]
    assert [row["number"] for row in rows] == ["1", "2", "3", "5", "6", "7", ""]
    assert "row 2 has a text that is empty" in rows[1]["error"]
    assert "row 3 has 3 fields" in rows[2]["error"]
    assert "row 4 contains bytes that are not UTF-8" in rows[3]["error"]
    assert result.failed == 5
    assert len(result.first_failures) == 3


def test_a_bad_line_of_json_is_kept_without_a_prediction(small_predictor: Predictor, tmp_path: Path) -> None:
    lines = [
        '{"text": "film"}',
        "",
        "{broken",
        "[1]",
        '{"text": 5}',
        '{"other": 1}',
        '{"text": NaN}',
        '{"text": "dull"}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    job = FileJob(tmp_path / "in.jsonl", tmp_path / "out.jsonl", on_error="null")
    assert done(small_predictor, job).failed == 5
    rows = read_output(job.output)
    assert [row["prediction"] is not None for row in rows] == [True, False, False, False, False, False, True]
    assert rows[1]["error"].startswith("line 3 is not JSON")
    assert rows[3]["error"].startswith("line 5 has a text that is int '5'")


def test_the_survey_counts_what_the_job_will_find(small_predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(BAD)
    found = survey(tmp_path / "in.csv", "text")
    assert (found.rows, found.faults, list(found.columns)) == (7, 5, ["text", "number"])
    assert found.first_fault == "row 2 has a text that is empty"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_sample_is_of_the_whole_file(suffix: str, tmp_path: Path) -> None:
    """A file sorted by length, so that its beginning says nothing of its rest."""
    texts = [f"{number} " + "film " * (number // 100) for number in range(5000)]
    source = write_input(tmp_path / f"in{suffix}", [*texts, "", "x" * 50_000])
    found = survey(source, "text")
    assert len(set(found.sample)) == len(found.sample) == SAMPLE_ROWS
    numbers = np.array([int(text.split()[0]) for text in found.sample if not text.startswith("x")])
    assert abs(numbers.mean() - 2500) < 4 * 5000 / np.sqrt(12 * SAMPLE_ROWS)
    assert np.histogram(numbers, 5, (0, 5000))[0].min() > SAMPLE_ROWS / 10
    assert max(map(len, found.sample)) <= SAMPLE_CHARACTERS
    assert survey(source, "text").sample == found.sample
    write_input(source, texts[:20])
    assert sorted(survey(source, "text").sample) == sorted(texts[:20])


def test_a_bad_row_ends_the_job_where_asked(tiny_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", ["film"] * 20 + ["\x01"] + ["dull"] * 5)
    job = FileJob(source, tmp_path / "out.csv")
    with pytest.raises(TextError, match="row 21 has a text that contains no character") as caught:
        done(tiny_predictor, job)
    assert caught.value.position == 20
    assert not job.output.exists()
    result = done(tiny_predictor, replace(job, on_error="null"))
    assert (result.rows, result.failed, result.resumed) == (26, 1, 16)


# Values that cannot be stored or written are reported before anything is predicted.


class Killed(Exception):
    pass


def killed_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the job dies where it would write one chunk more."""
    written = 0
    original = file_job._result

    def result(*arguments: Any) -> pa.Table:
        nonlocal written
        written += 1
        if written > chunks:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(file_job, "_result", result)


@pytest.mark.parametrize(
    ("suffix", "chunks"),
    [(".csv", 0), (".csv", 5), (".jsonl", 1), (".parquet", 3), (".json", 2), (".arrow", 4), (".csv.gz", 3)],
)
def test_a_killed_job_goes_on_and_ends_as_if_nothing_had_been(
    suffix: str, chunks: int, small_predictor: Predictor, tmp_path: Path
) -> None:
    texts: list[Any] = texts_of(ROWS)
    texts[11] = texts[44] = " "
    source = write_input(tmp_path / f"in{suffix}", texts)
    target = suffix if suffix in (".csv", ".jsonl", ".parquet") else ".jsonl"
    whole = FileJob(source, tmp_path / f"whole{target}", on_error="null")
    uncut = done(small_predictor, whole)
    job = replace(whole, output=tmp_path / f"cut{target}")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(chunks, patch)
        with pytest.raises(Killed):
            done(small_predictor, job)
    assert not job.output.exists()
    begun = interrupted_job(job.output)
    assert begun is not None
    assert (begun.engine, begun.rows) == ("torch", 8 * chunks)
    result = done(small_predictor, job)
    assert (result.rows, result.resumed, result.failed) == (ROWS, 8 * chunks, 2)
    assert result.unlike == uncut.unlike
    assert result.unlike["rows"] == ROWS
    assert job.output.read_bytes() == whole.output.read_bytes()
    assert interrupted_job(job.output) is None


def test_a_half_written_part_counts_for_nothing(small_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", texts_of(ROWS))
    job = FileJob(source, tmp_path / "out.csv")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            done(small_predictor, job)
    (tmp_path / "out.csv.parts" / ".tmp-1234-000002.parquet").write_bytes(b"half")
    assert done(small_predictor, job).resumed == 16
    assert len(read_output(job.output)) == ROWS


@pytest.mark.parametrize("what", ["input", "model", "long_text"])
def test_a_job_that_was_another_is_not_resumed(what: str, small_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", texts_of(ROWS))
    job = FileJob(source, tmp_path / "out.csv")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            done(small_predictor, job)
    predictor, other = small_predictor, job
    if what == "input":
        write_input(source, ["film", *texts_of(ROWS)[1:]])
    elif what == "model":
        predictor = replace(small_predictor, source=replace(small_predictor.source, digest="another"))
    else:
        other = replace(job, long_text="windows")
    with pytest.raises(UserError, match=r"with other settings: .*--restart"):
        done(predictor, other)
    assert done(predictor, replace(other, restart=True)).resumed == 0


def test_an_output_is_not_overwritten_unless_asked_for(small_predictor: Predictor, tmp_path: Path) -> None:
    job = FileJob(write_input(tmp_path / "in.csv", ["film"]), tmp_path / "out.csv")
    done(small_predictor, job)
    with pytest.raises(UserError, match=r"exists.*--restart"):
        done(small_predictor, job)
    done(small_predictor, replace(job, restart=True))


def test_two_processes_do_not_write_one_output(small_predictor: Predictor, tmp_path: Path) -> None:
    job = FileJob(write_input(tmp_path / "in.csv", ["film"]), tmp_path / "out.csv", restart=True)
    with FileLock(tmp_path / ".out.csv.lock"):
        for _ in range(3):  # Whoever is refused must not take the lock away for the next one.
            with pytest.raises(UserError, match="another process"):
                done(small_predictor, job)
    done(small_predictor, job)


@pytest.mark.parametrize("spoiled", ["gone", "the last gone", "other rows", "one more", "cut off"])
def test_parts_that_are_not_the_chunks_are_no_output(spoiled: str, small_predictor: Predictor, tmp_path: Path) -> None:
    job = FileJob(write_input(tmp_path / "in.csv", texts_of(ROWS)), tmp_path / "out.csv")
    parts = tmp_path / "out.csv.parts"

    def spoil(rows: int) -> None:
        nonlocal predicted
        predicted += rows
        if predicted < ROWS:
            return
        whole = parts / "000001.parquet"
        match spoiled:
            case "gone":
                shutil.rmtree(parts)
            case "the last gone":
                (parts / "000005.parquet").unlink()
            case "other rows":
                pq.write_table(pq.read_table(whole).slice(1), whole)
            case "one more":
                shutil.copy(whole, parts / "000007.parquet")
            case "cut off":
                whole.write_bytes(whole.read_bytes()[:-9])

    predicted = 0
    with pytest.raises(TenorError, match=r"parts.*no output was written\. Start again with --restart"):
        predict_file(small_predictor, job, survey(job.input, "text"), spoil)
    assert not job.output.exists()
    assert done(small_predictor, replace(job, restart=True)).resumed == 0


def test_an_input_that_changes_meanwhile_is_told(small_predictor: Predictor, tmp_path: Path) -> None:
    job = FileJob(write_input(tmp_path / "in.csv", texts_of(ROWS)), tmp_path / "out.csv")
    found = survey(job.input, "text")
    write_input(job.input, texts_of(ROWS + 1))
    with pytest.raises(UserError, match="changed while it was read"):
        predict_file(small_predictor, job, found)
    assert not job.output.exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"engine": "abacus"}', "{"])
def test_a_job_that_says_nothing_of_use_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "out.csv.parts").mkdir()
    (tmp_path / "out.csv.parts" / "job.json").write_text(content)
    with pytest.raises(UserError, match=r"job\.json"):
        interrupted_job(tmp_path / "out.csv")


def test_columns_that_collide_are_named(small_predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", ["film"], prediction=["mine"], probability_positive=[1])
    with pytest.raises(UserError, match="prediction, probability_positive"):
        done(small_predictor, FileJob(source, tmp_path / "out.csv"))


def test_progress_tells_every_row_once(small_predictor: Predictor, tmp_path: Path) -> None:
    job = FileJob(write_input(tmp_path / "in.csv", texts_of(ROWS)), tmp_path / "out.csv")
    told: list[int] = []
    predict_file(small_predictor, job, survey(job.input, "text"), told.append)
    assert sum(told) == ROWS
    assert len(told) > ROWS // 8


# Files that can't be read.


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.doc", b"text\nfilm\n", "not read"),
        ("in.dat", b"text\nfilm\n", "unknown suffix"),
        ("in.csv", b"", "is empty"),
        ("in.csv", b"txt,number\nfilm,1\n", "did you mean"),
        ("in.csv", b"text,text\nfilm,1\n", "2 columns are called"),
        ("in.csv", b'text\nfilm\n"never ends\n', "malformed"),
        ("in.csv", "text\nfilm\n".encode("utf-16")[:-1], "UTF-16"),
        ("in.csv", b"text,caf\xe9\nfilm,1\n", r"column name b'caf\\xe9' is not UTF-8.*iconv"),
        ("in.jsonl", b'{"txt": "film"}\n', "no column 'text'"),
        ("in.parquet", b"PAR1 not really", "not a valid Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        survey(tmp_path / name, "text")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        survey(tmp_path / "in.csv", "text")
    with pytest.raises(UserError, match="has no files to read"):
        survey(tmp_path, "text")


def test_what_is_no_place_to_write_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        require_output(tmp_path / "folder.csv")
    with pytest.raises(UserError, match="file is not a folder"):
        require_output(tmp_path / "file" / "below" / "out.csv")


def test_a_chunk_ends_with_characters_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_inputs, "CHUNK_CHARACTERS", 100)
    for suffix in (".csv", ".jsonl", ".txt"):
        source = write_input(tmp_path / f"in{suffix}", ["film " * 12] * 20)
        assert max(len(chunk.texts) for chunk in file_inputs.read_chunks(file_inputs.open_input(source))) <= 2


# A process that is really killed.

JOB = """
import sys
from pathlib import Path
from tenor.inference import file_inputs
file_inputs.CHUNK_ROWS = 50
from tenor.cli.main import main
sys.exit(main(["predict", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_and_doubles_nothing(small_classifier: Path, tmp_path: Path) -> None:
    texts = texts_of(3000)
    source = write_input(tmp_path / "in.csv", texts)
    output = tmp_path / "out.csv"
    command = [sys.executable, "-c", JOB, str(small_classifier), "--engine", "torch", "--threads", "1"]
    command += ["--input", str(source), "--output", str(output)]
    kills = 0
    for _ in range(20):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wanted = 50 * 15 * (kills + 1)
        while process.poll() is None and _finished_rows(output) < wanted:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0, process.stderr.read() if process.stderr else ""
    assert kills >= 2
    rows = read_output(output)
    assert [int(row["number"]) for row in rows] == list(range(3000))
    assert [row["text"] for row in rows] == texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def _finished_rows(output: Path) -> int:
    return 50 * len(list(_parts(output)))


def _parts(output: Path) -> Iterator[Path]:
    return output.with_name(f"{output.name}.parts").glob("0*.parquet")
