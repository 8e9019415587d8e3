"""One function for each reader: it takes any bytes and may end in an error for people, and in nothing else.

`kind` is a byte that the fuzzer draws besides; a target with several files or formats chooses by it.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from predicting import exports_and_jobs, files_to_predict, predict_any_file, read_export_or_job
from run_folders import read_run_folder, run_files
from settings import exclusions, file_or_overrides, read_exclusions, read_sweep, sweeps

from tenor.errors import TenorError, UserError

Content = bytes


@dataclass(frozen=True)
class Target:
    """`read(folder, kind, content)` may use `folder` as it likes."""

    read: Callable[[Path, int, Content], None]
    seeds: Callable[[], list[Content]]
    runs: int
    """Inputs to try in the tests; `run.py TARGET RUNS` tries more."""


def _table() -> pa.Table:
    return pa.table({"text": ["a fine film", "dull, \n or not"], "label": [1, 0], "id": ["x", "y"]})


def read_text_file(folder: Path, kind: int, content: Content) -> None:
    from tenor.data.sources.labels import read_table

    suffix = (".csv", ".tsv", ".jsonl", ".json", ".txt")[kind % 5]
    file = folder / f"rows{suffix}"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        rows = read_table(file, class_names=("0", "1") if kind & 8 else None)
        assert rows.labels.min() >= 0
        assert rows.labels.max() < len(rows.class_names)
        assert all(isinstance(text, str) for text in rows.texts)


def text_seeds() -> list[Content]:
    objects = b'{"text": "a \\u00e9", "label": 1}\n\n{"text": "b", "label": "0", "id": 3}\n'
    return [
        b'\xef\xbb\xbftext,label\n"a, ""b""\nc",1\nd,0\n',
        b"text\tlabel\na\tgood\nb\tbad\n",
        objects,
        b"text,label\n,\n",
        b"text;label\na;0\nb;1\n",
        b"text,label\na,0\n".decode().encode("utf-16"),
        b'[{"text": "a", "label": 1, "n": 1e999}, {"text": "b", "label": [0]}]',
        b'{"of": {"x": [1]}, "rows": [{"text": "a", "label": 1}], "n": 2}',
        b'{"text": ["a"], "label": [1]}',
        b"__label__1 a\n__label__0 b\n",
        b'text,label,split\n"a \\"b\\", c",1,train\nd,0,test\n',
        b'"text"\t"label"\n"1"\t"a"\t"1"\n"2"\t"b"\t"0"\n',
        b'[{"type": "header", "comment": "PHPMyAdmin"}, {"type": "table", "data": [{"text": "a", "label": 1}]}]',
        b'{"text": "a", "label": {"x": 1, "y": 0}}\n{"text": "b", "label": {"x": 0, "y": 1}}\n',
    ]


PACKED = (".arrow", ".feather", ".xlsx", ".csv.gz", ".jsonl.zst", ".csv.xz", ".json.bz2", ".zip")


def read_packed(folder: Path, kind: int, content: Content) -> None:
    """Arrow's formats, workbooks and compressed files, for training and for prediction."""
    from tenor.data.sources.labels import read_table
    from tenor.inference.file_job import survey

    file = folder / f"rows{PACKED[kind % len(PACKED)]}"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        rows = read_table(file)
        assert len(rows.texts) == len(rows.labels) == len(rows)
    with contextlib.suppress(UserError):
        found = survey(file, "text")
        assert 0 <= found.faults <= found.rows


def packed_seeds() -> list[Content]:
    text, table = text_seeds()[0], _table()
    ipc = []
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        sink = io.BytesIO()
        with new(sink, table.schema) as writer:
            writer.write_table(table)
        ipc.append(sink.getvalue())
    zstd = pa.BufferOutputStream()
    with pa.CompressedOutputStream(zstd, "zstd") as stream:
        stream.write(text)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("rows.csv", text)
    workbook = (Path(__file__).parents[1] / "data" / "workbooks" / "reviews.xlsx").read_bytes()
    packed = [gzip.compress(text, mtime=0), bytes(zstd.getvalue()), lzma.compress(text), bz2.compress(text)]
    return [*ipc, workbook, *packed, archive.getvalue()]


def read_parquet(folder: Path, kind: int, content: Content) -> None:
    from tenor.data.sources.labels import read_table

    file = folder / "rows.parquet"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        rows = read_table(file)
        assert len(rows.texts) == len(rows.labels) == len(rows)


def parquet_seeds() -> list[Content]:
    return [_parquet(compression, dictionary) for compression in ("none", "snappy") for dictionary in (False, True)]


def _parquet(compression: str, dictionary: bool) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(), sink, compression=compression, use_dictionary=dictionary)
    return sink.getvalue()


def read_config(folder: Path, kind: int, content: Content) -> None:
    from tenor.config.loading import load_config
    from tenor.config.schema import Config

    file, overrides = file_or_overrides(folder, kind, content, "seed: 1\n")
    with contextlib.suppress(UserError):
        config = load_config(file, overrides)
        assert Config.model_validate_json(config.model_dump_json()) == config


def config_seeds() -> list[Content]:
    from tenor.config.loading import builtin_names, builtin_text

    odd = [b"a: &x 1\nb: *x", b"seed: 0x_F", b"training: {epochs: 1e3}", b"training.epochs=3\0data.subset={size: 10}"]
    return [*(builtin_text(name).encode() for name in builtin_names()), *odd]


def read_archive(folder: Path, kind: int, content: Content) -> None:
    """The archive's bytes before compression, so that no checksum hides them; its digest is the expected one."""
    from tenor.data.sources.imdb import read_archive as read

    file = folder / "archive.tar.gz"
    file.write_bytes(gzip.compress(content, 0, mtime=0))
    before = sorted(folder.iterdir())
    with contextlib.suppress(UserError):
        rows = read(file, hashlib.sha256(file.read_bytes()).hexdigest())
        assert set(rows) == {"train", "test"}
    assert sorted(folder.iterdir()) == before, "something was extracted"


def archive_seeds() -> list[Content]:
    names = [f"aclImdb/{split}/{name}/0_{rating}.txt" for split in ("train", "test") for name, rating in _CLASSES]
    urls = [f"aclImdb/{split}/urls_{name}.txt" for split in ("train", "test") for name, _ in _CLASSES]
    links = [("aclImdb/train/neg/1_1.txt", tarfile.SYMTYPE), ("../out.txt", tarfile.REGTYPE), ("/abs", tarfile.LNKTYPE)]
    return [_tar([(name, tarfile.REGTYPE) for name in names + urls]), *(_tar([one]) for one in links)]


_CLASSES = (("neg", 2), ("pos", 9))


def _tar(members: list[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", bufsize=512) as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            content = b"http://www.imdb.com/title/tt0000001/" if "urls" in name else b"a film"
            info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


CHECKPOINT_FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json", "manifest.json")


def read_checkpoint(folder: Path, kind: int, content: Content) -> None:
    """Any bytes in place of a file: found; with digests that agree with them: read, or refused."""
    import torch

    from tenor.runs.files import json_text
    from tenor.training.checkpoint import DamagedCheckpointError, restore, verify_checkpoint

    path = folder / "step-000005"
    path.mkdir(exist_ok=True)
    whole = _checkpoint_files()
    name = CHECKPOINT_FILES[kind % 5]
    files = {**whole, name: content}
    for one, held in files.items():
        (path / one).write_bytes(held)
    try:
        verify_checkpoint(path)
        assert content == whole[name], "damage was not seen"
    except DamagedCheckpointError:
        assert content != whole[name]
    if name == "manifest.json":
        return
    digests = {one: hashlib.sha256(held).hexdigest() for one, held in files.items() if one != "manifest.json"}
    (path / "manifest.json").write_text(json_text({"step": 5, "sha256": digests}))
    model, optimizer = _tiny_training()
    before = torch.get_rng_state()
    with contextlib.suppress(TenorError):
        restore(verify_checkpoint(path), model, optimizer)
    torch.set_rng_state(before)


def _tiny_training() -> tuple[Any, Any]:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2)
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW([{"params": [p for _, p in named], "names": [n for n, _ in named]}])
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


@cache
def _checkpoint_files() -> dict[str, bytes]:
    import tempfile

    from tenor.training.checkpoint import TrainState, Validation, save_checkpoint

    best = Validation(5, 0.5, {"accuracy": 0.9, "macro_f1": 0.9, "loss": 0.3}, [[1, 0], [0, 1]])
    with tempfile.TemporaryDirectory() as place:
        saved = save_checkpoint(Path(place), *_tiny_training(), TrainState(step=5, validations=[best], best=best))
        return {name: (saved.path / name).read_bytes() for name in CHECKPOINT_FILES}


def checkpoint_seeds() -> list[Content]:
    return list(_checkpoint_files().values())


def read_run_file(folder: Path, kind: int, content: Content) -> None:
    """The files that Tenor keeps about runs, models and baselines, in its own readers."""
    from tenor.measures.text_baseline import TextBaseline
    from tenor.runs.directory import RunDirectory, list_runs
    from tenor.runs.manifest import process_lives, read_manifest
    from tenor.runs.model_notes import read_model_notes
    from tenor.runs.step_records import read_records
    from tenor.runs.summary import read_summary

    run = RunDirectory(folder / "demo" / "one")
    run.path.mkdir(parents=True, exist_ok=True)
    readers: list[tuple[Path, Callable[[], object]]] = [
        (run.manifest, lambda: (list_runs(folder), process_lives(read_manifest(run)))),
        (folder / "experiments_summary.json", lambda: read_summary(folder)),
        (run.metrics, lambda: read_records(run.metrics)),
        (run.path / "tenor.json", lambda: read_model_notes(run.path)),
        (run.path / "baseline.json", lambda: TextBaseline.load(run.path)),
        (run.path / "arrays.npz", lambda: TextBaseline.load(run.path)),
        (run.path / "vocabulary.txt", lambda: TextBaseline.load(run.path)),
    ]
    for name, held in _baseline_files().items():
        (run.path / name).write_bytes(held)
    (run.path / "model.safetensors").write_bytes(b"weights")
    run.manifest.unlink(missing_ok=True)
    file, read = readers[kind % len(readers)]
    file.write_bytes(content)
    with contextlib.suppress(TenorError):
        read()
    file.unlink()


@cache
def _baseline_files() -> dict[str, bytes]:
    import tempfile

    from tenor.measures.text_baseline import fit_text_baseline

    texts = ["a fine film", "a dull film", "fine and bright", "dull and stale"] * 3
    fitted = fit_text_baseline(texts, np.array([1, 0, 1, 0] * 3), 2, 0)
    with tempfile.TemporaryDirectory() as place:
        fitted.save(Path(place) / "baseline")
        return {file.name: file.read_bytes() for file in (Path(place) / "baseline").iterdir()}


def run_file_seeds() -> list[Content]:
    import tempfile

    from tenor.runs.directory import create_run
    from tenor.runs.manifest import new_manifest
    from tenor.runs.summary import SummaryRow, upsert_row

    notes = {
        "max_length": 9,
        "truncation": "head",
        "head_share": 0.5,
        "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    notes |= {"checkpoint_step": 3, "temperature": 1.0}
    with tempfile.TemporaryDirectory() as place:
        run = create_run(Path(place), "demo")
        new_manifest(run, 1)
        upsert_row(Path(place), SummaryRow(run.run_id, "demo", {}, "failed"))
        files = [run.manifest, Path(place) / "experiments_summary.json"]
        held = [file.read_bytes() for file in files]
    records = b'{"kind": "train", "step": 3, "loss": 0.5}\n{"kind": "validation", "step": 3}\n'
    return [*held, records, json.dumps(notes).encode(), *_baseline_files().values()]


def read_foreign_file(folder: Path, kind: int, content: Content) -> None:
    """What `tenor diagnose` reads of other programs."""
    from tenor.checks.diagnosis import diagnose

    names = ("evaluation.json", "trainer_state.json", "predictions.csv", "predictions.parquet", "predictions.jsonl")
    others = ("events.out.tfevents.1", "run-a.wandb", "mlflow.db", "training.log", "eval_results.txt", "log.jsonl")
    others += ("training_statistics.json", "metrics_epoch_0.json", "meta.json", "output.txt", "loss.tsv")
    name = (*names, *others)[kind % len((*names, *others))]
    file = folder / name
    for other in folder.iterdir():
        other.unlink()
    file.write_bytes(content)
    for path in (file, folder):
        with contextlib.suppress(UserError):
            diagnose(path)


def foreign_seeds() -> list[Content]:
    report = {"0": {"precision": 0.5, "recall": 1.0, "f1-score": 0.66, "support": 3}, "accuracy": 0.5}
    evaluation = {
        "val": {"confusion_matrix": [[3, 0], [3, 0]], "report": report},
        "test": {"confusion_matrix": [[1, 2], [0, 3]]},
    }
    summary = [{"name": "full", "status": "ok", "ckpt_path": None, "val_metrics": None, "config": {"small_subset": 20}}]
    history = [{"step": 1, "loss": 0.7, "learning_rate": 1e-4, "grad_norm": 1.0}, {"step": 1, "eval_accuracy": 0.5}]
    trainer = {"log_history": history, "best_metric": 0.5, "global_step": 1, "max_steps": 2}
    findings = {"stages": [{"stage": "preflight", "checked": ["DAT001"], "not_applicable": [], "findings": []}]}
    objects = (evaluation, summary, trainer, findings)
    columns = {
        "label": [0, 1, 1],
        "predicted": [0, 0, 1],
        "probability_0": [0.9, 0.6, 0.2],
        "probability_1": [0.1, 0.4, 0.8],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="none")
    csv = b"label,predicted,probability_0,probability_1\n0,0,0.9,0.1\n1,0,0.6,0.4\n"
    lines = b'{"label": "a", "pred": true, "scores": [0.9, 0.1]}\n{"label": "b", "pred": 1.0, "scores": {"a": 1}}\n'
    folders = Path(__file__).parents[1] / "folders"
    patterns = (
        "wandb_healthy/**/*.wandb",
        "keras_healthy/csv/training.log",
        "simpletransformers_healthy/eval_results.txt",
        "spacy_healthy/train.log",
        "spacy_healthy/output/model-best/meta.json",
        "flair_healthy/loss.tsv",
        "keras_captured_sorted/train_output.log",
    )
    written = [next(folders.glob(pattern)).read_bytes() for pattern in patterns]
    logged = b'{"step": 1, "loss": 0.7}\n{"step": 2, "loss": NaN, "eval/accuracy": "0.5"}\n'
    metrics = {"label": {"accuracy": [0.5, 0.6], "loss": [0.7, float("nan")]}}
    ludwig = dict.fromkeys(("training", "validation"), metrics)
    allennlp = {"epoch": 0, "training_accuracy": 0.74, "training_loss": 0.5, "validation_accuracy": 1.0}
    added = (ludwig, allennlp)
    known = [*(json.dumps(one).encode() for one in (*objects, *added)), csv, sink.getvalue(), lines, _events()]
    return [*known, *written, logged]


@cache
def _events() -> bytes:
    import tempfile

    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    with tempfile.TemporaryDirectory() as place:
        writer = EventFileWriter(place)
        for step in range(3):
            value = Summary.Value(tag="train/loss", simple_value=0.5)
            writer.add_event(Event(step=step, summary=Summary(value=[value])))
        writer.close()
        return next(Path(place).iterdir()).read_bytes()


def read_results(folder: Path, kind: int, content: Content) -> None:
    """Results in a file of their own, alone and as one of a folder."""
    from tenor.checks.diagnosis import diagnose

    for other in folder.iterdir():
        other.unlink()
    file = folder / ("report.txt", "matrix.csv", "matrix.tsv", "rows.json", "labelled.csv")[kind % 5]
    file.write_bytes(content)
    for path in (file, folder):
        with contextlib.suppress(UserError):
            diagnosis = diagnose(path)
            assert diagnosis.conclusion.endswith(".")


def results_seeds() -> list[Content]:
    report = "      precision  recall  f1-score  support\n\n  a  0.50  1.00  0.67  2\n  b  0.00  0.00  0.00  2\n"
    imbalanced = "      pre  rec  spe  f1  geo  iba  sup\n\n  0  0.80  0.84  0.91  0.82  0.88  0.76  90\n"
    texts = (report, f"{report}\n  accuracy  0.50  4\n[[2 0]\n [2 0]]\n", imbalanced, "a 1 2\nb 3 4\nAll 4 6 10\n")
    tables = (",a,b\na,3,1\nb,0,4\n", ",precision,recall,f1-score,support\n0,1.0,0.5,0.6,2\n", "3,1\n0,4\n")
    labelled = "text,prediction,probability,probability_a,probability_b,error\nx,a,0.9,0.9,0.1,\ny,,0.5,0.5,0.5,\n"
    rows = {"y_true": [0, 1, 1], "y_pred": [0, 0, 1], "y_prob": [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], "accuracy": 0.6}
    held = {"report": report, "confusion_matrix": [[2, 0], [2, 0]], "class_names": ["a", "b"], "macro_f1": 0.3}
    values = (rows, [[3, 1], [0, 4]], {"split": "test", "result": held, "origin": "x", "findings": []})
    return [one.encode() for one in (*texts, *tables, labelled, *map(json.dumps, values))]


MODEL_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors", "special_tokens_map.json")


def read_model_folder(folder: Path, kind: int, content: Content) -> None:
    from tenor.model.classifier import load_saved_classifier

    for name, held in _model_files().items():
        (folder / name).write_bytes(held)
    (folder / MODEL_FILES[kind % 5]).write_bytes(content)
    with contextlib.suppress(UserError):
        load_saved_classifier(folder)


@cache
def _model_files() -> dict[str, bytes]:
    import tempfile

    from transformers import AutoModelForSequenceClassification

    from small_models import save_small_model
    from tenor.model.classifier import quiet_transformers

    with tempfile.TemporaryDirectory() as place, quiet_transformers():
        encoder = save_small_model("distilbert", Path(place) / "encoder")
        held = {file.name: file.read_bytes() for file in encoder.iterdir()}
        AutoModelForSequenceClassification.from_pretrained(encoder).save_pretrained(Path(place) / "whole")
        return held | {file.name: file.read_bytes() for file in (Path(place) / "whole").iterdir()}


def model_seeds() -> list[Content]:
    files = _model_files()
    config = json.loads(files["config.json"])
    odd = [
        {"auto_map": {"AutoConfig": "x.Y"}},
        {"attn_implementation": "org/kernel"},
        {"dim": 10**12},
        {"n_layers": 10**9},
    ]
    return [*files.values(), *(json.dumps(config | one).encode() for one in odd)]


TARGETS = {
    "text files": Target(read_text_file, text_seeds, 10_000),
    "parquet": Target(read_parquet, parquet_seeds, 5_000),
    "packed files": Target(read_packed, packed_seeds, 2_000),
    "configurations": Target(read_config, config_seeds, 2_000),
    "archives": Target(read_archive, archive_seeds, 5_000),
    "checkpoints": Target(read_checkpoint, checkpoint_seeds, 2_000),
    "files of runs": Target(read_run_file, run_file_seeds, 5_000),
    "foreign files": Target(read_foreign_file, foreign_seeds, 2_000),
    "results": Target(read_results, results_seeds, 2_000),
    "model folders": Target(read_model_folder, model_seeds, 200),
    "files to predict": Target(predict_any_file, files_to_predict, 2_000),
    "exports and jobs": Target(read_export_or_job, lambda: list(exports_and_jobs()), 5_000),
    "sweeps": Target(read_sweep, sweeps, 1_000),
    "exclusions": Target(read_exclusions, exclusions, 10_000),
    "run folders": Target(read_run_folder, lambda: list(run_files().values()), 1_000),
}


def inputs(target: str) -> Iterator[Content]:
    """The seeds of a target, once for each kind that it knows."""
    for seed in TARGETS[target].seeds():
        for kind in range(7):
            yield bytes([kind]) + seed


def try_input(target: str, folder: Path, data: Content) -> None:
    """One input; whatever it raises is a defect."""
    if data:
        TARGETS[target].read(folder, data[0], data[1:])
