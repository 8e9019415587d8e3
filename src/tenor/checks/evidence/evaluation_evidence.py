"""Results on held-out rows, and the objects that computed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tenor.checks.evidence.conversion import convert
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.data.sequences import array_of, list_of


@dataclass(frozen=True, eq=False)
class ReportedSplit:
    """The reported results of one evaluated split; any part may be missing."""

    n: int
    confusion: np.ndarray | None = None
    """Counts, rows true and columns predicted, shape (K, K)."""
    accuracy: float | None = None
    loss: float | None = None
    """Mean cross-entropy in nats."""
    macro_f1: float | None = None
    macro_name: str = "macro F1"
    """Which mean over the classes it is: a balanced accuracy and an F1 of one class fall where a class is lost, too."""
    mcc: float | None = None
    """Matthews' correlation coefficient, -1 … 1."""
    recalls: Mapping[str, float] | None = None
    """The recall of each class, where neither a matrix nor the number of its rows is recorded."""
    report: Mapping[str, object] | None = None
    """scikit-learn's `classification_report(output_dict=True)`."""
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    """Shape (n, K)."""
    ids: Sequence[str] | None = None
    texts: Sequence[str] | None = None
    lengths: np.ndarray | None = None
    """Of each text, as its file records it (in tokens), shape (n,)."""
    expected_n: int | None = None
    """Number of rows in the split."""
    text_baseline_accuracy: float | None = None
    majority_accuracy: float | None = None
    class_names: tuple[str, ...] | None = None
    """Names of the classes 0 … K-1, if the rows contain them."""
    read_as: tuple[tuple[str, str], ...] | None = None
    """Pairs (class of the predictions, class of the labels) by which predictions were read if the two have no class
    name in common; () if they have one; None if the rows contain no predicted classes."""
    notes: tuple[str, ...] = ()
    """How the split was read if there was a choice, a sentence each."""

    def __post_init__(self) -> None:
        convert(self, array_of, "confusion", "labels", "predicted", "probabilities", "lengths")
        convert(self, list_of, "ids", "texts")


@dataclass(frozen=True)
class ValidationCourse:
    """All validations of a run, in the order of their steps."""

    accuracy: tuple[ValidationPoint, ...] = ()
    loss: tuple[ValidationPoint, ...] = ()
    """Mean cross-entropy in nats."""
    n_classes: int | None = None
    """If the run records it."""
    training_loss: float | None = None
    """The last one that was recorded."""
    first_training_loss: float | None = None
    """The last one before the first validation, or at the same step."""
    training_accuracy: tuple[ValidationPoint, ...] = ()
    score: tuple[ValidationPoint, ...] = ()
    """Another score of the validations, as a share, where no accuracy is recorded."""
    score_name: str = ""
    by_epoch: bool = False
    """Whether a step number counts epochs."""
    epochs: float | None = None
    """Epochs that were trained, if the step numbers do not count them."""


@dataclass(frozen=True, eq=False)
class EvaluationEvidence:
    """Results on held-out rows."""

    description: ClassVar[str] = "predictions or a confusion matrix"

    splits: Mapping[str, ReportedSplit]
    """By name, such as validation or test."""
    n_classes: int
    not_numbers: Mapping[str, tuple[str, ...]] | None = None
    """File or run → recorded metrics that are NaN or infinite, as "name is NaN"; None if no record was searched."""
    course: ValidationCourse | None = None
    """The validations during training, if they were recorded."""


@dataclass(frozen=True)
class MetricObject:
    """An object that accumulates a metric, as its value was computed."""

    name: str
    """Of its class."""
    training_updates: int
    """Since its last reset."""
    evaluation_updates: int


@dataclass(frozen=True)
class MetricObjectsEvidence:
    """The objects of torchmetrics whose value was computed."""

    description: ClassVar[str] = "the updates of metric objects (torchmetrics)"

    computed: int
    """Number of these objects."""
    mixed: tuple[MetricObject, ...]
    """Those with updates in training and in evaluation between two resets, as they were when first computed."""
