"""What a program does between its optimizer steps: what it clears, clips, calls, replaces, and in which mode it is."""

import hashlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.watch.first_step import total_steps
from tenor.watch.heard_rows import token_ids

if TYPE_CHECKING:
    from tenor.checks.evidence.training_evidence import LoopEvidence
    from tenor.watch.evaluations import SeenEvaluation
    from tenor.watch.first_step import FirstStep
    from tenor.watch.observer import Call, Observer, Step

SAMPLE = 64
"""Numbers of one matrix that show whether the weights changed."""
FIRST_BATCHES = 4
"""Batches at the start of an epoch that show its order."""
SAME_LOSS = 1e-3
"""Relative difference between a mean over rows and a mean over batches."""


@dataclass(eq=False)
class Plateau:
    """The calls of one `ReduceLROnPlateau`."""

    optimizer: int
    """Its id."""
    mode: str
    values: list[float] = field(default_factory=list)
    after: list["SeenEvaluation | None"] = field(default_factory=list)
    """The evaluation before each call."""


class LoopOrder:
    """The order of the calls around the steps of one optimizer."""

    def __init__(self, observer: "Observer", first: "FirstStep") -> None:
        self._observer, self._optimizer = observer, id(first.optimizer)
        loader = first.call.loader
        self._loader = weakref.ref(loader) if loader is not None else None
        self._is_shuffled = _is_shuffled(loader)
        self._schedule = _Schedule(first.scheduler)
        self._dropouts: dict[str, nn.Module | None] = _dropouts(first.model)
        self._sample = _sample(first.model)
        self._after_step: torch.Tensor | None = None
        self._waiting: list[bytes] = []
        """Inputs of the backward passes whose gradients were cleared since the last step."""
        self._epochs: dict[int, list[bytes]] = {}
        """Number of the epoch → the inputs of its first batches."""
        self._rows = _FirstEpoch(getattr(loader, "num_workers", None))
        self.steps = self.passes = self.discarded = 0
        self.without_gradient = self.skipped = self.at_rate_zero = 0
        self.has_ended = False
        self.clips = self.clips_after_step = self.clips_scaled = 0
        self.without_dropout = 0
        self.first_without_dropout: int | None = None
        self.layers_without_dropout: tuple[str, ...] = ()
        self.evaluations = self.loads_of_itself = 0
        self.replaced_at: list[int] = []
        self._evaluated = observer.evaluations.begun

    def before_step(self) -> None:
        """Compare the weights with those after the last step, if there was an evaluation since."""
        seen = self._observer.evaluations.begun
        if self._after_step is not None and seen > self._evaluated and self._sample is not None:
            self.evaluations += 1
            if not torch.equal(_numbers(self._sample), self._after_step):
                self.replaced_at.append(self.steps)
        self._evaluated = seen

    def on_cleared(self, step: "Step") -> None:
        """Gradients that no step has used."""
        self.passes += len(step.backward)
        self._note_order(step.calls)
        self._waiting += [_inputs(call) for call in step.calls[-len(step.backward) :]]

    def on_step_without_gradient(self) -> None:
        """The optimizer steps, and nothing went backward since the gradients were cleared."""
        if self._waiting:
            self.without_gradient += 1
            self.discarded += len(self._waiting)
            self._waiting = []

    def on_skipped(self, step: "Step") -> None:
        """Loss scaling has skipped a step."""
        self.skipped += 1
        self.passes += len(step.backward)
        self._note_order(step.calls)

    def on_scheduled(self, scheduler: Any) -> None:
        """A scheduler was called."""
        self._schedule.on_called(scheduler)

    def on_step(self, step: "Step", rate: float) -> None:
        """One step of the optimizer, at a learning rate."""
        self.steps += 1
        self.at_rate_zero = self.at_rate_zero + 1 if rate <= 0 else 0
        self.passes += len(step.backward)
        if self._waiting:
            used = {_inputs(call) for call in step.calls}
            self.discarded += sum(inputs not in used for inputs in self._waiting)
            self._waiting = []
        self.clips += step.clips
        self.clips_after_step += step.clips_after_step
        self.clips_scaled += step.clips_scaled
        self._note_order(step.calls)
        off = [name for name, layer in self._dropouts.items() if layer is not None and not layer.training]
        if off:
            self.without_dropout += 1
            self.first_without_dropout = self.first_without_dropout or self.steps
            self.layers_without_dropout = tuple(off)
        if self._sample is not None:
            self._after_step = _numbers(self._sample).clone()

    def _note_order(self, calls: Iterable["Call"]) -> None:
        epoch = self._observer.passes_over(self._loader_now())
        first = self._epochs.setdefault(epoch, [])
        self._rows.add(epoch, calls)
        for call in calls:
            if len(first) < FIRST_BATCHES:
                first.append(_inputs(call))

    def _loader_now(self) -> Any:
        return self._loader() if self._loader is not None else None

    def evidence(self) -> "LoopEvidence":
        from tenor.checks.evidence.training_evidence import LoopEvidence

        plateau = self._plateau()
        epochs = [rows for rows in self._epochs.values() if len(rows) == FIRST_BATCHES and all(rows)]
        return LoopEvidence(
            steps=self.steps,
            passes=self.passes,
            passes_discarded=self.discarded,
            clips=self.clips,
            clips_after_step=self.clips_after_step,
            clips_scaled=self.clips_scaled,
            schedule_calls=self._schedule.calls(),
            schedule_total=self._schedule.total,
            schedule_rise=self._schedule.rise,
            steps_at_rate_zero=self.at_rate_zero,
            has_ended=self.has_ended,
            steps_without_gradient=self.without_gradient,
            steps_skipped=self.skipped,
            epochs=len(epochs) or None,
            plateau_mode=plateau.mode if plateau is not None else "",
            plateau_measures=_measured(plateau) if plateau is not None else None,
            plateau_values=tuple(plateau.values) if plateau is not None else (),
            steps_without_dropout=self.without_dropout if self._dropouts else None,
            first_without_dropout=self.first_without_dropout,
            without_dropout=self.layers_without_dropout,
            evaluations=self.evaluations,
            weights_replaced_at=tuple(self.replaced_at),
            loads_of_itself=self.loads_of_itself,
            epochs_in_same_order=sum(rows == epochs[0] for rows in epochs) if len(epochs) > 1 else None,
            is_shuffled=self._is_shuffled,
            workers=self._rows.workers,
            rows_in_epoch=self._rows.count if self._rows.is_complete else None,
            different_rows=len(self._rows.different) if self._rows.is_complete else None,
        )

    def _plateau(self) -> Plateau | None:
        return next((one for one in self._observer.plateaus if one.optimizer == self._optimizer), None)

    def end(self, has_ended: bool) -> None:
        """Let go of the model; the evidence stays. `has_ended`: whether the training came to its own end."""
        self.has_ended = has_ended
        self._schedule.calls()
        self._sample = self._after_step = None
        self._dropouts = dict.fromkeys(self._dropouts)


class _FirstEpoch:
    """The rows of the first pass over a loader with several workers, whose rows may come once from each."""

    def __init__(self, workers: int | None) -> None:
        self.workers = workers
        self.count = 0
        self.different: set[bytes] = set()
        self.is_complete = False
        self._epoch: int | None = None

    def add(self, epoch: int, calls: Iterable["Call"]) -> None:
        """The calls of one step in the pass with number `epoch`."""
        if self.is_complete or not self.workers or self.workers < 2:
            return
        self._epoch = epoch if self._epoch is None else self._epoch
        if epoch != self._epoch:
            self.is_complete = self.count > 0
            return
        for call in calls:
            ids = token_ids(call.args, call.kwargs)
            for row in ids.cpu().numpy() if ids is not None else ():
                self.count += 1
                self.different.add(_digest(np.trim_zeros(row)))


class _Schedule:
    """How often a scheduler is called, by its own count. (`_step_count` is also raised by Accelerate when it skips a
    call.)"""

    def __init__(self, scheduler: Any) -> None:
        counts = isinstance(getattr(scheduler, "last_epoch", None), int)
        self._scheduler = weakref.ref(scheduler) if counts and not _has_several_processes() else None
        self._before = scheduler.last_epoch if counts else 0
        self._calls: int | None = None
        self._optimizer = weakref.ref(scheduler.optimizer) if counts else None
        self._heard = self._heard_of_others = 0
        """Calls of this scheduler, and of others of the same optimizer, as PyTorch's own method hears them."""
        self.total = total_steps(scheduler)
        self.rise = _rise(scheduler, self.total) if counts else None

    def on_called(self, scheduler: Any) -> None:
        if self._scheduler is not None and self._scheduler() is scheduler:
            self._heard += 1
        elif self._optimizer is not None and self._optimizer() is getattr(scheduler, "optimizer", None):
            self._heard_of_others += 1

    def calls(self) -> int | None:
        """Its calls since the first step; the last count that was seen if it exists no more."""
        scheduler = self._scheduler() if self._scheduler is not None else None
        if scheduler is not None:
            self._calls = scheduler.last_epoch - self._before
        known = None if self._calls is None else max(self._calls, self._heard)
        return None if known == 0 and self._heard_of_others else known


LOOKED_AHEAD = 1000
"""Calls of a scheduler over which its largest rate is searched, if it does not say for how many it was made."""


def _rise(scheduler: Any, total: int | None) -> float | None:
    """The largest of the scheduler's next rates over the present one; None if all are equal, or cannot be known. Only
    the calls of PyTorch's own method are heard."""
    from tenor.checks.finding import CannotTell
    from tenor.checks.gather.model import planned_rates

    if type(scheduler).step is not torch.optim.lr_scheduler.LRScheduler.step:
        return None
    try:
        rates = planned_rates(scheduler, total or LOOKED_AHEAD)
    except CannotTell:
        return None
    if np.ptp(rates) <= 1e-9 * np.abs(rates).max():
        return None
    return float(rates.max() / rates[0]) if rates[0] > 0 else float("inf")


def _has_several_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _dropouts(model: nn.Module) -> dict[str, nn.Module | None]:
    """Name → layer, of the dropout layers with trainable parameters next to them."""
    modules = dict(model.named_modules())
    return {
        name: layer
        for name, layer in modules.items()
        if isinstance(layer, nn.modules.dropout._DropoutNd)
        and layer.p > 0
        and any(p.requires_grad for p in modules[name.rpartition(".")[0]].parameters())
    }


def _sample(model: nn.Module) -> torch.Tensor | None:
    """The last trainable matrix, which is most often that of the head."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2]
    return matrices[-1] if matrices else None


def _numbers(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.detach().reshape(-1)[:SAMPLE]


def _inputs(call: "Call") -> bytes:
    """A digest of the first tensor that a model was called with, which are its token ids in most programs."""
    from tenor.watch.observer import tensors_in

    ids = token_ids(call.args, call.kwargs)
    first = ids if ids is not None else next(iter(tensors_in([*call.args, call.kwargs])), None)
    if first is None:
        return b""
    return _digest(first.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _digest(values: np.ndarray) -> bytes:
    return hashlib.blake2b(values.tobytes(), digest_size=16).digest()


def _is_shuffled(loader: Any) -> bool | None:
    """Whether one of the loader's samplers draws rows in a random order; None: there is none."""
    from torch.utils.data import RandomSampler
    from torch.utils.data.distributed import DistributedSampler

    from tenor.checks.gather.batches import samplers_of

    samplers = samplers_of(loader)
    if not samplers:
        return None
    return any(
        isinstance(one, RandomSampler) or (isinstance(one, DistributedSampler) and one.shuffle) for one in samplers
    )


def _measured(plateau: Plateau) -> Literal["accuracy", "loss"] | None:
    """What the values are that a `ReduceLROnPlateau` was given, if they are equal to those of the evaluations."""
    from tenor.watch.evaluations import accuracy_of, loss_of_split, reported

    pairs = [
        (value, split)
        for value, evaluation in zip(plateau.values, plateau.after, strict=True)
        if evaluation is not None and (split := reported(evaluation)) is not None
    ]
    if len(pairs) < len(plateau.values) or not pairs:
        return None
    for unit in (1, 100):  # Many programs count in percent.
        if all(np.isclose(value / unit, accuracy_of(split), atol=1e-4) for value, split in pairs):
            return "accuracy"
    losses = [loss_of_split(split) for _, split in pairs]
    if all(
        loss is not None and np.isclose(value, loss, rtol=SAME_LOSS)
        for (value, _), loss in zip(pairs, losses, strict=True)
    ):
        return "loss"
    return None
