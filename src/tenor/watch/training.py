"""One watched training: the preflight at the first step of an optimizer, and a watchdog from then on."""

import contextlib
import inspect
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from tenor.watch.call_form import IDS, MASK
from tenor.watch.first_step import (
    FirstStep,
    call_with_logits,
    columns_of,
    evaluation_loader,
    is_consumable,
    loading_names,
    loss_function,
    read_first_step,
    tokenizer_of,
    why_unjudged,
)
from tenor.watch.heard_rows import SeenRows, labels_in_batch, zero_one_in_batch
from tenor.watch.loop_order import LoopOrder
from tenor.watch.one_output_steps import (
    class_labels,
    is_binary,
    one_output_of,
    rows_with_class_indices,
    with_class_indices,
)
from tenor.watch.patches import global_randomness_kept, guarded
from tenor.watch.unnoticed import unnoticed

if TYPE_CHECKING:
    from tenor.checks.evidence.data_evidence import BatchEvidence
    from tenor.checks.evidence.model_evidence import ModelEvidence
    from tenor.checks.evidence.training_evidence import OptimizerEvidence, StepEvidence
    from tenor.checks.watchdog import Watchdog
    from tenor.runs.findings import Report
    from tenor.watch.observer import Call, Observer, Step

MOST_PAIRED = 16
"""Calls whose labels are compared with those that the loss was given."""
EVERY = 4
"""Steps in one record: rules need ten records, and short runs have 40 steps."""
LOOKS = frozenset(2**k for k in range(3, 40))
"""Steps after which the order of the calls is judged."""


class WatchedTraining:
    """The steps of one optimizer."""

    def __init__(self, observer: "Observer", optimizer: Any, name: str) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.observer, self.name = observer, name
        self.tokenizer: Any = None
        self.watchdog: Watchdog | None = None
        self.preflight: Report | None = None
        self.unjudged = ""
        """Why nothing of this training was checked; empty if it was."""
        self.rates: list[float] = []
        """The largest learning rate among the groups at each step."""
        self.steps_per_epoch: int | None = None
        self.n_classes: int | None = None
        self.train_rows = SeenRows()
        self.loss_labels: list[tuple[np.ndarray, np.ndarray]] = []
        """Labels of the loader, and what the loss was given instead, of the first steps."""
        self.batches: BatchEvidence | None = None
        """What the preflight read of the loader."""
        self.outputs: ModelEvidence | None = None
        """The model at the first step; how many classes there are is known only when all rows were seen."""
        self.evidence: StepEvidence | None = None
        self.order: LoopOrder | None = None
        self.later_groups: OptimizerEvidence | None = None
        """The optimizer's groups after other parameters became trainable than at the first step."""
        self.report: Report | None = None
        self._loop_report: Report | None = None
        """What the order of the calls has shown so far."""
        self._idle = 0

    def before_step(self) -> None:
        if self.order is not None:
            self.order.before_step()

    def on_load_of_itself(self) -> None:
        """`load_state_dict` was given the module's own tensors."""
        if self.order is not None:
            self.order.loads_of_itself += 1

    def on_cleared(self, step: "Step") -> None:
        """Gradients that were cleared unused: as long as the optimizer has taken no step, the program forgot it."""
        if self.order is None:
            return
        self.order.on_cleared(step)
        if not self.order.steps:
            self._record(step)

    def on_step(self, step: "Step") -> None:
        """One step of the optimizer."""
        if self.order is None:
            return
        optimizer = self.optimizer()
        self.order.on_step(step, 1.0 if optimizer is None else largest_rate(optimizer))
        self._record(step)
        if self.order.steps in LOOKS:
            self._look_at_order()

    def on_skipped(self, step: "Step") -> None:
        """One step that loss scaling skipped."""
        if self.order is not None:
            self.order.on_skipped(step)
            self._record(step)

    @global_randomness_kept()
    def _look_at_order(self) -> None:
        """Judge the order of the calls while the program runs, and the optimizer's groups if they should have
        changed."""
        from tenor.checks.catalogue import rules_for, run_rules

        assert self.order is not None
        self._look_at_groups()
        evidence = [self.order.evidence(), *([self.later_groups] if self.later_groups is not None else [])]
        session, rules = self.observer.session, [rule for one in evidence for rule in rules_for(type(one))]
        self._loop_report = run_rules(evidence, "training", session.settings.allow, rules)
        session.add(self._loop_report.findings)

    def _look_at_groups(self) -> None:
        """Layers that are unfrozen on the way must be given to the optimizer."""
        from tenor.checks.gather.model import optimizer_evidence

        optimizer = self.optimizer()
        if self.watchdog is None or optimizer is None or not self.watchdog.has_unfrozen():
            return
        model = self.watchdog.model
        together = _together(self.observer.with_others(optimizer, model))
        self.later_groups = replace(optimizer_evidence(model, together), kind=type(optimizer).__name__)

    def _record(self, step: "Step") -> None:
        optimizer = self.optimizer()
        if self.watchdog is None or optimizer is None:
            return
        self.rates.append(largest_rate(optimizer))
        for call in step.calls:
            self.train_rows.add(call.args, call.kwargs, call.labels, call.rows if call.is_from_batch else None)
        self._pair_labels(step)
        norm = step.grad_norm
        self.watchdog.step(loss_of(step), grad_norm=None if norm is None else float(norm))
        self._release_others()
        self.observer.session.write_if_due()

    @property
    def all_reports(self) -> "list[Report]":
        """The reports of the preflight and of the steps so far."""
        watched = self.report or (self.watchdog.report if self.watchdog is not None else None)
        return [one for one in (self.preflight, watched, self._loop_report) if one is not None]

    def _pair_labels(self, step: "Step") -> None:
        """Keep both labels of the rows of a step with one loss for each batch: several losses have labels of their
        own."""
        batches = list({id(call.batch): call.batch for call in step.calls if call.is_from_batch}.values())
        if len(self.loss_labels) >= MOST_PAIRED or len(step.losses) != len(batches):
            return
        for batch, loss in zip(batches, step.losses, strict=True):
            used = class_labels(loss)
            if is_binary(loss):
                given = zero_one_in_batch(batch, len(loss.logits))
            else:
                given = labels_in_batch(batch, len(loss.logits), loss.logits.shape[-1])
            if given is None or used is None or given.ndim != 1 or given.shape != used.shape:
                continue
            if not given.is_floating_point() and not used.is_floating_point():
                self.loss_labels.append((given.cpu().numpy(), used.detach().cpu().numpy()))

    @property
    def seen_batches(self) -> "BatchEvidence | None":
        """What was read of the loader, with what the loss was given."""
        if self.batches is None or not self.loss_labels:
            return self.batches
        loader, loss = (np.concatenate(part) for part in zip(*self.loss_labels, strict=True))
        return replace(self.batches, loss_labels=(loader, loss))

    def _release_others(self) -> None:
        """A training that takes no step while another one takes several has ended: its model must be freed."""
        self._idle = 0
        for other in self.observer.trainings:
            if other is not self and other.watchdog is not None:
                other._idle += 1
                if other._idle > 2:
                    other.end()

    @global_randomness_kept()
    def end(self) -> None:
        """Check the weights a last time and let go of model and optimizer; the evidence stays."""
        if self.watchdog is None:
            return
        self._look_at_groups()
        watchdog, self.watchdog = self.watchdog, None
        watchdog.finish()
        self.evidence = watchdog.evidence
        self.report = watchdog.report
        if self.order is not None:
            self._loop_report = None  # The whole is judged.
            session = self.observer.session
            self.order.end(has_ended=not session.trouble and not session.is_stopped)


@global_randomness_kept()
def begin_training(training: WatchedTraining, optimizer: Any) -> None:
    """Run the preflight on what the first step has shown, and begin to watch."""
    observer, step = training.observer, training.observer.step
    found = one_output_of(step)
    call, one_output = found if found is not None else (call_with_logits(step), None)
    reason = why_unjudged(step, call)
    if reason or call is None:
        training.unjudged = reason
        observer.session.note(f"{training.name}: {reason}")
        return
    first = read_first_step(observer, optimizer, call, one_output)
    if one_output is not None:
        observer.one_output[call.module] = one_output.kind
    training.tokenizer = tokenizer_of(observer, first.model)
    with contextlib.suppress(TypeError):  # A loader over rows without a length.
        is_loader = isinstance(first.loader, DataLoader)
        training.steps_per_epoch = max(1, len(first.loader) // first.passes) if is_loader else None
    with guarded("the preflight"), unnoticed(first.model, first.loader), contextlib.ExitStack() as others:
        for one in observer.trainings:
            if one.watchdog is not None:
                others.enter_context(one.watchdog.paused())
        training.preflight = _preflight(observer, training, first)
    observer.session.add(training.preflight.findings if training.preflight is not None else ())
    if not step.has_failed:
        training.watchdog = _watchdog(training, first)
        training.order = LoopOrder(observer, first)


def _watchdog(training: WatchedTraining, first: FirstStep) -> "Watchdog":
    from tenor.checks.watchdog import Watchdog

    session = training.observer.session
    return Watchdog(
        first.model,
        first.optimizer,
        scheduler=first.scheduler,
        n_classes=training.n_classes,
        total_steps=first.total_steps,
        clip_at=first.step.clip_at,
        policy="warn",
        allow=session.settings.allow,
        every=EVERY,
        earlier=training.preflight.findings if training.preflight is not None else (),
        on_finding=lambda finding: session.add([finding]),
        one_output=None if first.one_output is None else first.one_output.kind,
    )


def _preflight(observer: "Observer", training: WatchedTraining, first: FirstStep) -> "Report":
    from tenor.checks.before_training import number_of_classes, preflight

    settings, loader, model = observer.session.settings, first.loader, first.model
    evaluation = evaluation_loader(observer, loader)
    datasets = (getattr(one, "dataset", None) for one in (loader, evaluation))
    known = 2 if first.one_output is not None else number_of_classes(model, None, *datasets)
    training.n_classes = known or columns_of(first.call)
    new, unused = loading_names(observer, model)
    return preflight(
        model=model,
        train_loader=loader,
        eval_loader=evaluation,
        tokenizer=training.tokenizer,
        optimizer=first.optimizer,
        scheduler=first.scheduler,
        loss_fn=loss_function(first),
        n_classes=training.n_classes,
        total_steps=first.total_steps,
        steps_per_epoch=training.steps_per_epoch,
        new_weights=new,
        unused_weights=unused,
        precision={torch.bfloat16: "bf16", torch.float16: "fp16"}.get(first.call.autocast),  # type: ignore[arg-type]
        loss_scaling=observer.scales_loss,
        accumulation=first.passes,
        seconds=settings.seconds,
        allow=settings.allow,
        evidence=_evidence(observer, training, first, new, unused),
    )


def _evidence(
    observer: "Observer",
    training: WatchedTraining,
    first: FirstStep,
    new: tuple[str, ...] | None,
    unused: tuple[str, ...] | None,
) -> list[Any]:
    """What the preflight cannot gather from one optimizer and the loader's batches alone."""
    from tenor.checks.before_training import name_of
    from tenor.checks.finding import CannotTell
    from tenor.checks.gather.batches import batch_evidence
    from tenor.checks.gather.model import model_evidence, optimizer_evidence
    from tenor.checks.probes.probe import probe
    from tenor.checks.probes.trace import trace

    n_classes, model, evidence = training.n_classes or 2, first.model, list[Any]()
    # Where this is not possible, the preflight reports why.
    with contextlib.suppress(CannotTell):
        training.batches = _as_called(batch_evidence(first.loader, n_classes), first)
        if first.one_output is not None:
            training.batches = with_class_indices(training.batches)
        evidence.append(training.batches)
    if first.step.has_failed and training.batches is not None:
        evidence += _rows_of_batches(training.batches, n_classes)
    recorded = None
    with contextlib.suppress(CannotTell):
        recorded = trace(model, first.batches[0], first.forward)
        training.outputs = model_evidence(
            model,
            n_classes,
            new_weights=new,
            unused_weights=unused,
            trace=recorded,
            checkpoint=name_of(training.tokenizer),
        )
        evidence.append(training.outputs)
    optimizers = observer.with_others(first.optimizer, model)
    if len(optimizers) > 1:
        kind = type(first.optimizer).__name__
        evidence.append(replace(optimizer_evidence(model, _together(optimizers), trace=recorded), kind=kind))
    if first.one_output is not None:
        evidence += _rows_of_datasets(observer, training, first)
    if not isinstance(first.loader, DataLoader) or not is_consumable(first.call) or first.one_output is not None:
        loss_fn = loss_function(first)
        seconds = observer.session.settings.seconds
        evidence.append(probe(model, loss_fn, first.batches, n_classes, forward=first.forward, seconds=seconds))
    return evidence


def _rows_of_datasets(observer: "Observer", training: WatchedTraining, first: FirstStep) -> list[Any]:
    """The rows of the loader's dataset and of the evaluated one, with class indices as labels; none where they cannot
    be read by column."""
    from tenor.checks.finding import CannotTell
    from tenor.checks.gather.batches import data_evidence

    train, evaluated = (
        getattr(one, "dataset", None) for one in (first.loader, evaluation_loader(observer, first.loader))
    )
    try:
        return [rows_with_class_indices(data_evidence(train, evaluated, 2, None, training.tokenizer))]
    except CannotTell:
        return []


def _as_called(batches: "BatchEvidence", first: FirstStep) -> "BatchEvidence":
    """Where the program gives the model other inputs than the loader's, those that it gives."""
    is_by_name = is_consumable(first.call) and bool(first.call.kwargs)
    ids, masks = (_arrays([batch.get(name) for batch in first.batches]) for name in (IDS, MASK))
    if is_by_name or not _names_the_usual(first.call) or ids is None or masks is None:
        return batches
    return replace(batches, input_ids=ids, attention_mask=masks)


def _names_the_usual(call: "Call") -> bool:
    """Whether the model's own names say which input is the mask."""
    return {IDS, MASK} <= {*inspect.signature(call.module.forward).parameters, *call.kwargs}


def _arrays(tensors: Sequence[torch.Tensor | None]) -> tuple[np.ndarray, ...] | None:
    known = [one.cpu().numpy() for one in tensors if one is not None]
    return tuple(known) if len(known) == len(tensors) else None


def _together(optimizers: Iterable[Any]) -> Any:
    """The groups of several optimizers, as if they were one."""
    return SimpleNamespace(param_groups=[group for one in optimizers for group in one.param_groups])


def largest_rate(optimizer: Any) -> float:
    """Among the optimizer's groups."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def _rows_of_batches(batches: "BatchEvidence", n_classes: int) -> list[Any]:
    """The first batches as the training rows, of a program that failed: a label that no class has is among them."""
    from tenor.checks.evidence.data_evidence import DataEvidence, Rows

    labels = batches.epoch_labels
    return [] if labels is None else [DataEvidence(Rows(labels), n_classes)]


def loss_of(step: "Step") -> float:
    """The mean loss of a step's rows: of its loss functions where they were seen, else the sum that `backward` got."""
    heard = [float(one.value) for one in step.losses if one.value is not None]
    if heard:
        return float(np.mean(heard))
    return float(sum(float(value) for value in step.backward))
