"""The overview before the first step shows every fact, and each is correct."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from small_runs import small_config
from tenor.config.schema import Config
from tenor.console import run as run_module
from tenor.console.run import show_overview
from tenor.data.batching import epoch_batches
from tenor.data.splits import present_splits
from tenor.evaluation.formatting import duration
from tenor.training.cost import Cost
from tenor.workflows.prepare import Prepared, prepare

MAX_LENGTH = 10


def _shown(config: Config) -> tuple[Prepared, list[str]]:
    console = Console(file=io.StringIO(), width=400)  # No fact is folded.
    prepared = prepare(config)
    show_overview(console, prepared)
    return prepared, [line.strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def _fact(lines: list[str], name: str) -> str:
    (line,) = (line for line in lines if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def _counts(lines: list[str], name: str) -> list[int]:
    return [int(number.replace(",", "")) for number in _fact(lines, name).split()]


@pytest.fixture
def config(small_model: Path, tmp_path: Path) -> Config:
    return small_config(tmp_path, small_model, f"data.max_length={MAX_LENGTH}")


def test_labels_are_counted_per_split_and_in_the_first_batches_as_collated(config: Config) -> None:
    prepared, lines = _shown(config)
    for name, rows in present_splits(prepared.splits).items():
        assert _counts(lines, name) == [len(rows), *np.bincount(rows.labels)]
    assert next(line.split() for line in lines if "labels" in line) == ["labels", "rows", "bad", "good"]
    train = prepared.tokens["train"]
    first = np.concatenate(epoch_batches(train.lengths, 8, config.seed, 0)[:5])
    assert _counts(lines, "first 5 batches") == [len(first), *np.bincount(train.labels[first], minlength=2)]


def test_lengths_are_shown_before_and_after_truncation(config: Config) -> None:
    prepared, lines = _shown(config)
    full = np.array([len(text.split()) + 2 for text in prepared.splits.train.texts])  # [CLS] and [SEP] besides words.
    cut = full > MAX_LENGTH
    assert 0 < cut.mean() < 1
    assert _fact(lines, "lengths") == (
        f"{int(np.median(full))} tokens (median), {int(np.percentile(full, 90))} (90th percentile), "
        f"{full.max()} (longest); {cut.mean():.1%} of texts are truncated to {MAX_LENGTH} tokens (head_tail), "
        f"{1 - np.minimum(full, MAX_LENGTH).sum() / full.sum():.1%} of tokens are lost"
    )


def test_the_device_is_shown_with_the_reason_for_its_precision(config: Config) -> None:
    assert _fact(_shown(config)[1], "device") == "cpu, 1 threads; fp32 as configured; 64 tokens per forward pass"
    training = config.training.model_copy(update={"precision": "auto"})
    chosen = _fact(_shown(config.model_copy(update={"training": training}))[1], "device")
    assert re.search(r"; fp32: (this processor only emulates|the training is too short to compare it) ", chosen)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("auto", "attention 0 (more than 0 takes up to twice the time on a CPU)"), (0.2, "attention 0.2")],
)
def test_the_choice_of_dropout_is_shown(wanted: str | float, message: str, config: Config) -> None:
    model = config.model.model_copy(update={"attention_dropout": wanted})
    assert _fact(_shown(config.model_copy(update={"model": model}))[1], "dropout") == message


def test_the_cost_is_shown_in_time_memory_and_disk(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(
        r"about \d+ (s|min), \d+\.\d GB of memory and \d+\.\d\d GB of disk", _fact(_shown(config)[1], "cost")
    )
    monkeypatch.setattr(run_module, "estimate_cost", lambda *_, **__: Cost(754.0, 3 * 2**29, 11 * 2**28))
    message = f"about {duration(754.0)}, 1.5 GB of memory and 2.75 GB of disk"
    assert _fact(_shown(config)[1], "cost") == message


def test_the_model_and_its_trainable_parameters_are_printed(config: Config) -> None:
    prepared, lines = _shown(config)
    assert _fact(lines, "model") == (
        f"{config.model.name}; newly initialized: classifier.bias, classifier.weight, pre_classifier.bias, "
        "pre_classifier.weight"
    )
    assert _fact(lines, "trainable") == prepared.parameters.summary().describe_trainable()
    assert _fact(lines, "frozen") == "nothing"
    frozen = config.model.model_copy(update={"freeze": "base"})
    _, lines = _shown(config.model_copy(update={"model": frozen}))
    assert _fact(lines, "trainable").endswith(": pre_classifier, classifier")
    assert _fact(lines, "frozen").endswith("; the encoder runs once and the head trains on its features")
