"""What `tenor predict` reads: files of texts, exports, and what an interrupted job left."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tenor.errors import TextError, UserError

INPUTS = (".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".json", ".arrow")
OUTPUTS = (".csv", ".tsv", ".jsonl", ".parquet")


def predict_any_file(folder: Path, kind: int, content: bytes) -> None:
    """Refused by the survey, or written: whatever the survey lets pass has every row in an output that can be read."""
    from tenor.inference.file_job import FileJob, predict_file, survey
    from tenor.inference.file_outputs import is_text

    source, output = folder / f"in{INPUTS[kind % len(INPUTS)]}", folder / f"out{OUTPUTS[kind % 4]}"
    job = FileJob(source, output, on_error="null", restart=True)
    shutil.rmtree(folder)
    folder.mkdir()
    source.write_bytes(content)
    try:
        found = survey(source, "text", is_text(output))
    except UserError:
        return
    try:
        result = predict_file(_predictor(), job, found)
    except UserError as error:
        if "predictions would be written to" not in str(error):
            raise
        return
    assert result.rows == found.rows == sum(1 for _ in _rows(output))
    assert found.faults <= result.failed
    assert sorted(folder.iterdir()) == sorted([source, output])
    if not found.faults:
        with contextlib.suppress(TextError):  # What only the tokenizer can tell.
            predict_file(_predictor(), FileJob(source, output, restart=True), found)


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        table.validate(full=True)
        yield from range(table.num_rows)
    elif path.suffix == ".jsonl":
        for line in path.read_bytes().decode().split("\n")[:-1]:
            yield json.loads(line, parse_constant=_no_constant)
    else:
        csv.field_size_limit(10**9)
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            width = len(next(reader))
            for row in reader:
                assert len(row) == width
                yield row


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@cache
def _predictor() -> Any:
    """A real predictor but for its model, which takes both classes for as likely."""
    import tempfile

    from transformers import AutoTokenizer

    from small_models import save_small_model
    from tenor.data.tokenization import Truncation
    from tenor.inference.engines import Engine
    from tenor.inference.predictor import Predictor
    from tenor.inference.source import Source
    from tenor.inference.texts import Framing
    from tenor.model.device import plan_device

    with tempfile.TemporaryDirectory() as place:
        tokenizer = AutoTokenizer.from_pretrained(save_small_model("distilbert", Path(place)))
    labels, truncation = ("negative", "positive"), Truncation(16, "head", 0.5)
    source = Source("a model", None, None, "torch", tokenizer, labels, truncation, 1.0, "0" * 64)
    engine = Engine("torch", lambda batch: np.zeros((len(batch["input_ids"]), 2), dtype=np.float32))
    return Predictor(source, engine, plan_device("cpu", "fp32", 1), Framing.of(tokenizer), "")


def files_to_predict() -> list[bytes]:
    delimited = b'text,number,"a ""b"""\nfilm,1,\n"two\nlines",2,"x,y"\n"",3,\nshort\n,,,,\n'
    records = [
        {"text": "film", "n": 2**60, "half": "\ud83d", "nested": {"a": [1, None, {"b": 2}]}},
        {"text": "dull", "n": 1.5, "other": True},
        {"text": 3, "n": 1e300},
        [1],
    ]
    lines = (
        "\n".join(json.dumps(record) for record in records).encode() + b'\n\n{"text": "a", "x": 1e999}\n{"\\ud800": 1}'
    )
    plain = b"film\n\na\x00b\r\n caf\xe9\n"
    fasttext = b"__label__1 film\n__label__2 __label__1 dull\n"
    array = json.dumps([*records, {"text": "a"}]).encode()
    nested = json.dumps({"n": 1, "rows": records[:2]}).encode()
    delimiteds = [delimited, delimited.replace(b",", b"\t"), delimited.replace(b",", b";")]
    return [*delimiteds, lines, plain, fasttext, array, nested, _arrow_stream(), *_parquets()]


def _arrow_stream() -> bytes:
    sink, table = io.BytesIO(), pa.table({"text": ["film", None], "n": [1, 2]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquets() -> Iterator[bytes]:
    moments = pa.array([0, 2**62, None]).view(pa.timestamp("us"))
    columns = {
        "text": pa.array(["film", "dull", None]),
        "when": moments,
        "zoned": moments.cast(pa.timestamp("us", "UTC")),
        "score": pa.array([0.5, np.nan, np.inf]),
        "nested": pa.array([[{"a": 1.5}], [], None]),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "took": pa.array([1, 2, 3], pa.duration("ms")),
    }
    for names in (list(columns), ["text", "score"], ["when", "text"]):
        sink = io.BytesIO()
        table = pa.table({name: columns[name] for name in names})
        pq.write_table(table, sink, compression="none", use_dictionary=len(names) > 2, write_statistics=False)
        yield sink.getvalue()


def read_export_or_job(folder: Path, kind: int, content: bytes) -> None:
    """`export.json` beside its weights, or the job and a part that `tenor predict` finds again."""
    from tenor.inference.file_job import interrupted_job
    from tenor.runs.export_notes import EXPORT_NOTES, read_export_notes

    parts = folder / "out.csv.parts"
    parts.mkdir(exist_ok=True)
    files = (folder / EXPORT_NOTES, parts / "job.json", parts / "000000.parquet")
    (folder / "model.onnx").write_bytes(b"weights")
    for file, held in zip(files, exports_and_jobs(), strict=True):
        file.write_bytes(held)
    files[kind % 3].write_bytes(content)
    with contextlib.suppress(UserError):
        found = read_export_notes(folder)
        assert found.file == "model.onnx"
        assert all(isinstance(label, str) for label in found.labels)
        assert found.temperature > 0
    with contextlib.suppress(UserError):
        begun = interrupted_job(folder / "out.csv")
        assert begun is None or begun.engine in ("torch", "onnx", "onnx-int8")


@cache
def exports_and_jobs() -> tuple[bytes, ...]:
    import hashlib
    import tempfile

    from tenor.runs.export_notes import EXPORT_NOTES, VERSION, ExportedTruncation, ExportNotes, write_export_notes

    digest = hashlib.sha256(b"weights").hexdigest()
    notes = ExportNotes(
        version=VERSION,
        file="model.onnx",
        sha256=digest,
        quantize="none",
        labels=("a", "b"),
        truncation=ExportedTruncation(max_length=16, strategy="head", head_share=0.5),
        temperature=1.0,
        source="a run",
        source_sha256=digest,
    )
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["film"], "prediction": ["a"]}), sink, compression="none")
    with tempfile.TemporaryDirectory() as place:
        write_export_notes(Path(place), notes)
        written = (Path(place) / EXPORT_NOTES).read_bytes()
    return written, json.dumps({"version": 1, "engine": "torch"}).encode(), sink.getvalue()
