"""Whether a loss is a function of the mean cross-entropy of its batch, read from the gradient at the logits.

Let r be the factor of a row's cross-entropy: its gradient is `r (p - one-hot(label))`. A loss f(m) of a (weighted) mean
m has the same r for all rows of a class, and the sum of r is f'(m). So the rows give m and f'(m) of each forward pass,
whatever the weights are. A focal factor that is computed from the mean, f(m) = (1 - exp(-m))^γ m, has for every pass
f'(m) = h(exp(-m)), with the h that a focal loss has for single rows; for a plain mean it is constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tenor.checks.evidence.training_evidence import FocalFit
from tenor.checks.loss_families import EXACT, ROUNDED, UNSURE_EXACT, WIDE, focal_factor
from tenor.checks.loss_gradients import UNSURE, ForwardPass

LARGEST_GAMMA = 10.0
"""Usual exponents are 0.5 to 5 (Lin et al. 2017)."""

STEP, SMALLEST_STEP = 0.25, 1e-6
"""Distances of the exponents that are tried; halving is faster than the import of SciPy's minimizers."""

CONSTANT = 1e-3
"""Standard deviation of the logarithms of the factors below which they are the same."""


@dataclass(frozen=True)
class MeanLoss:
    """One forward pass whose loss depends on its rows through one mean only."""

    mean: float
    """The mean cross-entropy m of its rows, in nats; weighted as the loss weights them."""
    factor: float
    """The derivative of the loss with respect to m: 1 for a mean that is not divided by a number of passes."""


def read_mean(forward: ForwardPass) -> MeanLoss | None:
    """The mean and its factor; None where rows of one class have different factors, as in a focal loss of each row,
    and where that cannot be told: a single row, rows that are all alike, a gradient that is too short."""
    is_exact = forward.gradient.dtype in (torch.float32, torch.float64)
    tolerance, short = (EXACT, UNSURE_EXACT) if is_exact else (ROUNDED, UNSURE)
    logits, gradient = forward.logits.cpu().double(), forward.gradient.cpu().double().numpy()
    labels, k = forward.classes.cpu().numpy(), logits.shape[1]
    given = (labels >= 0) & (labels < k) & gradient.any(axis=1)
    if not (np.isfinite(gradient).all() and bool(torch.isfinite(logits).all())):
        return None
    nats, gradient, labels = -logits.log_softmax(dim=1).numpy()[given], gradient[given], labels[given]
    ideal = np.exp(-nats) - np.eye(k)[labels]
    nats = nats[np.arange(len(labels)), labels]
    factors, tells_rows_apart = np.zeros(len(labels)), False
    for label in np.unique(labels):
        own = labels == label
        length = float(np.linalg.norm(ideal[own]))
        factor = float((gradient[own] * ideal[own]).sum()) / max(length, 1e-30) ** 2
        off = float(np.linalg.norm(gradient[own] - factor * ideal[own]))
        if length < short or factor <= 0 or off > tolerance * factor * length:
            return None
        factors[own] = factor
        tells_rows_apart = tells_rows_apart or float(np.exp(-nats[own]).std()) >= WIDE
    return MeanLoss(float((factors * nats).sum() / factors.sum()), float(factors.sum())) if tells_rows_apart else None


def fit_focal(passes: Sequence[MeanLoss]) -> FocalFit:
    """The exponent γ with which a focal factor of the mean explains the factors of at least one pass best."""
    logarithms = np.log([one.factor for one in passes])
    p = np.exp(-np.array([one.mean for one in passes]))
    change = float(logarithms.std())

    def error(gamma: float) -> float:
        return float((logarithms - np.log(focal_factor(p, gamma))).std())

    if change < CONSTANT:
        return FocalFit(0.0, change, change, len(passes))
    gamma, step = min(np.arange(0.0, LARGEST_GAMMA, STEP), key=error), STEP
    while step > SMALLEST_STEP:
        step /= 2
        gamma = min((max(gamma - step, 0.0), gamma, gamma + step), key=error)
    return FocalFit(float(gamma), error(gamma), change, len(passes))
