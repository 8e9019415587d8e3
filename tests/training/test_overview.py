"""The look before the first step: true counts, and nothing is disturbed by taking it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tenor.data.batching import TokenExamples, epoch_batches
from tenor.training.overview import FIRST_BATCHES, estimate_cost, first_batch_label_counts, measure_lengths
from training_tasks import differing, make_task, token_rows, weights


def test_label_counts_are_those_of_the_batches_the_loop_will_see() -> None:
    rows = token_rows(61, classes=3)
    found = first_batch_label_counts(TokenExamples(rows, 0), 8, seed=5, n_classes=3)
    batches = epoch_batches(rows.lengths, 8, 5, 0)[:FIRST_BATCHES]
    assert found.shape == (FIRST_BATCHES, 3)
    for counts, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(counts, np.bincount(rows.labels[batch], minlength=3))


def test_a_class_that_never_comes_is_counted_as_zero() -> None:
    rows = dataclasses.replace(token_rows(20), labels=np.zeros(20, dtype=np.int64))
    found = first_batch_label_counts(TokenExamples(rows, 0), 8, seed=0, n_classes=2)
    assert found[:, 1].sum() == 0
    assert found.sum() == 20


def test_lengths_tell_what_truncation_takes() -> None:
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
    cost = estimate_cost(task.model, task.learning, task.train, task.plan, 1000, 500, 2)
    assert differing(before, weights(task)) == []
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert cost.seconds > 0
    assert cost.memory_bytes > 0
    assert cost.disk_bytes >= 4 * task.learning.total_count


def test_the_estimate_grows_with_the_work_and_nothing_costs_nothing(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    assert estimate_cost(task.model, task.learning, task.train, task.plan, 0, 0, 1).seconds == 0
    few = estimate_cost(task.model, task.learning, task.train, task.plan, 0, 0, 1)
    many = estimate_cost(task.model, task.learning, task.train, task.plan, 0, 0, 5)
    assert many.disk_bytes > few.disk_bytes


def test_disk_is_estimated_as_large_as_the_checkpoints_become(small_model: Path, tmp_path: Path) -> None:
    from training_tasks import run_task

    task = make_task(small_model, tmp_path, epochs=1, rows=8)
    run_task(task)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    one = estimate_cost(task.model, task.learning, task.train, task.plan, 0, 0, 1).disk_bytes
    two = estimate_cost(task.model, task.learning, task.train, task.plan, 0, 0, 2).disk_bytes
    assert two - one == pytest.approx(written, rel=0.05)
