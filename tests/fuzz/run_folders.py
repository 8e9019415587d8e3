"""A run's folder in which one file is anything, as `tenor diagnose` and `tenor report` read it."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from tenor.errors import UserError

FILES = (
    *("predictions/test.parquet", "eval_best_model.json", "findings.json", "metrics.jsonl", "model/tenor.json"),
    *("manifest.json", "config.yaml"),
)


def read_run_folder(folder: Path, kind: int, content: bytes) -> None:
    from tenor.checks.diagnosis import diagnose
    from tenor.evaluation.report.run_content import collect_run
    from tenor.runs.directory import RunDirectory

    run = folder / "demo" / "one"
    shutil.rmtree(run, ignore_errors=True)
    for name, held in run_files().items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content if name == FILES[kind % 7] else held)
    readers: tuple[Callable[[], object], ...] = (lambda: diagnose(run), lambda: collect_run(RunDirectory(run)))
    for read in readers:
        with contextlib.suppress(UserError):
            read()


@cache
def run_files() -> dict[str, bytes]:
    """The files of a small run, by name."""
    from tenor.config.loading import builtin_text
    from tenor.runs.directory import create_run
    from tenor.runs.findings import Finding, NotApplicable, Report, write_findings
    from tenor.runs.manifest import new_manifest
    from tenor.runs.predictions import write_predictions

    finding = Finding(
        code="DAT001",
        title="a title",
        severity="warning",
        observed="seen",
        expected="wanted",
        n=3,
        cause="a cause",
        fix="a fix",
        caused_by=("DAT002",),
    )
    report = Report("preflight", ("DAT001", "DAT002"), (NotApplicable("TOK002", "a reason"),), (finding,))
    bounds = {"low": 0.1, "high": 0.9, "confidence": 0.95}
    entry = {"precision": 0.5, "recall": 1.0, "f1-score": 0.66, "support": 2}
    split = {"n": 4, "accuracy": 0.75, "accuracy_interval": bounds, "macro_f1": 0.7, "macro_f1_interval": bounds}
    split |= {"loss": 0.5, "baselines": {"majority": 0.5, "text": {"missing": "why"}}}
    split |= {"confusion_matrix": [[2, 0], [1, 1]], "report": {"0": entry, "1": entry, "accuracy": 0.75}}
    evaluation = {"checkpoint": {"digest": "0" * 64, "step": 3}, "class_names": ["a", "b"], "val": split, "test": split}
    notes = {"max_length": 9, "truncation": "head", "head_share": 0.5, "weights_sha256": "0" * 64}
    records = [
        {"kind": "train", "step": 1, "loss": 0.7, "learning_rate": 1e-4, "grad_norm": 1.0},
        {"kind": "train", "step": 2, "loss": 0.5, "learning_rate": 1e-5, "grad_norm": 2.0},
        {"kind": "validation", "step": 3, "accuracy": 0.75, "macro_f1": 0.7, "loss": 0.5},
    ]
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    with tempfile.TemporaryDirectory() as place:
        run = create_run(Path(place), "demo")
        new_manifest(run, 1)
        written = run.predictions / "test.parquet"
        labels, lengths = np.array([0, 0, 1, 1]), (np.array([5, 6, 7, 8]), np.array([0, 1, 0, 2]))
        write_predictions(written, list("wxyz"), labels, probabilities, ("a", "b"), temperature=1.5, lengths=lengths)
        write_findings(run.findings, [report])
        manifest, predictions, findings = (file.read_bytes() for file in (run.manifest, written, run.findings))
    content = (evaluation, notes | {"checkpoint_step": 3, "temperature": 1.0})
    held = [json.dumps(one).encode() for one in content]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    files = (predictions, held[0], findings, lines, held[1], manifest, builtin_text("demo").encode())
    return dict(zip(FILES, files, strict=True))
