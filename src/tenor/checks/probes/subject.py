"""The model and the examples of the short experiments."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from tenor.checks.gather.model_parts import embedding_rows
from tenor.checks.labels_and_logits import LABEL_NAMES, logits_of

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

Forward = Callable[[nn.Module, dict[str, torch.Tensor]], Any]

MAX_TOKENS = 64


@dataclass(frozen=True)
class Subject:
    """The model, and how it is called."""

    model: nn.Module
    loss_fn: LossFunction
    forward: Forward
    n_classes: int
    device: torch.device
    pad_id: int | None
    """Id of the padding token; None: not known."""
    modes: tuple[tuple[nn.Module, bool], ...]
    """Each module, and whether it is in training mode while the program trains."""

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Float32, shape (rows, outputs)."""
        return logits_of(self.forward(self.model, inputs)).float()

    def loss(self, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return self.loss_fn(logits_of(self.forward(self.model, inputs)), labels).mean()


@dataclass(frozen=True)
class ProbeRows:
    """Rows on the model's device, at most 64 tokens wide."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, which: torch.Tensor | slice) -> "ProbeRows":
        n = len(self)
        return ProbeRows(
            {k: v[which] if v.ndim and len(v) == n else v for k, v in self.inputs.items()}, self.labels[which]
        )


def make_subject(model: nn.Module, loss_fn: LossFunction, forward: Forward | None, n_classes: int) -> Subject:
    tensor = next((t for t in (*model.parameters(), *model.buffers())), None)
    pad_id = getattr(getattr(model, "config", None), "pad_token_id", None)
    if pad_id is None:
        indices = [m.padding_idx for m in model.modules() if isinstance(m, nn.Embedding)]
        pad_id = next((index for index in indices if index is not None), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    return Subject(model, loss_fn, forward or _call, n_classes, device, pad_id, _modes_in_training(model))


def _modes_in_training(model: nn.Module) -> tuple[tuple[nn.Module, bool], ...]:
    """The modes as they are; all in training mode for a model that is still in evaluation mode, as it was loaded."""
    modules = list(model.modules())
    as_given = any(module.training for module in modules)
    return tuple((module, module.training or not as_given) for module in modules)


def read_examples(
    subject: Subject, batches: Iterable[Mapping[str, Any]], limit: int, into: list[ProbeRows]
) -> dict[str, Any]:
    """Append the first rows to `into` as one set of examples of at most 64 tokens, padded to a common width.

    Raises:
        ValueError: no batch, batches without labels or tensors, labels or token ids out of range.
    """
    read: list[ProbeRows] = []
    for batch in islice(iter(batches), limit):
        label_name = (
            next(name for name in LABEL_NAMES if name in batch) if any(n in batch for n in LABEL_NAMES) else None
        )
        if label_name is None:
            raise ValueError(f"batches have no labels under {', '.join(LABEL_NAMES)}")
        inputs = {k: v.to(subject.device) for k, v in batch.items() if k != label_name and isinstance(v, torch.Tensor)}
        one = ProbeRows(inputs, batch[label_name].to(subject.device))
        if not inputs:
            raise ValueError("batches contain no tensors except the labels")
        _require_one_row_per_label(one)
        _require_indices_in_range(subject, one)
        kept = slice(-MAX_TOKENS, None) if padded_left(inputs) else slice(0, MAX_TOKENS)
        read.append(columns_of(one, kept))
        if sum(len(examples) for examples in read) >= limit:
            break
    if not read:
        raise ValueError("the loader gives no batch")
    into.append(_joined(subject, read))
    return {}


def _call(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
    """Call the model with the inputs that its `forward` names; where it names none, with the first input."""
    parameters = inspect.signature(model.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return model(**inputs)
    fitting = {name: value for name, value in inputs.items() if name in parameters}
    return model(**fitting) if fitting else model(next(iter(inputs.values())))


def _require_one_row_per_label(examples: ProbeRows) -> None:
    """Raises ValueError for inputs that are not one row per label, such as the texts of a batch joined to one."""
    text = examples.inputs[text_key(examples)]
    if text.ndim == 0 or len(text) != len(examples):
        raise ValueError(f"inputs of shape {tuple(text.shape)} are not one row for each of {len(examples)} labels")


def _require_indices_in_range(subject: Subject, examples: ProbeRows) -> None:
    """Raises ValueError for labels and token ids out of range: on a GPU they would make it unusable for the process."""
    labels = examples.labels
    if labels.is_floating_point() or labels.ndim != 1:
        raise ValueError(f"labels of type {labels.dtype} and shape {tuple(labels.shape)} are not one class per row")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= subject.n_classes:
        raise ValueError(f"labels are {_range(labels)}, not 0 … {subject.n_classes - 1}")
    refuse_unknown_ids(subject, examples)


def refuse_unknown_ids(subject: Subject, examples: ProbeRows) -> None:
    """Raises ValueError for token ids that have no row in the embedding."""
    ids, rows = examples.inputs.get("input_ids"), embedding_rows(subject.model)
    if ids is not None and rows is not None and (ids.min() < 0 or ids.max() >= rows):
        raise ValueError(f"token ids are {_range(ids)}, not 0 … {rows - 1}")


def _range(values: torch.Tensor) -> str:
    return f"{int(values.min())} … {int(values.max())}" if len(values) else "missing"


def _joined(subject: Subject, read: list[ProbeRows]) -> ProbeRows:
    """All batches as one; only the first if their widths differ and they cannot be padded."""
    ids = [examples.inputs.get("input_ids") for examples in read]
    shapes = {tuple((k, v.shape[1:]) for k, v in examples.inputs.items()) for examples in read}
    can_pad = all(i is not None and i.ndim == 2 for i in ids) and all(can_be_padded(subject, e) for e in read)
    if len(shapes) > 1 and not can_pad:
        return read[0]
    if len(shapes) > 1:
        width = max(i.shape[1] for i in ids if i is not None)
        read = [padded(subject, examples, width) for examples in read]
    rows = {k: torch.cat([e.inputs[k] for e in read]) for k in read[0].inputs}
    return ProbeRows(rows, torch.cat([e.labels for e in read]))


def columns_of(examples: ProbeRows, which: slice) -> ProbeRows:
    """Some of the tokens of each row."""
    inputs = {k: v[:, which] if _is_per_token(v, examples) else v for k, v in examples.inputs.items()}
    return ProbeRows(inputs, examples.labels)


def padded(subject: Subject, examples: ProbeRows, width: int) -> ProbeRows:
    """The examples with padding up to `width` tokens."""
    inputs = {
        k: pad(k, v, width, subject.pad_id, examples.inputs) if _is_per_token(v, examples) else v
        for k, v in examples.inputs.items()
    }
    return ProbeRows(inputs, examples.labels)


def _is_per_token(value: torch.Tensor, examples: ProbeRows) -> bool:
    """Whether a tensor has one column per token: ids, mask, segments."""
    ids = examples.inputs.get("input_ids")
    return ids is not None and value.ndim == 2 and len(value) == len(ids) and value.shape[1] == ids.shape[1]


def can_be_padded(subject: Subject, examples: ProbeRows) -> bool:
    """Whether padding can be marked: by a known id, or by a mask, with which any id will do."""
    return subject.pad_id is not None or "attention_mask" in examples.inputs


def padded_left(inputs: Mapping[str, torch.Tensor]) -> bool:
    mask = inputs.get("attention_mask")
    return mask is not None and mask.ndim == 2 and bool(mask[:, 0].sum() < mask[:, -1].sum())


def pad(name: str, value: torch.Tensor, width: int, pad_id: int | None, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Add columns on the side of the padding: the padding id, a mask of 0, segment 0.

    Raises:
        ValueError: an input of another name.
    """
    if name not in ("input_ids", "attention_mask", "token_type_ids"):
        raise ValueError(f"padding for {name} is not known; known: input_ids, attention_mask, token_type_ids")
    columns = width - value.shape[1]
    sides = (columns, 0) if padded_left(inputs) else (0, columns)
    return nn.functional.pad(value, sides, value=(pad_id or 0) if name == "input_ids" else 0)


def text_key(examples: ProbeRows) -> str:
    """The name of the input with the text: token ids, else the first floats, else the first input."""
    if "input_ids" in examples.inputs:
        return "input_ids"
    floats = [k for k, v in examples.inputs.items() if v.is_floating_point()]
    return floats[0] if floats else next(iter(examples.inputs))


def blanked(subject: Subject, examples: ProbeRows, alike: bool) -> dict[str, torch.Tensor]:
    """Inputs without their text: all tokens after the first become padding (not masked); floats become 0.

    With `alike` all rows become equal, in length too.
    """
    key = text_key(examples)
    value = examples.inputs[key]
    blank = torch.full_like(value, 0 if value.is_floating_point() else subject.pad_id or 0)
    if key == "input_ids" and value.ndim == 2:
        blank[:, 0] = value[0, 0] if alike else value[:, 0]
    inputs = {**examples.inputs, key: blank}
    if alike:
        n = len(examples)
        inputs = {k: v[:1].expand_as(v).contiguous() if v.ndim and len(v) == n else v for k, v in inputs.items()}
        if "attention_mask" in inputs:
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    return inputs
