"""The checks before the first step, for any PyTorch program."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from tenor.checks.collect import (
    batch_evidence,
    loader_batches,
    model_evidence,
    optimizer_evidence,
    schedule_evidence,
)
from tenor.checks.evidence import (
    BatchEvidence,
    DataEvidence,
    ModelEvidence,
    OptimizerEvidence,
    ProbeEvidence,
    Rows,
    ScheduleEvidence,
)
from tenor.checks.finding import CannotTell, Report
from tenor.checks.probes import probe
from tenor.checks.run import run_rules

LABEL_COLUMNS = ("labels", "label")
DEEP_BATCHES = 16
"""Batches for memorising random labels, which compares losses on texts that were not seen."""

TEXT_COLUMNS = ("text", "sentence", "review")


def preflight(
    *,
    model: torch.nn.Module,
    train_loader: Iterable[Any],
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
    accumulation: int = 1,
    seconds: float = 20.0,
    deep: bool = False,
    allow: Mapping[str, str] | None = None,
) -> Report:
    """Apply every rule that these objects allow; the rest are reported as skipped, with the reason.

    `loss_fn` takes logits (rows, K) and labels (rows,) and gives a mean. `n_classes` is read from `model.config` where
    it is not given. `declared_freeze` says what should be frozen: `none`, `base` or a number of lowest layers.
    `new_weights` are the names that `from_pretrained(…, output_loading_info=True)` reports as missing; `accumulation`
    counts the forward passes of a step. `seconds` bound the short experiments; 0 leaves them out. Model, optimizer,
    scheduler and random state are afterwards as they were; the loader is asked for a few batches.
    """
    k = n_classes or getattr(getattr(model, "config", None), "num_labels", None)
    evidence: list[Any] = []
    unreadable: dict[Any, str] = {}

    def gather(kind: Any, make: Callable[[], Any]) -> None:
        try:
            if k is None:
                raise CannotTell("the number of classes is not known; give n_classes")
            evidence.append(make())
        except CannotTell as reason:
            unreadable[kind] = str(reason)

    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        gather(DataEvidence, lambda: _data(train_loader, int(k or 0), class_names))
        gather(BatchEvidence, lambda: batch_evidence(train_loader, int(k or 0)))
        gather(
            ModelEvidence,
            lambda: model_evidence(
                model,
                int(k or 0),
                class_names=class_names,
                declared_freeze=declared_freeze,
                keep_trainable=keep_trainable,
                new_weights=new_weights,
            ),
        )
        if optimizer is not None:
            gather(OptimizerEvidence, lambda: optimizer_evidence(model, optimizer))
        if scheduler is not None and total_steps and steps_per_epoch:
            gather(
                ScheduleEvidence,
                lambda: schedule_evidence(scheduler, total_steps, steps_per_epoch, accumulation=accumulation),
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
    return run_rules(evidence, "preflight", allow, unreadable=unreadable)


def _data(loader: Any, n_classes: int, class_names: tuple[str, ...] | None) -> DataEvidence:
    """Labels, and texts where they are there, of a loader's dataset; only columns are read, never rows one by one."""
    dataset = getattr(loader, "dataset", None)
    columns = getattr(dataset, "column_names", None)
    if dataset is None or not columns:
        raise CannotTell(
            "the loader's dataset has no columns to read labels from; its collated batches are judged instead"
        )
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if label is None:
        raise CannotTell(f"the loader's dataset has no column {' or '.join(LABEL_COLUMNS)}, only {', '.join(columns)}")
    text = next((name for name in TEXT_COLUMNS if name in columns), None)
    rows = Rows(np.asarray(dataset[label]), list(dataset[text]) if text else None)
    return DataEvidence(rows, n_classes, class_names=class_names)
