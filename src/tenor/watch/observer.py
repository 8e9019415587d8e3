"""Puts together what the hooks see: which call, loss, batch and optimizer belong to one training step.

A step is all calls of models between two calls of `optimizer.step()`. The first step of each optimizer begins its
`WatchedTraining`; calls without gradients are evaluations.
"""

import sys
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tenor.checks.labels_and_logits import logits_of
from tenor.checks.one_output import OutputKind, scores_in, two_logits
from tenor.watch.evaluations import Evaluations
from tenor.watch.heard_rows import HeardTexts
from tenor.watch.loading_hooks import unmatched_report
from tenor.watch.loop_order import Plateau
from tenor.watch.metric_objects import MetricObjects
from tenor.watch.one_output_steps import class_labels
from tenor.watch.session import Session
from tenor.watch.settings import WatchSettings
from tenor.watch.training import WatchedTraining, begin_training
from tenor.watch.weak_list import WeakList

if TYPE_CHECKING:
    from tenor.runs.findings import Report

MOST_CALLS = 256
"""Calls of one step that are kept: one is enough, the others only count the passes."""
RECENT = 4
"""Batches among which that of a call is looked for."""
MOST_DRAWN = 4096
"""Batches of one iterator that may be drawn ahead of the program."""
MOST_TRAININGS = 16
"""Optimizers of one process that are watched; a search over settings makes hundreds."""


@dataclass
class Call:
    """One call of a model with gradients."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    logits: torch.Tensor | None
    """Detached, shape (rows, K); None for outputs of another kind."""
    labels: torch.Tensor | None = None
    """Of the loss that was computed from this call."""
    loader: Any = None
    """The loader of the last batch before the call; None where no batch came from a loader."""
    batch: Any = None
    rows: Any = None
    """The row numbers of the batch, as the sampler drew them."""
    is_from_batch: bool = False
    """Whether the inputs are those of the batch."""
    autocast: torch.dtype | None = None
    scores: torch.Tensor | None = None
    """The output of a model with one number per row, detached, shape (rows,) or (rows, 1)."""


@dataclass
class Loss:
    """A loss function as it was called."""

    name: str
    function: Any
    """Takes logits and labels; None if its arguments cannot be repeated."""
    logits: torch.Tensor
    labels: torch.Tensor
    value: torch.Tensor | None = None
    """Its result, if that is one number."""
    function_name: str = ""
    """The function of PyTorch that computes it."""


@dataclass
class Step:
    """What was seen since the last optimizer step."""

    calls: list[Call] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    backward: list[torch.Tensor] = field(default_factory=list)
    """The values on which `backward` was called."""
    grad_norm: Any = None
    clip_at: float | None = None
    clips: int = 0
    clips_after_step: int = 0
    """Calls of clipping before any backward pass."""
    clips_scaled: int = 0
    """Calls of clipping on gradients that are multiplied by a loss scale."""
    is_scaled: bool = False
    """Whether a loss scale multiplies the gradients."""
    has_failed: bool = False
    """Whether the program ended with an exception before this step was taken."""
    taken_by: list[Any] = field(default_factory=list)
    """The optimizers that have used its gradients: a program may have one for the encoder and one for the head."""


class Observer:
    """Receives what the hooks of one process see."""

    def __init__(self) -> None:
        self.optimizers, self.loaders, self.schedulers, self.tokenizers = (WeakList() for _ in range(4))
        self.loading: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        """Model → what `from_pretrained` reported about its weights."""
        self._unmatched: list[tuple[weakref.ref[nn.Module], Report]] = []
        """Models, and what follows from a state of which no tensor was loaded into them."""
        self.one_output: weakref.WeakKeyDictionary[Any, OutputKind] = weakref.WeakKeyDictionary()
        """Models for two classes with one output per row → what that is."""
        self.texts = HeardTexts()
        self.metric_objects = MetricObjects()
        self.scales_loss = False
        self.step = Step()
        self._taken: Step | None = None
        """The step that an optimizer has just taken, until the next call of a model."""
        self.trainings: list[WatchedTraining] = []
        self.left_out = WeakList()
        """Optimizers beyond the first `MOST_TRAININGS`, those that still exist."""
        self.owned_by_others = WeakList()
        """Optimizers of `transformers.Trainer`, which its callback watches."""
        self.trainers: list[Any] = []
        """The callbacks of these trainers."""
        self.plateaus: list[Plateau] = []
        self.is_watching = False
        self._is_stepping = False
        """Whether an optimizer step is under way, which may go backward itself."""
        self._passes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        """Loader → how often it was iterated over."""
        self._iterators: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._drawn: weakref.WeakKeyDictionary[Any, deque[Any]] = weakref.WeakKeyDictionary()
        """Iterator → the row numbers of its batches that the program has not been given yet."""
        self._recent: deque[tuple[Any, Any, Any]] = deque(maxlen=RECENT)
        """Loader, batch and its row numbers, of the last batches."""

    def begin(self, settings: WatchSettings) -> None:
        self.session = Session(settings)
        self.evaluations = Evaluations(self)
        self.is_watching = True

    @property
    def has_seen_anything(self) -> bool:
        """Whether this process trained or evaluated."""
        return bool(self.trainings or self.trainers or self.evaluations.all or self.step.backward or self.step.calls)

    def after_failure(self) -> None:
        """The program ended with an exception: check the first step of a training that never got that far."""
        optimizer = next(reversed(list(self.optimizers)), None)
        if self.step.calls and not self.trainings and not self.trainers and optimizer is not None:
            self.step.has_failed = True
            self._training_of(optimizer)

    def loading_reports(self) -> "list[Report]":
        """Of the models whose last `load_state_dict` loaded nothing."""
        return [report for _, report in self._unmatched]

    def is_foreign(self, optimizer: Any) -> bool:
        """Whether another part watches this optimizer."""
        return any(one is optimizer for one in self.owned_by_others)

    # Loaders

    def on_iterate(self, iterator: Any, loader: Any) -> None:
        self._iterators[iterator] = weakref.ref(loader)
        self._passes[loader] = self._passes.get(loader, 0) + 1

    def on_rows_drawn(self, iterator: Any, rows: Any) -> None:
        """The sampler has drawn the rows of a further batch; batches come in the order in which they were drawn."""
        self._drawn.setdefault(iterator, deque(maxlen=MOST_DRAWN)).append(rows)

    def before_restart(self, iterator: Any) -> None:
        """An iterator begins anew: the program may have left its epoch early."""
        self._drawn.pop(iterator, None)

    def passes_over(self, loader: Any) -> int:
        """How often a loader was iterated over."""
        return self._passes.get(loader, 0) if loader is not None else 0

    def on_batch(self, iterator: Any, batch: Any) -> None:
        loader = self._iterators.get(iterator)
        # Copied, since programs take the labels out of a batch before they call the model.
        kept = dict(batch) if isinstance(batch, Mapping) else batch
        drawn = self._drawn.get(iterator)
        rows = drawn.popleft() if drawn else None
        self._recent.append((loader() if loader is not None else None, kept, rows))

    def _batch_of(self, args: Any, kwargs: Any) -> tuple[Any, Any, Any, bool]:
        """Loader, batch and row numbers of a call, and whether its inputs are tensors of that batch. Loaders may be
        ahead of the program: Accelerate's reads the next batch first, to know which is the last."""
        inputs = tensors_in([*args, kwargs])
        for is_match in (is_same_memory, is_same_tokens):
            for loader, batch, rows in reversed(self._recent):
                if any(is_match(one, other) for one in tensors_in([batch]) for other in inputs):
                    return loader, batch, rows, True
        if not self._recent or "accelerate.data_loader" in sys.modules:
            return (self._recent[-1][0] if self._recent else None), None, None, False
        return *self._recent[-1], False

    # Models

    def on_call(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        logits = logits_in(output)
        if not torch.is_grad_enabled():
            loader, batch, _, _ = self._batch_of(args, kwargs)
            kind = self.one_output.get(module)
            scores = scores_in(output) if kind is not None else None
            if kind is not None and scores is not None:
                logits = two_logits(scores, kind)
            self.evaluations.on_call(module, args, kwargs, logits, loader, batch)
            return
        if next(module.parameters(), None) is None:
            self._on_loss_module(module, args, output)
            return
        self._taken = None
        if len(self.step.calls) < MOST_CALLS:
            scores = scores_in(output)
            call = Call(module, args, kwargs, None if logits is None else logits.detach())
            call.scores = None if scores is None else scores.detach()
            call.loader, call.batch, call.rows, call.is_from_batch = self._batch_of(args, kwargs)
            call.autocast = _autocast()
            self._label(call, kwargs.get("labels"))
            self.step.calls.append(call)

    def on_failed_call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A call that raised: if that ends the program, its inputs are all that is known."""
        if torch.is_grad_enabled() and next(module.parameters(), None) is not None:
            call = Call(module, args, kwargs, None)
            call.loader, call.batch, call.rows, call.is_from_batch = self._batch_of(args, kwargs)
            self.step.calls.append(call)

    def on_load(self, module: nn.Module, result: Any, state: Mapping[str, Any], assign: bool) -> None:
        """What `load_state_dict(strict=False)` did not find, and did not use; whether the state is the module's own."""
        if self.trainings and not assign and _is_own_state(module, state):
            self.trainings[-1].on_load_of_itself()
        self._unmatched = [pair for pair in self._unmatched if pair[0]() is not module]
        if state and len(getattr(result, "unexpected_keys", ())) == len(state):
            report = unmatched_report(module, result, self.session.settings.allow)
            self._unmatched.append((weakref.ref(module), report))
        if getattr(result, "missing_keys", None) or getattr(result, "unexpected_keys", None):
            self.loading[module] = (tuple(result.missing_keys), tuple(result.unexpected_keys))

    def _on_loss_module(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module without parameters that was called with logits and labels is the program's own loss. A function that
        it called with the same logits was heard before, and is not another loss. A metric is called in the same way,
        but has no gradient, or accumulates what it is given."""
        if not _has_gradient(output) or is_accumulating(module):
            return
        if len(args) != 2 or not all(isinstance(arg, torch.Tensor) for arg in args) or not args[0].requires_grad:
            return
        losses, name = self.step.losses, ""
        if losses and losses[-1].logits.data_ptr() == args[0].data_ptr():
            name = losses.pop().function_name
        losses.append(Loss(type(module).__name__, module, args[0].detach(), args[1], _one_number(output), name))

    def on_loss(self, name: str, function: Any, logits: torch.Tensor, labels: torch.Tensor, value: Any) -> None:
        if not torch.is_grad_enabled():
            self.evaluations.on_loss(logits, labels)
        elif logits.requires_grad:
            loss = Loss(name, function, logits.detach(), labels, _one_number(value), name)
            self.step.losses.append(loss)
            self._label(self.step.calls[-1] if self.step.calls else None, class_labels(loss))

    def _label(self, call: Call | None, labels: Any) -> None:
        if call is not None and call.labels is None and isinstance(labels, torch.Tensor):
            call.labels = classes_of(labels)

    # Steps

    def on_backward(self, tensors: Any) -> None:
        first = tensors if isinstance(tensors, torch.Tensor) else next(iter(tensors), None)
        if not isinstance(first, torch.Tensor) or first.numel() != 1:
            return
        self.step.backward.append(first.detach().reshape(()))
        if self.step.calls and self.step.losses:
            self._label(self.step.calls[-1], class_labels(self.step.losses[-1]))

    def on_clip(self, max_norm: float, norm: Any) -> None:
        step = self.step
        step.clip_at, step.grad_norm = max_norm, norm
        step.clips += 1
        step.clips_after_step += not step.backward
        step.clips_scaled += bool(step.backward and step.is_scaled)

    def on_scaled(self, scaler: Any) -> None:
        self.step.is_scaled = bool(scaler.is_enabled())
        self.scales_loss = self.scales_loss or self.step.is_scaled

    def on_unscaled(self) -> None:
        self.step.is_scaled = False

    def on_plateau(self, scheduler: Any, value: Any) -> None:
        """A `ReduceLROnPlateau` was given a value."""
        optimizer = id(scheduler.optimizer)
        known = next((one for one in self.plateaus if one.optimizer == optimizer), None)
        if known is None:
            known = Plateau(optimizer, scheduler.mode)
            self.plateaus.append(known)
        known.values.append(float(value))
        known.after.append(self.evaluations.last)

    def before_step(self, optimizer: Any) -> None:
        taken = self._taken
        if not self.step.backward and taken is not None and all(one is not optimizer for one in taken.taken_by):
            self.step = taken
        self._is_stepping = True
        if self.step.backward and not self.is_foreign(optimizer):
            training = self._training_of(optimizer)
            if training is not None:
                training.before_step()

    def after_step(self, optimizer: Any) -> None:
        self._is_stepping = False
        if self.is_foreign(optimizer):
            self.step = Step()
            self.evaluations.on_training()
            return
        training = self._known(optimizer)
        if training is not None and training.order is not None and not self.step.backward:
            training.order.on_step_without_gradient()
        if training is not None and self.step.backward:
            training.on_step(self.step)
            self.evaluations.on_training()
            self.step.taken_by.append(optimizer)
            self._taken, self.step = self.step, Step()

    def on_scaler_step(self, optimizer: Any) -> None:
        """A loss scaler was asked for a step. If the optimizer has not used the gradients, they were not finite."""
        if self.step.backward and not self.is_foreign(optimizer):
            training = self._training_of(optimizer)
            if training is not None:
                training.on_skipped(self.step)
            self.step = Step()

    def on_scheduled(self, scheduler: Any) -> None:
        for training in self.trainings:
            if training.order is not None:
                training.order.on_scheduled(scheduler)

    def before_clear(self, optimizers: Iterable[Any]) -> None:
        """Gradients that are cleared although no optimizer has used them: the step was forgotten, or skipped."""
        if self._is_stepping:
            return  # LBFGS calls the program's backward pass several times within a step.
        for optimizer in optimizers:
            if self.step.backward and not self.is_foreign(optimizer) and _has_gradients(optimizer):
                training = self._training_of(optimizer)
                if training is not None:
                    training.on_cleared(self.step)
                self.step = Step()

    def before_clear_of(self, module: nn.Module) -> None:
        """`model.zero_grad()` clears what the newest optimizer of the model would use."""
        if self.step.backward:
            self.before_clear(self.optimizers_of(module)[-1:])

    def optimizers_of(self, module: nn.Module) -> list[Any]:
        """The optimizers that hold parameters of a module, in the order in which they were made."""
        own = {id(p) for p in module.parameters()}
        return [one for one in self.optimizers if any(id(p) in own for p in parameters_of(one))]

    def with_others(self, optimizer: Any, module: nn.Module) -> list[Any]:
        """An optimizer, and those that hold other parameters of the module: one for the encoder, one for the head. An
        earlier one of the same parameters has had its time."""
        own = {id(p) for p in parameters_of(optimizer)}
        others = [one for one in self.optimizers_of(module) if not any(id(p) in own for p in parameters_of(one))]
        return [optimizer, *others]

    def _known(self, optimizer: Any) -> WatchedTraining | None:
        return next((one for one in self.trainings if one.optimizer() is optimizer), None)

    def _training_of(self, optimizer: Any) -> WatchedTraining | None:
        known = self._known(optimizer)
        if known is not None:
            return known
        if len(self.trainings) >= MOST_TRAININGS:
            self.left_out.add(optimizer)
            return None
        training = WatchedTraining(self, optimizer, f"training {len(self.trainings) + 1}")
        self.trainings.append(training)
        begin_training(training, optimizer)
        return training


def parameters_of(optimizer: Any) -> list[torch.Tensor]:
    """Every parameter in the optimizer's groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def tensors_in(values: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among values, and in mappings, lists and tuples among them."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            found += tensors_in(value.values())
        elif isinstance(value, tuple | list):
            found += tensors_in(part for part in value if isinstance(part, torch.Tensor | Mapping | tuple | list))
    return found


def is_same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same values in the same memory."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return one is other or (one.numel() > 0 and one.data_ptr() == other.data_ptr())


def is_same_tokens(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same token ids, as a batch that was copied to another device. Masks and segments, of
    which many batches have the same, show nothing."""
    if one.shape != other.shape or one.ndim != 2 or one.is_floating_point() or one.numel() == 0:
        return False
    return bool(one.max() > 1) and torch.equal(one.to(other.device), other)


def logits_in(output: Any) -> torch.Tensor | None:
    """The logits in what a model returned, shape (rows, K), or None."""
    try:
        logits = logits_of(output)
    except TypeError:
        return None
    return logits if isinstance(logits, torch.Tensor) and logits.ndim == 2 and logits.is_floating_point() else None


def classes_of(labels: torch.Tensor) -> torch.Tensor | None:
    """One class per row, shape (rows,): of labels that are probabilities (rows, K) the likeliest; None for others, such
    as several labels per row."""
    if labels.is_floating_point():
        is_distribution = labels.ndim == 2 and labels.shape[1] > 1 and bool((labels.sum(dim=1) - 1).abs().max() < 1e-3)
        return labels.detach().argmax(dim=1) if is_distribution else None
    return labels.detach()


def _one_number(value: Any) -> torch.Tensor | None:
    return value.detach() if isinstance(value, torch.Tensor) and value.numel() == 1 else None


def is_accumulating(module: nn.Module) -> bool:
    """Whether each call of a module changes its state, as that of a torchmetrics object."""
    return all(hasattr(module, name) for name in ("update", "compute", "reset"))


def _has_gradient(output: Any) -> bool:
    return any(tensor.requires_grad for tensor in tensors_in([output]))


def _has_gradients(optimizer: Any) -> bool:
    return any(p.grad is not None for p in parameters_of(optimizer))


def _is_own_state(module: nn.Module, state: Mapping[str, Any]) -> bool:
    """Whether a state consists of the module's own parameters, in their own memory."""
    own = {name: p.data_ptr() for name, p in module.named_parameters()}
    given = {name: value.data_ptr() for name, value in state.items() if isinstance(value, torch.Tensor)}
    return bool(own) and all(pointer and given.get(name) == pointer for name, pointer in own.items())


def _autocast() -> torch.dtype | None:
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
    return None


OBSERVER = Observer()
