"""An exponential moving average (EMA) of the weights, which is what is validated and kept where it is asked for.

At a high rate the weights wander about a point that is better than they are; their average lies nearer to it (Polyak
and Juditsky 1992). The averages are part of the optimizer's state, so a checkpoint holds them like the moments.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

AVERAGE = "average"
"""Its key in a parameter's state, beside AdamW's moments."""


def update_averages(optimizer: torch.optim.Optimizer, decay: float, step: int) -> None:
    """Take the weights after optimizer step `step` (from 1) into the averages of those that learn.

    At first they forget faster than `decay` says, since the first weights are the furthest from where training leads
    (`num_updates` of TensorFlow's ExponentialMovingAverage).
    """
    factor = min(decay, (1 + step) / (10 + step))
    for group in optimizer.param_groups:
        # A weight that no step has moved yet has no state, and must not get one that AdamW takes for its own.
        moved = [parameter for parameter in group["params"] if optimizer.state.get(parameter)]
        states = [optimizer.state[parameter] for parameter in moved]
        weights = [parameter.detach() for parameter in moved]
        for weight, state in zip(weights, states, strict=True):
            if AVERAGE not in state:
                state[AVERAGE] = weight.clone()
        torch._foreach_lerp_([state[AVERAGE] for state in states], weights, 1.0 - factor)


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
            if AVERAGE in optimizer.state.get(parameter, {}):
                weight, average = parameter.clone(), optimizer.state[parameter][AVERAGE]
                parameter.copy_(average)
                average.copy_(weight)
