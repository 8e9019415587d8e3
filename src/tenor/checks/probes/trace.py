"""What one forward pass shows of a model: its outputs, the parameters that take part, those that give the logits."""

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
    Examples,
    columns_of,
    logits_of,
    make_subject,
    padded_left,
    refuse_unknown_ids,
)

ROWS = 2

FAILS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError)
"""What a model that is not made for an experiment raises."""


@dataclass(frozen=True)
class Trace:
    """One forward pass; names are those of `model.named_parameters()`."""

    n_outputs: int
    """Columns of the logits."""
    used: frozenset[str]
    """Parameters that take part: their module was called, or the logits were computed from them."""
    output_layer: frozenset[str]
    """Parameters of the last layer with a matrix, adapters in it included; empty where autograd records nothing."""


def trace(model: nn.Module, batch: Mapping[str, Any]) -> Trace:
    """Run two rows of `batch` (tensors by name, (rows, …) each) through the unwrapped model in evaluation mode.

    Modes, gradients, `requires_grad` and random states are afterwards as they were. Raises CannotTell, with the reason,
    where the model can't be called with the batch or gives no logits.
    """
    model = unwrapped(model)
    names = {id(p): name for name, p in model.named_parameters()}
    try:
        with random_states_kept(), _everything_recorded(model), _called_modules() as called:
            logits = _logits(model, batch)
            recorded = _leaves(logits)
    except FAILS as error:
        raise CannotTell(f"the model could not be called: {type(error).__name__}: {str(error)[:200]}") from error
    owned = {id(p) for module in called for p in module._parameters.values() if p is not None}
    return Trace(
        n_outputs=logits.shape[-1] if logits.ndim > 1 else 1,
        used=frozenset(name for key, name in names.items() if key in owned or key in recorded),
        output_layer=frozenset(names[key] for key in _leaves_of_last_matrix(logits) if key in names),
    )


def _logits(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    """Of the first rows, at most 64 tokens wide."""
    subject = make_subject(model, nn.functional.cross_entropy, None, 0)
    inputs = {k: v.to(subject.device) for k, v in batch.items() if k != "labels" and isinstance(v, torch.Tensor)}
    rows = max(len(value) for value in inputs.values() if value.ndim)
    examples = Examples(inputs, torch.zeros(rows, device=subject.device)).rows(slice(0, ROWS))
    refuse_unknown_ids(subject, examples)
    tokens = slice(-MAX_TOKENS, None) if padded_left(inputs) else slice(0, MAX_TOKENS)
    return logits_of(subject.forward(model, columns_of(examples, tokens).inputs))


@contextmanager
def _everything_recorded(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in which autograd records every parameter, frozen ones too, and nothing runs compiled."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.eval()
        for parameter, _ in learning:
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for parameter, learns in learning:
            parameter.requires_grad_(learns)
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
    """`id` of every leaf from which autograd recorded that `output` was computed."""
    found: set[int] = set()
    seen, waiting = {output.grad_fn}, [output.grad_fn]
    while waiting:
        for node in _inputs(waiting.pop()):
            if hasattr(node, "variable"):
                found.add(id(node.variable))
            elif node not in seen:
                seen.add(node)
                waiting.append(node)
    return found


def _leaves_of_last_matrix(logits: torch.Tensor) -> set[int]:
    """`id` of the parameters between the logits and the nearest point that everything below passes through.

    Nodes are visited from the newest to the oldest. Where only one is left to visit, the rest of the model reaches the
    logits through it alone. The first such point with a matrix above it is the input of the last layer: for a linear
    layer its input, for LoRA the common input of the layer and of its adapter.
    """
    found: set[int] = set()
    matrix = False
    seen = {logits.grad_fn}
    waiting = [_by_age(logits.grad_fn)] if logits.grad_fn is not None else []
    while waiting and not (matrix and len(waiting) == 1):
        for node in _inputs(heapq.heappop(waiting)[-1]):
            if hasattr(node, "variable"):
                found.add(id(node.variable))
                matrix = matrix or node.variable.ndim > 1
            elif node not in seen:
                seen.add(node)
                heapq.heappush(waiting, _by_age(node))
    return found


def _inputs(node: Any) -> Iterable[Any]:
    return (inner for inner, _ in node.next_functions if inner is not None) if node is not None else ()


def _by_age(node: Any) -> tuple[int, int, Any]:
    """For a heap that gives the newest first; autograd numbers its nodes in the order of the forward pass."""
    return -node._sequence_nr(), id(node), node
