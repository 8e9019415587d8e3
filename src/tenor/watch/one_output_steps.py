"""Recognizes the steps of a model with one output per row: trained with a binary cross-entropy on labels 0 and 1.

Rows with such labels are of two classes. A regression has other labels or another loss. Programs that make up the
labels themselves, as adversarial networks do with ones for real rows and zeros for their own, are not classifiers of
the loader's rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tenor.checks.one_output import OutputKind, scores_in, two_logits, zero_one
from tenor.watch.call_form import call_form
from tenor.watch.heard_rows import zero_one_in_batch

if TYPE_CHECKING:
    from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence
    from tenor.watch.observer import Call, Loss, Step

OF_LOGITS = "binary_cross_entropy_with_logits"
OF_PROBABILITIES = "binary_cross_entropy"

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class OneOutput:
    """A model's one output per row, and the loss that is computed from it."""

    kind: OutputKind
    loss: "Loss"
    takes_sigmoid: bool
    """Whether the loss is given the sigmoid of the logit."""

    def forward_of(self, call: "Call") -> Callable[[nn.Module, Mapping[str, torch.Tensor]], Any]:
        """Calls a model as the program does; the result is the logits of both classes, shape (rows, 2)."""
        form = call_form(call)

        def forward(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            scores = scores_in(form.forward(model, inputs))
            if scores is None:
                raise TypeError("the model returned something else than one number per row")
            return two_logits(scores, self.kind)

        return forward

    def loss_function(self) -> LossFunction:
        """The program's loss, of the logits of both classes, shape (rows, 2), and class indices, shape (rows,)."""
        function = self.loss.function
        plain = nn.functional.binary_cross_entropy_with_logits
        is_column = self.loss.logits.ndim == 2

        def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            z, targets = logits[:, 1] - logits[:, 0], labels.to(logits.dtype)
            if is_column:
                z, targets = z[:, None], targets[:, None]
            if function is None:
                return plain(z, targets)
            return function(z.sigmoid() if self.takes_sigmoid else z, targets)

        return loss


def one_output_of(step: "Step") -> tuple["Call", OneOutput] | None:
    """The last call of a step with its labels and the logits of two classes, if its loss is a binary cross-entropy of
    one output per row with labels 0 and 1; else None."""
    losses = [one for one in step.losses if is_binary(one)]
    calls = [one for one in step.calls if one.scores is not None]
    if not losses or not calls or len(losses) != len(step.losses):
        return None
    loss, call = losses[-1], calls[-1]
    classes = zero_one(loss.labels)
    read = _reading(call.scores, loss)
    if classes is None or read is None or not (len(classes.unique()) > 1 or _has_labels_in_batch(classes, call)):
        return None
    assert call.scores is not None
    return replace(call, logits=two_logits(call.scores, read.kind), labels=classes), read


def is_binary(loss: "Loss") -> bool:
    """Whether a loss is a binary cross-entropy of one number per row."""
    one_each = loss.logits.ndim == 1 or (loss.logits.ndim == 2 and loss.logits.shape[1] == 1)
    return one_each and loss.function_name in (OF_LOGITS, OF_PROBABILITIES) and loss.labels.shape == loss.logits.shape


def class_labels(loss: "Loss") -> torch.Tensor | None:
    """The labels of a loss; of a binary cross-entropy with one number per row, as class indices."""
    return zero_one(loss.labels) if is_binary(loss) else loss.labels


def _reading(scores: torch.Tensor | None, loss: "Loss") -> OneOutput | None:
    """What the output is, from what the loss was given: the output itself, or its sigmoid."""
    if scores is None or scores.numel() != loss.logits.numel():
        return None
    output, given = scores.reshape(-1).float(), loss.logits.reshape(-1).float()
    is_of_logits = loss.function_name == OF_LOGITS
    if torch.equal(output, given):
        return OneOutput("logit" if is_of_logits else "probability", loss, takes_sigmoid=not is_of_logits)
    if torch.allclose(output.sigmoid(), given, rtol=1e-3, atol=1e-5):
        return OneOutput("logit", loss, takes_sigmoid=True)
    return None


def _has_labels_in_batch(classes: torch.Tensor, call: "Call") -> bool:
    """Whether the loader gives the rows of a call labels 0 and 1."""
    return call.is_from_batch and zero_one_in_batch(call.batch, len(classes)) is not None


def with_class_indices(batches: "BatchEvidence") -> "BatchEvidence":
    """Batches with class indices in the place of labels 0.0 and 1.0 or of shape (rows, 1), as this loss takes them."""
    labels = tuple(_indices(one) for one in batches.labels)
    epoch = None if batches.epoch_labels is None else _indices(batches.epoch_labels)
    return replace(batches, labels=labels, epoch_labels=epoch)


def rows_with_class_indices(data: "DataEvidence") -> "DataEvidence":
    """The same for the rows of every split."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    changed = {name: replace(rows, labels=_indices(rows.labels)) for name, rows in splits.items() if rows is not None}
    source = None if data.source_labels is None else _indices(data.source_labels)
    return replace(data, **changed, source_labels=source)


def _indices(labels: np.ndarray) -> np.ndarray:
    """Whole numbers as integers, shape (rows,); other labels as they are, for the rules on labels to judge."""
    column = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if column.dtype.kind == "b":
        return column.astype(np.int64)
    whole = column.dtype.kind == "f" and bool(np.isfinite(column).all()) and bool((column == column.round()).all())
    return column.astype(np.int64) if whole else column
