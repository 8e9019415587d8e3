"""Prediction of masked tokens: the loss and the metrics of masked-language-model training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # PyTorch takes seconds to import, and reading results does not need it.
    import torch


@dataclass(frozen=True)
class MaskedTokens:
    """The objective of adaptation: a `TrainingObjective` without classes.

    A row's label is the count of its selected tokens; the labels of a forward pass are the original ids of its selected
    tokens. So the loss of a batch is the mean over its selected tokens, whatever passes they are computed in.
    """

    class_names: tuple[str, ...] = ()

    def summed_loss(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """Summed cross-entropy of logits (selected, vocabulary) in float32; fillers do not count."""
        from torch.nn.functional import cross_entropy

        from tenor.data.masking import NOT_COUNTED

        return cross_entropy(logits.float(), labels, reduction="sum", ignore_index=NOT_COUNTED)

    def total_weight(self, labels: "torch.Tensor") -> float:
        """The selected tokens of a batch."""
        return float(labels.sum())

    def label_counts(self, labels: np.ndarray) -> np.ndarray:
        """There are no classes: shape (0,)."""
        return np.zeros(0, dtype=np.int64)

    def prediction_counts(self, logits: "torch.Tensor") -> "torch.Tensor":
        """There are no classes: int64, shape (0,)."""
        import torch

        return torch.zeros(0, dtype=torch.int64, device=logits.device)

    def validation_metrics(self, labels: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, float], list[list[int]]]:
        """`outputs`: for each row the summed loss and the count of tokens predicted right, shape (rows, 2)."""
        loss, right = (float(total) / int(labels.sum()) for total in outputs.astype(np.float64).sum(axis=0))
        return {"loss": loss, "perplexity": perplexity(loss), "masked_accuracy": right}, []

    def prefers(self, metrics: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """The lower loss."""
        return metrics["loss"] < other["loss"]


def perplexity(loss: float) -> float:
    """e to the power of a loss in nats: between how many equally likely tokens the model chooses."""
    return math.exp(min(loss, 700.0))


def unigram_entropy(counts: np.ndarray) -> float:
    """The entropy of tokens with these counts, nats: the loss of a model that knows only how frequent each token is."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
