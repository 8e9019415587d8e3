"""Replicas: the same gradients as one model's, deterministic, and all settings restored afterwards."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from overlapping import in_a_new_thread, in_turns
from tenor.checks.watchdog import Watchdog
from tenor.model.freezing import set_training_mode
from tenor.model.speed import WordDropout, use_word_dropout
from tenor.training import spread as replicas_module
from tenor.training.checkpoint import Window, list_checkpoints, verify_checkpoint
from tenor.training.gradients import BatchSums, StepBatch, gradients_of, step_batch
from tenor.training.loop import Callbacks
from tenor.training.spread import OneModel, Replicas, draws_shared_numbers, replicas_for, share_weights
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import make_accelerator
from training_tasks import NO_DROPOUT, Cut, cut_after, differing, make_task, run_task, weights, without_timings

NOTHING = BatchSums(0.0, np.zeros(2, dtype=np.int64))


def _two_rows(step: int) -> StepBatch:
    return StepBatch(step, np.arange(2), np.array([3, 3]), 2.0)


@pytest.fixture(autouse=True)
def threads_as_before() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _on_threads(task: TrainingTask, threads: int) -> TrainingTask:
    torch.set_num_threads(threads)
    return dataclasses.replace(task, plan=dataclasses.replace(task.plan, threads=threads))


def _gradients(task: TrainingTask, count: int, rows: np.ndarray, step: int = 0) -> dict[str, torch.Tensor]:
    """The gradients of the mean loss over `rows`, by `count` replicas."""
    compute_gradients = gradients_of(task)
    set_training_mode(task.model, task.parameters)
    task.model.zero_grad(set_to_none=True)
    batch = step_batch(task, step, rows)
    if count == 1:
        OneModel(task.model, compute_gradients).run(batch)
    else:
        with Replicas(task.model, compute_gradients, count, count, task.seed) as replicas:
            replicas.run(batch)
            assert all(p.grad is None for replica in replicas.models[1:] for p in replica.parameters())
    return {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("freeze", ["none", 1])
@pytest.mark.parametrize(("count", "rows"), [(2, 20), (3, 20), (4, 5), (3, 2), (2, 1)])
@pytest.mark.parametrize("folder", ["small_model", "small_bert"])
def test_replicas_sum_to_the_gradient_of_one_model(
    folder: str, count: int, rows: int, freeze: str | int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    task = make_task(request.getfixturevalue(folder), tmp_path, model={**NO_DROPOUT, "freeze": freeze})
    one, several = (_gradients(task, replicas, np.arange(rows)) for replicas in (1, count))
    assert one.keys() == several.keys() == set(task.parameters.trainable)
    for name, gradient in one.items():
        torch.testing.assert_close(several[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_replicas_of_a_model_that_accelerate_wrapped_compute_by_themselves(small_bert: Path, tmp_path: Path) -> None:
    """In half precision Accelerate puts a `forward` of its own into the model, which must not lead back to it."""
    task = make_task(small_bert, tmp_path, model=NO_DROPOUT)
    task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, precision="bf16"))
    model = make_accelerator(task.plan).prepare(task.model)
    assert "forward" in vars(model)
    one, two = (_gradients(dataclasses.replace(task, model=model), count, np.arange(8)) for count in (1, 2))
    for name, gradient in one.items():
        assert (two[name] - gradient).abs().max() <= 0.02 * gradient.abs().max() + 1e-4, name


def test_a_copy_shares_weights_but_not_gradients(small_bert: Path, tmp_path: Path) -> None:
    model = make_task(small_bert, tmp_path).model
    copied = share_weights(model)
    pairs = list(zip(model.parameters(), copied.parameters(), strict=True))
    assert all(own.data_ptr() == other.data_ptr() and own is not other for own, other in pairs)
    with torch.no_grad():
        pairs[0][0].add_(1.0)
    assert torch.equal(*pairs[0])
    pairs[0][1].grad = torch.zeros_like(pairs[0][1])
    assert pairs[0][0].grad is None


def test_masks_depend_only_on_seed_step_and_replica(small_model: Path, tmp_path: Path) -> None:
    task, rows = make_task(small_model, tmp_path, model={"dropout": 0.3}), np.arange(16)
    first = _gradients(task, 2, rows, step=5)
    torch.rand(7)  # Whoever else draws random numbers must not matter.
    assert differing(first, _gradients(task, 2, rows, step=5)) == []
    assert differing(first, _gradients(task, 2, rows, step=6))
    assert differing(first, _gradients(dataclasses.replace(task, seed=task.seed + 1), 2, rows, step=5))


def test_replicas_draw_masks_of_their_own() -> None:
    model, seen = WordDropout(0.5), []

    def draw(replica: nn.Module, share: StepBatch) -> BatchSums:
        seen.append(replica(torch.ones(64)))
        return NOTHING

    with Replicas(model, draw, 2, 2, seed=1) as replicas:
        for step in range(2):
            replicas.run(_two_rows(step))
    assert len(seen) == 4
    assert all(not torch.equal(one, other) for at, one in enumerate(seen) for other in seen[at + 1 :])


@pytest.fixture
def with_two_replicas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The loop uses two replicas for the short rows of these tests; returns the number of replicas of each run."""
    counts: list[int] = []

    def counted(*arguments: Any) -> int:
        counts.append(replicas_for(*arguments))
        return counts[-1]

    monkeypatch.setattr(replicas_module, "LEAST_TOKENS", 8)
    monkeypatch.setattr("tenor.training.spread.replicas_for", counted)
    return counts


@pytest.mark.slow
def test_a_run_of_two_replicas_is_repeated_and_resumed_exactly(
    with_two_replicas: list[int], small_model: Path, tmp_path: Path
) -> None:
    def task(name: str) -> TrainingTask:
        made = make_task(small_model, tmp_path / name, model={"dropout": 0.3}, epochs=2, checkpoint_every=2)
        return _on_threads(made, 2)

    whole, again, cut = task("whole"), task("again"), task("cut")
    state = run_task(whole)
    torch.manual_seed(999)
    run_task(again)
    assert differing(weights(whole), weights(again)) == []

    with pytest.raises(Cut):
        run_task(cut, callbacks=cut_after(7))
    resumed = task("cut")
    torch.manual_seed(999)
    newest = verify_checkpoint(list_checkpoints(resumed.checkpoints)[-1])
    assert newest.step == 6
    assert without_timings(run_task(resumed, newest)) == without_timings(state)
    assert differing(weights(whole), weights(resumed)) == []
    assert with_two_replicas == [2, 2, 2, 2]


def test_two_replicas_learn_what_one_learns(with_two_replicas: list[int], small_model: Path, tmp_path: Path) -> None:
    losses = []
    for threads in (1, 2):
        task = _on_threads(make_task(small_model, tmp_path / str(threads), model=NO_DROPOUT, epochs=2), threads)
        losses.append([validation.metrics["loss"] for validation in run_task(task).validations])
    assert with_two_replicas == [1, 2]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_watchdog_hears_every_replica(with_two_replicas: list[int], small_model: Path, tmp_path: Path) -> None:
    task = _on_threads(make_task(small_model, tmp_path, model={"dropout": 0.3}, epochs=3, token_budget=1000), 2)
    watchdog = Watchdog(task.model, n_classes=2, total_steps=task.total_steps, policy="warn")

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        watchdog.record(step, loss=values["loss"], grad_norm=values["grad_norm"])

    run_task(task, callbacks=Callbacks(on_start=watchdog.watch, on_record=on_record))
    assert with_two_replicas == [2]
    heard = watchdog.evidence
    assert heard.backward_ratio == pytest.approx(1.0, rel=0.05)
    assert heard.parts_per_step == 2
    assert not heard.evaluated_in_training_mode
    assert not heard.gradient_kept
    assert heard.label_counts is not None
    assert heard.label_counts.sum() == 3 * len(task.train)


@pytest.mark.parametrize(
    ("threads", "batch_size", "tokens", "expected"),
    [
        (1, 32, 256, 1),
        (2, 32, 256, 2),
        (4, 32, 256, 4),
        (16, 32, 256, 4),  # four threads each
        (6, 32, 256, 3),  # four would leave two threads idle
        (7, 32, 256, 1),
        (4, 3, 256, 2),  # no replica without a row
        (2, 1, 4096, 1),
        (2, 32, 8, 1),  # too little to do
        (4, 32, 16, 2),
    ],
)
def test_replicas_share_the_threads_evenly_and_have_enough_to_do(
    threads: int, batch_size: int, tokens: int, expected: int, small_model: Path, tmp_path: Path
) -> None:
    task = make_task(small_model, tmp_path)
    rows = dataclasses.replace(task.train.tokens, lengths=np.full(len(task.train), tokens))
    plan = dataclasses.replace(task.plan, threads=threads)
    examples = _Lengths(task.train, rows.lengths)
    assert replicas_for(task.model, plan, batch_size, examples, task.forward) == expected


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """Examples that report wrong lengths."""

    examples: Any
    lengths: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.examples.labels

    def __len__(self) -> int:
        return len(self.examples)

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Any:
        return self.examples.collate(rows, rounded)


def test_a_gpu_has_one(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    plan = dataclasses.replace(task.plan, device="cuda", threads=8)
    assert replicas_for(task.model, plan, 4096, task.train, task.forward) == 1


def test_dropout_that_all_threads_would_share_allows_one_replica_only(small_bert: Path, tmp_path: Path) -> None:
    task = make_task(small_bert, tmp_path, model={"dropout": 0.3})
    plan = dataclasses.replace(task.plan, threads=2)
    assert replicas_for(task.model, plan, 4096, task.train, task.forward) == 2
    shared = make_task(small_bert, tmp_path, model={"dropout": 0.3, "attention_dropout": 0.1})
    assert replicas_for(shared.model, plan, 4096, shared.train, shared.forward) == 1


class _Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.ones(100))


@pytest.mark.parametrize("training", [False, True])
def test_the_search_for_shared_random_numbers_leaves_no_trace(
    training: bool, small_model: Path, tmp_path: Path
) -> None:
    examples, model = make_task(small_model, tmp_path).train, _Toy().train(training)
    state = torch.get_rng_state()
    assert draws_shared_numbers(model, examples, lambda model, inputs: model(**inputs))
    use_word_dropout(model)
    assert not draws_shared_numbers(model, examples, lambda model, inputs: model(**inputs))
    assert model.dropout.training == training
    assert model.dropout.generator is None  # type: ignore[union-attr]
    assert torch.equal(state, torch.get_rng_state())


def test_an_error_in_a_share_is_raised_and_threads_are_restored(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model={"dropout": 0.3})
    torch.set_num_threads(2)
    ended = []

    def compute(model: nn.Module, share: StepBatch) -> BatchSums:
        assert torch.get_num_threads() == 1
        if share.rows[0] == 0:
            raise MemoryError("the first share's")
        ended.append(share.rows[0])
        return NOTHING

    with pytest.raises(MemoryError, match="the first share's"), Replicas(task.model, compute, 2, 2, 0) as replicas:
        replicas.run(_two_rows(0))
    assert ended == [1]
    assert torch.get_num_threads() == 2
    found = [module.generator for module in task.model.modules() if isinstance(module, WordDropout)]
    assert found
    assert set(found) == {None}


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_replicas_of_two_models_do_not_change_new_threads(
    small_model: Path, tmp_path: Path, first_ends_first: bool
) -> None:
    models = [make_task(small_model, tmp_path / name).model for name in ("first", "second")]
    torch.set_num_threads(2)

    @contextmanager
    def underway(model: nn.Module) -> Iterator[None]:
        counts = []

        def compute(model: nn.Module, share: StepBatch) -> BatchSums:
            counts.append(torch.get_num_threads())
            return NOTHING

        with Replicas(model, compute, 2, 2, 0) as replicas:
            replicas.run(_two_rows(0))
            assert counts == [1, 1]
            yield

    seen = in_turns(
        lambda: underway(models[0]),
        lambda: underway(models[1]),
        lambda: in_a_new_thread(torch.get_num_threads),
        first_ends_first,
    )
    assert seen == [2] * 4
