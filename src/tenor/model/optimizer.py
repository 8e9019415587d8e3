"""AdamW's parameter groups, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from tenor.config.schema import Training
from tenor.model.freezing import Anatomy, anatomy


def parameter_groups(model: nn.Module, settings: Training) -> list[dict]:
    """Groups of trainable parameters, each with its `names`, `peak_lr` and `weight_decay`.

    Biases and norms (one-dimensional parameters) have no weight decay. The head has its own rate; with `layer_decay` d
    below 1 the top layer has the body's rate, each lower layer d times that of the layer above, the embeddings the
    lowest (Howard and Ruder 2018; Sun et al. 2019).
    """
    parts = anatomy(model)
    groups: dict[tuple[float, float], dict] = {}
    depth = _depths(parts)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name in parts.head:
            rate = settings.learning_rate if settings.head_learning_rate is None else settings.head_learning_rate
        else:
            rate = settings.learning_rate * settings.layer_decay ** depth.get(id(parameter), 0)
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((rate, decay), {"params": [], "names": [], "peak_lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) in its fused form."""
    groups = [{**group, "lr": 0.0} for group in parameter_groups(model, settings)]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True)


def rate_factor(step: int, total_steps: int, settings: Training) -> float:
    """The share of the peak rate at `step` (0 … total_steps-1): linear warm-up, then the schedule.

    The rate is above 0 at the first and at the last step, so that no step is without effect.
    """
    warmup_steps = round(settings.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group `factor` times its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def _depths(parts: Anatomy) -> dict[int, int]:
    """The distance of each parameter of the body from the top layer, in layers, by `id`."""
    depths = {id(p): len(parts.layers) for module in parts.embeddings for p in module.parameters()}
    for index, layer in enumerate(parts.layers):
        depths |= {id(p): len(parts.layers) - 1 - index for p in layer.parameters()}
    return depths
