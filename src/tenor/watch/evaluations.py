"""What a program evaluates: logits of calls without gradients, and the metrics that it computes from predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tenor.checks.one_output import zero_one
from tenor.watch.heard_rows import SeenRows, labels_in_batch, zero_one_in_batch

if TYPE_CHECKING:
    from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
    from tenor.watch.observer import Observer

MOST_ROWS = 200_000
"""Rows of one evaluation whose logits are kept."""
MOST_EVALUATIONS = 64
MOST_COLUMNS = 64
OTHER_ROWS = 1.5
"""A metric of this many times the rows that the model was given last is of rows gathered from several models, as in
cross-validation; rows that processes repeat are few."""


@dataclass(eq=False)
class SeenEvaluation:
    """One pass over rows without gradients, or one set of predictions that a metric was given."""

    step: int
    """Optimizer steps before it."""
    loader: int = 0
    """Id of the loader of its batches; 0 if there was none."""
    logits: list[np.ndarray] = field(default_factory=list)
    heard_labels: list[np.ndarray | None] = field(default_factory=list)
    rows: SeenRows = field(default_factory=SeenRows)
    labels: np.ndarray | None = None
    """As a metric was given them, shape (rows,)."""
    predicted: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    accuracy: float | None = None
    expected_n: int | None = None
    is_closed: bool = False
    """Whether a metric was computed: what follows is another evaluation."""
    has_parts: bool = False
    """Whether a metric was computed of one of its calls alone."""

    @property
    def n(self) -> int:
        return sum(len(part) for part in self.logits)


class Evaluations:
    """The evaluations of one process, in order."""

    def __init__(self, observer: "Observer") -> None:
        self._observer = observer
        self.all: list[SeenEvaluation] = []
        self.has_calls = False
        """Whether any model was called without gradients, whatever it returned."""
        self.begun = 0
        """Passes over rows without gradients."""
        self._open: SeenEvaluation | None = None
        self._reported = 0
        """Evaluations at the last report of a Trainer."""

    @property
    def last(self) -> SeenEvaluation | None:
        """The newest one."""
        return self.all[-1] if self.all else None

    # Calls of models

    def on_call(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        logits: torch.Tensor | None,
        loader: Any,
        batch: Any,
    ) -> None:
        """A call of a model without gradients."""
        self.has_calls = True
        if logits is None or not 2 <= logits.shape[1] <= MOST_COLUMNS:
            return
        evaluation = self._current(id(loader) if loader is not None else 0)
        if evaluation.n > MOST_ROWS:
            return
        labels = _labels_in(kwargs, batch, logits)
        evaluation.logits.append(logits.detach().float().cpu().numpy())
        evaluation.heard_labels.append(None if labels is None else labels.cpu().numpy())
        evaluation.rows.add(args, kwargs, labels if labels is not None else torch.zeros(len(logits), dtype=torch.long))

    def on_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """A loss without gradients: it shows the labels of the last call, if it was computed from its logits. A model
        that computes its own loss does so before its call ends."""
        evaluation = self._open
        if evaluation is None or not evaluation.logits:
            return
        if logits.numel() == len(evaluation.logits[-1]):
            self._on_binary_loss(evaluation, logits, labels)
        if logits.ndim != 2 or labels.ndim != 1:
            return
        if labels.is_floating_point() or logits.shape != evaluation.logits[-1].shape:
            return
        if np.array_equal(logits.detach().float().cpu().numpy(), evaluation.logits[-1]):
            evaluation.heard_labels[-1] = labels.cpu().numpy()

    def _on_binary_loss(self, evaluation: SeenEvaluation, given: torch.Tensor, labels: torch.Tensor) -> None:
        """The same for a binary cross-entropy of one number per row: the logit, or its sigmoid."""
        classes, z = zero_one(labels), evaluation.logits[-1][:, 1]
        values = given.detach().reshape(-1).float().cpu().numpy()
        if (
            classes is not None
            and len(classes) == len(z)
            and any(np.allclose(values, one) for one in (z, 1 / (1 + np.exp(-z))))
        ):
            evaluation.heard_labels[-1] = classes.cpu().numpy()

    def on_labels(self, labels: Any) -> None:
        """True classes that a metric was given batch by batch."""
        evaluation = self._open
        if (
            torch.is_grad_enabled()
            or evaluation is None
            or not evaluation.logits
            or not isinstance(labels, torch.Tensor)
        ):
            return
        classes = zero_one(labels) if labels.is_floating_point() else labels
        if classes is not None and classes.shape == (len(evaluation.logits[-1]),):
            evaluation.heard_labels[-1] = classes.cpu().numpy()

    def on_reported(self, accuracy: float) -> None:
        """The accuracy that a Trainer reports for the passes since the last report. Where its metric was computed batch
        by batch, these are one evaluation."""
        parts = [one for one in self.all[self._reported :] if one.logits]
        self._reported = len(self.all)
        if len(parts) < 2 or len({one.loader for one in parts}) > 1 or self.begun > MOST_EVALUATIONS:
            return
        whole = SeenEvaluation(parts[0].step, parts[0].loader, accuracy=accuracy, is_closed=True)
        for one in parts:
            whole.logits += one.logits
            whole.heard_labels += one.heard_labels
        self.all[self.all.index(parts[0]) :] = [whole]
        self._reported = len(self.all)

    def on_training(self) -> None:
        """A training step: the next call without gradients begins another evaluation."""
        self._open = None

    def _current(self, loader: int) -> SeenEvaluation:
        known = self._open
        if known is None or known.is_closed or known.loader != loader:
            known = SeenEvaluation(self._steps(), loader)
            self.begun += 1
            self._add(known)
        self._open = known
        return known

    def _add(self, evaluation: SeenEvaluation) -> None:
        self.all.append(evaluation)
        if len(self.all) > MOST_EVALUATIONS:
            # The course keeps its first and its last evaluations.
            del self.all[MOST_EVALUATIONS // 2]

    def _steps(self) -> int:
        return max((len(training.rates) for training in self._observer.trainings), default=0)

    # Metrics

    def on_metric(self, labels: Any, predicted: Any, accuracy: float | None) -> None:
        """Predicted classes that a metric was given."""
        true, classes = _classes(labels), _classes(predicted)
        if true is None or classes is None or len(true) != len(classes) or not len(true):
            return
        evaluation = self._of_metric(true, classes)
        evaluation.labels, evaluation.predicted = true, classes
        if accuracy is not None and 0 <= accuracy <= 1:
            evaluation.accuracy = accuracy

    def on_scores(self, labels: Any, scores: Any) -> None:
        """Probabilities that a metric was given, shape (rows,) of the second class, or (rows, K)."""
        true, values = _classes(labels), np.asarray(scores, dtype=np.float64)
        if true is None or len(true) != len(values) or not len(true):
            return
        if values.ndim == 1:
            values = np.stack([1 - values, values], axis=1)
        evaluation = self._of_metric(true)
        evaluation.labels = true
        if values.ndim == 2:
            evaluation.probabilities = values

    def _of_metric(self, true: np.ndarray, predicted: np.ndarray | None = None) -> SeenEvaluation:
        """The evaluation whose metric this is: the last one with the same labels, else the open one."""
        for known in reversed(self.all[-4:]):
            if known.labels is not None and np.array_equal(known.labels, true):
                return known
        evaluation = self._open
        is_of_more = evaluation is not None and not evaluation.loader and len(true) > OTHER_ROWS * evaluation.n
        if evaluation is None or evaluation.is_closed or not evaluation.logits or is_of_more:
            evaluation = SeenEvaluation(self._steps())
            self._add(evaluation)
        elif evaluation.n != len(true):
            part = self._part_of(evaluation, len(true), predicted)
            if part is None:
                evaluation.expected_n = evaluation.n
            else:
                evaluation = part
        evaluation.is_closed = True
        return evaluation

    def _part_of(self, evaluation: SeenEvaluation, rows: int, predicted: np.ndarray | None) -> SeenEvaluation | None:
        """The one call of several with that many rows, as an evaluation of its own: a program that passes whole sets of
        rows to its model, one after another, measures one of them. Of two such calls, that with these predictions."""
        sizes = [len(part) for part in evaluation.logits]
        fitting = [k for k, size in enumerate(sizes) if size == rows]
        if evaluation.loader or not fitting or (len(fitting) > 1 and len(sizes) > 2):
            return None
        same = [k for k in fitting if predicted is None or _agree(evaluation.logits[k], predicted)]
        if len(fitting) > 1 and not same:
            return None
        is_short_last = fitting[0] == len(sizes) - 1 and len(set(sizes[:-1])) == 1 and rows < sizes[0]
        if is_short_last and not evaluation.has_parts:
            return None  # The last, short batch of one set.
        evaluation.has_parts = True
        part = SeenEvaluation(evaluation.step)
        if same:  # Else the predictions are of several models.
            part.logits, part.heard_labels = [evaluation.logits[same[0]]], [evaluation.heard_labels[same[0]]]
        self._add(part)
        return part

    # Evidence

    def evidence(self, n_classes: int | None) -> "EvaluationEvidence | None":
        """The last evaluation of each set of rows, and the course of the accuracy; None if there is none."""
        from tenor.checks.diagnosis.artifacts import evaluation_evidence
        from tenor.checks.evidence.evaluation_evidence import ValidationCourse
        from tenor.checks.evidence.training_evidence import ValidationPoint

        splits: dict[bytes, tuple[SeenEvaluation, ReportedSplit]] = {}
        course: dict[bytes, list[ValidationPoint]] = {}
        for evaluation in self.all:
            split = reported(evaluation)
            if split is None or split.labels is None:
                continue
            key = split.labels.tobytes()
            splits.pop(key, None)
            splits[key] = (evaluation, split)
            course.setdefault(key, []).append(ValidationPoint(evaluation.step, accuracy_of(split)))
        if not splits:
            return None
        named = {
            f"evaluation {k}" if len(splits) > 1 else "evaluation": one
            for k, (_, one) in enumerate(splits.values(), start=1)
        }
        longest = max(course.values(), key=len)
        points = tuple({point.step: point for point in longest}.values())
        return evaluation_evidence(
            named, n_classes, course=ValidationCourse(points, n_classes=n_classes) if len(points) > 1 else None
        )


AGREEING = 0.9
"""Share of predictions that are those of the logits, but for another threshold."""


def _agree(logits: np.ndarray, predicted: np.ndarray) -> bool:
    return bool(np.mean(logits.argmax(axis=1) == predicted) >= AGREEING)


def reported(evaluation: SeenEvaluation) -> "ReportedSplit | None":
    """An evaluation as rules judge it; None without labels."""
    from tenor.checks.evidence.evaluation_evidence import ReportedSplit

    labels, predicted, probabilities = evaluation.labels, evaluation.predicted, evaluation.probabilities
    if evaluation.logits:
        logits = np.concatenate([part for part in evaluation.logits if part.shape[1] == evaluation.logits[0].shape[1]])
        heard = evaluation.heard_labels
        if labels is None and all(part is not None for part in heard):
            labels = np.concatenate([part for part in heard if part is not None])
        if labels is not None and len(labels) == len(logits):
            probabilities = _softmax(logits.astype(np.float64)) if probabilities is None else probabilities
            predicted = logits.argmax(axis=1) if predicted is None else predicted
    if labels is None or predicted is None or not len(labels):
        return None
    return ReportedSplit(
        n=len(labels),
        labels=labels,
        predicted=predicted,
        probabilities=probabilities,
        accuracy=evaluation.accuracy,
        expected_n=evaluation.expected_n,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, shape (rows, K), without SciPy, for whose import a program would wait."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def accuracy_of(split: "ReportedSplit") -> float:
    """As a metric gave it, else of the labels and predictions."""
    if split.accuracy is not None:
        return split.accuracy
    assert split.labels is not None
    assert split.predicted is not None
    return float(np.mean(split.labels == split.predicted))


def loss_of_split(split: "ReportedSplit") -> float | None:
    """Mean cross-entropy in nats; None without probabilities."""
    if split.labels is None or split.probabilities is None or split.labels.max() >= split.probabilities.shape[1]:
        return None
    chosen = split.probabilities[np.arange(len(split.labels)), split.labels]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


def _labels_in(kwargs: Mapping[str, Any], batch: Any, logits: torch.Tensor) -> torch.Tensor | None:
    """The labels of a call: its own, else those of the loader's last batch if it has as many rows."""
    rows, k = logits.shape
    for value in (kwargs.get("labels"), labels_in_batch(batch, rows, k)):
        if isinstance(value, torch.Tensor) and value.shape == (rows,) and not value.is_floating_point():
            return value.detach()
    if not logits[:, 0].any():  # Of a model with one output per row, whose labels are floating-point numbers.
        named = zero_one(kwargs.get("labels"))
        return named if named is not None and len(named) == rows else zero_one_in_batch(batch, rows)
    return None


def _classes(values: Any) -> np.ndarray | None:
    """Whole numbers of shape (rows,); None for values that are no classes, such as names or several per row."""
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        return None
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == array.round()).all():
        array = array.astype(np.int64)
    return array.astype(np.int64) if array.dtype.kind in "iub" and (array >= 0).all() else None
