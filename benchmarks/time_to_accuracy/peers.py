"""Tenor and `transformers.Trainer`, each trained until the highest level is reached, and on from where it was cut."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.splits import Splits
from tenor.model.freezing import freeze
from tenor.runs.directory import RunDirectory
from tenor.training.checkpoint import TrainState, Validation, Window
from tenor.training.loop import Callbacks, fit
from tenor.workflows.prepare import make_accelerator, make_classifier, make_examples, make_task, prepare
from tenor.workflows.train import newest_checkpoint
from time_to_accuracy.measured import Clock, Curve
from training.peers import QUIET, Row


class _EnoughError(Exception):
    """The highest level was reached."""


def tenor_learns(config: Config, seed: int, folder: Path, curve: Curve) -> None:
    """The split stays the same; the seed decides head, order and dropout."""
    prepared = prepare(config)
    config = config.model_copy(update={"seed": seed})
    classifier = make_classifier(config, prepared.splits.train.class_names, prepared.plan)
    parameters = freeze(classifier.model, config.model)
    prepared = replace(prepared, config=config, classifier=classifier, parameters=parameters)
    examples, forward = make_examples(prepared, QUIET)
    run = RunDirectory(folder)
    newest = newest_checkpoint(run, QUIET)
    clock = Clock(curve.keep_until(newest.step if newest else 0))

    def on_validation(validation: Validation) -> None:
        curve.add(validation.step, clock.minutes, validation.metrics["accuracy"])
        if curve.is_enough():
            raise _EnoughError

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        clock.count()

    def on_step(state: TrainState) -> None:
        clock.go_on()

    callbacks = Callbacks(
        on_start=lambda optimizer: clock.go_on(), on_record=on_record, on_step=on_step, on_validation=on_validation
    )
    task = make_task(prepared, examples, forward, run.checkpoints)
    try:
        fit(task, make_accelerator(prepared.plan), newest, callbacks)
    except _EnoughError:
        return


def trainer_learns(splits: Splits, length: int, seed: int, folder: Path, curve: Curve) -> None:
    """`transformers.Trainer` as it comes, with the first `length` tokens of a text."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(embedded_encoder_folder(), num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    train, validation = (_tokenized(tokenizer, rows, length) for rows in (splits.train, splits.validation))
    tenth = -(-len(train) // 80)
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        use_cpu=True,
        disable_tqdm=True,
        eval_strategy="steps",
        eval_steps=tenth,
        save_steps=tenth,
        save_total_limit=2,
    )
    newest = _newest_checkpoint(folder)
    clock = Clock(curve.keep_until(int(newest.name.split("-")[1]) if newest else 0))
    Trainer(
        model=model,
        args=arguments,
        train_dataset=train,  # type: ignore[arg-type]  # A list serves as a dataset.
        # Sorted: the same accuracy, with less padding to wait for. It is not counted.
        eval_dataset=sorted(validation, key=lambda row: len(row["input_ids"])),  # type: ignore[arg-type]
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        callbacks=[_Listener(curve, clock)],
    ).train(resume_from_checkpoint=None if newest is None else str(newest))


def _newest_checkpoint(folder: Path) -> Path | None:
    """Trainer writes a checkpoint's state last: one without it was cut."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _tokenized(tokenizer: Any, rows: LabelledText, length: int) -> Sequence[Row]:
    # The embedded tokenizer's file carries a truncation of its own: the length must be given.
    ids = tokenizer(list(rows.texts), truncation=True, max_length=length)["input_ids"]
    return [{"input_ids": one, "labels": int(label)} for one, label in zip(ids, rows.labels, strict=True)]


class _Listener(TrainerCallback):
    def __init__(self, curve: Curve, clock: Clock) -> None:
        self._curve, self._clock = curve, clock

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._clock.go_on()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.count()

    def on_evaluate(
        self, args: Any, state: Any, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> TrainerControl:
        self._curve.add(state.global_step, self._clock.minutes, metrics["eval_accuracy"])
        control.should_training_stop = self._curve.is_enough()
        self._clock.go_on()
        return control

    def on_save(self, *_: Any, **__: Any) -> None:
        self._clock.go_on()
