"""The loop: what a batch's cut, an interruption and a signal may never change."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.data.batching import Batch, Examples, TokenExamples, epoch_batches, micro_batches
from tenor.data.tokenization import TokenizedText
from tenor.errors import InterruptedRunError, TenorError, UserError
from tenor.inference.logits import predict, token_logits
from tenor.measures.metrics import Metrics
from tenor.model.freezing import set_training_mode
from tenor.model.optimizer import make_optimizer, set_rates
from tenor.runs.directory import RunDirectory
from tenor.training import checkpoint as checkpoint_module
from tenor.training import loop as loop_module
from tenor.training.checkpoint import Checkpoint, list_checkpoints, read_state, verify_checkpoint
from tenor.training.loop import Listeners, TrainingTask, fit, make_accelerator, optimizer_step, validation_steps
from tenor.training.loss import class_weights
from tenor.training.recorder import Recorder, read_records
from tenor.training.state import StepResult, TrainState, Validation, Window
from training_tasks import CLASS_TOKEN, differing, make_task, run_task, token_rows, weights, without_timings

NO_DROPOUT = {"dropout": 0.0}


def _one_step(task: TrainingTask, budget: int, rows: np.ndarray, steps: int = 1) -> tuple[StepResult, dict[str, Any]]:
    """Optimizer steps on the same rows within a token budget; returns the last result and the last gradients."""
    task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, training_tokens=budget))
    optimizer = make_optimizer(task.model, task.settings)
    set_rates(optimizer, 1.0)
    accelerator = make_accelerator(task.plan)
    model, wrapped = accelerator.prepare(task.model, optimizer)
    set_training_mode(task.model, task.learning)
    found = class_weights(task.settings, task.train.labels, len(task.class_names))
    for _ in range(steps):
        result = optimizer_step(task, accelerator, model, wrapped, rows, found)
    return result, {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


LOSSES = [{}, {"class_weights": (0.3, 1.0, 5.0)}, {"class_weights": (0.3, 1.0, 5.0), "label_smoothing": 0.2}]


@pytest.mark.parametrize("loss", LOSSES, ids=["plain", "weighted", "weighted and smoothed"])
@pytest.mark.parametrize("budget", [8, 50, 130])
def test_the_cut_of_a_batch_changes_no_gradient(
    loss: dict[str, Any], budget: int, small_model: Path, tmp_path: Path
) -> None:
    task = make_task(small_model, tmp_path, classes=3, model=NO_DROPOUT, max_grad_norm=None, **loss)
    rows = np.arange(20)
    assert len(micro_batches(rows, task.train.lengths, budget)) > 1
    start = weights(task)
    whole_result, whole = _one_step(task, 10_000, rows)
    task.model.load_state_dict(start)
    cut_result, cut = _one_step(task, budget, rows)

    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert cut_result.loss == pytest.approx(whole_result.loss, rel=1e-5)
    for name in ("weight", "tokens", "predicted_counts", "label_counts"):
        assert getattr(cut_result, name) == getattr(whole_result, name)
    assert cut_result.grad_norm == pytest.approx(whole_result.grad_norm, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=["plain", "weighted", "weighted and smoothed"])
def test_the_cut_of_a_batch_changes_no_weight(loss: dict[str, Any], small_model: Path, tmp_path: Path) -> None:
    # In float64, since AdamW's first steps turn a gradient that is pure rounding into a step of full size.
    task = make_task(small_model, tmp_path, classes=3, model=NO_DROPOUT, **loss)
    task.model.double()
    start, rows = weights(task), np.arange(20)
    _one_step(task, 10_000, rows, steps=3)
    whole = weights(task)
    task.model.load_state_dict(start)
    _one_step(task, 50, rows, steps=3)
    assert differing(start, whole)
    for name, tensor in weights(task).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-6, msg=name)


def test_a_step_follows_the_gradient_of_the_mean_loss(small_bert: Path, tmp_path: Path) -> None:
    task = make_task(small_bert, tmp_path, model=NO_DROPOUT, max_grad_norm=None, label_smoothing=0.1)
    rows = np.arange(8)
    batch = task.train.collate(rows)
    task.model.train()
    logits = task.model(**batch.inputs).logits
    mean = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    expected = dict(zip(weights_names(task), torch.autograd.grad(mean, list(task.model.parameters())), strict=True))
    window, found = _one_step(task, 40, rows)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert window.loss / window.weight == pytest.approx(mean.item(), rel=1e-5)


def weights_names(task: TrainingTask) -> list[str]:
    return [name for name, _ in task.model.named_parameters()]


def test_gradients_are_clipped_to_the_norm_asked_for(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model=NO_DROPOUT, max_grad_norm=0.01)
    window, found = _one_step(task, 100, np.arange(8))
    assert window.grad_norm > 0.01
    norm = torch.stack([gradient.norm() for gradient in found.values()]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


@dataclasses.dataclass(frozen=True)
class Watched:
    """Examples that remember which rows were asked for."""

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

    def collate(self, rows: np.ndarray) -> Batch:
        self.seen.extend(int(row) for row in rows)
        return self.inner.collate(rows)


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
    listeners = Listeners(on_record=lambda step, values, window: losses.append(values["loss"]))
    task = make_task(small_model, tmp_path, rows=160, epochs=4, learning_rate=3e-3, log_every=5)
    state = run_task(task, listeners=listeners)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert state.best is not None
    assert state.best.accuracy > 0.8


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
        reviews.class_names,
        Training(epochs=8, batch_size=5, learning_rate=2e-4, head_learning_rate=2e-3, schedule="constant"),
        0,
        plan_device("cpu", "fp32"),
        tmp_path,
    )
    state = run_task(task)
    assert state.best is not None
    assert state.best.accuracy == 1.0


@pytest.mark.parametrize(
    "model", [{"freeze": "base"}, {"freeze": 1}, {"freeze": "base", "keep_trainable": ("attention.out_lin.bias",)}]
)
def test_frozen_parameters_stay_and_the_others_move(model: dict[str, Any], small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model=model, epochs=1, weight_decay=0.5)
    assert task.learning.frozen
    before = weights(task)
    run_task(task)
    assert set(differing(before, weights(task))) == set(task.learning.trainable)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(small_model: Path, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate([5, 5, 6]):
        task = make_task(small_model, tmp_path / str(number), model={"dropout": 0.2}, epochs=1, seed=seed)
        run_task(task)
        found.append(weights(task))
    assert differing(found[0], found[1]) == []
    assert differing(found[0], found[2])


# Exact resume. Six steps per epoch; validations after 3, 6, 9, 12; checkpoints there and after 2, 4, 8, 10.

RESUMABLE: dict[str, Any] = {
    "epochs": 2, "evaluate_every": 0.5, "checkpoint_every": 2, "log_every": 4, "keep_last": 2, "patience": 50
}  # fmt: skip


class Cut(Exception):
    """What ends a run in these tests, as a killed process would: no code of the loop expects it."""


@dataclasses.dataclass
class Finished:
    weights: dict[str, torch.Tensor]
    state: TrainState
    records: list[dict[str, Any]]
    predictions: np.ndarray
    checkpoints: dict[str, str]


def _resumable_task(folder: Path, tmp_path: Path) -> TrainingTask:
    return make_task(folder, tmp_path / "checkpoints", model={"dropout": 0.3}, **RESUMABLE)


def _recorded(recorder: Recorder, cut_at: tuple[str, int] | None = None) -> Listeners:
    def cut(place: str, step: int) -> None:
        if cut_at == (place, step):
            raise Cut

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        recorder.record("train", step, **values)
        cut("record", step)

    def on_validation(validation: Validation, metrics: Metrics) -> None:
        recorder.record("validation", validation.step, accuracy=validation.accuracy, loss=validation.loss)
        cut("validation", validation.step)

    return Listeners(on_record=on_record, on_step=lambda state: cut("step", state.step), on_validation=on_validation)


def _result(task: TrainingTask, state: TrainState, run: RunDirectory) -> Finished:
    records = read_records(run.metrics)
    for record in records:
        record.pop("tokens_per_second", None)
    digests = {path.name: verify_checkpoint(path).digest for path in list_checkpoints(task.checkpoints)}
    return Finished(weights(task), state, records, predict(task.model, task.validation, task.plan), digests)


def _uninterrupted(folder: Path, path: Path) -> Finished:
    path.mkdir()
    task, run = _resumable_task(folder, path), RunDirectory(path)
    return _result(task, run_task(task, listeners=_recorded(Recorder(run, ()))), run)


def _cut_and_resumed(folder: Path, path: Path, *cuts: tuple[str, int]) -> Finished:
    path.mkdir()
    run = RunDirectory(path)
    for cut in (*cuts, None):
        task = _resumable_task(folder, path)
        torch.manual_seed(999)  # Whatever another process did before must not matter.
        found = list_checkpoints(task.checkpoints)
        newest = verify_checkpoint(found[-1]) if found else None
        listeners = _recorded(Recorder(run, (), newest.step if newest else 0), cut)
        if cut is None:
            return _result(task, run_task(task, newest, listeners), run)
        with pytest.raises(Cut):
            run_task(task, newest, listeners)
    raise AssertionError


@pytest.fixture(scope="module")
def uninterrupted(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return _uninterrupted(small_model, tmp_path_factory.mktemp("uninterrupted") / "run")


CUTS: list[tuple[tuple[str, int], ...]] = [
    (("step", 1),),  # before any checkpoint
    (("step", 4),),  # right after one, mid-epoch
    (("step", 5),),  # one step after it
    (("validation", 3),),  # measured, not yet saved
    (("step", 6),),  # between epochs, right after a validation
    (("step", 7),),  # the first step of an epoch
    (("record", 8),),  # recorded, not yet saved
    (("validation", 12),),  # at the very end
    (("step", 3), ("step", 5), ("record", 8), ("step", 11)),
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(
    cuts: tuple[tuple[str, int], ...], uninterrupted: Finished, small_model: Path, tmp_path: Path
) -> None:
    resumed = _cut_and_resumed(small_model, tmp_path / "run", *cuts)
    assert differing(resumed.weights, uninterrupted.weights) == []
    assert resumed.records == uninterrupted.records
    assert without_timings(resumed.state) == without_timings(uninterrupted.state)
    assert resumed.checkpoints == uninterrupted.checkpoints
    np.testing.assert_array_equal(resumed.predictions, uninterrupted.predictions)
    steps = [(record["kind"], record["step"]) for record in resumed.records]
    assert len(set(steps)) == len(steps)


def test_resuming_a_finished_run_does_nothing(small_model: Path, tmp_path: Path) -> None:
    task = _resumable_task(small_model, tmp_path)
    state = run_task(task)
    end = weights(task)
    again = _resumable_task(small_model, tmp_path)
    newest = verify_checkpoint(list_checkpoints(again.checkpoints)[-1])
    assert without_timings(run_task(again, newest)) == without_timings(state)
    assert differing(weights(again), end) == []


def test_the_loss_scale_of_fp16_goes_on_where_it_was(small_model: Path, tmp_path: Path) -> None:
    """The scaler is PyTorch's own; it works on a CPU too, where Tenor has no use for it."""

    def scaled_run(folder: Path, resume_from: Checkpoint | None = None, stop: Listeners | None = None) -> TrainState:
        task = make_task(small_model, folder, epochs=2, checkpoint_every=1, keep_last=99, max_grad_norm=None)
        accelerator = make_accelerator(task.plan)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        try:
            return fit(task, accelerator, resume_from, stop)
        finally:
            accelerator.scaler = None

    whole = scaled_run(tmp_path / "whole")
    assert whole.loss_scale["scale"] == 4.0 * 2**6
    with pytest.raises(Cut):
        scaled_run(tmp_path / "cut", stop=_raise_at(5))
    newest = verify_checkpoint(list_checkpoints(tmp_path / "cut")[-1])
    kept = read_state(newest).loss_scale
    assert (kept["scale"], kept["_growth_tracker"]) == (16.0, 1)
    resumed = scaled_run(tmp_path / "cut", newest)
    assert resumed.loss_scale == whole.loss_scale
    digests = [
        [verify_checkpoint(path).digest for path in list_checkpoints(tmp_path / name)] for name in ("whole", "cut")
    ]
    assert digests[0] == digests[1]


def test_going_on_from_an_older_checkpoint_keeps_the_new_ones_and_drops_the_stale(
    small_model: Path, tmp_path: Path
) -> None:
    """As after damage to the newest: the checkpoints of the abandoned future must not push out those that follow."""
    settings = {"epochs": 2, "learning_rate": 0.0, "checkpoint_every": 1, "keep_last": 1}
    run_task(make_task(small_model, tmp_path, **settings))
    best, newest = list_checkpoints(tmp_path)
    assert (best.name, newest.name) == ("step-000006", "step-000012")
    (newest / "state.json").write_text("damaged")
    with pytest.raises(Cut):
        run_task(make_task(small_model, tmp_path, **settings), verify_checkpoint(best), _raise_at(8))
    assert [verify_checkpoint(path).step for path in list_checkpoints(tmp_path)] == [6, 8]


def _raise_at(step: int) -> Listeners:
    def on_step(state: TrainState) -> None:
        if state.step >= step:
            raise Cut

    return Listeners(on_step=on_step)


# What is kept, and when training ends.


@pytest.mark.parametrize("keep_last", [1, 3])
def test_the_best_and_the_newest_checkpoints_are_kept(keep_last: int, small_model: Path, tmp_path: Path) -> None:
    # A rate of 0 makes the first validation the best one.
    task = make_task(small_model, tmp_path, epochs=3, learning_rate=0.0, checkpoint_every=2, keep_last=keep_last)
    state = run_task(task)
    assert state.best is not None
    assert state.best.step == 6
    steps = [verify_checkpoint(path).step for path in list_checkpoints(tmp_path)]
    assert steps == sorted({6, *list(range(2, 19, 2))[-keep_last:]})


def test_whoever_goes_back_one_checkpoint_finds_the_best_up_to_it(small_model: Path, tmp_path: Path) -> None:
    """The newest may be the best and damaged; the one before it needs the best of its own time at the run's end."""
    task = make_task(small_model, tmp_path, epochs=3, keep_last=2, select_by="loss")
    state = run_task(task)
    assert state.best is not None
    kept = {verify_checkpoint(path).step for path in list_checkpoints(tmp_path)}
    for newest in (12, 18):
        before = state.best_at(newest, "loss")
        assert before is not None
        assert {newest, before.step} <= kept


def test_patience_ends_training_and_a_cut_does_not_prolong_it(small_model: Path, tmp_path: Path) -> None:
    settings = {"epochs": 9, "learning_rate": 0.0, "patience": 3}
    task = make_task(small_model, tmp_path / "whole", **settings)
    state = run_task(task)
    assert [v.step for v in state.validations] == [6, 12, 18, 24]
    assert state.finished
    assert verify_checkpoint(list_checkpoints(tmp_path / "whole")[-1]).step == 24

    with pytest.raises(Cut):
        run_task(make_task(small_model, tmp_path / "cut", **settings), listeners=_raise_at(14))
    newest = verify_checkpoint(list_checkpoints(tmp_path / "cut")[-1])
    assert newest.step == 12
    resumed = run_task(make_task(small_model, tmp_path / "cut", **settings), newest)
    assert without_timings(resumed) == without_timings(state)


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
    interval = max(1, round(every * task.steps_per_epoch))
    assert gaps.min() >= min(interval, task.steps_per_epoch)
    assert gaps.max() < 2 * interval


def _bare_task(rows: int, every: float) -> Any:
    from types import SimpleNamespace

    from tenor.config.schema import Training

    steps = -(-rows // 8)
    return SimpleNamespace(settings=Training(epochs=3, evaluate_every=every), steps_per_epoch=steps)


def test_records_come_when_asked_for_with_the_rate_that_was_used(small_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    task = make_task(
        small_model, tmp_path, epochs=1, schedule="constant", warmup=0.0, head_learning_rate=0.01, log_every=2
    )
    run_task(task, listeners=Listeners(on_record=lambda step, values, window: seen.append((step, values))))
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
    run_task(task, listeners=Listeners(on_record=lambda step, values, window: seen.append(values["loss"])))
    batch = task.train.collate(np.arange(11))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(task.model(**batch.inputs).logits, batch.labels)
    assert seen == [pytest.approx(float(expected), rel=1e-5)]


# What must not go on.


def test_a_loss_that_is_no_number_ends_training(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    with torch.no_grad():
        task.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(TenorError, match=r"loss of a batch is nan.*learning_rate"):
        run_task(task)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("at_last_step", [False, True])
def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(
    at_last_step: bool, small_model: Path, tmp_path: Path
) -> None:
    task = make_task(small_model, tmp_path, epochs=1, checkpoint_every=1, keep_last=9)
    target, calls = task.total_steps if at_last_step else 3, []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * float("inf") if len(calls) == target else gradient

    task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, training_tokens=10_000))
    task.model.classifier.weight.register_hook(poison)
    with pytest.raises(TenorError):
        run_task(task)
    for path in list_checkpoints(tmp_path):
        model = make_task(small_model, tmp_path).model
        checkpoint_module.load_weights(verify_checkpoint(path), model)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()), path.name


def test_a_checkpoint_that_cannot_be_written_ends_training_and_leaves_the_last_one(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(small_model, tmp_path, checkpoint_every=2)
    real = checkpoint_module.save_file

    def full(tensors: Any, path: Path, **options: Any) -> None:
        if "step-000004" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path, **options)

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(TenorError, match=r"step-000004.*No space left"):
        run_task(task)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]
    verify_checkpoint(tmp_path / "step-000002")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["record", "step"])
def test_a_signal_ends_training_with_a_checkpoint_of_the_last_step(
    number: signal.Signals, place: str, small_model: Path, tmp_path: Path
) -> None:
    def send(step: int, at: str) -> None:
        if (step, at) == (3, place):
            os.kill(os.getpid(), number)

    listeners = Listeners(
        on_record=lambda step, values, window: send(step, "record"), on_step=lambda state: send(state.step, "step")
    )
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=number.name) as caught:
        run_task(make_task(small_model, tmp_path), listeners=listeners)
    newest = verify_checkpoint(list_checkpoints(tmp_path)[-1])
    assert f"after step {newest.step}," in str(caught.value)
    assert newest.step in (3, 4)
    assert signal.getsignal(number) == before

    resumed, whole = make_task(small_model, tmp_path), make_task(small_model, tmp_path / "whole")
    run_task(resumed, newest)
    run_task(whole)
    assert differing(weights(resumed), weights(whole)) == []


def test_runs_of_different_precision_follow_each_other_in_one_process(small_model: Path, tmp_path: Path) -> None:
    for number, precision in enumerate(("fp32", "bf16", "fp32")):
        task = make_task(small_model, tmp_path / str(number), rows=8, epochs=1)
        task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, precision=precision))
        assert make_accelerator(task.plan).mixed_precision == ("no" if precision == "fp32" else precision)
        assert run_task(task).finished


def test_a_distributed_launcher_is_refused(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoProcesses:
        num_processes = 2

    monkeypatch.setattr(loop_module, "Accelerator", lambda **options: TwoProcesses())
    with pytest.raises(UserError, match="one process"):
        make_accelerator(make_task(small_model, tmp_path).plan)


def test_as_many_class_weights_as_classes(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 weights for 2 classes"):
        run_task(make_task(small_model, tmp_path, class_weights=(1.0, 2.0, 3.0)))


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
