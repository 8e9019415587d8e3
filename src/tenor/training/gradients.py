"""The gradient of a batch: forward and backward passes over micro-batches that fit the token budget."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from tenor.data.batching import deal, micro_batches
from tenor.training.task import TrainingTask


@dataclass(frozen=True)
class StepBatch:
    """The examples of one optimizer step, or a share of them: plain values, which another process could receive."""

    step: int
    """From 0."""
    rows: np.ndarray
    """Row indices, shape (rows,)."""
    lengths: np.ndarray
    """Tokens of each row, shape (rows,)."""
    weight: float
    """Total weight of the whole batch, also in a share: the divisor of every micro-batch's summed loss, so that neither
    shares nor micro-batches change the gradient."""

    def shares(self, count: int) -> list["StepBatch"]:
        """At most `count` shares of near-equal size and length, none of them empty."""
        places = deal(np.arange(len(self.rows)), self.lengths, count)
        return [replace(self, rows=self.rows[place], lengths=self.lengths[place]) for place in places]


@dataclass(frozen=True)
class BatchSums:
    """Sums over the examples of a batch or of a share."""

    loss: float
    """Weighted losses, nats."""
    predicted_counts: np.ndarray
    """Predictions per class, shape (K,)."""
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The rows that this process computed, in the order of its passes."""

    def __add__(self, other: "BatchSums") -> "BatchSums":
        return BatchSums(
            self.loss + other.loss,
            self.predicted_counts + other.predicted_counts,
            np.concatenate([self.rows, other.rows]),
        )


def no_sums(n_classes: int) -> BatchSums:
    """The sums over no example."""
    return BatchSums(0.0, np.zeros(n_classes, dtype=np.int64))


ComputeGradients = Callable[[nn.Module, StepBatch], BatchSums]
"""Adds the gradient of a batch, or of a share, to the `grad` of the model's parameters, and returns the sums."""


def step_batch(task: TrainingTask, step: int, rows: np.ndarray) -> StepBatch:
    """The batch of `rows` as step `step` sees it."""
    examples = task.at(step).train
    weight = task.objective.total_weight(torch.from_numpy(examples.labels[rows]))
    return StepBatch(step, rows, examples.lengths[rows], weight)


Backward = Callable[[torch.Tensor], None]
"""Computes the gradient of a loss, which Accelerate may scale first."""


def gradients_of(
    task: TrainingTask,
    backward: Backward = torch.Tensor.backward,
    device: torch.device | str | None = None,
    rounded: bool | None = None,
) -> ComputeGradients:
    """The task's forward and backward passes in the plan's precision, on its device unless another is given.

    `rounded`: whether the padded lengths are rounded up, if not as the plan says.
    """
    rounded = task.plan.rounds_lengths if rounded is None else rounded
    return partial(_accumulate, task, backward, device or task.plan.device, rounded)


def _accumulate(
    task: TrainingTask,
    backward: Backward,
    device: torch.device | str,
    rounded: bool,
    model: nn.Module,
    batch: StepBatch,
) -> BatchSums:
    examples, objective, plan = task.at(batch.step).train, task.objective, task.plan
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    counts = torch.zeros(len(task.class_names), dtype=torch.int64, device=device)
    passes = micro_batches(batch.rows, examples.lengths, plan.training_tokens)
    # Autocast keeps its 16-bit weights until the outermost block ends: so they are made once per step, not per pass.
    with torch.autocast(plan.device, enabled=False):
        for rows in passes:
            micro_batch = examples.collate(rows, rounded)
            inputs = {name: _on(tensor, device) for name, tensor in micro_batch.inputs.items()}
            with plan.autocast():
                logits = task.forward(model, inputs)
            loss = objective.summed_loss(logits, _on(micro_batch.labels, device))
            backward(loss / batch.weight)
            # Read once at the end: a GPU would otherwise wait for the program in every pass.
            loss_sum += loss.detach()
            counts += objective.prediction_counts(logits)
    return BatchSums(float(loss_sum), counts.cpu().numpy(), np.concatenate(passes))


def _on(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on the device; a GPU copies it while the program goes on."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
