"""Short experiments: loss on given logits, gradients, memorization, shuffled labels, learning rates.

Each experiment restores the weights that it changes.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from tenor.checks.gather.model_parts import find_parts, unwrapped
from tenor.checks.probes.subject import (
    MAX_TOKENS,
    ProbeRows,
    Subject,
    blanked,
    can_be_padded,
    columns_of,
    padded,
    padded_left,
    text_key,
)

MAX_ROWS = 32
"""Examples for the initial loss and the spread of the logits."""

COMPARED_ROWS = 8

ADDED_PADDING = 8

MARGIN = 10.0
"""Difference between the logit of one class and the others in right and wrong logits; the loss is then near e^-10."""


def given_logits(subject: Subject) -> dict[str, Any]:
    """The loss function alone: its value on right, equal and wrong logits, on one example twice, and its gradient."""
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
        "rewarded_instead": _rewarded_instead(subject, equal[:1]),
    }


def _rewarded_instead(subject: Subject, equal: torch.Tensor) -> tuple[tuple[int, int, float, float], ...]:
    """Classes for whose rows the loss rewards another class more: label, that class, and the loss of each.

    The other class is the one whose logit the gradient raises most where all logits are equal.
    """
    found = []
    for c in range(subject.n_classes):
        label = torch.tensor([c], device=equal.device)
        with torch.enable_grad():
            leaf = equal.clone().requires_grad_()
            loss = subject.loss_fn(leaf, label).mean()
            gradient = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
        if gradient is None or gradient[0, c] <= gradient.amin():
            continue
        other = int(gradient.argmin())
        right, wrong = equal.clone(), equal.clone()
        right[0, c], wrong[0, other] = MARGIN, MARGIN
        own, theirs = (float(subject.loss_fn(logits, label).mean()) for logits in (right, wrong))
        if own > theirs:
            found.append((c, other, own, theirs))
    return tuple(found)


@torch.no_grad()
def first_look(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """The initial loss, the spread of the logits over texts, and whether the logits are probabilities already."""
    logits = subject.logits(examples.inputs)
    sums, rounding = logits.sum(dim=-1), _rounding(logits)
    tolerance = max(1e-4, 4 * rounding)
    distinct = len(torch.unique(examples.inputs[text_key(examples)], dim=0)) > 1
    return {
        "initial_loss": float(subject.loss_fn(logits, examples.labels).mean()),
        "n_examples": len(examples),
        "logit_spread": float(logits.std(dim=0).max()) if distinct else None,
        "rows_sum_to_one": bool(logits.shape[-1] > 1 and (logits >= 0).all() and ((sums - 1).abs() < tolerance).all()),
        "rounding": rounding,
    }


@torch.no_grad()
def blanking(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """The largest change of a logit when every token except the first is blanked."""
    some, blank = _real_and_blank(subject, examples)
    return {"logit_change_from_blanking": _change(subject.logits(some), subject.logits(blank))}


@torch.no_grad()
def blanking_in_training(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """The same in the mode in which the program trains, with the same dropout for both."""
    with training_modes(subject):
        logits = []
        for inputs in _real_and_blank(subject, examples):
            seed()
            logits.append(subject.logits(inputs))
    return {"training_logit_change_from_blanking": _change(*logits)}


def _real_and_blank(subject: Subject, examples: ProbeRows) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The inputs of some rows, and the same without their text."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    blank, key = blanked(subject, some, alike=False), text_key(some)
    if torch.equal(blank[key], some.inputs[key]):
        raise ValueError("the texts have no tokens to blank")
    return some.inputs, blank


@contextmanager
def training_modes(subject: Subject) -> Iterator[None]:
    """Every module in the mode in which the program trains it; evaluation mode again after the block."""
    try:
        for module, is_training in subject.modes:
            module.training = is_training
        yield
    finally:
        for module, _ in subject.modes:
            module.training = False


def seed() -> None:
    """Make the experiments repeatable. `torch.manual_seed` is not used: it would also seed a GPU before its first use,
    and that seed could not be restored."""
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@torch.no_grad()
def padding(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """The largest change of a logit when columns of padding are added."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if "input_ids" not in some.inputs or not can_be_padded(subject, some):
        raise ValueError("inputs without token ids, or without a known padding id, cannot be padded")
    # At most 64 columns in all, since every encoder has that many positions.
    kept = MAX_TOKENS - ADDED_PADDING
    narrow = columns_of(some, slice(-kept, None) if padded_left(some.inputs) else slice(0, kept))
    wide = padded(subject, narrow, narrow.inputs["input_ids"].shape[1] + ADDED_PADDING)
    return {"logit_change_from_padding": _change(subject.logits(narrow.inputs), subject.logits(wide.inputs))}


@torch.no_grad()
def neighbours(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """The largest change of a row's logit in a batch of fewer rows, or of the same rows in reverse order."""
    some = examples.rows(slice(0, COMPARED_ROWS))
    if len(some) < 3:
        raise ValueError(f"at least 3 rows are needed, and the batches have {len(some)}")
    together = subject.logits(some.inputs)
    order = torch.arange(len(some) - 1, -1, -1, device=subject.device)
    reversed_rows = subject.logits(some.rows(order).inputs)[order]
    # Pairs instead of single rows, because batch normalization refuses a single row.
    fewer = torch.cat([subject.logits(some.rows(slice(i, i + 2)).inputs) for i in range(0, len(some) - 1, 2)])
    return {
        "logit_change_from_neighbours": max(_change(together, reversed_rows), _change(together[: len(fewer)], fewer)),
    }


def _change(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _rounding(logits: torch.Tensor) -> float:
    """Unit rounding of the narrowest type that represents the logits exactly, also after a cast to float32."""
    for kind, rounding in ((torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
        if torch.equal(logits.to(kind).float(), logits) and logits.any():
            return rounding
    return 2.0**-24


OVERFIT_ROWS, MIN_OVERFIT_ROWS = 20, 4

MAX_OVERFIT_STEPS, MIN_OVERFIT_STEPS = 60, 20

SMALL_SHARE = 0.05
"""Below this share of trainable weights, only a head or adapters are trainable."""

HEAD_FACTOR = 30
"""A head and adapters are trained at this many times the encoder's learning rate."""


BACKWARD_PASSES = 10
"""Backward passes after which a parameter counts as without gradient, since LayerDrop skips layers at random."""


def gradients(subject: Subject, examples: ProbeRows) -> dict[str, Any]:
    """Which trainable parameters have no gradient after a backward pass, or only zeros even after two steps.

    In the mode in which the program trains: checkpointing, `self.training` branches and dropout act only there.
    """
    with weights_kept(subject.model), training_modes(subject), torch.enable_grad():
        trainable = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
        optimizer, zero = make_optimizer(subject.model), set(trainable)
        without: set[str] = set(trainable)
        # Below a matrix that starts at zero (LoRA, some heads) gradients are zero until the second step.
        for _ in range(BACKWARD_PASSES):
            optimizer.zero_grad(set_to_none=True)
            loss = subject.loss(examples.inputs, examples.labels)
            if not loss.requires_grad:
                break
            loss.backward()
            without &= {name for name, p in trainable.items() if p.grad is None}
            zero &= {name for name, p in trainable.items() if p.grad is None or not p.grad.any()}
            if not zero:
                break
            optimizer.step()
        weights = sum(p.numel() for p in trainable.values())
        return {
            "parameters_without_gradient": tuple(name for name in trainable if name in without),
            "parameters_with_zero_gradient": tuple(name for name in trainable if name in zero - without),
            "share_without_gradient": sum(trainable[name].numel() for name in without) / max(1, weights),
        }


def overfitting(subject: Subject, examples: ProbeRows, deadline: float) -> dict[str, Any]:
    """Memorize a few examples, then try the same with blanked texts; fewer examples if a step takes long.

    Raises:
        RuntimeError: the time is not enough for 20 steps.
    """
    time_left = deadline - time.monotonic()
    few = examples.rows(slice(0, MIN_OVERFIT_ROWS))
    with weights_kept(subject.model):
        per_step = _seconds_per_step(subject, few)
    # A step takes at most proportionally longer with more rows. 40% of the time is for each of the two attempts, the
    # rest for restoring the weights.
    affordable = 0.4 * (deadline - time.monotonic()) / max(per_step, 1e-6)
    rows = min(len(examples), max(len(few), int(len(few) * affordable / (2 * MIN_OVERFIT_STEPS))))
    steps = min(MAX_OVERFIT_STEPS, int(affordable * len(few) / max(1, rows)))
    if steps < MIN_OVERFIT_STEPS:
        raise RuntimeError(f"{time_left:.0f} s allow {max(0, steps)} steps; {MIN_OVERFIT_STEPS} are needed")
    chosen = examples.rows(slice(0, rows))
    (before, after, errors), taken = _memorize(subject, chosen, steps, time.monotonic() + time_left / 2)
    if taken < MIN_OVERFIT_STEPS and errors:
        raise RuntimeError(f"only {taken} steps in {time_left / 2:.0f} s; {MIN_OVERFIT_STEPS} are needed")
    results = {"overfit_errors": errors, "overfit_examples": rows, "overfit_loss": (before, after)}
    blank = ProbeRows(blanked(subject, chosen, alike=True), chosen.labels)
    (_, after_on_blank, _), taken_on_blank = _memorize(subject, blank, taken, deadline, stop_early=False)
    return {**results, "overfit_responds": (after, after_on_blank)} if taken_on_blank == taken else results


def random_labels(subject: Subject, examples: ProbeRows, deadline: float) -> dict[str, Any]:
    """One pass on the real labels and one on shuffled labels: mean losses over the second half, before each step."""
    order = torch.randperm(len(examples)).to(subject.device)
    shuffled = examples.labels[torch.randperm(len(examples)).to(subject.device)]
    losses, half = [], time.monotonic() + (deadline - time.monotonic()) / 2
    parts = order.split(COMPARED_ROWS)
    for labels, until in ((examples.labels, half), (shuffled, deadline)):
        with weights_kept(subject.model), torch.enable_grad():
            optimizer, seen = make_optimizer(subject.model), []
            for part in parts:
                seen.append(train_step(subject, examples.rows(part).inputs, labels[part], optimizer))
                if time.monotonic() > until:
                    break
        parts = parts[: len(seen)]  # The second pass has at most as many steps as the first.
        losses.append(seen)
    steps = min(len(seen) for seen in losses)
    real, random = (float(np.mean(seen[steps // 2 : steps])) for seen in losses)
    return {
        "real_labels_loss": real,
        "random_labels_loss": random,
        "deep_examples": sum(len(part) for part in parts[steps // 2 : steps]),
    }


def balanced(examples: ProbeRows, limit: int = OVERFIT_ROWS) -> ProbeRows:
    """At most `limit` rows with different texts, taken from each class in turn."""
    text = examples.inputs[text_key(examples)]
    _, group = torch.unique(text.reshape(len(text), -1), dim=0, return_inverse=True)
    seen: set[int] = set()
    queues: dict[int, list[int]] = {}
    classes = examples.labels.reshape(len(text), -1)[:, 0].tolist()
    for row, (text_id, label) in enumerate(zip(group.tolist(), classes, strict=True)):
        if text_id not in seen:
            seen.add(text_id)
            queues.setdefault(label, []).append(row)
    in_turn = sorted((turn, label, row) for label, rows in queues.items() for turn, row in enumerate(rows))
    return examples.rows(torch.tensor([row for _, _, row in in_turn[:limit]], device=text.device))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW for the trainable parameters, with a learning rate inversely proportional to the width (Yang et al. 2022).

    A head or adapters have a higher rate where only they are trainable, or adapters together with the encoder.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for p in trainable.values() if p.ndim > 1]
    rate = 0.1 / (matrices[-1].shape[-1] if matrices else 100)
    fast = _with_higher_rate(model, trainable)
    groups = [
        {"params": [p for name, p in trainable.items() if (name in fast) == is_fast], "lr": _bounded(factor * rate)}
        for is_fast, factor in ((False, 1), (True, HEAD_FACTOR))
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable.values())
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0, fused=fused)


def _with_higher_rate(model: nn.Module, trainable: Mapping[str, nn.Parameter]) -> set[str]:
    """All trainable parameters where they are few; else, in a model with trainable adapters, those of no encoder."""
    if sum(p.numel() for p in trainable.values()) < SMALL_SHARE * sum(p.numel() for p in model.parameters()):
        return set(trainable)
    parts = find_parts(unwrapped(model))
    return set(trainable) - parts.encoder if parts.added & trainable.keys() else set()


def _bounded(rate: float) -> float:
    return min(1e-2, max(1e-4, rate))


def train_step(
    subject: Subject, inputs: dict[str, torch.Tensor], labels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> float:
    """One optimizer step with clipped gradients; returns the loss before the step."""
    optimizer.zero_grad(set_to_none=True)
    loss = subject.loss(inputs, labels)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return float(loss.detach())


def _seconds_per_step(subject: Subject, examples: ProbeRows) -> float:
    """The shorter time of two steps, since other work on the machine can slow down one of them."""
    taken = []
    with torch.enable_grad():
        optimizer = make_optimizer(subject.model)
        for _ in range(3):  # The first step also allocates the optimizer's moments and is not counted.
            started = time.monotonic()
            train_step(subject, examples.inputs, examples.labels, optimizer)
            taken.append(time.monotonic() - started)
    return min(taken[1:])


def _memorize(
    subject: Subject, examples: ProbeRows, steps: int, deadline: float, stop_early: bool = True
) -> tuple[tuple[float, float, int], int]:
    """Train on the examples: loss before and after, remaining errors, and number of steps; the weights are restored."""
    taken = 0
    with weights_kept(subject.model):
        with torch.enable_grad():
            optimizer, losses = make_optimizer(subject.model), []
            while taken < steps and time.monotonic() < deadline:
                losses.append(train_step(subject, examples.inputs, examples.labels, optimizer))
                taken += 1
                if stop_early and taken >= MIN_OVERFIT_STEPS and losses[-1] < 0.02:
                    break
        with torch.no_grad():
            logits = subject.logits(examples.inputs)
            after = float(subject.loss_fn(logits, examples.labels).mean())
            errors = int((logits.argmax(dim=-1) != examples.labels.reshape(-1)).sum())
    return (losses[0] if losses else after, after, errors), taken


@contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    """Restore the values of parameters and buffers in the same tensors after the block, and remove all gradients."""
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


LOWEST, HIGHEST = 1e-6, 1.0
STEPS, MIN_STEPS = 42, 24
"""Learning rates tried: seven per factor of ten, at least four."""

ROWS = 8
SMOOTHING = 0.7
"""Weight of the earlier losses in their moving mean."""


def rising_rates(subject: Subject, examples: ProbeRows, deadline: float) -> dict[str, Any]:
    """The loss before each step, while the learning rate rises from 1e-6 to 1 in equal factors; weights are restored.

    It ends early where the loss diverges.

    Raises:
        RuntimeError: the time is not enough for 24 steps.
    """
    order = torch.randperm(len(examples)).to(subject.device)
    parts = [part for part in order.split(ROWS) if len(part) > 1]
    divergence = math.log(max(2, subject.n_classes))
    losses: list[float] = []
    with weights_kept(subject.model), torch.enable_grad():
        optimizer = make_optimizer(subject.model)
        steps = _affordable(subject, examples.rows(parts[0]), optimizer, deadline)
        rates = np.geomspace(LOWEST, HIGHEST, steps)
        for step, rate in enumerate(rates.tolist()):
            for group in optimizer.param_groups:
                group["lr"] = rate
            part = examples.rows(parts[step % len(parts)])
            losses.append(train_step(subject, part.inputs, part.labels, optimizer))
            means = moving_mean(losses)
            if not math.isfinite(losses[-1]) or means[-1] > min(means) + divergence:
                break
    return {"rates_tried": tuple(rates[: len(losses)].tolist()), "losses_at_rates": tuple(losses)}


def _affordable(subject: Subject, part: ProbeRows, optimizer: torch.optim.Optimizer, deadline: float) -> int:
    """The number of steps that the time allows, estimated from one timed step at the lowest rate."""
    for group in optimizer.param_groups:
        group["lr"] = LOWEST
    started = time.monotonic()
    train_step(subject, part.inputs, part.labels, optimizer)
    steps = int((deadline - started) / max(1e-6, time.monotonic() - started))
    if steps < MIN_STEPS:
        raise RuntimeError(f"the time allows {max(0, steps)} steps; {MIN_STEPS} are needed")
    return min(STEPS, steps)


def moving_mean(losses: list[float]) -> list[float]:
    """Exponential moving mean with bias correction."""
    mean, means = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**number))
    return means
