"""Models with one output per row for two classes, trained with a binary cross-entropy.

With the logits 0 and z, softmax gives the same probabilities as the sigmoid of z, and the cross-entropy is the binary
one. So such a model is judged as one with two logits.
"""

from typing import Any, Literal

import torch

from tenor.checks.labels_and_logits import logits_of

OutputKind = Literal["logit", "probability"]
"""What the one output is: the logit z of the second class, or its probability."""


def scores_in(output: Any) -> torch.Tensor | None:
    """The tensor with one number per row in a model's output, shape (rows,) or (rows, 1); None for other outputs."""
    found: torch.Tensor | None
    try:
        found = logits_of(output)
    except TypeError:
        parts = output if isinstance(output, tuple | list) else ()
        found = next((part for part in parts if isinstance(part, torch.Tensor) and part.ndim == 1), None)
    if found is None or not isinstance(found, torch.Tensor) or not found.is_floating_point() or not found.numel():
        return None
    return found if found.ndim == 1 or (found.ndim == 2 and found.shape[1] == 1) else None


def two_logits(scores: torch.Tensor, kind: OutputKind) -> torch.Tensor:
    """The logits 0 and z of the two classes, shape (rows, 2), from outputs of shape (rows,) or (rows, 1)."""
    column = scores.reshape(-1)
    z = column if kind == "logit" else torch.special.logit(column, eps=torch.finfo(column.dtype).eps)
    return torch.stack([torch.zeros_like(z), z], dim=1)


def gradient_of_two(gradient: torch.Tensor, scores: torch.Tensor, kind: OutputKind) -> torch.Tensor:
    """The gradient at the logits 0 and z that belongs to `gradient` at the outputs, shape (rows, 2): that of a
    cross-entropy adds up to 0 over the classes of a row."""
    gradient, column = gradient.reshape(-1), scores.reshape(-1)
    of_z = gradient if kind == "logit" else gradient * column * (1 - column)
    return torch.stack([-of_z, of_z], dim=1)


def zero_one(labels: Any) -> torch.Tensor | None:
    """Class indices, shape (rows,), of labels of shape (rows,) or (rows, 1) that are all 0 or 1, whatever their type;
    None for others."""
    if not isinstance(labels, torch.Tensor):
        return None
    labels = labels.detach()
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not len(labels) or not bool(((labels == 0) | (labels == 1)).all()):
        return None
    return labels.long()
