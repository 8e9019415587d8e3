"""One recorded forward pass: the outputs, the parameters in use, and those of the layer that computes the logits."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import random_states_kept
from tenor.checks.gather.model_parts import unwrapped
from tenor.checks.probes.subject import (
    MAX_TOKENS,
    Forward,
    ProbeRows,
    columns_of,
    logits_of,
    make_subject,
    padded_left,
    refuse_unknown_ids,
)

ROWS = 2

FAILS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError)
"""Exceptions that a model raises when it cannot be called with a batch."""


@dataclass(frozen=True)
class Trace:
    """One forward pass; names are those of `model.named_parameters()`."""

    n_outputs: int
    """Columns of the logits."""
    used: frozenset[str]
    """Parameters in use: their module was called, or the logits were computed from them."""
    output_layer: frozenset[str]
    """Parameters of the last layer with a matrix, including its adapters; empty if autograd recorded nothing."""
    unregistered: tuple[str, ...] = ()
    """Layers with trainable parameters that the logits depend on, but that are not part of the model, as PyTorch prints
    them."""


def trace(model: nn.Module, batch: Mapping[str, Any], forward: Forward | None = None) -> Trace:
    """Run two rows of `batch` (tensors by name, (rows, …) each) through the unwrapped model in evaluation mode.

    `forward(model, inputs)` calls it; by default it is called with the inputs that its own `forward` names. Modes,
    gradients, `requires_grad` and random states are unchanged afterwards.

    Raises:
        CannotTell: the model cannot be called with the batch, or returns no logits.
    """
    model = unwrapped(model)
    names = {id(p): name for name, p in model.named_parameters()}
    try:
        with random_states_kept(), _everything_recorded(model), _called_modules() as called:
            logits = _logits(model, batch, forward)
            recorded = _leaves(logits)
    except FAILS as error:
        raise CannotTell(f"the model could not be called: {type(error).__name__}: {str(error)[:200]}") from error
    owned = {id(p) for module in called for p in module._parameters.values() if p is not None}
    return Trace(
        n_outputs=logits.shape[-1] if logits.ndim > 1 else 1,
        used=frozenset(name for key, name in names.items() if key in owned or key in recorded),
        output_layer=frozenset(names[key] for key in _leaves_of_last_matrix(logits) if key in names),
        unregistered=_unregistered(model, called, recorded),
    )


def _unregistered(model: nn.Module, called: Iterable[nn.Module], recorded: set[int]) -> tuple[str, ...]:
    """The layers that were called, but that `model.modules()` does not contain."""
    registered = {id(module) for module in model.modules()}
    others = {id(module): module for module in called if id(module) not in registered}
    return tuple(str(one) for one in others.values() if any(id(p) in recorded for p in one._parameters.values()))


def _logits(model: nn.Module, batch: Mapping[str, Any], forward: Forward | None) -> torch.Tensor:
    """The logits of the first rows, at most 64 tokens wide."""
    subject = make_subject(model, nn.functional.cross_entropy, forward, 0)
    inputs = {k: v.to(subject.device) for k, v in batch.items() if k != "labels" and isinstance(v, torch.Tensor)}
    rows = max(len(value) for value in inputs.values() if value.ndim)
    examples = ProbeRows(inputs, torch.zeros(rows, device=subject.device)).rows(slice(0, ROWS))
    refuse_unknown_ids(subject, examples)
    tokens = slice(-MAX_TOKENS, None) if padded_left(inputs) else slice(0, MAX_TOKENS)
    return logits_of(subject.forward(model, columns_of(examples, tokens).inputs))


@contextmanager
def _everything_recorded(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in which autograd records every parameter, frozen ones too, and compiled code is not used."""
    modes = [(module, module.training) for module in model.modules()]
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.eval()
        for parameter, _ in trainable:
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for parameter, is_trainable in trainable:
            parameter.requires_grad_(is_trainable)
        for module, training in modes:
            module.training = training


@contextmanager
def _called_modules() -> Iterator[list[nn.Module]]:
    """The modules whose `forward` ran."""
    called: list[nn.Module] = []
    handle = register_module_forward_hook(lambda module, args, output: called.append(module))
    try:
        yield called
    finally:
        handle.remove()


def _leaves(output: torch.Tensor) -> set[int]:
    """`id` of every leaf of `output`'s autograd graph."""
    leaves: set[int] = set()
    seen, waiting = {output.grad_fn}, [output.grad_fn]
    while waiting:
        for node in _inputs(waiting.pop()):
            if hasattr(node, "variable"):
                leaves.add(id(node.variable))
            elif node not in seen:
                seen.add(node)
                waiting.append(node)
    return leaves


def _leaves_of_last_matrix(logits: torch.Tensor) -> set[int]:
    """`id` of the parameters in the last layer with a matrix.

    Nodes are visited from the newest to the oldest. When only one is left to visit, the rest of the model reaches the
    logits only through it. The first such node after a matrix is the input of the last layer: for a linear layer its
    input, for LoRA the common input of the layer and its adapter.
    """
    leaves: set[int] = set()
    matrix = False
    seen = {logits.grad_fn}
    waiting = [_by_age(logits.grad_fn)] if logits.grad_fn is not None else []
    while waiting and not (matrix and len(waiting) == 1):
        for node in _inputs(heapq.heappop(waiting)[-1]):
            if hasattr(node, "variable"):
                leaves.add(id(node.variable))
                matrix = matrix or node.variable.ndim > 1
            elif node not in seen:
                seen.add(node)
                heapq.heappush(waiting, _by_age(node))
    return leaves


def _inputs(node: Any) -> Iterable[Any]:
    return (inner for inner, _ in node.next_functions if inner is not None) if node is not None else ()


def _by_age(node: Any) -> tuple[int, int, Any]:
    """An entry for a heap with the newest node first; autograd numbers nodes in the order of the forward pass."""
    return -node._sequence_nr(), id(node), node
