"""Hostile and broken input: exit status 2, one message with file, place and fix, and nothing is written."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from small_runs import write_config
from tenor.cli.main import main

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs `tenor …`, which must refuse, and gives back what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        before = contents(tmp_path)
        status = main(arguments)
        out, err = capsys.readouterr()
        assert status == 2, err
        assert out == ""
        assert err.count("tenor: ") == 1, err
        assert "Traceback" not in err
        assert "\x1b" not in err
        assert contents(tmp_path) == before, "something was written"
        return err

    return run


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_size for path in folder.rglob("*")}


# Configurations.


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (b"name: &a x\nseed: 1\n", "line 1, column 7", "an anchor"),
        (b"name: x\nseed: *a\n", "line 2", "alias"),
        (b"base: &b {seed: 1}\n<<: *b\n", "line 1", "anchor"),
        (b"<<: {seed: 1}\n", "line 1", "merge key"),
        (b"name: !!python/object/apply:os.system [ls]\n", "line 1", "a tag"),
        (b"%YAML 1.1\n---\nseed: 1\n", "line", "directive"),
        (b"seed: 1\n---\nseed: 2\n", "line 2", "second document"),
        (b"seed: " + b"9" * 4000 + b"\n", "line 1", "4000 characters"),
        (b"training:\n  learning_rate: 1e999\n", "line 2", "not a finite number"),
        (b"training:\n  learning_rate: .nan\n", "line 2", "not a finite number"),
        (b"training:\n  epochs: 1e9\n", "line 2", "training.epochs"),
        (b"training:\n  batch_size: 99999999999999999999999\n", "line 2", "training.batch_size"),
        (b"training:\n  epochs: three\n", "line 2", "training.epochs"),
        (b"training: 3\n", "line 1", "training"),
        (b"seed: true\n", "line 1", "seed"),
        (b"trainig:\n  epochs: 3\n", "line 1", "did you mean training?"),
        (b"seed: 1\nseed: 2\n", "line 2", "twice"),
        (b"[" * 500, "line 1", ""),
        (b"a: " + b"{a: " * 500, "line 1", ""),
        (b"name: ../../outside\n", "line 1", "name"),
        (b"name: a\x00b\n", "", ""),
        (b"name: caf\xe9\n", "line 1, column 10", "not UTF-8"),
        (b"# " + b"x" * 1_100_000, "", "more than 1,000,000 bytes"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_hostile_configuration(text: bytes, place: str, words: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(text)
    messages = refused("train", "mine.yaml")
    assert "mine.yaml" in messages
    assert place in messages
    assert words in messages


# Data.


def rows(text: object = "a fine film", label: object = "good") -> dict[str, list[object]]:
    return {"review": [text, "dull"] * 30, "verdict": [label, "bad"] * 30}


def parquet(path: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), path)


def as_bytes(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


HEADER = b"review,verdict\n"
ROW = b"a fine film,good\n"

DATA: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "NUL bytes": ("train.csv", HEADER + ROW + b"a\x00b,bad\n", ("line 3", "NUL")),
    "two encodings": (
        "train.csv",
        HEADER + "caf\u00e9,good\n".encode() + "caf\u00e9,bad\n".encode("latin-1"),
        ("line 3", "0xE9", "python -c"),
    ),
    "UTF-16 without its mark": ("train.csv", "review,verdict\n".encode("utf-16-le"), ("UTF-16LE", "iconv")),
    "UTF-16 cut off": ("train.csv", "review,verdict\n".encode("utf-16")[:-1], ("UTF-16", "incomplete")),
    "UTF-32": ("train.csv", "review,verdict\n".encode("utf-32"), ("UTF-32", "iconv")),
    "a field of 11 MB": ("train.csv", HEADER + ROW + b"x" * 11_000_000 + b",bad\n", ("row 2", "11,000,000 characters")),
    "a label of 1 MB": (
        "train.csv",
        HEADER + b"a film," + b"g" * 1_000_000 + b"\n",
        ("1,000,000 characters", "at most 200"),
    ),
    "a quote that is never closed": ("train.csv", HEADER + b'"a film,good\n' + ROW * 5, ("line", "quote")),
    "more fields than the header": ("train.csv", HEADER + ROW + b"a, b, c,good\n", ("row 2", "4 fields")),
    "a label that commands a terminal": ("train.csv", HEADER + ROW + b"dull,\x1b]0;owned\x07\n", ("control", "class")),
    "a JSON value that never ends": ("train.jsonl", b'{"review": ' + b"[" * 100_000, ("line 1", "JSON")),
    "half a surrogate": ("train.jsonl", b'{"review": "\\ud800", "verdict": "good"}\n', ("line 1", "surrogate")),
    "an array of arrays": ("train.json", b'[["a", "b"]]', ("JSON array of other values",)),
    "an array that never ends": ("train.json", b'[{"review": ' + b"[" * 100_000, ("JSON", "nested too deeply")),
    "Parquet cut off": ("train.parquet", as_bytes(rows())[:-30], ("Parquet", "write it again")),
    "Parquet of another kind": ("train.parquet", b"PAR1" + b"\xff" * 40 + b"PAR1", ("Parquet", "write it again")),
    "Parquet with numbers for texts": (
        "train.parquet",
        as_bytes(rows(text=None) | {"review": [1.5] * 60}),
        ("'review'",),
    ),
    "Parquet with lists for labels": ("train.parquet", as_bytes(rows() | {"verdict": [[1, 0]] * 60}), ("'verdict'",)),
    "Parquet with a missing column": ("train.parquet", as_bytes({"review": ["a"]}), ("'verdict'", "data.label_column")),
}


@pytest.mark.parametrize("case", DATA)
def test_hostile_data(case: str, refused: Refused, small_model: Path, tmp_path: Path) -> None:
    name, content, words = DATA[case]
    config = write_config(tmp_path, small_model)
    (tmp_path / name).write_bytes(content)
    messages = refused("train", str(config), f"data.path={tmp_path / name}")
    assert len(messages) < 2_000, "the message holds the field itself"
    for word in (name, *words):
        assert word in messages


@pytest.mark.slow
def test_a_field_of_100_mb(refused: Refused, small_model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, small_model)
    (tmp_path / "train.csv").write_bytes(HEADER + ROW + b"x" * 100_000_000 + b",bad\n")
    messages = refused("train", str(config))
    assert "row 2" in messages
    assert "100,000,000 characters" in messages


def test_an_archive_that_is_not_the_official_one(refused: Refused, small_model: Path, tmp_path: Path) -> None:
    """Whatever it holds: its digest is looked at before its content."""
    config = write_config(tmp_path, small_model)
    with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("../../outside.txt")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"out"))
    messages = refused("train", str(config), "data={source: imdb, path: aclImdb_v1.tar.gz, max_length: 16}")
    assert "aclImdb_v1.tar.gz" in messages
    assert "download it again" in messages


# Files to predict.


def not_utf8(*values: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


WHEN = pa.array([0, 2**62]).view(pa.timestamp("us"))
TO_PREDICT: dict[str, tuple[str, bytes, str, tuple[str, ...]]] = {
    "a header in another encoding": ("in.csv", b"text,caf\xe9\nfilm,1\n", "out.csv", (r"b'caf\xe9'", "iconv")),
    "a text in another encoding": ("in.csv", b"text\nfilm\ncaf\xe9\n", "out.csv", ("1 of 2", "row 2", "not UTF-8")),
    "UTF-16 cut off": ("in.tsv", "text\nfilm\n".encode("utf-16")[:-1], "out.csv", ("UTF-16", "incomplete")),
    "NUL": ("in.csv", b"text\nfilm\na\x00b\n", "out.csv", ("row 2", "NUL", "--on-error null")),
    "a quote that is never closed": ("in.csv", b'text\n"film\n' + b"film\n" * 5, "out.csv", ("line", "quote")),
    "texts that are no UTF-8": (
        "in.parquet",
        as_bytes({"text": not_utf8(b"film", b"\xff")}),
        "out.parquet",
        ("row 2", "not UTF-8 in column 'text'"),
    ),
    "another column that is no UTF-8": (
        "in.parquet",
        as_bytes({"text": ["film", "dull"], "note": not_utf8(b"a", b"caf\xe9")}),
        "out.csv",
        ("row 2", "not UTF-8 in column 'note'"),
    ),
    "a year that Python does not have": (
        "in.parquet",
        as_bytes({"text": ["film", "dull"], "when": WHEN}),
        "out.jsonl",
        ("row 2", "column 'when'", ".parquet"),
    ),
    "bytes as text": (
        "in.parquet",
        as_bytes({"text": ["film"], "image": [b"\xff"]}),
        "out.jsonl",
        ("'image' contains bytes", ".parquet"),
    ),
    "numbers for texts": (
        "in.parquet",
        as_bytes({"text": [1.5]}),
        "out.csv",
        ("'text' has the type double", "--text-column"),
    ),
    "Parquet cut off": ("in.parquet", as_bytes(rows())[:-30], "out.csv", ("Parquet", "write it again")),
    "half a surrogate for a key": ("in.jsonl", b'{"text": "a", "\\ud800": 1}\n', "out.parquet", ("line 1", "key")),
    "a number beyond all": ("in.jsonl", b'{"text": "a", "n": 1e999}\n', "out.jsonl", ("line 1", "1e999")),
    "a JSON value that never ends": ("in.jsonl", b'{"text": ' + b"[" * 100_000, "out.csv", ("line 1", "JSON")),
    "lists within lists": ("in.jsonl", b'{"text": "a", "n": ' + b"[" * 500 + b"]" * 500 + b"}", "out.csv", ("levels",)),
    "an output within a file": ("in.csv", b"text\nfilm\n", "in.csv/out.csv", ("in.csv is not a folder",)),
}


@pytest.mark.parametrize("case", TO_PREDICT)
def test_a_hostile_file_to_predict(case: str, refused: Refused, tmp_path: Path) -> None:
    """Told by the look through the file, so before any model is loaded: here there is none."""
    name, content, output, words = TO_PREDICT[case]
    (tmp_path / name).write_bytes(content)
    messages = refused("predict", "latest", "--input", name, "--output", output)
    assert len(messages) < 2_000, "the message holds the field itself"
    for word in (name, *words):
        assert word in messages


# Model folders.


def change(folder: Path, file: str, **keys: object) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | keys))


def tensors(folder: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    stored = {name: np.array(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    edit(stored)
    save_file(stored, folder / "model.safetensors")


FIRST = "transformer.layer.0.ffn.lin1.weight"
Spoil = Callable[[Path], object]
FOLDERS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "code of a configuration": (
        lambda folder: change(folder, "config.json", auto_map={"AutoConfig": "trap.Trap"}),
        ("config.json", "auto_map", "Remove the key"),
    ),
    "code of a tokenizer": (
        lambda folder: change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["trap.Trap", None]}),
        ("tokenizer_config.json", "auto_map", "Remove the key"),
    ),
    "code of a part": (
        lambda folder: change(folder, "config.json", part={"auto_map": {"AutoModel": "trap.Trap"}}),
        ("config.json", "part.auto_map"),
    ),
    "attention of a hub": (
        lambda folder: change(folder, "config.json", attn_implementation="someone/kernel"),
        ("config.json", "attn_implementation", "eager, sdpa"),
    ),
    "attention of a hub, hidden": (
        lambda folder: change(folder, "config.json", _attn_implementation_internal="flash_attention_2"),
        ("config.json", "_attn_implementation_internal", "eager, sdpa"),
    ),
    "kernels of a quantizer": (
        lambda folder: change(folder, "config.json", quantization_config={"quant_method": "mxfp4"}),
        ("config.json", "quantization_config"),
    ),
    "an adapter": (
        lambda folder: (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}'),
        ("adapter_config.json", "merges both"),
    ),
    "a billion layers": (lambda folder: change(folder, "config.json", n_layers=10**9), ("config.json", "n_layers")),
    "a width beyond the weights": (lambda folder: change(folder, "config.json", dim=10**9), ("config.json", "dim")),
    "a word for a number": (lambda folder: change(folder, "config.json", n_heads="four"), ("model.name",)),
    "an unknown activation": (lambda folder: change(folder, "config.json", activation="os.system"), ("model.name",)),
    "a missing tensor": (
        lambda folder: tensors(folder, lambda stored: stored.pop(FIRST)),
        ("model", "1 are missing", FIRST, "same model"),
    ),
    "a tensor of another shape": (
        lambda folder: tensors(folder, lambda stored: stored.update({FIRST: stored[FIRST][:7]})),
        ("model", "1 have another shape", FIRST, "(7, 32) in the file, (64, 32) in the model"),
    ),
    "a layer that has no place": (
        lambda folder: change(folder, "config.json", n_layers=1),
        ("16 are not part of the model",),
    ),
    "weights as a pickle alone": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        ("model.safetensors",),
    ),
    "weights cut off": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999]),
        ("model.name",),
    ),
    "weights with a lying header": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b" " * 100_000),
        ("model.name",),
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_hostile_model_folder(case: str, refused: Refused, small_model: Path, tmp_path: Path) -> None:
    spoil, words = FOLDERS[case]
    folder = Path(shutil.copytree(small_model, tmp_path / "mine"))
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    config = write_config(tmp_path, small_model)
    spoil(folder)
    messages = refused("train", str(config), f"model.name={folder}")
    for word in (str(folder), *words):
        assert word in messages


# What Tenor wrote itself, and someone changed.


def test_a_damaged_summary_is_refused_before_training(refused: Refused, small_model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, small_model)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "experiments_summary.json").write_text('[{"run_id": 3}]')
    messages = refused("train", str(config))
    assert "experiments_summary.json" in messages
    assert "key 0.run_id" in messages
