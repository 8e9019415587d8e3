"""The averages of the weights match the textbook, are validated and saved, and survive an interruption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.inference.logits import predict
from tenor.measures.metrics import measure
from tenor.measures.objective import class_probabilities
from tenor.training.checkpoint import list_checkpoints, load_weights, verify_checkpoint
from tenor.training.ema import AVERAGE, averages_in_place, update_averages
from tenor.training.task import TrainingTask
from training_tasks import Cut, cut_after, differing, make_task, run_task, weights


def _stepped(steps: int, decay: float) -> tuple[torch.nn.Linear, torch.optim.AdamW, list[torch.Tensor]]:
    """A layer after `steps` steps, and its weight after each of them."""
    torch.manual_seed(0)
    layer, seen = torch.nn.Linear(3, 2), []
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        layer(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        update_averages(optimizer, decay, step)
        seen.append(layer.weight.detach().clone())
    return layer, optimizer, seen


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_an_average_keeps_its_share_at_every_step(decay: float) -> None:
    layer, optimizer, seen = _stepped(30, decay)
    expected = seen[0]
    for step, weight in enumerate(seen[1:], start=2):
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
    torch.testing.assert_close(optimizer.state[layer.weight][AVERAGE], expected)


def test_averages_replace_the_weights_only_within_a_block() -> None:
    layer, optimizer, seen = _stepped(8, 0.5)
    average, address = optimizer.state[layer.weight][AVERAGE].clone(), layer.weight.data_ptr()
    with averages_in_place(optimizer):
        assert torch.equal(layer.weight, average)
        assert layer.weight.data_ptr() == address
    assert torch.equal(layer.weight, seen[-1])
    assert torch.equal(optimizer.state[layer.weight][AVERAGE], average)


def test_a_weight_without_an_update_gets_its_moments_later() -> None:
    """AdamW takes any state for a complete one."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer.weight.sum().backward()
    optimizer.step()
    update_averages(optimizer, 0.9, 1)
    layer(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    update_averages(optimizer, 0.9, 2)
    assert all(AVERAGE in optimizer.state[parameter] for parameter in layer.parameters())


def _task(folder: Path, name: str, tmp_path: Path, **training: Any) -> TrainingTask:
    return make_task(folder, tmp_path / name, epochs=2, checkpoint_every=2, **training)


def test_validation_and_checkpoint_are_those_of_the_averages(small_model: Path, tmp_path: Path) -> None:
    task = _task(small_model, "ema", tmp_path, ema_decay=0.9)
    plain = _task(small_model, "plain", tmp_path)
    state = run_task(task)
    run_task(plain)
    # The weights learn as they would without; only what is kept differs.
    assert differing(weights(task), weights(plain)) == []
    load_weights(verify_checkpoint(list_checkpoints(task.checkpoints)[-1]), task.model)
    assert differing(weights(task), weights(plain))
    logits = predict(task.model, task.validation, task.plan)
    found = measure(task.validation.labels, class_probabilities(logits), task.class_names)
    assert np.isclose(found.loss, state.validations[-1].metrics["loss"])


def test_an_interrupted_run_resumes_to_the_same_weights_and_averages(small_model: Path, tmp_path: Path) -> None:
    whole, cut = (_task(small_model, name, tmp_path, ema_decay=0.9) for name in ("whole", "cut"))
    run_task(whole)
    with pytest.raises(Cut):
        run_task(cut, callbacks=cut_after(7))
    resumed = _task(small_model, "cut", tmp_path, ema_decay=0.9)
    left = verify_checkpoint(list_checkpoints(cut.checkpoints)[-1])
    assert left.step == 6
    run_task(resumed, left)
    assert differing(weights(whole), weights(resumed)) == []
    newest = [verify_checkpoint(list_checkpoints(task.checkpoints)[-1]) for task in (whole, resumed)]
    assert newest[0].step == newest[1].step
    assert newest[0].digest == newest[1].digest
