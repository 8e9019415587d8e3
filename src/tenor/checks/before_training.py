"""The checks before the first step, for any PyTorch program; `tenor train` and `tenor check` run them too."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from tenor.checks.catalogue import run_rules, with_rules
from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence, TokenEvidence
from tenor.checks.evidence.model_evidence import ClassNamesEvidence, ModelEvidence, PrecisionEvidence, ProbeEvidence
from tenor.checks.evidence.process_evidence import ProcessEvidence
from tenor.checks.evidence.training_evidence import OptimizerEvidence, ScheduleEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import (
    batch_evidence,
    data_evidence,
    largest_label,
    loader_batches,
    random_states_kept,
    rows_of,
    skipped_batches,
)
from tenor.checks.gather.intentions import class_names_evidence
from tenor.checks.gather.model import (
    model_evidence,
    optimizer_evidence,
    precision_evidence,
    schedule_evidence,
    token_evidence,
)
from tenor.checks.gather.model_parts import classifier_config
from tenor.checks.gather.trainer import process_evidence
from tenor.checks.probes.probe import probe
from tenor.checks.probes.trace import Trace, trace
from tenor.checks.rule import Rule
from tenor.data.sequences import list_of
from tenor.model.device import DTYPES
from tenor.runs.findings import Report

PROBE_BATCHES, DEEP_BATCHES = 2, 16
"""Batches for the short experiments. Memorizing random labels (deep) compares losses on texts not seen before."""

SWITCHED_OFF = "the short experiments are switched off: their time limit (seconds, checks.probe_seconds) is 0"

Precision = Literal["fp32", "bf16", "fp16"]


def preflight(
    *,
    model: torch.nn.Module,
    train_loader: Iterable[Any],
    eval_loader: Iterable[Any] | None = None,
    tokenizer: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.functional.cross_entropy,
    n_classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    declared_freeze: Any = None,
    keep_trainable: tuple[str, ...] = (),
    new_weights: tuple[str, ...] | None = None,
    unused_weights: tuple[str, ...] | None = None,
    precision: Precision | None = None,
    loss_scaling: bool = False,
    accumulation: int = 1,
    done: int = 0,
    batches_read: int | None = None,
    seconds: float = 20.0,
    deep: bool = False,
    allow: Mapping[str, str] | None = None,
    evidence: Iterable[Any] = (),
    rules: Iterable[Rule] = (),
) -> Report:
    """Apply every rule for which these objects are enough; the report lists the others with the reason.

    `loss_fn` takes logits (rows, K) and labels (rows,) and returns a mean. Without `n_classes` the classes are counted
    in the dataset, else in the model's logits and the labels of the first batches, or read from `model.config`.
    `declared_freeze` is what should be frozen: `none`, `base` or a number of lowest layers. `new_weights` and
    `unused_weights` are the names that `from_pretrained(…, output_loading_info=True)` reports as missing and as
    unexpected. `precision` is the number type of the forward pass, by default that of the weights; `accumulation` is
    the number of forward passes per step. Of a resumed run, `done` is the number of steps before, and `batches_read`
    the number of batches that the loop reads from the loader without training on them. `seconds` limits the short
    experiments; 0 skips them, except for one forward pass of two rows. Each object in `evidence`, such as a
    `DataEvidence` of every split, replaces what would be gathered. Your own `rules`, made with `tenor.checks.rule`, are
    checked together with Tenor's and those of installed packages. `what_to_pass` says in one line which arguments would
    allow further rules. Model, optimizer, scheduler and random states are unchanged afterwards; the loader is asked for
    a few batches.
    """
    names = _strings(class_names, "class_names")
    program = _Program(
        model=model,
        train_loader=train_loader,
        eval_loader=eval_loader,
        tokenizer=tokenizer,
        optimizer=optimizer,
        scheduler=scheduler,
        loss_fn=loss_fn,
        given_classes=n_classes,
        class_names=names,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        declared_freeze=declared_freeze,
        keep_trainable=_strings(keep_trainable, "keep_trainable") or (),
        new_weights=_strings(new_weights, "new_weights"),
        unused_weights=_strings(unused_weights, "unused_weights"),
        precision=precision,
        loss_scaling=loss_scaling,
        accumulation=accumulation,
        done=done,
        batches_read=batches_read,
        seconds=seconds,
        deep=deep,
    )
    with random_states_kept():
        gathered, missing = _gather(program, evidence)
    return run_rules(gathered.values(), "preflight", allow, with_rules(rules), unreadable=missing)


def number_of_classes(model: Any, class_names: tuple[str, ...] | None, train: Any, validation: Any) -> int | None:
    """Number of names; else of distinct labels, where they are 0 … K-1; else as the model is configured; or None."""
    return classes_in_data(class_names, train, validation) or getattr(classifier_config(model), "num_labels", None)


def classes_in_data(class_names: tuple[str, ...] | None, train: Any, validation: Any) -> int | None:
    """Number of names; else of distinct labels in datasets that can be read by column, where they are 0 … K-1; or
    None."""
    if class_names:
        return len(class_names)
    try:
        parts = [rows_of(dataset).labels for dataset in (train, validation) if dataset is not None]
    except CannotTell:
        parts = []
    labels = np.concatenate([np.asarray(part).reshape(-1) for part in parts]) if parts else np.zeros(0)
    if labels.dtype.kind in "iu":
        values = np.unique(labels[labels >= 0])
        if len(values) > 1 and values[-1] == len(values) - 1:
            return len(values)
    return None


@dataclass(frozen=True, eq=False)
class _Program:
    """The arguments of `preflight` from which evidence is gathered."""

    model: torch.nn.Module
    train_loader: Iterable[Any]
    eval_loader: Iterable[Any] | None
    tokenizer: Any
    optimizer: torch.optim.Optimizer | None
    scheduler: Any
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    given_classes: int | None
    class_names: tuple[str, ...] | None
    total_steps: int | None
    steps_per_epoch: int | None
    declared_freeze: Any
    keep_trainable: tuple[str, ...]
    new_weights: tuple[str, ...] | None
    unused_weights: tuple[str, ...] | None
    precision: Precision | None
    loss_scaling: bool
    accumulation: int
    done: int
    batches_read: int | None
    seconds: float
    deep: bool

    @cached_property
    def first_batches(self) -> list[dict[str, Any]] | str:
        """The first batches of the loader, or why they cannot be read."""
        try:
            return loader_batches(self.train_loader)
        except CannotTell as reason:
            return str(reason)

    @cached_property
    def trace(self) -> Trace | None:
        """One forward pass of two rows; None where the model cannot be called with the loader's batches."""
        if isinstance(self.first_batches, str):
            return None
        try:
            return trace(self.model, self.first_batches[0])
        except CannotTell:
            return None

    @cached_property
    def n_classes(self) -> int:
        """As given, or counted in the datasets; else those of the logits and of the first labels; 0: not known.

        A configuration comes last: that of an encoder inside another model says 2 unless it was told otherwise.
        """
        datasets = _datasets(self.train_loader, self.eval_loader)
        if known := self.given_classes or classes_in_data(self.class_names, *datasets):
            return known
        outputs = 0 if self.trace is None or self.trace.n_outputs < 2 else self.trace.n_outputs
        in_labels = 0 if isinstance(self.first_batches, str) else largest_label(self.first_batches) + 1
        return max(outputs or getattr(classifier_config(self.model), "num_labels", None) or 0, in_labels)


Gathered = dict[type, Any]
"""Evidence by its class."""

BY_CLASS = (DataEvidence, BatchEvidence, ModelEvidence, ProbeEvidence)
"""Evidence that contains the number of classes."""

OF_CLASSES = (DataEvidence, BatchEvidence, ProbeEvidence)
"""Evidence that says something only of a classifier, whose labels are classes."""

PASS: dict[Any, str] = {
    DataEvidence: "evidence=[DataEvidence(…)]",
    TokenEvidence: "tokenizer",
    OptimizerEvidence: "optimizer",
    ScheduleEvidence: "scheduler, total_steps and steps_per_epoch",
}
"""Arguments of `preflight` that contain this evidence."""

TO_PASS = "; pass "


def what_to_pass(report: Report) -> str:
    """One line: how many rules were checked before training, and what to pass for others; empty if nothing is missing.

    Rules on what exists only later (steps, evaluations) are not counted.
    """
    reasons = Counter(rule.reason for rule in report.not_applicable if TO_PASS in rule.reason)
    if not reasons:
        return ""
    missing = (
        f"{what} for {count} more ({why.removeprefix('needs ')})"
        for (why, what), count in ((reason.split(TO_PASS, 1), count) for reason, count in reasons.most_common())
    )
    return f"{len(report.checked)} rules checked before training; pass {', '.join(missing)}"


def _gather(program: _Program, given: Iterable[Any]) -> tuple[Gathered, dict[type, str]]:
    """Evidence of each kind for which the program has objects; and why a kind could not be gathered."""
    gathered: Gathered = {type(evidence): evidence for evidence in given}
    missing = {kind: f"needs {kind.description}{TO_PASS}{what}" for kind, what in PASS.items()}
    if program.seconds <= 0:
        missing[ProbeEvidence] = SWITCHED_OFF
    for kind, gather in _gatherers(program).items():
        if kind in gathered:
            continue
        try:
            if kind in BY_CLASS and not program.n_classes:
                raise CannotTell("the number of classes is not known" + TO_PASS + "n_classes")
            if kind in OF_CLASSES and program.n_classes == 1:
                raise CannotTell("the model has one output, as for a regression or a score, and no classes")
            gathered[kind] = gather(program, gathered)
        except CannotTell as reason:
            hint = TO_PASS + PASS[kind] if kind is DataEvidence and TO_PASS not in str(reason) else ""
            missing[kind] = f"{reason}{hint}"
    return gathered, missing


def _gatherers(program: _Program) -> dict[type, Callable[[_Program, Gathered], Any]]:
    """A function for each kind of evidence that this program allows, in an order in which each finds what it needs."""
    gatherers: dict[type, Callable[[_Program, Gathered], Any]] = {DataEvidence: _data, BatchEvidence: _batches}
    if program.tokenizer is not None:
        gatherers[TokenEvidence] = _tokens
    gatherers |= {ModelEvidence: _model, PrecisionEvidence: _precision}
    gatherers |= {
        ClassNamesEvidence: lambda program, gathered: class_names_evidence(program.model),
        ProcessEvidence: lambda program, gathered: process_evidence(program.model),
    }
    if program.optimizer is not None:
        gatherers[OptimizerEvidence] = _optimizer
    if program.scheduler is not None and program.total_steps and program.steps_per_epoch:
        gatherers[ScheduleEvidence] = _schedule
    if program.seconds > 0:
        gatherers[ProbeEvidence] = _probe
    return gatherers


def _data(program: _Program, gathered: Gathered) -> DataEvidence:
    train, validation = _datasets(program.train_loader, program.eval_loader)
    return data_evidence(train, validation, program.n_classes, program.class_names, program.tokenizer)


def _batches(program: _Program, gathered: Gathered) -> BatchEvidence:
    found = batch_evidence(program.train_loader, program.n_classes)
    if not program.done or not program.steps_per_epoch or program.batches_read is None:
        return found
    by_loader = skipped_batches(program.train_loader)
    return replace(
        found,
        batches_done=program.done % program.steps_per_epoch * program.accumulation,
        batches_skipped=None if by_loader is None else by_loader + program.batches_read,
    )


def _tokens(program: _Program, gathered: Gathered) -> TokenEvidence:
    if BatchEvidence not in gathered:
        raise CannotTell("the token ids of the loader's batches could not be read")
    return token_evidence(program.model, program.tokenizer, gathered[BatchEvidence])


def _model(program: _Program, gathered: Gathered) -> ModelEvidence:
    found = model_evidence(
        program.model,
        program.n_classes,
        class_names=program.class_names,
        declared_freeze=program.declared_freeze,
        keep_trainable=program.keep_trainable,
        new_weights=program.new_weights,
        unused_weights=program.unused_weights,
        trace=program.trace,
        checkpoint=name_of(program.tokenizer),
    )
    # Without a forward pass, only a configuration says which layer computes the logits: the last one need not.
    is_guess = program.trace is None and getattr(classifier_config(program.model), "num_labels", None) is None
    return replace(found, n_outputs=None) if is_guess and found.n_outputs != program.n_classes else found


def name_of(tokenizer: Any) -> str:
    """The checkpoint from which a tokenizer was loaded; empty if it is not known."""
    return str(getattr(tokenizer, "name_or_path", "") or "")


def _precision(program: _Program, gathered: Gathered) -> PrecisionEvidence:
    """The number type of the forward pass, and that of the trainable weights."""
    tensor = next((p for p in program.model.parameters() if p.requires_grad), None)
    if tensor is None:
        raise CannotTell("no parameter is trainable, so the number type of trainable weights is not defined")
    kinds: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    weights_kind = next((kind for kind in kinds if DTYPES[kind] == tensor.dtype), None)
    if weights_kind is None:
        raise CannotTell(f"the weights are of type {tensor.dtype}, not {', '.join(kinds)}")
    return precision_evidence(
        tensor.device,
        program.precision or weights_kind,
        weights_kind=weights_kind,
        loss_scaling=program.loss_scaling,
    )


def _optimizer(program: _Program, gathered: Gathered) -> OptimizerEvidence:
    return optimizer_evidence(program.model, program.optimizer, trace=program.trace)


def _schedule(program: _Program, gathered: Gathered) -> ScheduleEvidence:
    if program.done:
        raise CannotTell("the run is resumed: its schedule begins before this process")
    loader = program.train_loader
    return schedule_evidence(
        program.scheduler,
        program.total_steps or 0,
        program.steps_per_epoch or 0,
        batches_per_epoch=len(loader) if isinstance(loader, Sized) else None,
        accumulation=program.accumulation,
    )


def _probe(program: _Program, gathered: Gathered) -> ProbeEvidence:
    batches = loader_batches(program.train_loader, DEEP_BATCHES if program.deep else PROBE_BATCHES)
    return probe(program.model, program.loss_fn, batches, program.n_classes, seconds=program.seconds, deep=program.deep)


def _strings(given: Any, name: str) -> tuple[str, ...] | None:
    return None if given is None else tuple(list_of(given, name))


def _datasets(train_loader: Any, eval_loader: Any) -> tuple[Any, Any]:
    return getattr(train_loader, "dataset", None), getattr(eval_loader, "dataset", None)
