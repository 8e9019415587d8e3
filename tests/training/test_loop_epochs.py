"""The loop over epochs: the order of the examples, learning, validation and records."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tenor.config.schema import Training
from tenor.data.batching import Batch, Examples, TokenExamples, epoch_batches, micro_batches
from tenor.data.tokenization import TokenizedText
from tenor.inference.logits import predict, token_logits
from tenor.measures.objective import Objective
from tenor.training.checkpoint import Window
from tenor.training.loop import Callbacks
from tenor.training.task import TrainingTask, validation_steps
from training_tasks import CLASS_TOKEN, NO_DROPOUT, differing, make_task, run_task, token_rows, weights


@dataclasses.dataclass(frozen=True)
class Watched:
    """Examples that record which rows were read."""

    inner: Examples
    seen: list[int]

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def lengths(self) -> np.ndarray:
        return self.inner.lengths

    @property
    def labels(self) -> np.ndarray:
        return self.inner.labels

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        self.seen.extend(int(row) for row in rows)
        return self.inner.collate(rows, rounded)


def test_every_epoch_sees_each_example_once_and_each_in_another_order(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, rows=43, epochs=3)
    watched = Watched(task.train, [])
    state = run_task(dataclasses.replace(task, train=watched))
    epochs = np.array(watched.seen).reshape(3, 43)
    assert (np.sort(epochs, axis=1) == np.arange(43)).all()
    assert (epochs[0] != epochs[1]).any()
    assert state.step == task.total_steps == 18
    assert state.tokens == 3 * int(task.train.lengths.sum())


def test_the_loss_falls_and_validation_finds_the_rule(small_model: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    callbacks = Callbacks(on_record=lambda step, values, window: losses.append(values["loss"]))
    task = make_task(small_model, tmp_path, rows=160, epochs=4, learning_rate=3e-3, log_every=5)
    state = run_task(task, callbacks=callbacks)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert state.best is not None
    assert state.best.metrics["accuracy"] > 0.8


@pytest.mark.parametrize("folder", ["small_model", "small_bert"])
def test_twenty_examples_are_learned_by_heart(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    task = make_task(
        request.getfixturevalue(folder),
        tmp_path,
        rows=20,
        epochs=12,
        batch_size=5,
        model=NO_DROPOUT,
        learning_rate=3e-3,
    )
    labels = np.random.default_rng(0).integers(0, 2, 20)  # No rule to find: only memory helps.
    rows = dataclasses.replace(token_rows(20), labels=labels)
    task = dataclasses.replace(task, train=TokenExamples(rows, 0), validation=TokenExamples(rows, 0))
    run_task(task)
    assert (predict(task.model, task.train, task.plan).argmax(axis=1) == labels).all()


@pytest.mark.slow
def test_minilm_learns_twenty_reviews_by_heart(tmp_path: Path) -> None:
    from tenor.config.schema import Data, Model
    from tenor.data.sources.embedded import embedded_reviews
    from tenor.data.splits import stratified_rows
    from tenor.data.tokenization import Truncation, tokenize
    from tenor.model.classifier import load_classifier
    from tenor.model.freezing import freeze

    reviews = embedded_reviews(Data()).train
    reviews = reviews.select(stratified_rows(reviews.labels, 20, seed=0))
    settings = Model(dropout=0.0)
    classifier = load_classifier(settings, reviews.class_names, 0, "cpu")
    rows = TokenExamples(tokenize(reviews, classifier.tokenizer, Truncation(32, "tail", 0.5)), 0)
    # Everything else of the task is as in the tests above.
    from tenor.config.schema import Training
    from tenor.model.device import plan_device

    task = TrainingTask(
        classifier.model,
        freeze(classifier.model, settings),
        token_logits,
        rows,
        rows,
        Objective(reviews.class_names),
        Training(epochs=8, batch_size=5, learning_rate=2e-4, head_learning_rate=2e-3, schedule="constant"),
        0,
        plan_device("cpu", "fp32"),
        tmp_path,
    )
    state = run_task(task)
    assert state.best is not None
    assert state.best.metrics["accuracy"] == 1.0


@pytest.mark.parametrize(
    "model", [{"freeze": "base"}, {"freeze": 1}, {"freeze": "base", "keep_trainable": ("attention.out_lin.bias",)}]
)
def test_frozen_parameters_stay_and_the_others_move(model: dict[str, Any], small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model=model, epochs=1, weight_decay=0.5)
    assert task.parameters.frozen
    before = weights(task)
    run_task(task)
    assert set(differing(before, weights(task))) == set(task.parameters.trainable)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(small_model: Path, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate([5, 5, 6]):
        task = make_task(small_model, tmp_path / str(number), model={"dropout": 0.2}, epochs=1, seed=seed)
        run_task(task)
        found.append(weights(task))
    assert differing(found[0], found[1]) == []
    assert differing(found[0], found[2])


def test_without_patience_all_epochs_are_trained(small_model: Path, tmp_path: Path) -> None:
    state = run_task(make_task(small_model, tmp_path, epochs=4, learning_rate=0.0))
    assert (state.step, state.epoch, state.finished) == (24, 4, True)


@pytest.mark.parametrize("rows", [1, 7, 44, 100])
@pytest.mark.parametrize("every", [0.01, 0.3, 0.5, 0.7, 1.0])
def test_validations_are_spaced_and_the_last_step_of_each_epoch_is_one(
    rows: int, every: float, small_model: Path, tmp_path: Path
) -> None:
    task = _bare_task(rows, every)
    steps = sorted(validation_steps(task))
    assert {task.steps_per_epoch * (epoch + 1) for epoch in range(3)} <= set(steps)
    gaps = np.diff([0, *steps])
    assert gaps.min() >= min(max(1, int(every * task.steps_per_epoch)), task.steps_per_epoch)
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("steps", [4, 5, 6, 7, 125, 1406, 1407, 1409])
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_a_part_of_an_epoch_is_validated_that_often(steps: int, parts: int) -> None:
    task: Any = SimpleNamespace(settings=Training(epochs=2, evaluate_every=1 / parts), steps_per_epoch=steps)
    assert len(validation_steps(task)) == 2 * parts


def _bare_task(rows: int, every: float) -> Any:
    steps = -(-rows // 8)
    return SimpleNamespace(settings=Training(epochs=3, evaluate_every=every), steps_per_epoch=steps)


def test_records_have_the_requested_interval_and_the_rate_that_was_used(small_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    task = make_task(
        small_model, tmp_path, epochs=1, schedule="constant", warmup=0.0, head_learning_rate=0.01, log_every=2
    )
    run_task(task, callbacks=Callbacks(on_record=lambda step, values, window: seen.append((step, values))))
    assert [step for step, _ in seen] == [2, 4, 6]
    for _, values in seen:
        assert (values["learning_rate"], values["head_learning_rate"]) == (1e-3, 0.01)
        assert values["tokens_per_second"] > 0
        assert values["grad_norm"] > 0
        assert 0 < values["loss"] < 5


def test_the_recorded_loss_is_the_mean_over_the_examples_since_the_last_record(
    small_model: Path, tmp_path: Path
) -> None:
    seen: list[float] = []
    task = make_task(small_model, tmp_path, rows=11, epochs=1, model=NO_DROPOUT, learning_rate=0.0, log_every=2)
    run_task(task, callbacks=Callbacks(on_record=lambda step, values, window: seen.append(values["loss"])))
    batch = task.train.collate(np.arange(11))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(task.model(**batch.inputs).logits, batch.labels)
    assert seen == [pytest.approx(float(expected), rel=1e-5)]


@pytest.mark.parametrize(
    ("rows", "settings", "recorded"),
    [
        (20, {"epochs": 1, "log_every": 10}, [3]),
        (44, {"epochs": 2, "log_every": 5}, [5, 10, 12]),
        (44, {"epochs": 2, "log_every": 6}, [6, 12]),
        (20, {"epochs": 1, "log_every": 1}, [1, 2, 3]),
        # Three steps per epoch and none better than the first: patience ends it after the third validation.
        (20, {"epochs": 9, "log_every": 4, "learning_rate": 0.0, "patience": 2}, [4, 8, 9]),
    ],
    ids=str,
)
def test_every_step_is_in_exactly_one_record(
    rows: int, settings: dict[str, Any], recorded: list[int], small_model: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, Window]] = []
    task = make_task(small_model, tmp_path, rows=rows, **settings)
    state = run_task(task, callbacks=Callbacks(on_record=lambda step, values, window: seen.append((step, window))))
    assert [step for step, _ in seen] == recorded
    assert state.step == recorded[-1]
    assert sum(window.tokens for _, window in seen) == state.tokens
    assert sum(sum(window.label_counts) for _, window in seen) == rows * state.epoch
    assert state.window == Window(), "some steps were not reported"


def test_the_last_record_comes_before_the_last_validation(small_model: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    callbacks = Callbacks(
        on_record=lambda step, values, window: heard.append(("record", step)),
        on_validation=lambda validation: heard.append(("validation", validation.step)),
    )
    run_task(make_task(small_model, tmp_path, rows=20, epochs=1, log_every=10), callbacks=callbacks)
    assert heard == [("record", 3), ("validation", 3)]


def test_the_order_of_the_batches_is_that_of_epoch_batches(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, epochs=2)
    watched = Watched(task.train, [])
    run_task(dataclasses.replace(task, train=watched))
    expected = [
        int(row)
        for epoch in range(2)
        for batch in epoch_batches(task.train.lengths, 8, task.seed, epoch)
        for part in micro_batches(batch, task.train.lengths, task.plan.training_tokens)
        for row in part
    ]
    assert watched.seen == expected


def test_synthetic_rows_are_what_these_tests_assume() -> None:
    rows: TokenizedText = token_rows(30, classes=3)
    for index in range(30):
        assert CLASS_TOKEN + rows.labels[index] in rows.row(index)
