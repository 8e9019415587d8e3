"""The frozen path: three epochs of a head over an encoder that runs once, beside a `Trainer` frozen alike."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapes import Shape, reviews, save_random
from tenor.data.batching import TokenExamples
from tenor.data.dataset import LabelledText
from tenor.inference.logits import predict
from tenor.workflows.prepare import Prepared
from training.own_process import in_own_process
from training.peers import TrainerOptions, prepare_rows, tenor_config, tenor_trains, token_rows, trainer_trains

EPOCHS = 3
COUNT = 256


def compare_frozen(shape: Shape, length: int, imdb: str, folder: Path, threads: int) -> None:
    """Print what a first and a second configuration cost, in seconds and in passes of the encoder over the same rows.

    The cache of features must be empty.
    """
    model_folder = folder / shape.name
    save_random(shape, model_folder, length)
    rows = reviews(imdb, "train", COUNT)
    one_pass, first, second = in_own_process(threads, _tenor, model_folder, length, threads, rows, folder)
    same = token_rows(_prepared(model_folder, length, threads, rows))
    options = TrainerOptions(freeze_base=True, epochs=EPOCHS)
    trainer_folder = folder / f"{shape.name}-frozen-3"
    theirs = in_own_process(threads, trainer_trains, model_folder, same, trainer_folder, options).seconds
    print(f"\n{shape.name}, frozen, {EPOCHS} epochs, {COUNT} reviews at {length} tokens, {threads} threads")
    print(f"one pass of the encoder {one_pass:6.1f} s")
    print(f"Tenor, first            {first:6.1f} s  {first / one_pass:.2f} passes; the head costs {second:.1f} s of it")
    print(f"Tenor, second           {second:6.1f} s")
    print(f"Trainer                 {theirs:6.1f} s  {theirs / first:.1f} times as long as Tenor's first")


def _tenor(
    model_folder: Path, length: int, threads: int, rows: LabelledText, folder: Path
) -> tuple[float, float, float]:
    """Seconds of a pass of the encoder, of a first configuration, and of a second one on the same rows."""
    prepared = _prepared(model_folder, length, threads, rows)
    model, plan = prepared.classifier.model, prepared.plan
    one_pass = _seconds(lambda: [predict(model, TokenExamples(one, 0), plan) for one in prepared.tokens.values()])
    first = _seconds(lambda: tenor_trains(prepared, folder / f"{model_folder.name}-frozen-1"))
    other = _prepared(model_folder, length, threads, rows, "training.head_learning_rate=2e-3")
    second = _seconds(lambda: tenor_trains(other, folder / f"{model_folder.name}-frozen-2"))
    return one_pass, first, second


def _prepared(model_folder: Path, length: int, threads: int, rows: LabelledText, *overrides: str) -> Prepared:
    frozen = ("model.freeze=base", f"training.epochs={EPOCHS}", *overrides)
    return prepare_rows(tenor_config(model_folder, length, threads, *frozen), rows)


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
