"""Classification metrics of one split, from labels and probabilities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tenor.data.sequences import array_of, list_of
from tenor.runs.predictions import require_distributions, require_labels


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest; `support` is its number of true rows."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Metrics:
    """Shares in 0 … 1, where a denominator of 0 gives 0; `loss` is the mean negative log-likelihood in nats."""

    n: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    loss: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Counts, shape (K, K): rows are true classes, columns predicted ones."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return values | {"per_class": list(values["per_class"]), "confusion": [list(row) for row in self.confusion]}


def measure(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> Metrics:
    """Measure predictions, the most probable class of each row (of equal ones the lowest).

    `labels` is (n,) with class indices, `probabilities` is (n, K). Like scikit-learn's `log_loss`, the loss takes a
    probability below the resolution of float64 (2.2e-16) as that, so one certain mistake costs 36 nats, not infinity.
    Raises ValueError for no rows, shapes that do not fit, labels outside 0 … K-1, and rows that are not a distribution,
    and UserError for an argument that is not a sequence.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    class_names = list_of(class_names, "class_names")
    classes = range(len(class_names))
    labels, probabilities = check_labels(labels, len(classes)), check_probabilities(probabilities, len(classes))
    if len(labels) != len(probabilities):
        raise ValueError(f"{len(labels)} labels, but {len(probabilities)} rows of probabilities")
    predicted = probabilities.argmax(axis=1)

    def scores(average: str | None) -> Any:
        return precision_recall_fscore_support(labels, predicted, labels=classes, average=average, zero_division=0)

    macro, weighted, each = scores("macro"), scores("weighted"), scores(None)
    return Metrics(
        n=len(labels),
        accuracy=float((predicted == labels).mean()),
        macro_precision=float(macro[0]),
        macro_recall=float(macro[1]),
        macro_f1=float(macro[2]),
        weighted_precision=float(weighted[0]),
        weighted_recall=float(weighted[1]),
        weighted_f1=float(weighted[2]),
        loss=mean_negative_log_likelihood(labels, probabilities),
        per_class=tuple(
            ClassMetrics(name, float(precision), float(recall), float(f1), int(support))
            for name, precision, recall, f1, support in zip(class_names, *each, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(labels, predicted, labels=classes)),
    )


def classification_report(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> dict[str, Any]:
    """scikit-learn's `classification_report(output_dict=True)` over the classes "0" … "K-1", as plain Python values.

    `labels` and `predictions` are (n,) with class indices. Raises ValueError as `measure` does.
    """
    from sklearn import metrics

    labels, predictions = check_labels(labels, n_classes), check_labels(predictions, n_classes)
    report = metrics.classification_report(
        labels, predictions, labels=range(n_classes), output_dict=True, zero_division=0
    )
    return {
        key: {name: float(value) for name, value in entry.items()} if isinstance(entry, dict) else float(entry)
        for key, entry in report.items()
    }


def check_labels(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """`labels` as int64, shape (n,), read by position; ValueError unless n > 0 and all are class indices."""
    labels = array_of(labels, "labels")
    require_labels(labels, n_classes)
    return labels.astype(np.int64)


def check_probabilities(probabilities: np.ndarray, n_classes: int) -> np.ndarray:
    """`probabilities` as float64, shape (n, K), read by position; ValueError unless n > 0 and every row is a
    distribution."""
    probabilities = check_numbers(probabilities, "probabilities")
    require_distributions(probabilities, n_classes)
    return probabilities


def check_predictions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as `check_probabilities` and `check_labels` give them, K being the width of `probabilities`.

    Raises ValueError as they do, and where the rows differ in number.
    """
    probabilities = array_of(probabilities, "probabilities")
    n_classes = probabilities.shape[1] if probabilities.ndim == 2 else 0
    probabilities, labels = check_probabilities(probabilities, n_classes), check_labels(labels, n_classes)
    if len(labels) != len(probabilities):
        raise ValueError(f"{len(labels)} labels, but {len(probabilities)} rows of probabilities")
    return probabilities, labels


def check_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """`values` as float64, of any shape, read by position; ValueError unless they are numbers."""
    try:
        return array_of(values, name).astype(np.float64)
    except TypeError as error:
        raise ValueError(f"{name} are not all numbers: {error}") from error


def mean_negative_log_likelihood(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """In nats, of checked labels (n,) and probabilities (n, K); a certain mistake costs 36, not infinity.

    The same as scikit-learn's `log_loss`, without its repeated validation.
    """
    likelihood = probabilities[np.arange(len(labels)), labels]
    resolution = np.finfo(np.float64).eps
    return float(-np.log(likelihood.clip(resolution, 1.0)).mean())
