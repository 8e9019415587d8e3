"""Cross-entropy whose sum over the parts of a batch equals the loss of the whole batch."""

import numpy as np
import torch

from tenor.config.schema import Training
from tenor.errors import UserError


def class_weights(settings: Training, labels: np.ndarray, n_classes: int) -> torch.Tensor | None:
    """One weight per class, shape (K,), or None where all count the same.

    `balanced` is n / (K · count), as in scikit-learn.

    Raises:
        UserError: as many weights as classes are needed.
    """
    if settings.class_weights == "none":
        return None
    if settings.class_weights == "balanced":
        counts = np.bincount(labels, minlength=n_classes)
        return torch.tensor(len(labels) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)
    if len(settings.class_weights) != n_classes:
        raise UserError(
            f"training.class_weights: {len(settings.class_weights)} weights for {n_classes} classes; give one per class"
        )
    return torch.tensor(settings.class_weights, dtype=torch.float32)


def total_weight(labels: torch.Tensor, weights: torch.Tensor | None) -> float:
    """What a batch's summed loss is divided by: its number of examples, or the sum of their weights."""
    return float(len(labels)) if weights is None else float(weights[labels].sum())


def summed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, label_smoothing: float
) -> torch.Tensor:
    """Weighted cross-entropy on raw logits (rows, K), summed over the rows, in float32."""
    return torch.nn.functional.cross_entropy(
        logits.float(), labels, weight=weights, label_smoothing=label_smoothing, reduction="sum"
    )
