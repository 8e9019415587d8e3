"""The checks before the first step, for any PyTorch program."""

from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Literal

import numpy as np
import torch

from tenor.checks.catalogue import run_rules, with_rules
from tenor.checks.evidence import (
    BatchEvidence,
    DataEvidence,
    ModelEvidence,
    OptimizerEvidence,
    PrecisionEvidence,
    ProbeEvidence,
    ScheduleEvidence,
    TokenEvidence,
)
from tenor.checks.finding import CannotTell, Report
from tenor.checks.gather.batches import batch_evidence, data_evidence, loader_batches, random_states_kept, rows_of
from tenor.checks.gather.model import (
    model_evidence,
    optimizer_evidence,
    precision_evidence,
    schedule_evidence,
    token_evidence,
)
from tenor.checks.gather.model_parts import classifier_config
from tenor.checks.probes.probe import probe
from tenor.checks.probes.trace import Trace, trace
from tenor.checks.rule import Rule
from tenor.data.sequences import list_of
from tenor.model.device import DTYPES

DEEP_BATCHES = 16
"""Batches for memorising random labels, which compares losses on texts that were not seen."""


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
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    loss_scaling: bool = False,
    accumulation: int = 1,
    seconds: float = 20.0,
    deep: bool = False,
    allow: Mapping[str, str] | None = None,
    evidence: Iterable[Any] = (),
    rules: Iterable[Rule] = (),
) -> Report:
    """Apply every rule that these objects allow; the rest are reported as skipped, with the reason.

    `loss_fn` takes logits (rows, K) and labels (rows,) and gives a mean. `n_classes` is counted in the data, or read
    from `model.config`, where it is not given. `declared_freeze` says what should be frozen: `none`, `base` or a number
    of lowest layers. `new_weights` and `unused_weights` are the names that `from_pretrained(…,
    output_loading_info=True)` reports as missing and as unexpected; `precision` is the type of the forward pass, by
    default that of the weights; `accumulation` counts the forward passes of a step. `seconds` bound the short
    experiments; 0 leaves them out, but for one forward pass of two rows. `evidence` that you have yourself, such as
    `DataEvidence` of every split, takes the place of what would be gathered. `rules` of your own, made with
    `tenor.checks.rule`, are checked with Tenor's and those of installed packages. Model, optimizer, scheduler and
    random state are afterwards as they were; the loader is asked for a few batches.
    """
    class_names, new_weights, unused_weights = (
        None if given is None else tuple(list_of(given, name))
        for name, given in (
            ("class_names", class_names),
            ("new_weights", new_weights),
            ("unused_weights", unused_weights),
        )
    )
    keep_trainable = tuple(list_of(keep_trainable, "keep_trainable"))
    k = n_classes or number_of_classes(model, class_names, *_datasets(train_loader, eval_loader))
    at_hand = {type(one): one for one in evidence}
    unreadable: dict[Any, str] = {}

    def gather(kind: Any, make: Callable[[], Any]) -> None:
        if kind in at_hand:
            return
        try:
            if k is None:
                raise CannotTell("the number of classes is not known; give n_classes")
            at_hand[kind] = make()
        except CannotTell as reason:
            unreadable[kind] = str(reason)

    with random_states_kept():
        gather(
            DataEvidence,
            lambda: data_evidence(*_datasets(train_loader, eval_loader), int(k or 0), class_names, tokenizer),
        )
        gather(BatchEvidence, lambda: batch_evidence(train_loader, int(k or 0)))
        if tokenizer is not None and BatchEvidence in at_hand:
            gather(TokenEvidence, lambda: token_evidence(model, tokenizer, at_hand[BatchEvidence]))
        traced = _trace(model, train_loader)
        gather(
            ModelEvidence,
            lambda: model_evidence(
                model,
                int(k or 0),
                class_names=class_names,
                declared_freeze=declared_freeze,
                keep_trainable=keep_trainable,
                new_weights=new_weights,
                unused_weights=unused_weights,
                trace=traced,
            ),
        )
        gather(PrecisionEvidence, lambda: _precision(model, precision, loss_scaling))
        if optimizer is not None:
            gather(OptimizerEvidence, lambda: optimizer_evidence(model, optimizer, trace=traced))
        if scheduler is not None and total_steps and steps_per_epoch:
            gather(
                ScheduleEvidence,
                lambda: schedule_evidence(
                    scheduler,
                    total_steps,
                    steps_per_epoch,
                    batches_per_epoch=len(train_loader) if isinstance(train_loader, Sized) else None,
                    accumulation=accumulation,
                ),
            )
        if seconds > 0:
            gather(
                ProbeEvidence,
                lambda: probe(
                    model,
                    loss_fn,
                    loader_batches(train_loader, DEEP_BATCHES if deep else 2),
                    int(k or 0),
                    seconds=seconds,
                    deep=deep,
                ),
            )
    return run_rules(at_hand.values(), "preflight", allow, with_rules(rules), unreadable=unreadable)


def number_of_classes(model: Any, class_names: tuple[str, ...] | None, train: Any, validation: Any) -> int | None:
    """Of the data, where it shows them: 0 … K-1 without a gap; else as the model is configured; None: not known."""
    if class_names:
        return len(class_names)
    try:
        parts = [rows_of(one).labels for one in (train, validation) if one is not None]
    except CannotTell:
        parts = []
    labels = np.concatenate([np.asarray(part).reshape(-1) for part in parts]) if parts else np.zeros(0)
    if labels.dtype.kind in "iu":
        values = np.unique(labels[labels >= 0])
        if len(values) > 1 and values[-1] == len(values) - 1:
            return len(values)
    return getattr(classifier_config(model), "num_labels", None)


def _trace(model: torch.nn.Module, loader: Any) -> Trace | None:
    """What a forward pass shows; None where the model can't be called with the loader's batches."""
    try:
        return trace(model, loader_batches(loader, 1)[0])
    except CannotTell:
        return None


def _datasets(train_loader: Any, eval_loader: Any) -> tuple[Any, Any]:
    return getattr(train_loader, "dataset", None), getattr(eval_loader, "dataset", None)


def _precision(
    model: torch.nn.Module, kind: Literal["fp32", "bf16", "fp16"] | None, loss_scaling: bool
) -> PrecisionEvidence:
    """The type of the forward pass, and that of the learning weights."""
    tensor = next((p for p in model.parameters() if p.requires_grad), None)
    if tensor is None:
        raise CannotTell("nothing learns, so there is no type of learning weights")
    kinds: tuple[Literal["fp32", "bf16", "fp16"], ...] = ("fp32", "bf16", "fp16")
    weights_kind = next((name for name in kinds if DTYPES[name] == tensor.dtype), None)
    if weights_kind is None:
        raise CannotTell(f"the weights are of type {tensor.dtype}")
    return precision_evidence(tensor.device, kind or weights_kind, weights_kind=weights_kind, loss_scaling=loss_scaling)
