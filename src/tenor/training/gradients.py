"""The gradient of a batch: forward and backward passes over micro-batches that fit the token budget."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
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


def gradients_of(task: TrainingTask, accelerator: Accelerator) -> ComputeGradients:
    """The task's forward and backward passes, on the accelerator's device and in its precision."""
    return partial(_accumulate, task, accelerator)


def _accumulate(task: TrainingTask, accelerator: Accelerator, model: nn.Module, batch: StepBatch) -> BatchSums:
    examples, objective = task.at(batch.step).train, task.objective
    sums = no_sums(len(task.class_names))
    for rows in micro_batches(batch.rows, examples.lengths, task.plan.training_tokens):
        micro_batch = examples.collate(rows)
        inputs = {name: tensor.to(accelerator.device) for name, tensor in micro_batch.inputs.items()}
        with accelerator.autocast():
            logits = task.forward(model, inputs)
        loss = objective.summed_loss(logits, micro_batch.labels.to(accelerator.device))
        accelerator.backward(loss / batch.weight)
        sums += BatchSums(float(loss.detach()), objective.prediction_counts(logits), rows)
    return sums
