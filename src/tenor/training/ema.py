"""An exponential moving average (EMA) of the weights, which is what is validated and kept where it is asked for.

At a high rate the weights wander about a point that is better than they are; their average lies nearer to it (Polyak
and Juditsky 1992). The averages are part of the optimizer's state, so a checkpoint holds them like the moments.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

KEY = "average"


def update_averages(optimizer: torch.optim.Optimizer, decay: float, step: int) -> None:
    """Take the weights after optimizer step `step` (from 1) into the averages of those that learn.

    Early averages forget faster than `decay` says: the first weights are no better than their distance from the end.
    """
    factor = min(decay, (1 + step) / (10 + step))
    for group in optimizer.param_groups:
        # A weight that no step has moved yet has no state, and must not get one that AdamW takes for its own.
        moved = [parameter for parameter in group["params"] if optimizer.state.get(parameter)]
        states = [optimizer.state[parameter] for parameter in moved]
        weights = [parameter.detach() for parameter in moved]
        for weight, state in zip(weights, states, strict=True):
            if KEY not in state:
                state[KEY] = weight.clone()
        torch._foreach_lerp_([state[KEY] for state in states], weights, 1.0 - factor)


@contextmanager
def averages_in_place(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within the block the model holds the averages, where there are any, and the optimizer's state the weights."""
    swap_averages(optimizer)
    try:
        yield
    finally:
        swap_averages(optimizer)


@torch.no_grad()
def swap_averages(optimizer: torch.optim.Optimizer) -> None:
    """Exchange weights and averages; twice changes nothing."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # Copied and not renamed: replicas share the memory of the weights.
            if KEY in optimizer.state.get(parameter, {}):
                weight, average = parameter.clone(), optimizer.state[parameter][KEY]
                parameter.copy_(average)
                average.copy_(weight)
