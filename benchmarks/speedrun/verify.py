"""Checks a run folder of the speedrun: `python -m speedrun.verify RUN_FOLDER`. Exit status 0 if it holds, else 1.

What does not hold is said in one line each. The weights are measured again; the training is not repeated.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file

from speedrun.records import (
    CONFIG,
    RECORDS,
    RESULT,
    TRAINING_ROWS,
    VALIDATION_ROWS,
    Measurement,
    Record,
    Start,
    Step,
    measurements_in_force,
    reached,
    read_records,
    result_of,
    steps_with_weights,
    weights_file,
)
from speedrun.rules import OFFICIAL, Rules, read_reviews, rows_text, split_reviews, with_subset
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.batching import epoch_batches
from tenor.data.splits import Splits
from tenor.errors import TenorError, UserError, first_line
from tenor.inference.logits import predict
from tenor.runs.files import read_json, sha256_file
from tenor.training.precision import operations
from tenor.training.task import TrainingTask, validation_steps
from tenor.workflows.prepare import make_examples, make_task, prepare

ROUNDING_ROWS = 2
"""Rows whose predicted class another processor may round to another one."""
IDLE_SECONDS = 1.0
"""Longest pause between two steps without a measurement: all time between them is training."""
CLOCK_TOLERANCE = 1e-4
"""Seconds; times are written with six digits."""
MOST_OF_PEAK = 1.25
"""Largest credible share of the peak, counting six operations per token and weight. Tenor leaves out a part of the last
layer, so its true share is lower; full use of the machine would read as up to about 1.2."""


def faults(folder: Path, splits: Splits, rules: Rules = OFFICIAL) -> Iterator[str]:
    """What does not hold in a run folder, one line each; later checks need what earlier ones found in order.

    `splits` are those of `split_reviews`: what the run must have validated and may have trained on.
    """
    stages = (_rules_kept, _rows_kept, _sequence_holds, _times_hold, _result_agrees, _weights_hold)
    try:
        run = _Run(folder, splits, rules)
        for stage in stages:
            if found := list(stage(run)):
                yield from found
                return
    except TenorError as error:
        yield first_line(error)
    except OSError as error:
        yield f"{error.filename}: cannot be read ({error.strerror})"


class _Run:
    """What the folder contains."""

    def __init__(self, folder: Path, splits: Splits, rules: Rules) -> None:
        self.folder, self.splits, self.rules = folder, splits, rules
        for name in (CONFIG, RECORDS, RESULT, TRAINING_ROWS, VALIDATION_ROWS):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name} is missing")
        self.config: Config = load_config(folder / CONFIG)
        self.records: list[Record] = read_records(folder)
        self.result: Any = read_json(folder / RESULT)
        if not self.records or not isinstance(self.records[0], Start):
            raise UserError(f"{folder / RECORDS}: the first record is not the start of a run")
        self.first = self.records[0]
        self._task: TrainingTask | None = None

    @property
    def task(self) -> TrainingTask:
        """The run's task, with the rows that its configuration chooses, and a model of this machine."""
        if self._task is None:
            prepared = prepare(self.config, with_subset(self.splits, self.config), precision="fp32")
            examples, forward = make_examples(prepared, Console(quiet=True))
            self._task = make_task(prepared, examples, forward, Path())
        return self._task


def _rules_kept(run: _Run) -> Iterator[str]:
    """The configuration is one that the rules allow, and that which the records name."""
    if run.config != run.rules.config(run.config, len(run.splits.train)):
        yield f"{CONFIG}: sets what the rules fix"
    if sha256_file(run.folder / CONFIG) != run.first.config_sha256:
        yield f"{CONFIG}: is not the one that {RECORDS} names"
    if run.config.seed != run.first.seed:
        yield f"{RECORDS}: seed {run.first.seed}, but {CONFIG} has {run.config.seed}"
    if run.first.until not in run.rules.levels:
        yield f"{RECORDS}: {run.first.until} is not a level of the rules"


def _rows_kept(run: _Run) -> Iterator[str]:
    """The rows are those of the rules, and none is in both splits."""
    validation, training = ((run.folder / name).read_text() for name in (VALIDATION_ROWS, TRAINING_ROWS))
    if validation != rows_text(run.splits.validation):
        yield f"{VALIDATION_ROWS}: are not the {run.rules.validation_rows:,} rows of the rules"
        return
    texts = {line.split()[0] for line in validation.splitlines()}
    if both := [line for line in training.splitlines() if line[:64] in texts]:
        yield f"{TRAINING_ROWS}: {len(both):,} validation rows were trained on, such as {both[0][:12]}…"
    elif training != rows_text(with_subset(run.splits, run.config).train):
        yield f"{TRAINING_ROWS}: are not the rows that the rules and {CONFIG} choose"
    for name, text, digest in (
        (VALIDATION_ROWS, validation, run.first.validation_rows_sha256),
        (TRAINING_ROWS, training, run.first.training_rows_sha256),
    ):
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            yield f"{name}: have another digest than {RECORDS} names"


def _sequence_holds(run: _Run) -> Iterator[str]:
    """Every step follows the one before it, with the tokens of its batch, and is measured when the rules say so."""
    tokens, due = _tokens_by_step(run.task), validation_steps(run.task)
    step, open_measurement = 0, False
    measured: set[int] = set()
    for number, record in enumerate(run.records, 1):
        where = f"{RECORDS}, line {number}"
        if isinstance(record, Start):
            if record.same_machine() != run.first.same_machine():
                yield f"{where}: the run was resumed on another machine, with other versions or another input"
            # A measurement may be lost with the process, and is made again from an earlier checkpoint.
            if record.step > step or (number == 1 and record.step != 0):
                yield f"{where}: starts at step {record.step:,}, but {step:,} were made"
            if record.step in due and record.step not in measured:
                yield f"{where}: starts at step {record.step:,}, which was not measured"
            step, open_measurement = record.step, False
        elif isinstance(record, Step):
            if open_measurement:
                yield f"{where}: step {step:,} was not measured"
            if record.step != step + 1:
                yield f"{where}: step {record.step:,} after step {step:,}"
                return
            if record.step > len(tokens) or record.tokens != tokens[record.step - 1]:
                yield f"{where}: step {record.step:,} has {record.tokens:,} tokens, which are not those of its batch"
                return
            step, open_measurement = record.step, record.step in due
        else:
            yield from _measurement_fits(run, record, where, step, open_measurement)
            measured.add(record.step)
            open_measurement = False


def _measurement_fits(run: _Run, record: Measurement, where: str, step: int, is_due: bool) -> Iterator[str]:
    if not is_due or record.step != step:
        yield f"{where}: a measurement after step {record.step:,} is not due"
    rows = len(run.splits.validation)
    if not 0 <= record.correct <= rows or abs(record.accuracy - record.correct / rows) > 1e-9:
        yield f"{where}: accuracy {record.accuracy} is not {record.correct:,} of {rows:,}"


def _tokens_by_step(task: TrainingTask) -> list[int]:
    batches = [
        rows
        for epoch in range(task.settings.epochs)
        for rows in epoch_batches(task.train.lengths, task.settings.batch_size, task.seed, epoch)
    ]
    return [int(task.at(step).train.lengths[rows].sum()) for step, rows in enumerate(batches)]


def _times_hold(run: _Run) -> Iterator[str]:
    """Times only grow, add up, leave out nothing but measurements, and fit the machine's own peak."""
    ended, seconds, before = run.first.at, 0.0, None
    for number, record in enumerate(run.records, 1):
        where = f"{RECORDS}, line {number}"
        began = record.began if isinstance(record, Step) else record.ended
        if began < ended - CLOCK_TOLERANCE or record.ended < began:
            yield f"{where}: ends or begins before the record before it"
        if isinstance(record, Step):
            if isinstance(before, Step) and record.began - ended > IDLE_SECONDS:
                yield f"{where}: {record.began - ended:.1f} s between two steps were not counted"
            seconds += record.ended - record.began
        if not isinstance(record, Start) and abs(record.seconds - seconds) > CLOCK_TOLERANCE * number:
            yield f"{where}: {record.seconds:.3f} s in all, but the steps add up to {seconds:.3f} s"
            return
        ended, before = record.ended, record
    yield from _speed_fits(run, seconds)


def _speed_fits(run: _Run, seconds: float) -> Iterator[str]:
    tokens = sum(record.tokens for record in run.records if isinstance(record, Step))
    # A frozen layer needs no gradients: at least two of the six operations remain.
    share = 1.0 if run.config.model.freeze == "none" else 1 / 3
    per_token = operations(run.task) * share / (float(run.task.train.lengths.sum()) * run.config.training.epochs)
    peaks = [record.peak_gflops[run.first.precision] for record in run.records if not isinstance(record, Step)]
    if (speed := per_token * tokens / max(seconds, 1e-9) / 1e9) > MOST_OF_PEAK * max(peaks):
        yield f"{RECORDS}: {speed:,.0f} GFLOP/s in training, but the machine's peak was {max(peaks):,.1f}"


def _result_agrees(run: _Run) -> Iterator[str]:
    """`result.json` is what follows from the records, and the level was reached."""
    expected = json.loads(json.dumps(result_of(run.folder, run.records, run.rules)))
    if not isinstance(run.result, dict):
        yield f"{RESULT}: is not a JSON object"
        return
    for key in sorted(expected.keys() | run.result.keys()):
        if run.result.get(key) != expected.get(key):
            yield f"{RESULT}: {key} is {_short(run.result.get(key))}, from the records {_short(expected.get(key))}"
    if not reached(run.first.until, measurements_in_force(run.records)):
        yield f"{RECORDS}: {run.first.until:.0%} was not reached twice in a row"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _weights_hold(run: _Run) -> Iterator[str]:
    """The weights of both measurements of every level that was reached have the accuracy that was recorded."""
    measurements = measurements_in_force(run.records)
    proofs = steps_with_weights(measurements, run.rules.levels)
    for one in (one for one in measurements if one.step in proofs):
        file = weights_file(run.folder, one.step)
        if not file.is_file():
            yield f"{file.name}: is missing"
        elif sha256_file(file) != one.weights_sha256:
            yield f"{file.name}: has another digest than {RECORDS} names"
        elif (correct := _correct(run.task, file)) is None:
            yield f"{file.name}: are not the weights of this model"
        elif abs(correct - one.correct) > ROUNDING_ROWS:
            rows = len(run.task.validation)
            yield f"{file.name}: {correct / rows:.2%} of the validation rows are right, recorded {one.accuracy:.2%}"


def _correct(task: TrainingTask, file: Path) -> int | None:
    """Validation rows with the right class; None for weights of another model."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
        task.model.load_state_dict(tensors, strict=True)
    except (SafetensorError, RuntimeError):
        return None
    logits = predict(task.model, task.validation, task.plan, task.forward)
    return int(np.count_nonzero(logits.argmax(axis=1) == task.validation.labels))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m speedrun.verify", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--imdb", help="IMDb as data.path takes it; default: the embedded reviews, the same ones")
    options = parser.parse_args(arguments)
    try:
        splits = split_reviews(read_reviews(options.imdb))
    except TenorError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    found = False
    for fault in faults(options.folder, splits):
        found = True
        print(f"{options.folder}: {fault}")
    if not found:
        print(f"{options.folder}: holds")
    return int(found)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
