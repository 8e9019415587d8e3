"""What a loss is, read from the logits and their gradient.

The gradient of a mean cross-entropy with respect to the logits is `(softmax - one-hot) / rows`. So logits and their
gradient together give the label of each row and the factor by which the loop multiplied its loss.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

MIN_INFORMATIVE_ROWS = 6
"""Rows with a gradient of sufficient length that are needed to distinguish a loss of probabilities from others."""

MOST_CLASSES = 64
"""With more classes, trying every label of every row would take megabytes."""

UNSURE = 0.05
"""Below this length, a row's gradient is too short to determine the factor."""

AGREES = 0.02
"""Largest relative difference between the gradients of the same loss; label smoothing and focal loss differ more."""


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass that was followed by a backward pass; tensors of shape (rows, K)."""

    step: int
    logits: torch.Tensor
    gradient: torch.Tensor
    labels: torch.Tensor | None = None
    """Of shape (rows,), where the model was called with them."""

    @property
    def classes(self) -> torch.Tensor:
        """The class of each row: the label, or the class whose logit the gradient raises most."""
        return self.gradient.argmin(dim=1) if self.labels is None else self.labels

    @property
    def nats(self) -> torch.Tensor:
        """The mean cross-entropy of the rows with a label, in nats, shape (); NaN where there are none."""
        logits, classes = self.logits.float().cpu(), self.classes.cpu()  # On a GPU, an odd label would be fatal.
        given = (classes >= 0) & (classes < logits.shape[1])
        return nn.functional.cross_entropy(logits[given], classes[given])


def loss_factor(forward: ForwardPass) -> float:
    """Sum over the rows of the factors before their cross-entropies: 1 for a mean, the number of rows for a sum.

    NaN if the gradient is not that of a cross-entropy, or too short to determine the factor.
    """
    logits, gradient = forward.logits.cpu().double(), forward.gradient.cpu().double()  # Apple GPUs have no float64.
    if not bool(torch.isfinite(gradient).all()):
        return float("nan")
    label = gradient.argmin(dim=1)
    ideal = logits.softmax(dim=1) - nn.functional.one_hot(label, logits.shape[1])
    length, ideal_length = gradient.norm(dim=1), ideal.norm(dim=1)
    usable = (ideal_length > UNSURE) & (length > 0)
    if not bool(usable.any()):
        return float("nan")
    factor = float((length / ideal_length)[usable].mean())
    if float((gradient - factor * ideal)[usable].norm() / gradient[usable].norm()) > AGREES:
        return float("nan")
    return factor * len(logits)


def kind_of_loss(forward: ForwardPass) -> Literal["mean", "sum", "probabilities"] | None:
    """The kind of loss according to its gradient: a mean or a sum of cross-entropies, or one applied to probabilities.

    None if it is none of these, or cannot be determined.
    """
    rows, factor = len(forward.logits), loss_factor(forward)
    if not bool(torch.isfinite(forward.gradient).all()):
        return None
    plain, of_probabilities = bool(np.isfinite(factor)), is_loss_of_probabilities(forward)
    if plain == of_probabilities:  # Neither fits, or both do, as with a few similar rows.
        return None
    if of_probabilities:
        return "probabilities"
    return "sum" if rows > 1 and abs(factor / rows - 1) < AGREES else "mean"


def is_loss_of_probabilities(forward: ForwardPass) -> bool:
    """Whether the gradient is that of a cross-entropy applied to softmax(logits), for some label in each row."""
    if forward.logits.shape[1] > MOST_CLASSES:
        return False
    gradient, p = forward.gradient.cpu().double(), forward.logits.cpu().double().softmax(dim=1)
    lengths = gradient.norm(dim=1)
    # If one or two rows have nearly all of the gradient, some labels and scale fit any loss. Near a probability of 1,
    # the gradients of both losses decrease in the same proportion.
    informative = (lengths > UNSURE * lengths.max()) & (p.amax(dim=1) < 1 - UNSURE)
    if int(informative.sum()) < MIN_INFORMATIVE_ROWS:
        return False
    q = p.softmax(dim=1)
    without_label = p * (q - (p * q).sum(dim=1, keepdim=True))
    # For every row and every possible label, shape (rows, K, K).
    expected = without_label[:, None, :] - torch.diag_embed(p) + p[:, None, :] * p[:, :, None]
    similarity = nn.functional.cosine_similarity(expected, gradient[:, None, :], dim=2, eps=1e-30)
    likeliest = expected[torch.arange(len(p)), similarity.argmax(dim=1)]
    scale = float((gradient * likeliest).sum() / (likeliest * likeliest).sum().clamp_min(1e-30))
    return float((gradient - scale * likeliest).norm() / gradient.norm().clamp_min(1e-30)) < AGREES
