"""How the work of an optimizer step is spread: over one model, or over replicas on CPU threads.

The training loop calls `spread_for` and the two members of `Spread`, and names no implementation. One for several
processes would run the loop in the main process and `ComputeGradients` in all of them: its `run` sends the weights and
one share of the batch to each process, and adds up the gradients and sums that come back.
"""

from types import TracebackType
from typing import Protocol

from torch import nn

from tenor.training.gradients import BatchSums, ComputeGradients, StepBatch
from tenor.training.replicas import Replicas, replicas_for
from tenor.training.task import TrainingTask


class Spread(Protocol):
    """A context manager: threads or processes exist within the block."""

    @property
    def model(self) -> nn.Module:
        """The model that the optimizer updates, and that is validated and saved."""

    def run(self, batch: StepBatch) -> BatchSums:
        """Compute the gradient of the whole batch into the parameters of `model`, whose gradients are None before."""

    def __enter__(self) -> "Spread": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OneModel:
    """The whole batch in the calling thread, which PyTorch may spread over its own threads."""

    def __init__(self, model: nn.Module, compute_gradients: ComputeGradients) -> None:
        self.model, self._compute_gradients = model, compute_gradients

    def run(self, batch: StepBatch) -> BatchSums:
        return self._compute_gradients(self.model, batch)

    def __enter__(self) -> "OneModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def spread_for(task: TrainingTask, compute_gradients: ComputeGradients) -> Spread:
    """The spread that trains the task fastest on its device."""
    count = replicas_for(task.model, task.plan, task.settings.batch_size, task.train, task.forward)
    if count == 1:
        return OneModel(task.model, compute_gradients)
    return Replicas(task.model, compute_gradients, count, task.plan.threads, task.seed)
