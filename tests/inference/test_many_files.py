"""Many files into a folder: each is computed once, whatever ends the job, and one that is bad stops no other."""

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock
from rich.console import Console

from prediction_files import done, texts_of, write_input
from tenor.errors import UserError
from tenor.inference import file_inputs, file_job, file_shards
from tenor.inference.file_job import FileJob
from tenor.inference.file_shards import FolderResult
from tenor.inference.predictor import Predictor
from tenor.workflows.predict import FinishedJob
from tenor.workflows.predict_folder import predict_to_folder

FILES, ROWS = 3, 20
FORMATS = [
    ".csv",
    ".jsonl.zst",
    *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".jsonl", ".parquet", ".csv.gz", ".tsv.bz2")),
]
Predict = Callable[..., FinishedJob[FolderResult]]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_inputs, "CHUNK_ROWS", 8)
    monkeypatch.setattr(file_inputs, "PARQUET_ROWS", 4)


@pytest.fixture
def predict(small_predictor: Predictor, small_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """The workflow with a model that is already loaded."""

    def run(
        inputs: Path, output: Path, predictor: Predictor = small_predictor, **options: Any
    ) -> FinishedJob[FolderResult]:
        monkeypatch.setattr(Predictor, "load", lambda *_, **__: predictor)
        return predict_to_folder(str(small_classifier), FileJob(inputs, output, **options), console=Console(quiet=True))

    return run


def write_shards(folder: Path, suffix: str = ".csv", files: int = FILES, rows: int = ROWS) -> Path:
    """Files with rows of their own; every second one is shorter."""
    folder.mkdir(exist_ok=True)
    texts = texts_of(files * rows)
    for file in range(files):
        own = texts[file * rows : (file + 1) * rows - file % 2 * 5]
        path = folder / f"part-{file}{suffix}"
        if suffix.endswith((".zst", ".bz2")):
            plain = write_input(path.with_suffix(""), own)
            kind = {".zst": "zstd", ".bz2": "bz2"}[path.suffix]
            with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), kind) as packed:
                packed.write(plain.read_bytes())
            plain.unlink()
        else:
            write_input(path, own)
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, the names of the files that a model computes chunks of."""
    names: list[str] = []
    original = file_job._result
    monkeypatch.setattr(file_job, "_result", lambda *given: names.append(given[3].input.name) or original(*given))
    return names


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_output_is_that_of_its_file_alone(
    suffix: str, predict: Predict, small_predictor: Predictor, tmp_path: Path
) -> None:
    inputs = write_shards(tmp_path / "in", suffix)
    found = predict(inputs, tmp_path / "out").result
    assert (found.files, found.rows, found.faults) == (FILES, 55, [])
    assert sum(found.predicted.values()) == 55
    assert sorted(outputs(tmp_path / "out")) == [f"part-{file}{suffix}" for file in range(FILES)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [".tenor"]
    for path in sorted(inputs.iterdir()):
        alone = FileJob(path, tmp_path / f"alone-{path.name}", on_error="null")
        done(small_predictor, alone)
        assert alone.output.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_compressed_outputs_are_what_they_are_called(predict: Predict, tmp_path: Path) -> None:
    predict(write_shards(tmp_path / "in", ".csv.gz"), tmp_path / "out")
    with gzip.open(tmp_path / "out" / "part-0.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts_of(FILES * ROWS)[:ROWS]
    # What was written can be read: as the input of another job.
    again = predict(tmp_path / "out", tmp_path / "again").result
    assert "already has columns with the names of prediction columns" in again.faults[0].fault


class Killed(BaseException):
    """Nothing handles it, as with SIGKILL."""


def killed_at(call: int, module: Any, name: str, patch: pytest.MonkeyPatch) -> None:
    """The process ends where it would call a function of a module for the n-th time, counted from 1."""
    calls = 0
    original = getattr(module, name)

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return original(*given, **named)

    patch.setattr(module, name, counted)


KILLS = [
    ("_result", 5),
    *(pytest.param("_result", call, marks=pytest.mark.slow) for call in (1, 2)),
    ("write_output", 2),
    ("write_json", 2),  # The output is written, its record is not.
]


@pytest.mark.parametrize(("name", "call"), KILLS)
def test_a_killed_job_goes_on_with_what_is_missing(
    name: str, call: int, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = write_shards(tmp_path / "in")
    whole = predict(inputs, tmp_path / "whole").result
    with pytest.MonkeyPatch.context() as patch:
        killed_at(call, file_job, name, patch)
        with pytest.raises(Killed):
            predict(inputs, tmp_path / "out")
    complete = {path.stem for path in (tmp_path / "out" / ".tenor").glob("part-*.json")}
    names = computed(monkeypatch)
    found = predict(inputs, tmp_path / "out").result
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    assert complete.isdisjoint(names)
    assert (found.resumed_files, found.rows, found.predicted) == (len(complete), whole.rows, whole.predicted)
    assert found.unlike_texts == whole.unlike_texts
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [".tenor"]


def test_a_job_that_was_killed_before_it_removed_its_parts_is_complete(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = write_shards(tmp_path / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_job.Parts, "remove", lambda parts: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            predict(inputs, tmp_path / "out")
    names = computed(monkeypatch)
    assert predict(inputs, tmp_path / "out").result.resumed_files == 1
    assert "part-0.csv" not in names
    assert not list((tmp_path / "out").glob("*.parts"))


def test_another_worker_may_have_completed_the_file_meanwhile(
    small_predictor: Predictor, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = write_shards(tmp_path / "in")
    first = predict(inputs, tmp_path / "out").result
    shards, _ = file_shards.find_shards(FileJob(inputs, tmp_path / "out"))
    names = computed(monkeypatch)
    ends = [file_shards.predict_shard(small_predictor, shard) for shard in shards]
    assert sum(end.result.rows for end in ends if end.result is not None) == first.rows
    assert names == []


def test_only_a_changed_file_is_computed_again(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = write_shards(tmp_path / "in"), tmp_path / "out"
    predict(inputs, out)
    os.utime(inputs / "part-0.csv", ns=(1, 1))
    write_input(inputs / "part-1.csv", ["film", "dull"])
    (out / "part-2.csv").unlink()
    write_input(inputs / "part-9.csv", ["superb"])
    names = computed(monkeypatch)
    found = predict(inputs, out).result
    assert set(names) == {"part-1.csv", "part-2.csv", "part-9.csv"}
    assert (found.files, found.resumed_files, found.rows) == (4, 1, 20 + 2 + 20 + 1)
    predict(inputs, tmp_path / "whole")
    assert outputs(out) == outputs(tmp_path / "whole")


def test_a_file_that_changed_before_it_was_complete_is_begun_anew(predict: Predict, tmp_path: Path) -> None:
    inputs = write_shards(tmp_path / "in")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(3, file_job, "_result", patch)
        with pytest.raises(Killed):
            predict(inputs, tmp_path / "out")
    write_input(inputs / "part-0.csv", ["film", "dull"])
    assert predict(inputs, tmp_path / "out").result.faults == []
    predict(inputs, tmp_path / "whole")
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


def test_outputs_of_others_and_of_other_jobs_are_kept(
    predict: Predict, small_predictor: Predictor, tmp_path: Path
) -> None:
    inputs, out = write_shards(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "part-1.csv").write_text("mine")
    with pytest.raises(UserError, match=r"part-1.csv already exists.*--restart"):
        predict(inputs, out)
    assert outputs(out) == {"part-1.csv": b"mine"}
    (out / "part-1.csv").unlink()
    predict(inputs, out)
    before = outputs(out)
    with pytest.raises(UserError, match=r"other settings: abstain_below 0.0, now 0.9\..*--restart"):
        predict(inputs, out, abstain_below=0.9)
    other = replace(small_predictor, source=replace(small_predictor.source, digest="another"))
    with pytest.raises(UserError, match=r"other settings: weights_sha256"):
        predict(inputs, out, other)
    with open(out / "part-2.csv", "a") as file:
        file.write("more")
    with pytest.raises(UserError, match=r"part-2.csv: has [\d,]+ bytes, but was written with"):
        predict(inputs, out)
    predict(inputs, out, restart=True)
    assert outputs(out) == before
    with FileLock(tmp_path / ".out.lock"), pytest.raises(UserError, match="another process is writing it"):
        predict(inputs, out)


@pytest.mark.parametrize("engine", ["auto", "fastest", "onnx"])
def test_all_files_are_computed_by_one_engine(
    engine: Any, predict: Predict, small_predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the ones of a later call, unless it asks for another, which is refused."""
    inputs, out = write_shards(tmp_path / "in"), tmp_path / "out"
    predict(inputs, out)
    asked: list[str] = []

    def load(*_: Any, engine: str, **__: Any) -> Predictor:
        asked.append(engine)
        return replace(small_predictor, engine=replace(small_predictor.engine, name=engine))

    monkeypatch.setattr(Predictor, "load", load)
    job = FileJob(inputs, out)
    if engine == "onnx":
        with pytest.raises(UserError, match="other settings: engine torch, now onnx"):
            predict_to_folder("model", job, engine, console=Console(quiet=True))
    else:
        assert predict_to_folder("model", job, engine, console=Console(quiet=True)).result.resumed_files == FILES
        assert asked == ["torch"]


def test_a_restart_that_is_killed_goes_on(predict: Predict, tmp_path: Path) -> None:
    inputs, out = write_shards(tmp_path / "in"), tmp_path / "out"
    predict(inputs, out)
    before = outputs(out)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(6, file_job, "_result", patch)
        with pytest.raises(Killed):
            predict(inputs, out, restart=True)
    assert len(outputs(out)) == 2
    assert predict(inputs, out).result.resumed_files == 2
    assert outputs(out) == before


def test_a_bad_file_stops_no_other_and_the_same_command_finishes(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = write_shards(tmp_path / "in"), tmp_path / "out"
    write_input(inputs / "part-1.csv", ["film", " ", "dull"])
    (inputs / "part-2.csv").write_text("title\nfilm\n")
    (inputs / "part-4.csv.gz").write_bytes(b"not gzip")
    found = predict(inputs, out).result
    assert sorted(outputs(out)) == ["part-0.csv"]
    message = found.fault_message()
    assert message.startswith("3 of 4 files could not be predicted")
    assert "part-1.csv: 1 of 3 rows can't be predicted, the first: row 2 has a text that" in message
    assert "part-2.csv" in message
    assert "--text-column" in message
    assert "part-4.csv.gz: is not compressed" in message
    (inputs / "part-4.csv.gz").unlink()
    write_input(inputs / "part-2.csv", ["film"])
    names = computed(monkeypatch)
    found = predict(inputs, out, on_error="null").result
    assert set(names) == {"part-1.csv", "part-2.csv"}
    assert (found.failed, found.faults) == (1, [])
    assert found.first_failures[0].startswith("part-1.csv, row 2 has a text that")
    headers = {path.read_text(encoding="utf-8").partition("\n")[0] for path in out.glob("*.csv")}
    assert len(headers) == 1, "all outputs have the same columns"


def test_places_and_names_that_cannot_be(predict: Predict, tmp_path: Path) -> None:
    inputs = write_shards(tmp_path / "in")
    shutil.copytree(inputs, tmp_path / "other")
    with pytest.raises(UserError, match=r"part-0.csv: both would be written to .*out/part-0.csv"):
        predict(tmp_path / "*" / "*.csv", tmp_path / "out")
    with pytest.raises(UserError, match=r"is an input in the folder of the outputs"):
        predict(inputs, inputs)
    with pytest.raises(UserError, match=r"is an input in the folder of the outputs"):
        predict(inputs / "*.csv", tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        predict(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="no file matches"):
        predict(tmp_path / "*.tsv", tmp_path / "out")
    with pytest.raises(UserError, match=r"is not a folder"):
        predict(inputs, inputs / "part-0.csv" / "out")
    (inputs / "part-7.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"part-7.xlsx: unknown suffix '.xlsx'.*--input '\*\.csv'"):
        predict(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # The folder of the outputs may lie in that of the inputs, whose inner folders are not read.
    assert predict(inputs / "*.csv", inputs / "labelled").result.faults == []


def test_one_file_and_empty_files(predict: Predict, tmp_path: Path) -> None:
    inputs = write_shards(tmp_path / "in")
    assert predict(inputs / "part-2.csv", tmp_path / "one").result.files == 1
    (inputs / "part-5.csv").write_bytes(b"")
    (inputs / "_SUCCESS").write_bytes(b"")
    found = predict(inputs, tmp_path / "out").result
    assert (found.files, found.faults) == (FILES, [])
    _, notes = file_shards.find_shards(FileJob(inputs, tmp_path / "out"))
    assert notes == ("1 empty files have no output: part-5.csv",)


def test_the_sum_of_the_files_is_plain_data(predict: Predict, tmp_path: Path) -> None:
    inputs = write_shards(tmp_path / "in")
    write_input(inputs / "part-1.csv", [""])
    record = json.loads(json.dumps(predict(inputs, tmp_path / "out").result.as_dict()))
    assert (record["files"], record["resumed_files"], record["rows"]) == (FILES, 0, 40)
    assert record["failed_files"][0]["file"].endswith("part-1.csv")
    assert record["unlike"]["rows"] == 40
