"""The short experiments of a careful engineer before the first step, on any PyTorch classifier.

The model is used where it lies and put back bit by bit: weights, buffers, gradients, modes; so are all random states.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from tenor.checks.collect.loader import LABEL_NAMES, random_states_kept
from tenor.checks.evidence import ProbeEvidence

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Forward = Callable[[nn.Module, dict[str, torch.Tensor]], Any]

MAX_TOKENS = 64
MAX_ROWS = 32
"""Examples for the first loss and the spread of the logits."""

COMPARED_ROWS = 8
ADDED_PADDING = 8
OVERFIT_ROWS, MIN_OVERFIT_ROWS = 20, 4
MAX_OVERFIT_STEPS, MIN_OVERFIT_STEPS = 60, 20
MARGIN = 10.0
"""By which given logits are right or wrong: e^-10 is next to no loss."""

DEEP_ROWS = 512
SMALL_SHARE = 0.05
"""Share of learning weights below which a head alone learns, which bears thirty times the rate of an encoder."""

FAILS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError)
"""What a model that is not made for an experiment raises; the reason goes into `ProbeEvidence.failures`."""


@dataclass(frozen=True)
class Subject:
    """What is experimented on."""

    model: nn.Module
    loss_fn: LossFunction
    forward: Forward
    n_classes: int
    device: torch.device
    pad_id: int | None
    """The id of padding; None where it can't be told."""

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Float32, shape (rows, outputs)."""
        return logits_of(self.forward(self.model, inputs)).float()

    def loss(self, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return self.loss_fn(logits_of(self.forward(self.model, inputs)), labels).mean()


@dataclass(frozen=True)
class Examples:
    """Rows on the model's device, at most 64 tokens wide."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, which: torch.Tensor | slice) -> "Examples":
        n = len(self)
        return Examples(
            {k: v[which] if v.ndim and len(v) == n else v for k, v in self.inputs.items()}, self.labels[which]
        )


def probe(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Mapping[str, Any]],
    n_classes: int,
    *,
    forward: Forward | None = None,
    seconds: float = 20.0,
    deep: bool = False,
) -> ProbeEvidence:
    """Run the experiments that the time allows; what can't be run stays None, with its reason in `failures`.

    `batches` are dictionaries of tensors, (rows, …) each, with labels; only the first few are read. `loss_fn` takes
    logits (rows, K) and labels (rows,). `forward(model, inputs)` returns logits, a tuple with them first, or an object
    with `.logits`; by default the model is called with the inputs that its `forward` names. `seconds` bound the
    attempts to memorise; a single forward pass is never cut. `deep` adds a pass on shuffled labels, in as much time
    again. Experiments after Karpathy 2019, A Recipe for Training Neural Networks.
    """
    found: dict[str, Any] = {}
    failures: list[str] = []

    def attempt(experiment: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        try:
            found.update(experiment(*arguments))
        except FAILS as error:
            failures.append(f"{experiment.__name__}: {type(error).__name__}: {str(error).split(chr(10))[0][:200]}")

    deadline = time.monotonic() + seconds
    with _untouched(model), random_states_kept(batches):
        _seed()
        subject = _subject(model, loss_fn, forward, n_classes)
        attempt(given_logits, subject)
        read: list[Examples] = []
        attempt(_read, subject, batches, DEEP_ROWS if deep else MAX_ROWS, read)
        if read:
            examples = read[0].rows(slice(0, MAX_ROWS))
            for experiment in (first_look, blanking, padding, neighbours):
                attempt(experiment, subject, examples)
            if seconds > 0 and any(p.requires_grad for p in model.parameters()):
                attempt(gradients, subject, examples.rows(slice(0, COMPARED_ROWS)))
                attempt(overfitting, subject, _balanced(examples), deadline)
                if deep:
                    attempt(random_labels, subject, read[0], time.monotonic() + seconds)
    total = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    share = learning / total if total else None
    return ProbeEvidence(n_classes, learning_share=share, failures=tuple(failures), **found)


def logits_of(output: Any) -> torch.Tensor:
    """The logits in what a model returns: a tensor, `.logits`, `["logits"]`, or the first float matrix in a tuple."""
    if isinstance(output, torch.Tensor):
        return output
    if getattr(output, "logits", None) is not None:
        return output.logits
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if isinstance(output, tuple | list):
        for part in output:
            if isinstance(part, torch.Tensor) and part.ndim == 2 and part.is_floating_point():
                return part
    raise TypeError(f"no logits in a {type(output).__name__}; give `forward`, which returns them")


def given_logits(subject: Subject) -> dict[str, Any]:
    """The loss function alone: on right, equal and wrong logits one by one; on one example twice; its gradient."""
    k, device = subject.n_classes, subject.device
    labels, one_hot = torch.arange(k, device=device), MARGIN * torch.eye(k, device=device)

    def mean_loss(logits: torch.Tensor) -> float:
        return float(
            torch.stack([subject.loss_fn(logits[c : c + 1], labels[c : c + 1]).mean() for c in range(k)]).mean()
        )

    equal = torch.zeros(k, k, device=device)
    once = float(subject.loss_fn(equal[:1], labels[:1]).mean())
    twice = float(subject.loss_fn(equal[:1].repeat(2, 1), labels[:1].repeat(2)).mean())
    with torch.enable_grad():
        leaf = equal.clone().requires_grad_()
        loss = subject.loss_fn(leaf, labels).mean()
        gradient = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return {
        "loss_when_right": mean_loss(one_hot),
        "loss_when_uniform": mean_loss(equal),
        "loss_when_inverted": mean_loss(-one_hot),
        "mean_of_loss": twice / once if once else None,
        "loss_gradient": 0.0 if gradient is None else float(gradient.norm()),
    }


@torch.no_grad()
def first_look(subject: Subject, examples: Examples) -> dict[str, Any]:
    """The first loss, the spread of the logits over texts, and whether they are a distribution already."""
    logits = subject.logits(examples.inputs)
    sums, rounding = logits.sum(dim=-1), _rounding(logits)
    tolerance = max(1e-4, 4 * rounding)
    distinct = len(torch.unique(examples.inputs[_text_key(examples)], dim=0)) > 1
    return {
        "initial_loss": float(subject.loss_fn(logits, examples.labels).mean()),
        "n_examples": len(examples),
        "logit_spread": float(logits.std(dim=0).max()) if distinct else None,
        "rows_sum_to_one": bool(logits.shape[-1] > 1 and (logits >= 0).all() and ((sums - 1).abs() < tolerance).all()),
        "rounding": rounding,
    }


@torch.no_grad()
def blanking(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far the logits change when every token but the first is blanked."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    blank = _blanked(subject, some, alike=False)
    key = _text_key(some)
    if torch.equal(blank[key], some.inputs[key]):
        raise ValueError("the texts have no token to blank")
    return {"logit_change_from_blanking": _change(subject.logits(some.inputs), subject.logits(blank))}


@torch.no_grad()
def padding(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far the logits change when columns of padding are added."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if "input_ids" not in some.inputs or not _can_be_padded(subject, some):
        raise ValueError("inputs without token ids, or without a known padding id, can't be padded")
    # Within the 64 columns that any encoder has positions for.
    kept = MAX_TOKENS - ADDED_PADDING
    cut = _columns(some, slice(-kept, None) if _padded_left(some.inputs) else slice(0, kept))
    added = _widened(subject, cut, cut.inputs["input_ids"].shape[1] + ADDED_PADDING)
    return {"logit_change_from_padding": _change(subject.logits(cut.inputs), subject.logits(added.inputs))}


@torch.no_grad()
def neighbours(subject: Subject, examples: Examples) -> dict[str, Any]:
    """How far a row's logits change among fewer others, or among the same in another order."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if len(some) < 3:
        raise ValueError(f"{len(some)} rows have no neighbours to leave out")
    together = subject.logits(some.inputs)
    order = torch.arange(len(some) - 1, -1, -1, device=subject.device)
    turned = subject.logits(some.rows(order).inputs)[order]
    # Pairs and not single rows: a normalisation over the batch refuses one row.
    fewer = torch.cat([subject.logits(some.rows(slice(i, i + 2)).inputs) for i in range(0, len(some) - 1, 2)])
    return {
        "logit_change_from_neighbours": max(_change(together, turned), _change(together[: len(fewer)], fewer)),
    }


def gradients(subject: Subject, examples: Examples) -> dict[str, Any]:
    """Which learning parameters a backward pass leaves without a gradient, or with zeros even after two steps."""
    with _weights_kept(subject.model), torch.enable_grad():
        learning = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
        optimizer, zero = _optimizer(subject.model), set(learning)
        without: set[str] = set(learning)
        # Under a matrix that starts at zero (LoRA's, some heads') gradients arrive from the second step on.
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            loss = subject.loss(examples.inputs, examples.labels)
            if not loss.requires_grad:
                break
            loss.backward()
            without &= {name for name, p in learning.items() if p.grad is None}
            zero &= {name for name, p in learning.items() if p.grad is None or not p.grad.any()}
            if not zero:
                break
            optimizer.step()
        return {
            "parameters_without_gradient": tuple(name for name in learning if name in without),
            "parameters_with_zero_gradient": tuple(name for name in learning if name in zero - without),
        }


def overfitting(subject: Subject, examples: Examples, deadline: float) -> dict[str, Any]:
    """Memorise a few examples, then try the same on blanked ones; fewer examples where a step takes long."""
    time_left = deadline - time.monotonic()
    few = examples.rows(slice(0, MIN_OVERFIT_ROWS))
    with _weights_kept(subject.model):
        per_step = _seconds_per_step(subject, few)
    # Time grows with the rows at most; four fifths of it for the two attempts, the rest for putting weights back.
    affordable = 0.4 * (deadline - time.monotonic()) / max(per_step, 1e-6)
    rows = min(len(examples), max(len(few), int(len(few) * affordable / (2 * MIN_OVERFIT_STEPS))))
    steps = min(MAX_OVERFIT_STEPS, int(affordable * len(few) / max(1, rows)))
    if steps < MIN_OVERFIT_STEPS:
        raise RuntimeError(f"{time_left:.0f} s allow {max(0, steps)} steps; {MIN_OVERFIT_STEPS} are needed")
    chosen = examples.rows(slice(0, rows))
    (before, after, errors), taken = _memorise(subject, chosen, steps, time.monotonic() + time_left / 2)
    if taken < MIN_OVERFIT_STEPS and errors:
        raise RuntimeError(f"only {taken} steps in {time_left / 2:.0f} s; {MIN_OVERFIT_STEPS} are needed")
    found = {"overfit_errors": errors, "overfit_examples": rows, "overfit_loss": (before, after)}
    blank = Examples(_blanked(subject, chosen, alike=True), chosen.labels)
    (_, blanked, _), same = _memorise(subject, blank, taken, deadline, stop_early=False)
    return {**found, "overfit_responds": (after, blanked)} if same == taken else found


def random_labels(subject: Subject, examples: Examples, deadline: float) -> dict[str, Any]:
    """One pass on the real labels and one on shuffled ones; losses on rows not seen before, from the second half."""
    order = torch.randperm(len(examples)).to(subject.device)
    shuffled = examples.labels[torch.randperm(len(examples)).to(subject.device)]
    losses, half = [], time.monotonic() + (deadline - time.monotonic()) / 2
    parts = order.split(COMPARED_ROWS)
    for labels, until in ((examples.labels, half), (shuffled, deadline)):
        with _weights_kept(subject.model), torch.enable_grad():
            optimizer, seen = _optimizer(subject.model), []
            for part in parts:
                seen.append(_step(subject, examples.rows(part).inputs, labels[part], optimizer))
                if time.monotonic() > until:
                    break
        parts = parts[: len(seen)]  # The second pass takes as many steps as the first.
        losses.append(seen)
    steps = min(len(seen) for seen in losses)
    real, random = (float(np.mean(seen[steps // 2 : steps])) for seen in losses)
    return {
        "real_labels_loss": real,
        "random_labels_loss": random,
        "deep_examples": sum(len(part) for part in parts[steps // 2 : steps]),
    }


def _subject(model: nn.Module, loss_fn: LossFunction, forward: Forward | None, n_classes: int) -> Subject:
    tensor = next((t for t in (*model.parameters(), *model.buffers())), None)
    pad_id = getattr(getattr(model, "config", None), "pad_token_id", None)
    if pad_id is None:
        indices = [m.padding_idx for m in model.modules() if isinstance(m, nn.Embedding)]
        pad_id = next((index for index in indices if index is not None), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    return Subject(model, loss_fn, forward or _call, n_classes, device, pad_id)


def _seed() -> None:
    """The same experiments each time. `torch.manual_seed` would also seed a GPU that is not in use yet, for good."""
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


def _call(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
    """By the names in `forward`'s signature; a first parameter of another name gets the token ids."""
    parameters = inspect.signature(model.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return model(**inputs)
    fitting = {name: value for name, value in inputs.items() if name in parameters}
    return model(**fitting) if fitting else model(next(iter(inputs.values())))


def _read(subject: Subject, batches: Iterable[Mapping[str, Any]], limit: int, into: list[Examples]) -> dict[str, Any]:
    """The first rows as one set of examples, trimmed to 64 tokens and padded to a common width."""
    read: list[Examples] = []
    for batch in islice(iter(batches), limit):
        label_name = (
            next(name for name in LABEL_NAMES if name in batch) if any(n in batch for n in LABEL_NAMES) else None
        )
        if label_name is None:
            raise ValueError(f"batches have no labels under {', '.join(LABEL_NAMES)}")
        inputs = {k: v.to(subject.device) for k, v in batch.items() if k != label_name and isinstance(v, torch.Tensor)}
        one = Examples(inputs, batch[label_name].to(subject.device))
        if not inputs:
            raise ValueError("batches hold no tensors besides the labels")
        _refuse_what_kills_a_gpu(subject, one)
        left = _padded_left(inputs)
        cut = slice(-MAX_TOKENS, None) if left else slice(0, MAX_TOKENS)
        read.append(_columns(one, cut))
        if sum(len(examples) for examples in read) >= limit:
            break
    if not read:
        raise ValueError("there is no batch")
    into.append(_joined(subject, read))
    return {}


def _refuse_what_kills_a_gpu(subject: Subject, examples: Examples) -> None:
    """An index out of range raises on a CPU; on a GPU it ends the whole process's use of it."""
    labels, ids = examples.labels, examples.inputs.get("input_ids")
    if labels.is_floating_point() or labels.ndim != 1:
        raise ValueError(f"labels of type {labels.dtype} and shape {tuple(labels.shape)} are not one class per row")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= subject.n_classes:
        raise ValueError(f"labels are not 0 … {subject.n_classes - 1}")
    table = getattr(subject.model, "get_input_embeddings", lambda: None)()
    rows = getattr(table, "num_embeddings", None)
    if ids is not None and rows is not None and (ids.min() < 0 or ids.max() >= rows):
        raise ValueError(f"token ids are not 0 … {rows - 1}")


def _joined(subject: Subject, read: list[Examples]) -> Examples:
    """Batches one under the other; only the first where their widths differ and can't be padded."""
    ids = [examples.inputs.get("input_ids") for examples in read]
    shapes = {tuple((k, v.shape[1:]) for k, v in examples.inputs.items()) for examples in read}
    padable = all(i is not None and i.ndim == 2 for i in ids) and all(_can_be_padded(subject, e) for e in read)
    if len(shapes) > 1 and not padable:
        return read[0]
    if len(shapes) > 1:
        width = max(i.shape[1] for i in ids if i is not None)
        read = [_widened(subject, examples, width) for examples in read]
    rows = {k: torch.cat([e.inputs[k] for e in read]) for k in read[0].inputs}
    return Examples(rows, torch.cat([e.labels for e in read]))


def _columns(examples: Examples, which: slice) -> Examples:
    """Some of the tokens of each row."""
    inputs = {k: v[:, which] if _is_per_token(v, examples) else v for k, v in examples.inputs.items()}
    return Examples(inputs, examples.labels)


def _widened(subject: Subject, examples: Examples, width: int) -> Examples:
    """Rows with padding up to `width` tokens."""
    inputs = {
        k: _pad(k, v, width, subject.pad_id, examples.inputs) if _is_per_token(v, examples) else v
        for k, v in examples.inputs.items()
    }
    return Examples(inputs, examples.labels)


def _is_per_token(value: torch.Tensor, examples: Examples) -> bool:
    """Whether a tensor has a column per token: ids, mask, segments."""
    ids = examples.inputs.get("input_ids")
    return ids is not None and value.ndim == 2 and len(value) == len(ids) and value.shape[1] == ids.shape[1]


def _can_be_padded(subject: Subject, examples: Examples) -> bool:
    """Whether padding can be told from text: by a known id, or by a mask, under which any id will do."""
    return subject.pad_id is not None or "attention_mask" in examples.inputs


def _padded_left(inputs: Mapping[str, torch.Tensor]) -> bool:
    mask = inputs.get("attention_mask")
    return mask is not None and mask.ndim == 2 and bool(mask[:, 0].sum() < mask[:, -1].sum())


def _pad(name: str, value: torch.Tensor, width: int, pad_id: int | None, inputs: Mapping[str, Any]) -> torch.Tensor:
    """More columns, on the side where padding stands: the padding id, a mask of 0, segment 0."""
    if name not in ("input_ids", "attention_mask", "token_type_ids"):
        raise ValueError(f"how to pad {name} is not known")
    columns = width - value.shape[1]
    sides = (columns, 0) if _padded_left(inputs) else (0, columns)
    return nn.functional.pad(value, sides, value=(pad_id or 0) if name == "input_ids" else 0)


def _text_key(examples: Examples) -> str:
    """The input that holds the text: token ids, else the first floats, else the first input."""
    if "input_ids" in examples.inputs:
        return "input_ids"
    floats = [k for k, v in examples.inputs.items() if v.is_floating_point()]
    return floats[0] if floats else next(iter(examples.inputs))


def _blanked(subject: Subject, examples: Examples, alike: bool) -> dict[str, torch.Tensor]:
    """Inputs whose text is gone: all tokens after the first are padding, seen through the mask; floats are 0.

    With `alike` all rows become equal, in length too, so that nothing is left to tell them apart.
    """
    key = _text_key(examples)
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


def _balanced(examples: Examples, limit: int = OVERFIT_ROWS) -> Examples:
    """At most `limit` rows of different texts, the classes in turn as far as they go."""
    text = examples.inputs[_text_key(examples)]
    _, group = torch.unique(text.reshape(len(text), -1), dim=0, return_inverse=True)
    seen: set[int] = set()
    queues: dict[int, list[int]] = {}
    classes = examples.labels.reshape(len(text), -1)[:, 0].tolist()
    for row, (text_id, label) in enumerate(zip(group.tolist(), classes, strict=True)):
        if text_id not in seen:
            seen.add(text_id)
            queues.setdefault(label, []).append(row)
    in_turn = sorted((place, label, row) for label, rows in queues.items() for place, row in enumerate(rows))
    return examples.rows(torch.tensor([row for _, _, row in in_turn[:limit]], device=text.device))


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over what learns, at a rate that shrinks with the width (Yang et al. 2022) and grows for a head alone."""
    learning = [p for p in model.parameters() if p.requires_grad]
    total = sum(p.numel() for p in model.parameters())
    matrices = [p for p in learning if p.ndim > 1]
    rate = 0.1 / (matrices[-1].shape[-1] if matrices else 100)
    if sum(p.numel() for p in learning) < SMALL_SHARE * total:
        rate *= 30
    fused = all(p.device.type in ("cpu", "cuda") for p in learning)
    return torch.optim.AdamW(learning, lr=min(1e-2, max(1e-4, rate)), weight_decay=0.0, fused=fused)


def _step(
    subject: Subject, inputs: dict[str, torch.Tensor], labels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> float:
    """One clipped step; returns the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = subject.loss(inputs, labels)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return float(loss.detach())


def _seconds_per_step(subject: Subject, examples: Examples) -> float:
    """Of the second step: the first also makes room for the optimizer's moments."""
    with torch.enable_grad():
        optimizer = _optimizer(subject.model)
        _step(subject, examples.inputs, examples.labels, optimizer)
        started = time.monotonic()
        _step(subject, examples.inputs, examples.labels, optimizer)
        return time.monotonic() - started


def _memorise(
    subject: Subject, examples: Examples, steps: int, deadline: float, stop_early: bool = True
) -> tuple[tuple[float, float, int], int]:
    """Loss before and after, errors left, and steps taken; the weights are put back."""
    taken = 0
    with _weights_kept(subject.model):
        with torch.enable_grad():
            optimizer, losses = _optimizer(subject.model), []
            while taken < steps and time.monotonic() < deadline:
                losses.append(_step(subject, examples.inputs, examples.labels, optimizer))
                taken += 1
                if stop_early and taken >= MIN_OVERFIT_STEPS and losses[-1] < 0.02:
                    break
        with torch.no_grad():
            logits = subject.logits(examples.inputs)
            after = float(subject.loss_fn(logits, examples.labels).mean())
            errors = int((logits.argmax(dim=-1) != examples.labels.reshape(-1)).sum())
    return (losses[0] if losses else after, after, errors), taken


def _change(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _rounding(logits: torch.Tensor) -> float:
    """Unit rounding of the narrowest type that holds the logits exactly: a cast at the end does not hide the type."""
    for kind, rounding in ((torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
        if torch.equal(logits.to(kind).float(), logits) and logits.any():
            return rounding
    return 2.0**-24


@contextmanager
def _weights_kept(model: nn.Module) -> Iterator[None]:
    """Values of parameters and buffers as they were, written back into the same tensors; no gradient left."""
    buffers = [(module, name, b) for module in model.modules() for name, b in module._buffers.items()]
    tensors = [*model.parameters(), *(b for _, _, b in buffers if b is not None)]
    values = [t.detach().clone() for t in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for parameter in model.parameters():
            parameter.grad = None


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside; weights, buffers, gradients and modes as they were afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(p, p.grad) for p in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    model.eval()
    # CuDNN's recurrent layers can't be trained in evaluation mode; PyTorch's own can.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    try:
        with _weights_kept(model), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
