"""Minutes of training until a classifier is good: Tenor's defaults beside `transformers.Trainer`'s.

MiniLM learns from the official IMDb training set but for 2,500 fixed reviews, on which accuracy is measured every tenth
of an epoch; a level is reached where it is met twice in a row. Minutes count training alone, not the measurements.
`Trainer` sees as many tokens of a text as Tenor does (`--trainer-length`): longer ones would only make it slower.
Every measurement is kept at once in `--results`; a run that was cut begins anew, one that ended is not made again.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
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

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.splits import Splits
from tenor.measures.metrics import Metrics
from tenor.measures.text_baseline import fit_text_baseline
from tenor.model.freezing import freeze
from tenor.runs.directory import RunDirectory
from tenor.training.loop import Listeners, fit, make_accelerator
from tenor.training.state import TrainState, Validation, Window
from tenor.workflows.prepare import make_classifier, make_examples, prepare
from tenor.workflows.watched_fit import make_task
from training.own_process import in_own_process
from training.peers import QUIET, Row

LEVELS = (0.88, 0.90, 0.91)
VALIDATION_ROWS = 2500

Tell = Callable[[int, float, float], bool]
"""Step, minutes of training and accuracy → whether that is enough."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    config = load_config(
        "imdb_minilm",
        [
            f"data.path={options.imdb}",
            f"data.validation.size={VALIDATION_ROWS}",
            f"training.threads={options.threads}",
            *("training.evaluate_every=0.1", "training.log_every=1", *options.set),
        ],
    )
    splits = prepare(config).splits
    for seed in range(options.seeds):
        for peer in options.peers:
            if not _ended(options.results, peer, seed):
                _forget(options.results, peer, seed)
                if peer == "tenor":
                    in_own_process(options.threads, _tenor, config, seed, options.results)
                else:
                    in_own_process(options.threads, _trainer, splits, options.trainer_length, seed, options.results)
                _keep(options.results, peer=peer, seed=seed, ended=True)
    _show(options.results, splits)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-time-to-accuracy")
    parser.add_argument("imdb", help="a folder of Parquet files, an extracted aclImdb folder, or the official archive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", choices=("tenor", "trainer"), nargs="+", default=["tenor", "trainer"])
    parser.add_argument("--trainer-length", type=int, default=256, help="tokens of a text that Trainer sees")
    parser.add_argument("--results", type=Path, default=Path("runs/time-to-accuracy.jsonl"))
    parser.add_argument("--set", nargs="+", default=[], help="settings of Tenor's to try, as dotted.key=value")
    return parser.parse_args()


class _EnoughError(Exception):
    """The highest level was reached."""


def _tenor(config: Config, seed: int, results: Path) -> None:
    """The split stays the same; the seed decides head, order and dropout."""
    prepared, tell = prepare(config), _teller(results, "tenor", seed)
    config = config.model_copy(update={"seed": seed})
    classifier = make_classifier(config, prepared.splits.train.class_names, prepared.plan)
    learning = freeze(classifier.model, config.model)
    prepared = replace(prepared, config=config, classifier=classifier, learning=learning)
    examples, forward = make_examples(prepared, QUIET)
    clock = _Clock()

    def on_validation(validation: Validation, metrics: Metrics) -> None:
        if tell(validation.step, clock.minutes, metrics.accuracy):
            raise _EnoughError

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        clock.count()

    def on_step(state: TrainState) -> None:
        clock.go_on()

    listeners = Listeners(
        on_start=lambda optimizer: clock.go_on(), on_record=on_record, on_step=on_step, on_validation=on_validation
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_EnoughError):
        task = make_task(RunDirectory(Path(folder)), prepared, examples, forward)
        fit(task, make_accelerator(prepared.plan), None, listeners)


def _trainer(splits: Splits, length: int, seed: int, results: Path) -> None:
    """`transformers.Trainer` as it comes, with the first `length` tokens of a text."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(embedded_encoder_folder(), num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder())
    train, validation = (_tokenized(tokenizer, rows, length) for rows in (splits.train, splits.validation))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            eval_strategy="steps",
            eval_steps=-(-len(train) // 80),
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=train,  # type: ignore[arg-type]  # A list serves as a dataset.
            eval_dataset=validation,  # type: ignore[arg-type]
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
            callbacks=[_Listener(_teller(results, "trainer", seed))],
        ).train()


def _tokenized(tokenizer: Any, rows: LabelledText, length: int) -> list[Row]:
    # The embedded tokenizer's file carries a truncation of its own: the length must be given.
    ids = tokenizer(rows.texts, truncation=True, max_length=length)["input_ids"]
    return [{"input_ids": one, "labels": int(label)} for one, label in zip(ids, rows.labels, strict=True)]


class _Clock:
    """Time of training, without what lies between."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, 0.0

    @property
    def minutes(self) -> float:
        return self.seconds / 60

    def go_on(self) -> None:
        """What passed since the last `count` is no training."""
        self._since = time.perf_counter()

    def count(self) -> None:
        """What passed since the last call was training."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now


class _Listener(TrainerCallback):
    def __init__(self, tell: Tell) -> None:
        self._tell, self._clock = tell, _Clock()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._clock.go_on()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.count()

    def on_evaluate(
        self, args: Any, state: Any, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> TrainerControl:
        control.should_training_stop = self._tell(state.global_step, self._clock.minutes, metrics["eval_accuracy"])
        self._clock.go_on()
        return control


def _teller(results: Path, peer: str, seed: int) -> Tell:
    accuracies: list[float] = []

    def tell(step: int, minutes: float, accuracy: float) -> bool:
        _keep(results, peer=peer, seed=seed, step=step, minutes=minutes, accuracy=accuracy)
        print(f"{peer} {seed}: step {step:,}, {minutes:.1f} min, {accuracy:.2%}", flush=True)
        accuracies.append(accuracy)
        return min(accuracies[-2:]) >= LEVELS[-1] and len(accuracies) > 1

    return tell


def minutes_until(level: float, points: Sequence[dict[str, Any]]) -> float | None:
    """Minutes at the second of the first two measurements in a row that meet the level."""
    return next(
        (two["minutes"] for one, two in pairwise(points) if min(one["accuracy"], two["accuracy"]) >= level), None
    )


def _show(results: Path, splits: Splits) -> None:
    train, validation = splits.train, splits.validation
    started = time.perf_counter()
    baseline = fit_text_baseline(train.texts, train.labels, 2, 0)
    accuracy = float((baseline.probabilities(validation.texts).argmax(1) == validation.labels).mean())
    print(f"text baseline: {accuracy:.2%} after {(time.perf_counter() - started) / 60:.1f} min")
    kept = _read(results)
    for level in LEVELS:
        for peer in sorted({one["peer"] for one in kept}):
            seeds = sorted({one["seed"] for one in kept if one["peer"] == peer})
            found = [minutes_until(level, _points(kept, peer, seed)) for seed in seeds]
            shown = ", ".join("not reached" if one is None else f"{one:.1f}" for one in found)
            reached = [one for one in found if one is not None]
            middle = f"median {statistics.median(reached):.1f} min" if len(reached) == len(found) else ""
            print(f"{level:.0%}  {peer:8} {shown}  {middle}")


def _points(kept: list[dict[str, Any]], peer: str, seed: int) -> list[dict[str, Any]]:
    return [one for one in kept if (one["peer"], one["seed"]) == (peer, seed) and "step" in one]


def _keep(results: Path, **values: Any) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(values) + "\n")


def _read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _ended(results: Path, peer: str, seed: int) -> bool:
    return any(one.get("ended") and (one["peer"], one["seed"]) == (peer, seed) for one in _read(results))


def _forget(results: Path, peer: str, seed: int) -> None:
    others = [one for one in _read(results) if (one["peer"], one["seed"]) != (peer, seed)]
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text("".join(json.dumps(one) + "\n" for one in others))


if __name__ == "__main__":
    main()
