"""Whole runs in a second or two: 60 sentences in a CSV file, a two-layer model, 12 steps."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from small_models import BAD, GOOD
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.workflows.train import RunResult, train

SETTINGS = """\
name: small
seed: 34
data:
  source: file
  path: {train}
  test_path: {test}
  text_column: review
  label_column: verdict
  validation: {{size: 16}}
  max_length: 16
model:
  name: {model}
  dropout: 0.1
training:
  epochs: 2
  batch_size: 8
  learning_rate: 3e-3
  evaluate_every: 0.5
  checkpoint_every: 2
  keep_last: 2
  log_every: 2
  token_budget: 64
  threads: 1
  trackers: []
  device: cpu
  precision: fp32
checks:
  policy: warn
  probe_seconds: 0
"""


def write_csv(path: Path, count: int, start: int = 0, labels: Sequence[str] = ("bad", "good")) -> Path:
    """`count` sentences whose adjective gives the class."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for number in range(start, start + count):
            words = GOOD if number % 2 else BAD
            padding = " and".join(f" scene {number + k}" for k in range(number % 4))
            writer.writerow([f"film {number} was {words[number % 4]}{padding}", labels[number % 2]])
    return path


def write_config(folder: Path, model: Path, **replaced: str) -> Path:
    """The YAML file of a small run below `folder`, with its data in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    train_csv, test_csv = write_csv(folder / "train.csv", 60), write_csv(folder / "test.csv", 20, start=100)
    text = SETTINGS.format(train=train_csv, test=test_csv, model=model)
    for old, new in replaced.items():
        text = text.replace(f"{old}: ", f"{old}: {new} # ")
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def small_config(folder: Path, model: Path, *overrides: str) -> Config:
    """The configuration of a small run."""
    return load_config(write_config(folder, model), overrides)


def quiet() -> Console:
    """A console without a terminal; `quiet().file.getvalue()` is what was printed."""
    return Console(file=io.StringIO(), width=200)


def small_run(folder: Path, model: Path, *overrides: str) -> RunResult:
    """A run below `folder/runs`, seen to its end."""
    return train(small_config(folder, model, *overrides), folder / "runs", quiet())


def nulls(value: Any, place: str = "") -> list[str]:
    """Where a JSON value holds null."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in nulls(item, f"{place}.{key}")]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in nulls(item, f"{place}[{index}]")]
    return [place] if value is None else []
