"""An exponential moving average (EMA) of the weights, which is validated and saved if `training.ema_decay` is set.

At a high learning rate the weights oscillate around a better point; their average is closer to it (Polyak and Juditsky
1992). The averages are part of the optimizer's state, so a checkpoint contains them like AdamW's moments.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

AVERAGE = "average"
"""Their key in a parameter's state, next to AdamW's moments."""


def update_averages(optimizer: torch.optim.Optimizer, decay: float, step: int) -> None:
    """Update the averages of the trainable weights after optimizer step `step` (from 1).

    Early averages decay faster than `decay`, because the first weights are the furthest from the result (`num_updates`
    of TensorFlow's ExponentialMovingAverage).
    """
    factor = min(decay, (1 + step) / (10 + step))
    for group in optimizer.param_groups:
        # A weight that was never updated has no state; AdamW would take a state with only an average for its own.
        moved = [parameter for parameter in group["params"] if optimizer.state.get(parameter)]
        states = [optimizer.state[parameter] for parameter in moved]
        weights = [parameter.detach() for parameter in moved]
        for weight, state in zip(weights, states, strict=True):
            if AVERAGE not in state:
                state[AVERAGE] = weight.clone()
        torch._foreach_lerp_([state[AVERAGE] for state in states], weights, 1.0 - factor)


@contextmanager
def averages_in_place(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within the block the model has the averages, if there are any, and the optimizer's state has the weights."""
    swap_averages(optimizer)
    try:
        yield
    finally:
        swap_averages(optimizer)


@torch.no_grad()
def swap_averages(optimizer: torch.optim.Optimizer) -> None:
    """Exchange weights and averages; a second call restores them."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # Copied in place, because replicas share the memory of the weights.
            if AVERAGE in optimizer.state.get(parameter, {}):
                weight, average = parameter.clone(), optimizer.state[parameter][AVERAGE]
                parameter.copy_(average)
                average.copy_(weight)
