"""The overview before the first step: its counts are correct, and computing it changes nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.console.run import FIRST_BATCHES, first_batch_label_counts
from tenor.data.batching import TokenExamples, epoch_batches, micro_batches
from tenor.model.freezing import set_training_mode
from tenor.training import cost
from tenor.training.cost import (
    Cost,
    activation_bytes_per_token,
    estimate_cost,
    measure_lengths,
    tokens_per_pass,
)
from tenor.training.task import TrainingTask
from training_tasks import differing, make_task, token_rows, weights


def _estimate(task: TrainingTask, to_train: int, to_predict: int, kept: int, token_budget: int = 100) -> Cost:
    plan = dataclasses.replace(task.plan, training_tokens=token_budget)
    return estimate_cost(task.model, task.parameters, task.train, plan, to_train, to_predict, kept, batch_size=64)


def test_label_counts_are_those_of_the_batches_the_loop_will_see() -> None:
    rows = token_rows(61, classes=3)
    found = first_batch_label_counts(TokenExamples(rows, 0), 8, seed=5, n_classes=3)
    batches = epoch_batches(rows.lengths, 8, 5, 0)[:FIRST_BATCHES]
    assert found.shape == (FIRST_BATCHES, 3)
    for counts, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(counts, np.bincount(rows.labels[batch], minlength=3))


def test_a_missing_class_is_counted_as_zero() -> None:
    rows = dataclasses.replace(token_rows(20), labels=np.zeros(20, dtype=np.int64))
    found = first_batch_label_counts(TokenExamples(rows, 0), 8, seed=0, n_classes=2)
    assert found[:, 1].sum() == 0
    assert found.sum() == 20


def test_lengths_show_how_much_truncation_removes() -> None:
    rows = token_rows(4)
    full = rows.lengths + np.array([0, 0, 10, 30], dtype=np.int32)
    found = measure_lengths(dataclasses.replace(rows, full_lengths=full))
    assert found.share_truncated == 0.5
    assert found.longest == full.max()
    assert found.share_tokens_lost == pytest.approx(40 / full.sum())


@pytest.mark.parametrize("freeze", ["none", "base"])
def test_the_estimate_leaves_weights_gradients_and_random_state(freeze: str, small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model={"freeze": freeze, "dropout": 0.5})
    before, random_state = weights(task), torch.get_rng_state()
    cost = _estimate(task, 1000, 500, 2)
    assert differing(before, weights(task)) == []
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert cost.seconds > 0
    assert cost.memory_bytes > 0
    assert cost.disk_bytes >= 4 * task.parameters.total_count


def test_measured_steps_decide_the_time_of_training(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    plan = dataclasses.replace(task.plan, training_tokens=100)
    seconds = [
        estimate_cost(
            task.model, task.parameters, task.train, plan, trained, 0, 1, batch_size=64, tokens_per_second=50.0
        ).seconds
        for trained in (1000, 4000)
    ]
    assert seconds == [pytest.approx(20), pytest.approx(80)]


def test_the_estimate_grows_with_the_work(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    assert _estimate(task, 0, 0, 1).seconds == 0
    few = _estimate(task, 0, 0, 1)
    many = _estimate(task, 0, 0, 5)
    assert many.disk_bytes > few.disk_bytes


def test_disk_is_estimated_as_large_as_the_checkpoints_become(small_model: Path, tmp_path: Path) -> None:
    from training_tasks import run_task

    task = make_task(small_model, tmp_path, epochs=1, rows=8)
    run_task(task)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    one = _estimate(task, 0, 0, 1).disk_bytes
    two = _estimate(task, 0, 0, 2).disk_bytes
    assert two - one == pytest.approx(written, rel=0.05)


# Memory: what a pass keeps for its backward pass is most of it, and is counted rather than guessed.


def _bytes_saved(task: TrainingTask, rows: np.ndarray) -> int:
    """What autograd saves of a pass over these rows, each piece of memory once, without the weights themselves."""
    saved: list[torch.Tensor] = []  # Holding them all keeps one from taking another's place in memory.

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    set_training_mode(task.model, task.parameters)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task.model(**task.train.collate(rows).inputs)
    own = {parameter.untyped_storage().data_ptr() for parameter in task.model.parameters()}
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    return sum(size for place, size in sizes.items() if place not in own)


@pytest.mark.parametrize("model", [{}, {"dropout": 0.3}, {"freeze": 1}], ids=str)
def test_activations_are_estimated_as_what_a_pass_of_the_whole_budget_keeps(
    model: dict[str, Any], small_model: Path, tmp_path: Path
) -> None:
    task = make_task(small_model, tmp_path, model=model)
    largest = micro_batches(np.arange(len(task.train)), task.train.lengths, 600)[0]
    tokens = len(largest) * int(task.train.lengths[largest].max())
    assert tokens > 500, "the pass does not fill the budget"
    estimated = tokens * activation_bytes_per_token(task.model, task.parameters, task.train, task.plan)
    assert 0.7 < estimated / _bytes_saved(task, largest) < 1.4


def test_frozen_layers_keep_nothing_for_a_backward_pass(small_model: Path, tmp_path: Path) -> None:
    whole, half = (make_task(small_model, tmp_path, model=model) for model in ({}, {"freeze": 1}))
    bytes_whole, bytes_half = (
        activation_bytes_per_token(task.model, task.parameters, task.train, task.plan) for task in (whole, half)
    )
    assert bytes_half < 0.7 * bytes_whole


def test_the_memory_of_activations_grows_with_the_budget(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_memory_in_use", lambda plan: 0)
    task = make_task(small_model, tmp_path)
    others = _estimate(task, 0, 500, 1).memory_bytes
    assert others == 3 * 4 * task.parameters.trainable_count
    one, three = (_estimate(task, 1000, 0, 1, budget).memory_bytes - others for budget in (300, 900))
    assert one > 0
    assert three == pytest.approx(3 * one, rel=1e-3)


@pytest.mark.parametrize(("batch_size", "budget", "expected"), [(4, 100, 80), (8, 100, 100), (8, 10, 20)])
def test_a_pass_holds_a_batch_at_most_and_a_row_at_least(batch_size: int, budget: int, expected: int) -> None:
    assert tokens_per_pass(np.array([6, 20, 8]), batch_size, budget) == expected


def test_on_a_gpu_its_own_memory_counts(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(small_model, tmp_path)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 12345)
    assert cost._memory_in_use(dataclasses.replace(task.plan, device="cuda")) == 12345
    assert cost._memory_in_use(task.plan) > 10**7
