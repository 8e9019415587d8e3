"""The training loop: batches in, checkpoints out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from tenor.data.batching import epoch_batches
from tenor.errors import InterruptedRunError, TenorError
from tenor.model.freezing import set_training_mode
from tenor.model.memory import freed_memory_kept
from tenor.model.optimizer import make_optimizer, rate_factor, set_rates
from tenor.runs.files import discard_folder
from tenor.training.checkpoint import (
    Checkpoint,
    StepResult,
    TrainState,
    Validation,
    Window,
    checkpoint_path,
    list_checkpoints,
    restore,
    save_checkpoint,
    step_of,
)
from tenor.training.ema import averages_in_place, swap_averages, update_averages
from tenor.training.gradients import StepBatch, gradients_of, step_batch
from tenor.training.processes import LostProcessError
from tenor.training.signals import stop_requests
from tenor.training.spread import Spread, spread_for
from tenor.training.task import TrainingTask, validation_steps
from tenor.training.together import predict_in_shares, start_together

STABILITY_ADVICE = (
    "Lower training.learning_rate or training.head_learning_rate, or use training.precision=fp32, and start a new run"
)


@dataclass(frozen=True)
class EpochRows:
    """The rows of an epoch that went through the model, as the passes themselves noted them."""

    epoch: int
    first_batch: int
    """The batch with which this process began the epoch; above 0 where it was resumed within the epoch."""
    by_rank: tuple[np.ndarray, ...]
    """Row indices in the order of the passes, of each process."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that the loop calls. None of them changes the training; an exception from one ends it.

    Of several processes, only the main one needs any."""

    on_start: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None
    on_record: Callable[[int, dict[str, float], Window], None] = lambda step, values, window: None
    """Every `log_every` steps and at the end: the values of the steps since the last record (loss, learning rate,
    gradient norm, speed), and the sums that they are computed from."""
    on_step: Callable[[TrainState], None] = lambda state: None
    on_validation: Callable[[Validation], None] = lambda validation: None
    on_epoch: Callable[[EpochRows], None] = lambda rows: None
    """After the last step of an epoch, before its validation."""


def fit(
    task: TrainingTask,
    accelerator: Accelerator,
    resume_from: Checkpoint | None = None,
    callbacks: Callbacks | None = None,
) -> TrainState:
    """Train from the start or from a checkpoint, until the epochs are done or patience is exhausted.

    Several processes call it with the same task. Only the main one reads and writes checkpoints; weights and position
    are copied from it.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM was received, by any process; a checkpoint was written.
        TenorError: loss or validation logits are not finite, memory ran out, a checkpoint could not be written, or
            another process ended (`LostProcessError` if it left no message; a checkpoint was written).
    """
    callbacks = callbacks or Callbacks()
    settings = task.settings
    # The model itself is not prepared: Accelerate would put autocast into its `forward`, and validation and evaluation
    # would compute in 16 bits too.
    model = task.model.to(accelerator.device)
    optimizer = make_optimizer(model, settings)
    prepared_optimizer = accelerator.prepare(optimizer)
    state = _resumed_state(task, accelerator, optimizer, resume_from) if resume_from else _fresh_state(task)
    state = start_together(task.processes, model, optimizer, state)
    if accelerator.scaler is not None and state.loss_scale:
        accelerator.scaler.load_state_dict(state.loss_scale)
    if task.processes.is_main:
        _drop_checkpoints_after(task.checkpoints, state.step)
        _drop_old_checkpoints(task, state)  # A killed process may not have done so.
    set_training_mode(model, task.parameters)
    validate_after = validation_steps(task)
    epoch_rows = _EpochRecord(task, state, callbacks)
    callbacks.on_start(optimizer)
    started = time.perf_counter() - state.seconds  # A resumed training counts the time before.

    with (
        stop_requests(alone=task.processes.count == 1) as stop,
        freed_memory_kept() as bound_free_memory,
        spread_for(task, gradients_of(task, accelerator.backward, accelerator.device), stop) as spread,
    ):
        for rows in _remaining_batches(task, state):
            factor = rate_factor(state.step, task.total_steps, settings)
            set_rates(optimizer, factor)
            batch = step_batch(task, state.step, rows)
            try:
                result = optimizer_step(task, accelerator, spread, prepared_optimizer, batch)
            except LostProcessError:
                if state.step and not checkpoint_path(task.checkpoints, state.step).exists():
                    _save(task, accelerator, spread, optimizer, state)  # The last step that all have done.
                raise
            state.add_step(result, task.steps_per_epoch)
            epoch_rows.add(result.rows)
            if settings.ema_decay is not None:
                update_averages(optimizer, settings.ema_decay, state.step)
            _record(task, state, factor, callbacks)
            bound_free_memory()

            if state.step in validate_after:
                with averages_in_place(optimizer):
                    _validate(task, spread, state, callbacks)
                _record(task, state, factor, callbacks)  # Patience may have ended training.
            # Read once: a signal after this line is answered after the next step, with a checkpoint.
            stopped_by = stop.signal_name
            state.seconds = time.perf_counter() - started
            if state.step in validate_after or stopped_by or _is_due(state.step, settings.checkpoint_every):
                _save(task, accelerator, spread, optimizer, state)
            callbacks.on_step(state)
            if stopped_by:
                raise _interrupted(stopped_by, state)
    # It arrived after `stopped_by` was read for the last time.
    if late := next((name for name in task.processes.gather(stop.signal_name or stop.received) if name), ""):
        raise _interrupted(late, state)
    return state


class _EpochRecord:
    """Gathers the rows of the steps of an epoch, and reports them after its last step."""

    def __init__(self, task: TrainingTask, state: TrainState, callbacks: Callbacks) -> None:
        self._task, self._state, self._callbacks = task, state, callbacks
        self._rows: list[np.ndarray] = []
        self._first_batch = state.position

    def add(self, rows: np.ndarray) -> None:
        """The rows of the step that the state has just counted."""
        self._rows.append(rows)
        if self._state.position == 0:
            by_rank = self._task.processes.gather_arrays(np.concatenate(self._rows))
            self._callbacks.on_epoch(EpochRows(self._state.epoch - 1, self._first_batch, tuple(by_rank)))
            self._rows, self._first_batch = [], 0


def _remaining_batches(task: TrainingTask, state: TrainState) -> Iterator[np.ndarray]:
    """The rows of each step, from the state's position until training is finished."""
    while not state.finished:
        batches = epoch_batches(task.train.lengths, task.settings.batch_size, task.seed, state.epoch)
        for rows in batches[state.position :]:
            yield rows
            if state.finished:
                return


def optimizer_step(
    task: TrainingTask,
    accelerator: Accelerator,
    spread: Spread,
    optimizer: torch.optim.Optimizer,
    batch: StepBatch,
) -> StepResult:
    """Update the weights once, with the gradient of the batch's mean loss."""
    started = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    sums = spread.run(batch)
    if not np.isfinite(sums.loss):
        raise TenorError(f"the loss of a batch is {sums.loss}, expected a finite number. {STABILITY_ADVICE}")
    trainable = [parameter for parameter in spread.model.parameters() if parameter.requires_grad]
    grad_norm = float(accelerator.clip_grad_norm_(trainable, task.settings.max_grad_norm or float("inf")))
    # With fp16 the scaler skips such a step and lowers the loss scale.
    if not np.isfinite(grad_norm) and accelerator.scaler is None:
        raise TenorError(f"the gradient norm of a batch is {grad_norm}, expected a finite number. {STABILITY_ADVICE}")
    optimizer.step()
    return StepResult(
        loss=sums.loss,
        weight=batch.weight,
        grad_norm=grad_norm,
        tokens=int(batch.lengths.sum()),
        seconds=time.perf_counter() - started,
        predicted_counts=sums.predicted_counts.tolist(),
        label_counts=task.objective.label_counts(task.train.labels[batch.rows]).tolist(),
        rows=sums.rows,
    )


def _validate(task: TrainingTask, spread: Spread, state: TrainState, callbacks: Callbacks) -> None:
    """Measure the model on the validation rows, and decide whether training is finished."""
    forward = task.validation_forward or task.forward
    logits = predict_in_shares(task.processes, spread.model, task.validation, task.plan, forward)
    if count := np.count_nonzero(~np.isfinite(logits).all(axis=1)):
        raise TenorError(
            f"after step {state.step:,}, {count:,} of {len(logits):,} validation rows have logits that are not finite. "
            f"{STABILITY_ADVICE}"
        )
    metrics, confusion = task.objective.validation_metrics(task.validation.labels, logits)
    validation = Validation(state.step, state.step / task.steps_per_epoch, metrics, confusion)
    state.add_validation(validation, task.objective)
    patience = task.settings.patience
    out_of_patience = patience is not None and state.stale_validations >= patience
    state.finished = out_of_patience or state.step == task.total_steps
    callbacks.on_validation(validation)


def _record(task: TrainingTask, state: TrainState, factor: float, callbacks: Callbacks) -> None:
    """Report the steps since the last record, if one is due; every step of a run is in exactly one record."""
    settings, window = task.settings, state.window
    is_last = state.finished or state.step == task.total_steps
    if not window.tokens or not (is_last or _is_due(state.step, settings.log_every)):
        return
    head_rate = settings.learning_rate if settings.head_learning_rate is None else settings.head_learning_rate
    callbacks.on_record(
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


def _save(
    task: TrainingTask,
    accelerator: Accelerator,
    spread: Spread,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
) -> None:
    if not task.processes.is_main:
        return
    if accelerator.scaler is not None:
        state.loss_scale = accelerator.scaler.state_dict()
    with averages_in_place(optimizer):  # A checkpoint contains the weights that were validated.
        save_checkpoint(task.checkpoints, spread.model, optimizer, state)
    _drop_old_checkpoints(task, state)


def _interrupted(signal_name: str, state: TrainState) -> InterruptedRunError:
    return InterruptedRunError(f"{signal_name} after step {state.step:,}, which was checkpointed")


def _fresh_state(task: TrainingTask) -> TrainState:
    torch.manual_seed(task.seed)
    return TrainState()


def _resumed_state(
    task: TrainingTask, accelerator: Accelerator, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint
) -> TrainState:
    state = restore(checkpoint, task.model, optimizer)
    swap_averages(optimizer)  # The checkpoint contains them as the model's weights.
    _require_same_batches(task, state)
    return state


def _require_same_batches(task: TrainingTask, state: TrainState) -> None:
    """Refuse a position that this task never reaches; training would end at another step, or never."""
    if state.step != state.epoch * task.steps_per_epoch + state.position or state.step > task.total_steps:
        raise TenorError(
            f"the checkpoint is at epoch {state.epoch}, batch {state.position}, step {state.step:,}, but an epoch now "
            f"has {task.steps_per_epoch:,} batches: data or training.batch_size changed; start a new run"
        )


def _drop_old_checkpoints(task: TrainingTask, state: TrainState) -> None:
    """Keep the newest checkpoints, and for each of them the best up to it.

    A run that goes back to an earlier checkpoint, because the newest is damaged, needs the best one up to there.
    """
    steps = [step for path in list_checkpoints(task.checkpoints) if (step := step_of(path)) is not None]
    newest = steps[-task.settings.keep_last :]
    best = [state.best_at(step, task.objective) for step in newest]
    kept = {*newest, *(validation.step for validation in best if validation is not None)}
    for path in list_checkpoints(task.checkpoints):
        if step_of(path) not in kept:
            discard_folder(path)


def _drop_checkpoints_after(folder: Path, step: int) -> None:
    """Remove later checkpoints, such as a damaged one: they would count as newer than those that now follow."""
    for path in list_checkpoints(folder):
        if (step_of(path) or 0) > step:
            discard_folder(path)
