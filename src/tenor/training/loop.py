"""The training loop: batches in, checkpoints out."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import nn

from tenor.config.schema import Training
from tenor.data.batching import Examples, deal, epoch_batches, micro_batches
from tenor.errors import InterruptedRunError, TenorError, UserError
from tenor.inference.logits import Forward, predict, softmax
from tenor.measures.metrics import Metrics, measure
from tenor.model.device import DevicePlan
from tenor.model.freezing import TrainableParameters, set_training_mode
from tenor.model.memory import freed_memory_kept
from tenor.model.optimizer import make_optimizer, rate_factor, set_rates
from tenor.runs.files import discard_folder
from tenor.training.checkpoint import (
    Checkpoint,
    StepResult,
    TrainState,
    Validation,
    Window,
    list_checkpoints,
    restore,
    save_checkpoint,
    step_of,
)
from tenor.training.ema import averages_in_place, swap_averages, update_averages
from tenor.training.loss import class_weights, summed_cross_entropy, total_weight
from tenor.training.replicas import Replicas, replicas_for
from tenor.training.signals import stop_requests

STEADIER = "Lower training.learning_rate or training.head_learning_rate, or use training.precision=fp32"
"""The mend of numbers that are none."""


@dataclass(frozen=True)
class TrainingTask:
    """What is to be trained, on what, and how."""

    model: nn.Module
    parameters: TrainableParameters
    forward: Forward
    train: Examples
    validation: Examples
    class_names: tuple[str, ...]
    settings: Training
    seed: int
    plan: DevicePlan
    checkpoints: Path
    short_train: Examples | None = None
    """The training rows cut shorter: what the first steps learn from, `training.short_share` of all."""

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.settings.batch_size)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.settings.epochs

    def at(self, step: int) -> "TrainingTask":
        """The task as step (0 … total_steps - 1) learns it: its training rows are the short ones, or the whole ones."""
        is_short = step < round(self.settings.short_share * self.total_steps)
        return replace(self, train=self.short_train) if is_short and self.short_train is not None else self


@dataclass(frozen=True)
class Listeners:
    """Who hears of what happens; none of them changes it."""

    on_start: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None
    on_record: Callable[[int, dict[str, float], Window], None] = lambda step, values, window: None
    """Every `log_every` steps and at the end, for the steps since the record before: loss, learning rate, gradient norm
    and speed, and the counts that they rest on."""
    on_step: Callable[[TrainState], None] = lambda state: None
    on_validation: Callable[[Validation, Metrics], None] = lambda validation, metrics: None


def make_accelerator(plan: DevicePlan) -> Accelerator:
    """Accelerate for one process."""
    precision = "no" if plan.precision == "fp32" else plan.precision
    # Accelerate keeps one state per process, and a run before this one may have set another precision or device.
    held = AcceleratorState().mixed_precision if AcceleratorState._shared_state else precision
    device = PartialState().device.type if PartialState._shared_state else plan.device
    if (held, device) != (precision, plan.device):
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise UserError("tenor train runs in one process; start it without a distributed launcher")
    if accelerator.device.type != plan.device:  # As ACCELERATE_USE_CPU in the environment would have it.
        raise UserError(
            f"Accelerate would train on {accelerator.device}, not on {plan.device}: take its settings (ACCELERATE_…) "
            "out of the environment, and choose with training.device"
        )
    return accelerator


def fit(
    task: TrainingTask,
    accelerator: Accelerator,
    resume_from: Checkpoint | None = None,
    listeners: Listeners | None = None,
) -> TrainState:
    """Train until the epochs are done or patience ends, from the start or from a checkpoint.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came; a checkpoint was written.
        TenorError: loss or validation logits are no longer numbers, memory ran out, or a checkpoint can't be written.
    """
    listeners = listeners or Listeners()
    settings = task.settings
    # The model itself is not prepared: Accelerate would put autocast into its `forward`, so that validation and
    # evaluation would compute in 16 bits too.
    model = task.model.to(accelerator.device)
    optimizer = make_optimizer(model, settings)
    wrapped = accelerator.prepare(optimizer)
    state = _resumed_state(task, optimizer, resume_from) if resume_from else _fresh_state(task)
    if accelerator.scaler is not None and state.loss_scale:
        accelerator.scaler.load_state_dict(state.loss_scale)
    _require_possible(task, state)
    _drop_checkpoints_after(task.checkpoints, state.step)
    _drop_old_checkpoints(task, state)  # A process that was killed may have left that undone.
    weights = class_weights(settings, task.train.labels, len(task.class_names))
    weights = None if weights is None else weights.to(accelerator.device)
    set_training_mode(task.model, task.parameters)
    validate_after = validation_steps(task)
    count = replicas_for(model, task.plan, settings.batch_size, task.train, task.forward)
    replicas = Replicas(model, count, task.plan.threads, task.seed)
    listeners.on_start(optimizer)

    with stop_requests() as stop, freed_memory_kept() as bound_free_memory, replicas:
        while not state.finished:
            batches = epoch_batches(task.train.lengths, settings.batch_size, task.seed, state.epoch)
            for rows in batches[state.position :]:
                factor = rate_factor(state.step, task.total_steps, settings)
                set_rates(optimizer, factor)
                result = optimizer_step(task.at(state.step), accelerator, replicas, wrapped, rows, weights, state.step)
                state.window.add(result)
                state.tokens += result.tokens
                state.advance(len(batches))
                if settings.ema_decay is not None:
                    update_averages(optimizer, settings.ema_decay, state.step)
                _record(task, state, factor, listeners)
                bound_free_memory()
                if state.step in validate_after:
                    with averages_in_place(optimizer):
                        _validate(task, state, listeners)
                    _record(task, state, factor, listeners)  # Patience may have ended it.
                # Read once: a signal that comes after this line is answered after the next step, with a checkpoint.
                stopped_by = stop.signal_name
                if state.step in validate_after or stopped_by or _is_due(state.step, settings.checkpoint_every):
                    if accelerator.scaler is not None:
                        state.loss_scale = accelerator.scaler.state_dict()
                    with averages_in_place(optimizer):  # A checkpoint's model is the one that was validated.
                        save_checkpoint(task.checkpoints, task.model, optimizer, state)
                    _drop_old_checkpoints(task, state)
                listeners.on_step(state)
                if stopped_by:
                    raise _interrupted(stopped_by, state)
                if state.finished:
                    break
    if stop.signal_name:  # It came after the line above was read for the last time.
        raise _interrupted(stop.signal_name, state)
    return state


def _interrupted(signal_name: str, state: TrainState) -> InterruptedRunError:
    return InterruptedRunError(f"{signal_name} after step {state.step:,}, which was checkpointed")


def optimizer_step(
    task: TrainingTask,
    accelerator: Accelerator,
    replicas: Replicas,
    optimizer: torch.optim.Optimizer,
    rows: np.ndarray,
    weights: torch.Tensor | None,
    step: int,
) -> StepResult:
    """One update from the examples in `rows`, shared between the replicas.

    The loss of every part is divided by the weight of the whole batch, so that the cut changes nothing but rounding.
    """
    settings, started = task.settings, time.perf_counter()
    batch_weight = total_weight(torch.from_numpy(task.train.labels[rows]), None if weights is None else weights.cpu())
    optimizer.zero_grad(set_to_none=True)

    def backward(model: nn.Module, share: np.ndarray) -> PartResult:
        return accumulate_gradients(task, accelerator, model, share, weights, batch_weight)

    parts = replicas.run(step, backward, deal(rows, task.train.lengths, len(replicas.models)))
    batch_loss = sum(part.loss for part in parts)
    if not np.isfinite(batch_loss):
        raise TenorError(f"the loss of a batch is {batch_loss}: training can't go on. {STEADIER}")
    trainable = [p for p in task.model.parameters() if p.requires_grad]
    limit = settings.max_grad_norm or float("inf")
    grad_norm = float(accelerator.clip_grad_norm_(trainable, limit))
    # With fp16 the scaler skips such a step and lowers the loss scale.
    if not np.isfinite(grad_norm) and accelerator.scaler is None:
        raise TenorError(f"the gradient of a batch has the norm {grad_norm}: training can't go on. {STEADIER}")
    optimizer.step()
    return StepResult(
        loss=batch_loss,
        weight=batch_weight,
        grad_norm=grad_norm,
        tokens=int(task.train.lengths[rows].sum()),
        seconds=time.perf_counter() - started,
        predicted_counts=np.sum([part.predicted_counts for part in parts], axis=0).tolist(),
        label_counts=np.bincount(task.train.labels[rows], minlength=len(task.class_names)).tolist(),
    )


@dataclass(frozen=True)
class PartResult:
    """What a share of a batch gave: the sum of its weighted losses, and predictions per class."""

    loss: float
    predicted_counts: np.ndarray


def accumulate_gradients(
    task: TrainingTask,
    accelerator: Accelerator,
    model: nn.Module,
    rows: np.ndarray,
    weights: torch.Tensor | None,
    batch_weight: float,
) -> PartResult:
    """Forward and backward over `rows`, in passes within the token budget; gradients add up in the model's."""
    loss_sum, predicted = 0.0, np.zeros(len(task.class_names), dtype=np.int64)
    for part in micro_batches(rows, task.train.lengths, task.plan.training_tokens):
        batch = task.train.collate(part)
        inputs = {name: tensor.to(accelerator.device) for name, tensor in batch.inputs.items()}
        with accelerator.autocast():
            logits = task.forward(model, inputs)
        labels = batch.labels.to(accelerator.device)
        loss = summed_cross_entropy(logits, labels, weights, task.settings.label_smoothing)
        accelerator.backward(loss / batch_weight)
        loss_sum += float(loss.detach())
        predicted += np.bincount(logits.detach().argmax(dim=1).cpu().numpy(), minlength=len(predicted))
    return PartResult(loss_sum, predicted)


def validation_steps(task: TrainingTask) -> set[int]:
    """The optimizer steps after which the model is validated: evenly spaced, the last step always among them."""
    interval = max(1, round(task.settings.evaluate_every * task.steps_per_epoch))
    # What is left of an epoch after its last interval is not worth a validation of its own.
    within_epoch = {*range(interval, task.steps_per_epoch - interval + 1, interval), task.steps_per_epoch}
    return {epoch * task.steps_per_epoch + step for epoch in range(task.settings.epochs) for step in within_epoch}


def _resumed_state(task: TrainingTask, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> TrainState:
    state = restore(checkpoint, task.model, optimizer)
    swap_averages(optimizer)  # They lie in the checkpoint as the model's weights.
    return state


def _fresh_state(task: TrainingTask) -> TrainState:
    torch.manual_seed(task.seed)
    return TrainState()


def _require_possible(task: TrainingTask, state: TrainState) -> None:
    """Refuse a place that this task never comes by: it would be left at another step, or never."""
    if state.step != state.epoch * task.steps_per_epoch + state.position or state.step > task.total_steps:
        raise TenorError(
            f"the checkpoint stands at epoch {state.epoch}, batch {state.position}, step {state.step:,}, but an epoch "
            f"has {task.steps_per_epoch:,} batches now: data or training.batch_size changed; start a new run"
        )


def _validate(task: TrainingTask, state: TrainState, listeners: Listeners) -> None:
    """Measure, remember, and decide whether training is over."""
    logits = predict(task.model, task.validation, task.plan, task.forward)
    if wrong := np.count_nonzero(~np.isfinite(logits).all(axis=1)):
        raise TenorError(
            f"the logits of {wrong:,} of {len(logits):,} validation rows are no finite numbers after step "
            f"{state.step:,}: training can't go on. {STEADIER}"
        )
    metrics = measure(task.validation.labels, softmax(logits), task.class_names)
    epoch = state.step / task.steps_per_epoch
    confusion = np.asarray(metrics.confusion).tolist()
    validation = Validation(state.step, epoch, metrics.accuracy, metrics.macro_f1, metrics.loss, confusion)
    state.add_validation(validation, task.settings.select_by)
    patience = task.settings.patience
    out_of_patience = patience is not None and state.stale_validations >= patience
    state.finished = out_of_patience or state.step == task.total_steps
    listeners.on_validation(validation, metrics)


def _record(task: TrainingTask, state: TrainState, factor: float, listeners: Listeners) -> None:
    """Tell what the steps since the last record held, where that is due: no step of a run goes unrecorded."""
    settings, window = task.settings, state.window
    is_last = state.finished or state.step == task.total_steps
    if not window.tokens or not (is_last or _is_due(state.step, settings.log_every)):
        return
    head_rate = settings.learning_rate if settings.head_learning_rate is None else settings.head_learning_rate
    listeners.on_record(
        state.step,
        {
            "loss": window.mean_loss,
            "learning_rate": settings.learning_rate * factor,
            "head_learning_rate": head_rate * factor,
            "grad_norm": window.grad_norm,
            "tokens_per_second": window.tokens_per_second,
        },
        window,
    )
    state.window = Window()


def _is_due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


def _drop_old_checkpoints(task: TrainingTask, state: TrainState) -> None:
    """Keep the newest ones, and the best up to each of them: who goes back to one needs it at the end of the run."""
    steps = [step for path in list_checkpoints(task.checkpoints) if (step := step_of(path)) is not None]
    newest = steps[-task.settings.keep_last :]
    best = [state.best_at(step, task.settings.select_by) for step in newest]
    kept = {*newest, *(validation.step for validation in best if validation is not None)}
    for path in list_checkpoints(task.checkpoints):
        if step_of(path) not in kept:
            discard_folder(path)


def _drop_checkpoints_after(folder: Path, step: int) -> None:
    """Remove what an abandoned future left, such as a damaged checkpoint: it would pass for newer than what follows."""
    for path in list_checkpoints(folder):
        if (step_of(path) or 0) > step:
            discard_folder(path)
