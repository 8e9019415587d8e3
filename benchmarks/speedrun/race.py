"""Trains one run of the speedrun until its level is reached, and on from where it was interrupted."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import save_file

from peak import best_product, types
from speedrun.records import (
    CONFIG,
    NOT_KEPT,
    RESULT,
    TRAINING_ROWS,
    VALIDATION_ROWS,
    WEIGHTS,
    Measurement,
    Start,
    Step,
    append,
    measurements_in_force,
    reached,
    read_records,
    result_of,
    steps_with_weights,
    weights_file,
)
from speedrun.rules import Rules, digest_of_rows, rows_text, with_subset
from tenor.config.describe import to_yaml
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.splits import Splits
from tenor.errors import UserError
from tenor.model.device import instruction_sets
from tenor.model.speed import use_threads
from tenor.runs.directory import RunDirectory, locked
from tenor.runs.environment import hardware, package_versions
from tenor.runs.files import atomic_path, make_folder, remove_leftovers, sha256_file, write_text
from tenor.training.checkpoint import TrainState, Validation, Window
from tenor.training.loop import Callbacks, fit
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import Prepared, make_accelerator, make_examples, make_task, prepare
from tenor.workflows.train import newest_checkpoint

PEAK_SIZE = 4096
"""Rows of the square matrices; smaller ones do not reach the peak of every processor."""


class _EnoughError(Exception):
    """The level was reached."""


def race(
    recipe: Config, splits: Splits, folder: Path, until: float, rules: Rules, console: Console, peak_size: int
) -> dict[str, Any]:
    """Train until the level `until` or until the recipe's epochs are over; returns what `result.json` contains.

    A folder that was interrupted is resumed with the recipe that it was started with.

    Raises:
        UserError: the folder contains a complete run, or one of another recipe, level, machine or version.
        InterruptedRunError: SIGINT or SIGTERM; a checkpoint was written.
    """
    config = rules.config(recipe, len(splits.train))
    make_folder(folder / WEIGHTS)
    with locked(RunDirectory(folder)):
        remove_leftovers(folder)
        if (folder / RESULT).exists():
            raise UserError(f"{folder}: this run is complete; choose another folder")
        splits = with_subset(splits, config)
        _keep_inputs(folder, config, splits)
        _train(folder, config, splits, until, rules, console, peak_size)
        result = result_of(folder, read_records(folder), rules)
        write_text(folder / RESULT, json.dumps(result) + "\n")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # Optimizer states prove nothing.
    return result


def _keep_inputs(folder: Path, config: Config, splits: Splits) -> None:
    """Write configuration and rows; those of a run that is resumed must be the same."""
    if (folder / CONFIG).exists() and load_config(folder / CONFIG) != config:
        raise UserError(f"{folder}: was started with another recipe or seed; restore it, or choose another folder")
    write_text(folder / CONFIG, to_yaml(config))
    write_text(folder / TRAINING_ROWS, rows_text(splits.train))
    write_text(folder / VALIDATION_ROWS, rows_text(splits.validation))


def _train(
    folder: Path, config: Config, splits: Splits, until: float, rules: Rules, console: Console, peak_size: int
) -> None:
    before = read_records(folder)
    first = next((record for record in before if isinstance(record, Start)), None)
    if first is not None and first.until != until:
        raise UserError(f"{folder}: was started for {first.until:.0%}; resume it with that level")
    if reached(until, measurements_in_force(before)):
        return
    precision: Any = first.precision if first else None
    prepared = prepare(config, splits, first.threads if first else None, precision=precision)
    examples, forward = make_examples(prepared, console)
    task = make_task(prepared, examples, forward, folder / "checkpoints")
    newest = newest_checkpoint(RunDirectory(folder), console) if before else None
    start = _start(folder, prepared, until, newest.step if newest else 0, peak_size)
    if first is not None and (changed := _differing(first, start)):
        raise UserError(f"{folder}: was started with another {', '.join(changed)}; resume it as it was started")
    append(folder, start)
    try:
        recording = _Recording(folder, task, until, rules, console, peak_size).callbacks()
        fit(task, make_accelerator(prepared.plan), newest, recording)
    except _EnoughError:
        pass


def _differing(first: Start, now: Start) -> list[str]:
    here = now.same_machine()
    return [name for name, value in first.same_machine().items() if value != here[name]]


def _start(folder: Path, prepared: Prepared, until: float, step: int, peak_size: int) -> Start:
    machine = hardware()
    return Start(
        step=step,
        at=_now(),
        until=until,
        processor=str(machine["cpu"]),
        instruction_sets=instruction_sets(),
        cores=int(machine["cores_available"]) if isinstance(machine["cores_available"], int) else 0,
        threads=prepared.plan.threads,
        precision=prepared.plan.precision,
        versions={name: str(version) for name, version in package_versions().items()},
        seed=prepared.config.seed,
        config_sha256=sha256_file(folder / CONFIG),
        training_rows_sha256=digest_of_rows(prepared.splits.train),
        validation_rows_sha256=digest_of_rows(prepared.splits.validation),
        peak_gflops=_peaks(prepared.plan.threads, peak_size),
    )


class _Recording:
    """The loop's callbacks. A step's time ends before its measurement and its checkpoint, and the next begins after."""

    def __init__(
        self, folder: Path, task: TrainingTask, until: float, rules: Rules, console: Console, peak_size: int
    ) -> None:
        self._folder, self._task, self._until, self._rules = folder, task, until, rules
        self._console, self._peak_size = console, peak_size
        records = read_records(folder)
        self._measurements = measurements_in_force(records)
        self._seconds = max((record.seconds for record in records if isinstance(record, Step)), default=0.0)
        self._began = 0.0

    def callbacks(self) -> Callbacks:
        return Callbacks(
            on_start=lambda optimizer: self._go_on(),
            on_record=self._on_record,
            on_validation=self._on_validation,
            on_step=self._on_step,
        )

    def _go_on(self) -> None:
        self._began = _now()

    def _on_record(self, step: int, values: dict[str, float], window: Window) -> None:
        ended = _now()
        self._seconds = round(self._seconds + ended - self._began, 6)
        append(self._folder, Step(step, window.tokens, window.mean_loss, self._began, ended, self._seconds))

    def _on_step(self, state: TrainState) -> None:
        if reached(self._until, self._measurements):
            raise _EnoughError
        self._go_on()

    def _on_validation(self, validation: Validation) -> None:
        """Record it, and keep the weights if they may prove a level: the model has the averages that were measured."""
        correct = sum(validation.confusion[k][k] for k in range(len(validation.confusion)))
        one = Measurement(
            step=validation.step,
            correct=correct,
            accuracy=correct / len(self._task.validation),
            ended=_now(),
            seconds=self._seconds,
            peak_gflops=_peaks(self._task.plan.threads, self._peak_size),
            weights_sha256=NOT_KEPT,
        )
        earlier = [other for other in self._measurements if other.step < one.step]
        kept = steps_with_weights([*earlier, one], self._rules.levels)
        if one.step in kept:
            one = replace(one, weights_sha256=self._save_weights(one.step))
        one = replace(one, ended=_now())
        append(self._folder, one)
        self._measurements = [*earlier, one]
        for file in (self._folder / WEIGHTS).glob("*.safetensors"):
            if file not in {weights_file(self._folder, step) for step in kept}:
                file.unlink()
        minutes = self._seconds / 60
        self._console.print(f"step {one.step:,}: {one.accuracy:.2%} after {minutes:.2f} min of training")

    def _save_weights(self, step: int) -> str:
        path = weights_file(self._folder, step)
        tensors = {name: value.detach().contiguous() for name, value in self._task.model.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        return sha256_file(path)


def _peaks(threads: int, size: int) -> dict[str, float]:
    """GFLOP/s by number type, in a thread of its own: the loop's thread computes with a share of the threads."""
    with ThreadPoolExecutor(1, initializer=use_threads, initargs=(threads,)) as other:
        products = {name: other.submit(best_product, size, dtype=dtype) for name, dtype in types().items()}
        return {name: round(product.result(), 1) for name, product in products.items()}


def _now() -> float:
    return round(time.time(), 6)
