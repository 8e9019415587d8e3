"""A step of the loop: splitting a batch changes nothing, gradients are clipped, and NaN ends the training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.data.batching import micro_batches
from tenor.errors import TenorError, UserError
from tenor.inference.logits import token_logits
from tenor.model.freezing import set_training_mode
from tenor.model.optimizer import make_optimizer, set_rates
from tenor.training import checkpoint as checkpoint_module
from tenor.training.checkpoint import StepResult, list_checkpoints, verify_checkpoint
from tenor.training.gradients import gradients_of, step_batch
from tenor.training.loop import optimizer_step
from tenor.training.spread import OneModel
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import make_accelerator
from training_tasks import NO_DROPOUT, differing, make_task, run_task, weights


def _one_step(task: TrainingTask, budget: int, rows: np.ndarray, steps: int = 1) -> tuple[StepResult, dict[str, Any]]:
    """Optimizer steps on the same rows within a token budget; returns the last result and the last gradients."""
    task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, training_tokens=budget))
    optimizer = make_optimizer(task.model, task.settings)
    set_rates(optimizer, 1.0)
    accelerator = make_accelerator(task.plan)
    model, wrapped = accelerator.prepare(task.model, optimizer)
    set_training_mode(task.model, task.parameters)
    task_of_step = dataclasses.replace(task, model=model)
    spread = OneModel(model, gradients_of(task_of_step, accelerator.backward))
    for step in range(steps):
        result = optimizer_step(task, accelerator, spread, wrapped, step_batch(task, step, rows))
    return result, {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


LOSSES = [{}, {"class_weights": (0.3, 1.0, 5.0)}, {"class_weights": (0.3, 1.0, 5.0), "label_smoothing": 0.2}]


@pytest.mark.parametrize("loss", LOSSES, ids=["plain", "weighted", "weighted and smoothed"])
@pytest.mark.parametrize("budget", [8, 50, 130])
def test_splitting_a_batch_changes_no_gradient(
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
def test_splitting_a_batch_changes_no_weight(loss: dict[str, Any], small_model: Path, tmp_path: Path) -> None:
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


def test_gradients_are_clipped_to_the_requested_norm(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, model=NO_DROPOUT, max_grad_norm=0.01)
    window, found = _one_step(task, 100, np.arange(8))
    assert window.grad_norm > 0.01
    norm = torch.stack([gradient.norm() for gradient in found.values()]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


# NaN ends the training.


def test_a_loss_of_nan_ends_training(small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path)
    with torch.no_grad():
        task.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(TenorError, match=r"loss of a batch is nan.*learning_rate"):
        run_task(task)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_validation_logits_of_nan_end_the_run_with_advice(value: float, small_model: Path, tmp_path: Path) -> None:
    def forward(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = token_logits(model, inputs)
        return logits if torch.is_grad_enabled() else torch.full_like(logits, value)

    task = dataclasses.replace(make_task(small_model, tmp_path, rows=16), forward=forward)
    with pytest.raises(TenorError, match=r"after step 2, 16 of 16 validation rows .*Lower training\.learning_rate"):
        run_task(task)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("at_last_step", [False, True])
def test_a_gradient_of_nan_never_reaches_a_checkpoint(at_last_step: bool, small_model: Path, tmp_path: Path) -> None:
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


def test_runs_of_different_precision_follow_each_other_in_one_process(small_model: Path, tmp_path: Path) -> None:
    for number, precision in enumerate(("fp32", "bf16", "fp32")):
        task = make_task(small_model, tmp_path / str(number), rows=8, epochs=1)
        task = dataclasses.replace(task, plan=dataclasses.replace(task.plan, precision=precision))
        assert make_accelerator(task.plan).mixed_precision == ("no" if precision == "fp32" else precision)
        assert run_task(task).finished


def test_as_many_class_weights_as_classes(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 weights for 2 classes"):
        run_task(make_task(small_model, tmp_path, class_weights=(1.0, 2.0, 3.0)))
