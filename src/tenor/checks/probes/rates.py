"""The learning-rate range test: a few steps at rising rates, until the loss runs away (Smith 2017)."""

import math
import time
from typing import Any

import numpy as np
import torch

from tenor.checks.probes.learn import make_optimizer, train_step, weights_kept
from tenor.checks.probes.subject import Examples, Subject

LOWEST, HIGHEST = 1e-6, 1.0
STEPS, MIN_STEPS = 42, 24
"""Seven to a decade, at least four."""

ROWS = 8
SMOOTHING = 0.7
"""Weight of the past in the moving mean of the losses."""


def rising_rates(subject: Subject, examples: Examples, deadline: float) -> dict[str, Any]:
    """Losses before each of some steps whose rate rises from 1e-6 to 1 in equal factors; the weights are put back.

    It ends where the loss has run away. Raises RuntimeError where the time allows too few steps.
    """
    order = torch.randperm(len(examples)).to(subject.device)
    parts = [part for part in order.split(ROWS) if len(part) > 1]
    away = math.log(max(2, subject.n_classes))
    losses: list[float] = []
    with weights_kept(subject.model), torch.enable_grad():
        optimizer = make_optimizer(subject.model)
        steps = _affordable(subject, examples.rows(parts[0]), optimizer, deadline)
        rates = np.geomspace(LOWEST, HIGHEST, steps)
        for step, rate in enumerate(rates.tolist()):
            for group in optimizer.param_groups:
                group["lr"] = rate
            part = examples.rows(parts[step % len(parts)])
            losses.append(train_step(subject, part.inputs, part.labels, optimizer))
            means = moving_mean(losses)
            if not math.isfinite(losses[-1]) or means[-1] > min(means) + away:
                break
    return {"rates_tried": tuple(rates[: len(losses)].tolist()), "losses_at_rates": tuple(losses)}


def _affordable(subject: Subject, part: Examples, optimizer: torch.optim.Optimizer, deadline: float) -> int:
    """How many steps the time allows, from one at the lowest rate that is timed."""
    for group in optimizer.param_groups:
        group["lr"] = LOWEST
    started = time.monotonic()
    train_step(subject, part.inputs, part.labels, optimizer)
    steps = int((deadline - started) / max(1e-6, time.monotonic() - started))
    if steps < MIN_STEPS:
        raise RuntimeError(f"the time allows {max(0, steps)} steps; {MIN_STEPS} are needed")
    return min(STEPS, steps)


def moving_mean(losses: list[float]) -> list[float]:
    """Exponential, corrected for its start."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**number))
    return found
