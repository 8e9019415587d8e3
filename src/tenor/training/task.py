"""What a run trains: the model, the rows, the objective and the settings, and the steps that follow from them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from tenor.config.schema import Training
from tenor.data.batching import Examples
from tenor.inference.logits import Forward
from tenor.measures.objective import TrainingObjective
from tenor.model.device import DevicePlan
from tenor.model.freezing import TrainableParameters
from tenor.training.processes import ALONE, Processes


@dataclass(frozen=True)
class TrainingTask:
    """The input of the training loop; none of it changes during the run, except the model's weights."""

    model: nn.Module
    parameters: TrainableParameters
    forward: Forward
    train: Examples
    validation: Examples
    objective: TrainingObjective
    settings: Training
    seed: int
    plan: DevicePlan
    checkpoints: Path
    short_train: Examples | None = None
    """The training rows truncated further, for the first steps: `training.short_share` of all."""
    train_in: Callable[[int], Examples] | None = None
    """The training rows as an epoch (from 0) sees them, where each sees them differently: same rows, same lengths."""
    validation_forward: Forward | None = None
    """What a validation computes of each row, where that is not what training does."""
    processes: Processes = ALONE
    """This process among those that train together, each of which has the same task."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.objective.class_names

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.settings.batch_size)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.settings.epochs

    def at(self, step: int) -> "TrainingTask":
        """The task at `step` (0 … total_steps - 1): its training rows are those of the epoch, short or full."""
        if self.train_in is not None:
            return replace(self, train=self.train_in(step // self.steps_per_epoch))
        is_short = step < round(self.settings.short_share * self.total_steps)
        return replace(self, train=self.short_train) if is_short and self.short_train is not None else self


def validation_steps(task: TrainingTask) -> set[int]:
    """The optimizer steps after which the model is validated: evenly spaced, always with the last step of an epoch."""
    steps = task.steps_per_epoch
    count = min(steps, int(1 / task.settings.evaluate_every + 1e-9))
    within_epoch = {round(number * steps / count) for number in range(1, count + 1)}
    return {epoch * steps + step for epoch in range(task.settings.epochs) for step in within_epoch}
