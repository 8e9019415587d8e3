"""Short experiments before the first step, on any PyTorch classifier.

The model is not copied. Its weights, buffers, gradients and modes are restored bit by bit, and so are random states.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.gather.batches import random_states_kept
from tenor.checks.probes.short_experiments import (
    COMPARED_ROWS,
    MAX_ROWS,
    balanced,
    blanking,
    blanking_in_training,
    first_look,
    given_logits,
    gradients,
    neighbours,
    overfitting,
    padding,
    random_labels,
    rising_rates,
    seed,
    weights_kept,
)
from tenor.checks.probes.subject import (
    Forward,
    LossFunction,
    ProbeRows,
    make_subject,
    read_examples,
)
from tenor.model.speed import evaluation_mode

DEEP_ROWS = 512

FAILS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError)
"""Exceptions of a model that does not allow an experiment; the reason goes into `ProbeEvidence.failures`."""


def probe(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Mapping[str, Any]],
    n_classes: int,
    *,
    forward: Forward | None = None,
    seconds: float = 20.0,
    deep: bool = False,
) -> ProbeEvidence:
    """Run the experiments that the time allows. Results of the others stay None, with the reason in `failures`.

    `batches` are dictionaries of tensors, (rows, …) each, with labels; only the first few are read. `loss_fn` takes
    logits (rows, K) and labels (rows,). `forward(model, inputs)` returns logits, a tuple with them first, or an object
    with `.logits`; by default the model is called with the inputs that its `forward` names. `seconds` limits the
    attempts to memorize; a forward pass is never interrupted. `deep` adds a pass on shuffled labels and one at rising
    learning rates, each within another `seconds`. After Karpathy 2019, A Recipe for Training Neural Networks.
    """
    results: dict[str, Any] = {}
    failures: dict[str, str] = {}

    def attempt(experiment: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        try:
            results.update(experiment(*arguments))
        except FAILS as error:
            failures[experiment.__name__] = f"{type(error).__name__}: {str(error).split(chr(10))[0][:200]}"

    subject = make_subject(model, loss_fn, forward, n_classes)
    with random_states_kept(batches), _model_restored(model):
        deadline = time.monotonic() + seconds
        seed()
        attempt(given_logits, subject)
        read: list[ProbeRows] = []
        attempt(read_examples, subject, batches, DEEP_ROWS if deep else MAX_ROWS, read)
        if read:
            examples = read[0].rows(slice(0, MAX_ROWS))
            for experiment in (first_look, blanking, blanking_in_training, padding, neighbours):
                attempt(experiment, subject, examples)
            if seconds > 0 and any(p.requires_grad for p in model.parameters()):
                attempt(gradients, subject, examples.rows(slice(0, COMPARED_ROWS)))
                attempt(overfitting, subject, balanced(examples), deadline)
                if deep:
                    attempt(random_labels, subject, read[0], time.monotonic() + seconds)
                    attempt(rising_rates, subject, read[0], time.monotonic() + seconds)
    return ProbeEvidence(
        n_classes,
        trainable_share=_trainable_share(model),
        has_recurrent_layer=_is_recurrent(model),
        failures=failures,
        **results,
    )


def _is_recurrent(model: nn.Module) -> bool:
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def _trainable_share(model: nn.Module) -> float | None:
    """Share of the model's weights that are trainable; None for a model without weights."""
    total = sum(p.numel() for p in model.parameters())
    return sum(p.numel() for p in model.parameters() if p.requires_grad) / total if total else None


@contextmanager
def _model_restored(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients in the block; weights, buffers, gradients, modes and the attributes of every
    module are restored after it."""
    attributes = [(module, dict(vars(module))) for module in model.modules()]  # Such as a count of forward passes.
    gradients = [(p, p.grad) for p in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    # cuDNN cannot train recurrent layers in evaluation mode; PyTorch without cuDNN can.
    cudnn = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not _is_recurrent(model))
    try:
        with evaluation_mode(model), weights_kept(model), cudnn:
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, values in attributes:
            vars(module).clear()
            vars(module).update(values)
