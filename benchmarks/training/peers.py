"""The two peers, each as its users run it: real tokens, and the seconds that they took."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.console.run import progress_line
from tenor.data.batching import epoch_batches
from tenor.data.dataset import LabelledText, SourceData
from tenor.runs.directory import RunDirectory
from tenor.runs.missing import Missing
from tenor.training.checkpoint import TrainState
from tenor.training.loop import fit
from tenor.training.recorder import Recorder
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import Prepared, make_accelerator, make_examples, make_task, prepare
from tenor.workflows.run_checks import RunFindings, make_watchdog
from tenor.workflows.train import NO_OBSERVER, make_callbacks

QUIET = Console(quiet=True)
VALIDATION_ROWS = 32
WARM_UP = 3
"""Steps of every peer that are not counted: in the first ones memory is touched for the first time, and kernels are
made, which takes as long as several steps."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """What a peer took."""

    seconds: float
    lengths: list[int]
    """Real tokens of every text that it trained on in these seconds."""

    @property
    def speed(self) -> float:
        """Real tokens per second."""
        return sum(self.lengths) / self.seconds


@dataclass(frozen=True)
class TrainerOptions:
    """What of `transformers.Trainer` differs between its users."""

    batch_size: int = 8
    group_by_length: bool = False
    attention_dropout: float = 0.1
    """Of both model families as they are published."""
    bf16: bool = False
    freeze_base: bool = False
    epochs: int = 1


class _EnoughError(Exception):
    """As many steps were made as were asked for."""


def tenor_config(folder: Path, length: int, threads: int, *overrides: str) -> Config:
    """Tenor's own defaults of `imdb_minilm`, for the model below `folder`, with every step at its full length."""
    return load_config(
        "imdb_minilm",
        [
            f"model.name={folder}",
            f"data={{source: given, max_length: {length}, validation: {{size: {VALIDATION_ROWS}}}}}",
            f"training.threads={threads}",
            "training.short_share=0",
            *overrides,
        ],
    )


def prepare_rows(config: Config, rows: LabelledText) -> Prepared:
    """What `tenor train` has before its first step."""
    return prepare(config, SourceData(rows, Missing("speed needs none")))


def token_rows(prepared: Prepared) -> list[Row]:
    """The training rows as `transformers.Trainer` takes them: the same tokens."""
    tokens = prepared.tokens["train"]
    return [{"input_ids": tokens.row(row).tolist(), "labels": int(tokens.labels[row])} for row in range(len(tokens))]


def tenor_trains(prepared: Prepared, folder: Path, steps: int | None = None) -> Timing:
    """`tenor train`'s loop with all who listen to it: watchdog, recorder, TensorBoard, progress.

    With `steps`, so many after the first ones, which are not counted; without it all epochs, from the first step, and
    the checkpoints too.
    """
    run = RunDirectory(folder)
    run.path.mkdir(parents=True)
    examples, forward = make_examples(prepared, QUIET)
    task = make_task(prepared, examples, forward, run.checkpoints)
    recorder = Recorder(run, prepared.config.training.trackers)
    watchdog = make_watchdog(prepared, task, RunFindings(run, prepared.config, QUIET), recorder, QUIET)
    first = 0 if steps is None else WARM_UP
    last = task.total_steps if steps is None else WARM_UP + steps
    times = []
    with progress_line(QUIET, "step", last) as line:
        heard = make_callbacks(recorder, line, QUIET, task, watchdog, NO_OBSERVER)

        def on_start(optimizer: torch.optim.Optimizer) -> None:
            times.append(time.perf_counter())
            heard.on_start(optimizer)

        def on_step(state: TrainState) -> None:
            heard.on_step(state)
            times.append(time.perf_counter())
            if len(times) > last:
                raise _EnoughError

        try:
            fit(task, make_accelerator(prepared.plan), None, replace(heard, on_start=on_start, on_step=on_step))
        except _EnoughError:
            pass
        finally:
            recorder.close()
    return Timing(times[last] - times[first], _lengths_seen(task, first, last))


def trainer_trains(
    model_folder: Path,
    rows: Sequence[Row],
    folder: Path,
    options: TrainerOptions,
    steps: int | None = None,
    seed: int = 0,
) -> Timing:
    """`transformers.Trainer` on a CPU with dynamic padding, all else as it comes; `steps` as in `tenor_trains`."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = dict.fromkeys(_attention_dropout_keys(model_folder), options.attention_dropout)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, **config)
    if options.freeze_base:
        model.base_model.requires_grad_(False)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=options.batch_size,
        train_sampling_strategy="group_by_length" if options.group_by_length else "random",
        num_train_epochs=options.epochs,
        max_steps=-1 if steps is None else WARM_UP + steps,
        seed=seed,
        use_cpu=True,
        bf16=options.bf16,
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    watch = _StopWatch()
    trainer = _CountingTrainer(
        model=model,
        args=arguments,
        train_dataset=list(rows),  # type: ignore[arg-type]  # A list serves as a dataset.
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(model_folder)),
        callbacks=[watch],
    )
    trainer.train()
    first = 0 if steps is None else WARM_UP
    return Timing(watch.times[-1] - watch.times[first], [n for batch in trainer.lengths[first:] for n in batch])


def steps_of(reviews: int, batch_size: int) -> int:
    """Optimizer steps that take this many reviews."""
    return math.ceil(reviews / batch_size)


class _CountingTrainer(Trainer):
    lengths: list[list[int]]
    """By batch."""

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        self.lengths = [*getattr(self, "lengths", []), inputs["attention_mask"].sum(dim=1).tolist()]
        return super().training_step(model, inputs, *rest, **more)


class _StopWatch(TrainerCallback):
    """The beginning, and the end of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


def _attention_dropout_keys(folder: Path) -> list[str]:
    text = (folder / "config.json").read_text()
    return [key for key in ("attention_probs_dropout_prob", "attention_dropout") if f'"{key}"' in text]


def _lengths_seen(task: TrainingTask, first: int, last: int) -> list[int]:
    """Real tokens of every text that the optimizer steps `first` … `last` - 1 (0-based) train on."""
    lengths, settings = task.train.lengths, task.settings
    batches = [
        rows
        for epoch in range(math.ceil(last / task.steps_per_epoch))
        for rows in epoch_batches(lengths, settings.batch_size, task.seed, epoch)
    ]
    return [int(lengths[row]) for rows in batches[first:last] for row in rows]
