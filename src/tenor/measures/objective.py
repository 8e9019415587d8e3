"""Single-label classification: its loss, probabilities, predictions and metrics, and which checkpoint is the best.

The training loop, prediction and evaluation take all of these from here. `TrainingObjective` is what the loop needs of
any objective; masked-token prediction (`masked_tokens.py`) is the other one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tenor.config.schema import Training
from tenor.errors import UserError
from tenor.measures.metrics import measure

if TYPE_CHECKING:  # PyTorch takes seconds to import, and reading results does not need it.
    import torch

LARGER_IS_BETTER = {"accuracy": True, "macro_f1": True, "loss": False}
"""The metrics of a validation, each of which `training.select_by` can name."""


class TrainingObjective(Protocol):
    """How the loop turns a model's outputs into a loss, and validations into a choice of the best checkpoint."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are counted in every step; none where there are no classes."""

    def summed_loss(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """The loss of a forward pass, summed over its terms, in float32; `labels` are the pass's own."""

    def total_weight(self, labels: "torch.Tensor") -> float:
        """The divisor of a batch's summed loss, from the labels of its rows."""

    def label_counts(self, labels: np.ndarray) -> np.ndarray:
        """How often each class is the label of the rows, shape (K,)."""

    def prediction_counts(self, logits: "torch.Tensor") -> "torch.Tensor":
        """How often each class is predicted, int64, shape (K,), on the device of the logits."""

    def validation_metrics(self, labels: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, float], list[list[int]]]:
        """The metrics by name, and a confusion matrix (empty without classes), from the validation's outputs."""

    def prefers(self, metrics: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether a validation with these metrics is better than the other."""


@dataclass(frozen=True)
class Objective:
    """What the model is trained for, and how its outputs are measured while it trains."""

    class_names: tuple[str, ...]
    class_weights: "torch.Tensor | None" = None
    """Weight of each class in the loss, shape (K,); None: the same for all."""
    label_smoothing: float = 0.0
    select_by: str = "accuracy"
    """The metric that chooses the best checkpoint."""

    def summed_loss(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """Weighted cross-entropy on raw logits (rows, K), summed over the rows, in float32.

        Divided by the `total_weight` of a whole batch, the sums over its parts add up to the loss of the batch.
        """
        from torch.nn.functional import cross_entropy

        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return cross_entropy(
            logits.float(), labels, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )

    def total_weight(self, labels: "torch.Tensor") -> float:
        """The divisor of a batch's summed loss: its number of examples, or the sum of their weights."""
        if self.class_weights is None:
            return float(len(labels))
        return float(self.class_weights.to(labels.device)[labels].sum())

    def mean_loss(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """The loss of a whole batch, a scalar."""
        return self.summed_loss(logits, labels) / self.total_weight(labels)

    def label_counts(self, labels: np.ndarray) -> np.ndarray:
        """How often each class is the label, shape (K,)."""
        return np.bincount(labels, minlength=len(self.class_names))

    def prediction_counts(self, logits: "torch.Tensor") -> "torch.Tensor":
        """How often each class is predicted, int64, shape (K,), from logits (rows, K) and on their device."""
        predicted = logits.detach().argmax(dim=1, keepdim=True)
        return (predicted == predicted.new_tensor(range(logits.shape[1]))).sum(dim=0)

    def validation_metrics(self, labels: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, float], list[list[int]]]:
        """The metrics by name, and the confusion matrix (rows true, columns predicted); `outputs` are logits (n, K)."""
        metrics = measure(labels, class_probabilities(outputs), self.class_names)
        values = {name: float(getattr(metrics, name)) for name in LARGER_IS_BETTER}
        return values, [list(row) for row in metrics.confusion]

    def prefers(self, metrics: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether a validation with these metrics is better than the other; ties go to the lower loss."""
        return self._rank(metrics) > self._rank(other)

    def _rank(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        value = metrics[self.select_by]
        return (value if LARGER_IS_BETTER[self.select_by] else -value, -metrics["loss"])


def make_objective(settings: Training, labels: np.ndarray, class_names: tuple[str, ...]) -> Objective:
    """The objective of a run, whose training rows have these labels.

    Raises:
        UserError: the number of class weights is not the number of classes.
    """
    weights = class_weights(settings, labels, len(class_names))
    return Objective(class_names, weights, settings.label_smoothing, settings.select_by)


def class_weights(settings: Training, labels: np.ndarray, n_classes: int) -> "torch.Tensor | None":
    """One weight per class, shape (K,), or None where all count the same.

    `balanced` is n / (K · count), as in scikit-learn.

    Raises:
        UserError: the number of weights is not the number of classes.
    """
    import torch

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


def class_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The softmax of logits (rows, K) divided by `temperature`: float64, shape (rows, K)."""
    from scipy.special import softmax

    probabilities: np.ndarray = softmax(logits.astype(np.float64) / temperature, axis=1)
    return probabilities


def predicted_classes(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of each row, the lowest of equal ones: int64, shape (rows,)."""
    return probabilities.argmax(axis=1)


def metrics_line(metrics: Mapping[str, float]) -> str:
    """The metrics of a validation for the console: `accuracy 87.00%  macro F1 0.8699  loss 0.3012`."""
    return f"accuracy {metrics['accuracy']:.2%}  macro F1 {metrics['macro_f1']:.4f}  loss {metrics['loss']:.4f}"
