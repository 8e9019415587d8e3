"""Run folders as training leaves them, without training: real files, random predictions."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tenor.config.describe import to_yaml
from tenor.config.loading import load_config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import data_fingerprint, make_splits, present_splits
from tenor.evaluation.results import Baselines, evaluation_json, split_result
from tenor.model.freezing import TrainableSummary
from tenor.runs.best_evaluation import write_evaluation
from tenor.runs.directory import RunDirectory, create_run
from tenor.runs.files import write_text
from tenor.runs.findings import Finding, NotApplicable, Report, write_findings
from tenor.runs.manifest import new_manifest, update_manifest
from tenor.runs.missing import Missing
from tenor.runs.predictions import write_predictions
from tenor.runs.summary import CheckpointRow, SummaryRow, upsert_row

HOSTILE = "<script>document.title='owned'</script> <img src=x onerror=alert(1)> & \"quoted\" </details><b>bold</b>"
FINDING = Finding(
    code="TOK009",
    title="Much of the text is truncated",
    severity="warning",
    stage="preflight",
    observed="62% of the tokens are cut off",
    expected="below 5%",
    n=2000,
    cause="at most 128 tokens of a text are kept",
    fix="raise data.max_length",
)


def write_texts(path: Path, texts: Sequence[str], class_names: Sequence[str]) -> Path:
    """A CSV file in which the classes alternate."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, class_names[k % len(class_names)]] for k, text in enumerate(texts))
    return path


def copy_of(run: RunDirectory, folder: Path) -> RunDirectory:
    """A copy of a run below `folder` that a test may change; its data are not copied."""
    return RunDirectory(Path(shutil.copytree(run.path, folder / "runs" / run.reference)))


def finished_run(
    folder: Path,
    texts: Sequence[str] = tuple(f"a review number {k}" for k in range(60)),
    class_names: Sequence[str] = ("negative", "positive"),
    has_test: bool = True,
    finding: Finding = FINDING,
    text_baseline: float | str = 0.7,
    seed: int = 3,
) -> RunDirectory:
    """A completed run below `folder/runs` whose data is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_texts(folder / "train.csv", texts, class_names)
    overrides = [f"data.path={data}", "data.source=file", f"seed={seed}", "data.validation.size=0.3", "name=invented"]
    if has_test:
        overrides.append(f"data.test_path={write_texts(folder / 'test.csv', texts, class_names)}")
    overrides.append(f"data.class_names={json.dumps(list(class_names))}")
    config = load_config("demo", [*overrides, "data.subset.size=null"])
    run = create_run(folder / "runs", config.name)
    write_text(run.config, to_yaml(config))
    new_manifest(run, config.seed, command=["tenor", "train", "demo"])
    splits = make_splits(read_source(config.data), config.data, config.seed)
    random = np.random.default_rng(seed)
    results = {
        name: _predict(run, name, rows, random, text_baseline)
        for name, rows in present_splits(splits).items()
        if name != "train"
    }
    test = results.get("test") or (splits.test.reason if isinstance(splits.test, Missing) else "")
    written = evaluation_json(results["validation"], test, "5" * 64, 20, class_names)
    write_evaluation(run.evaluation, written)
    records: list[dict[str, Any]] = [
        {"kind": "train", "step": s, "loss": 0.7 - 0.01 * s, "learning_rate": 1e-4, "grad_norm": 2.0}
        for s in (5, 10, 15, 20)
    ]
    records += [
        {"kind": "validation", "step": s, "epoch": s / 10, "accuracy": 0.8, "macro_f1": 0.79, "loss": 0.5}
        for s in (10, 20)
    ]
    write_text(run.metrics, "".join(json.dumps(record) + "\n" for record in records))
    report = Report("preflight", ("TOK009", "DAT001"), (NotApplicable("MOD004", "not known"),), (finding,))
    write_findings(run.findings, [report])
    fingerprints = {"data": data_fingerprint(splits), "encoder_weights": "a" * 64, "tokenizer": "b" * 64}
    learns = asdict(TrainableSummary(12, 30, 8, 30, ("bert.encoder.layer.1.w", "classifier.w"), ("bert.embeddings.w",)))
    timings = {"train": 12.0}
    update_manifest(run, status="completed", fingerprints=fingerprints, timings=timings, trainable=learns)
    _summarize(run, config.model_dump(mode="json"), written)
    return run


VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


class Page(HTMLParser):
    """What a browser would show: elements, visible words, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open[-1] == tag, (self._open, tag)
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _predict(
    run: RunDirectory, split: str, rows: LabelledText, random: np.random.Generator, baseline: float | str
) -> Any:
    k = len(rows.class_names)
    towards = np.eye(k)[rows.labels] * (random.random((len(rows), 1)) < 0.85)
    probabilities = random.dirichlet(np.ones(k), len(rows)) * 0.5 + towards
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    tokens = random.integers(5, 900, len(rows))
    cut = np.maximum(tokens - 128, 0)
    write_predictions(
        run.predictions / f"{split}.parquet",
        rows.ids,
        rows.labels,
        probabilities,
        rows.class_names,
        lengths=(tokens, cut),
    )
    return split_result(rows.labels, probabilities, rows.class_names, Baselines(1 / k, baseline))


def _summarize(run: RunDirectory, config: dict[str, Any], written: dict[str, Any]) -> None:
    checkpoint = run.checkpoint(20)
    checkpoint.mkdir(parents=True)
    root = run.path.parent.parent
    path = checkpoint.relative_to(root).as_posix()
    upsert_row(
        root,
        SummaryRow(
            run_id=run.run_id,
            config_name=run.config_name,
            config=config,
            status="completed",
            duration_sec=12.0,
            ckpt_path=path,
            val_metrics=written["val"],
            test_metrics=written["test"],
            checkpoints=(CheckpointRow(path, 20, {"accuracy": 0.8}, "5" * 64),),
        ),
    )
