"""Several processes take the steps of one: the same losses and weights, every row once, exact resume on any number."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from process_group import CASES, Trained, case_task, train_cases, trained
from tenor.training.checkpoint import list_checkpoints, verify_checkpoint
from tenor.training.gradients import StepBatch
from tenor.training.spread import MOST_REPLICAS, seed_of


def slow(test: Any) -> Any:
    """Alone: the groups of processes are shared by all tests of this module, and every process would start its own."""
    return pytest.mark.slow(pytest.mark.alone(test))


TOLERANCE = 1e-5
NOISE = 1e-4
"""Share of weights whose gradient is nothing but rounding: AdamW divides it by its own size, and makes steps of it."""


@pytest.fixture(scope="module", params=[2, 3])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def of_group(count: int, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Every case, trained by `count` processes that are connected by gloo."""
    return train_cases(tmp_path_factory.mktemp(f"group-{count}"), small_model, count)


@pytest.fixture(scope="module")
def alone(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Every case, trained by this process alone."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: trained(case_task(case, folder, small_model)) for case in CASES}


def assert_same_weights(one: Trained, other: Trained) -> None:
    # Softmax does not see the biases of the keys: their gradient is all rounding.
    names = [name for name in other.weights if not name.endswith("k_lin.bias")]
    gaps = torch.cat([(one.weights[name] - other.weights[name]).abs().flatten() for name in names])
    assert (gaps > TOLERANCE).float().mean() <= NOISE
    assert gaps.max() <= 1e-4


def assert_same(one: Trained, other: Trained) -> None:
    assert_same_weights(one, other)
    assert numbers(one.notes["losses"]) == pytest.approx(numbers(other.notes["losses"]), rel=1e-5)
    assert numbers(one.notes["validations"]) == pytest.approx(numbers(other.notes["validations"]), rel=1e-5)
    assert (one.notes["steps"], one.notes["best"]) == (other.notes["steps"], other.notes["best"])


def numbers(nested: Any) -> list[float]:
    return [number for one in nested for number in numbers(one)] if isinstance(nested, list) else [nested]


@slow
@pytest.mark.parametrize("case", CASES)
def test_processes_train_what_one_trains(case: str, of_group: dict[str, Trained], alone: dict[str, Trained]) -> None:
    assert_same(of_group[case], alone[case])


@slow
def test_the_rows_of_the_processes_are_all_rows_once_in_a_new_order_every_epoch(
    of_group: dict[str, Trained], count: int
) -> None:
    for case in ("plain", "one row in the last batch"):
        rows = CASES[case].get("rows", 44)
        epochs = of_group[case].notes["rows"]
        assert [(epoch, first) for epoch, first, _ in epochs] == [(0, 0), (1, 0)]
        for _, _, by_rank in epochs:
            assert len(by_rank) == count
            assert sorted(row for seen in by_rank for row in seen) == list(range(rows))
            assert max(map(len, by_rank)) - min(map(len, by_rank)) <= math.ceil(rows / 8)
        assert epochs[0][2] != epochs[1][2]


@slow
@pytest.mark.parametrize("name", ["exact", "dropout", "replicas with dropout"])
def test_a_resumed_group_ends_bit_for_bit_as_an_uninterrupted_one(name: str, of_group: dict[str, Trained]) -> None:
    whole, cut = of_group[f"{name}, whole"], of_group[f"{name}, resumed"]
    assert all(torch.equal(weight, whole.weights[key]) for key, weight in cut.weights.items())
    assert cut.notes["validations"] == whole.notes["validations"][-len(cut.notes["validations"]) :]
    assert cut.notes["rows"][0][1] == 0  # Step 6 is the last of the first epoch.


@slow
def test_a_loss_that_is_not_finite_in_one_process_ends_all_at_the_same_step(
    of_group: dict[str, Trained], count: int
) -> None:
    errors = of_group["broken"].notes["errors"]
    assert len(errors) == count
    assert len(set(errors)) == 1
    assert "the loss of a batch is nan" in errors[0]


@slow
def test_a_checkpoint_of_several_processes_is_continued_by_one(
    count: int, small_model: Path, tmp_path: Path, alone: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The other direction, and two against three, are tested with whole runs."""
    folder = tmp_path_factory.getbasetemp() / f"group-{count}0" / "plain"
    checkpoints = [verify_checkpoint(path) for path in list_checkpoints(folder)]
    task = case_task("plain", tmp_path, small_model)
    resumed = trained(task, checkpoints[0])
    assert 0 < checkpoints[0].step < resumed.notes["steps"]
    assert_same_weights(resumed, alone["plain"])


@pytest.mark.parametrize(("rows", "processes"), [(8, 2), (7, 3), (1, 2), (2, 3)])
def test_shares_are_disjoint_and_complete(rows: int, processes: int) -> None:
    batch = StepBatch(0, np.arange(10, 10 + rows), np.arange(rows) + 3, float(rows))
    shares = batch.shares(processes)
    assert len(shares) == min(rows, processes)
    assert sorted(np.concatenate([share.rows for share in shares])) == list(batch.rows)


def test_every_replica_of_every_process_has_dropout_of_its_own_at_every_step() -> None:
    seeds = {
        seed_of(3, step, rank * MOST_REPLICAS + replica)
        for step in range(5)
        for rank in range(3)
        for replica in range(MOST_REPLICAS)
    }
    assert len(seeds) == 5 * 3 * MOST_REPLICAS
