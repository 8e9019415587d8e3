"""What PyTorch's own hooks tell of a running loop, without its help: predictions, the scale of the loss, the steps.

The gradient of a mean cross-entropy with respect to the logits is `(softmax - one-hot) / rows`. So logits and their
gradient together give, for each row, its label and the factor that the loop put before its loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

LOSS_SCALE = 1024.0
"""A factor above this is float16's loss scale (65,536 at first), not a loss that forgot to divide."""

MIN_TELLING_ROWS = 6
"""Rows with a gradient of some length, without which a loss of probabilities is not told from others."""

MOST_CLASSES = 64
"""With more, trying every label of every row would take megabytes."""

KINDS = 3
"""Passes of a record whose losses are looked at."""

UNSURE = 0.05
"""A row that is predicted this well has a gradient too short to tell its factor."""

AGREES = 0.02
"""Relative difference up to which gradients are those of the loss in question; smoothed or focal ones differ more."""


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass that a backward pass followed; tensors of shape (rows, K)."""

    step: int
    logits: torch.Tensor
    gradient: torch.Tensor


@dataclass
class LoopHooks:
    """What was heard since the last record of one model's loop."""

    model: nn.Module
    steps: int = 0
    """Optimizer steps so far; not those that loss scaling skipped."""
    calls: int = 0
    """Calls of the optimizer so far, by which a scheduler goes: a fused one is called for a skipped step too."""
    rate: float | None = None
    """The largest learning rate among the optimizer's groups at its last step."""
    watched: bool = False
    """Whether the optimizer is listened to."""
    scaled: bool = False
    """Whether a loss was seen to carry float16's scale, or to overflow with it."""
    noisy_forward: bool = False
    """Whether a forward pass without gradients ran with dropout on."""
    clipped_before_unscale: bool | None = None
    passes: list[ForwardPass] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.register_forward_hook(_Listener(self._hear_forward))

    def watch(
        self,
        optimizer: Any,
        before: Callable[[], None],
        after: Callable[[], None],
        due: Callable[[], bool],
        clip_at: float | None,
    ) -> None:
        """Listen to `optimizer`: call `before` and `after` around its steps; look closely at those that are `due`."""
        inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
        self.watched = True

        def before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            self.rate = max(float(group["lr"]) for group in optimizer.param_groups)
            if due():
                self._look_at_clipping(optimizer, clip_at)
                before()

        def after_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            overflowed = getattr(optimizer, "found_inf", None)  # Given by a GradScaler to a fused optimizer.
            self.scaled = self.scaled or overflowed is not None
            self.calls += 1
            self.steps += overflowed is None or not float(overflowed)
            after()

        inner.register_step_pre_hook(before_step)
        inner.register_step_post_hook(after_step)

    def take(self) -> dict[str, Any]:
        """Fields of `StepEvidence` from the passes since the last call, as far as they can be told."""
        passes, self.passes = self.passes, []
        found: dict[str, Any] = {}
        if not passes:
            return found
        k = passes[0].logits.shape[1]
        found["predicted_counts"] = _counts([one.logits.argmax(dim=1) for one in passes], k)
        found["label_counts"] = _counts([one.gradient.argmin(dim=1) for one in passes], k)
        by_step: dict[int, list[ForwardPass]] = {}
        for one in passes:
            by_step.setdefault(one.step, []).append(one)
        scales = np.array([sum(loss_factor(one) for one in step) for step in by_step.values()])
        kinds = [kind for one in passes[-KINDS:] if (kind := kind_of_loss(one)) is not None]
        if len(kinds) == len(passes[-KINDS:]) and len(set(kinds)) == 1:
            found["kind_of_loss"] = kinds[0]
        self.scaled = self.scaled or any(_is_scaled(one) for one in passes)
        if self.steps and np.isfinite(scales).any() and np.nanmedian(scales) < LOSS_SCALE:
            found["backward_ratio"] = float(np.nanmedian(scales))
            found["parts_per_step"] = int(np.median([len(step) for step in by_step.values()]))
        return found

    def _hear_forward(self, module: nn.Module, output: Any) -> None:
        logits = getattr(output, "logits", output)
        if not torch.is_grad_enabled():
            self.noisy_forward = self.noisy_forward or has_dropout_on(module)
        elif isinstance(logits, torch.Tensor) and logits.requires_grad and logits.ndim == 2 and logits.shape[1] > 1:
            step, values = self.steps, logits.detach()

            def hear_backward(gradient: torch.Tensor) -> None:
                self.passes.append(ForwardPass(step, values, gradient.detach()))

            logits.register_hook(hear_backward)

    def _look_at_clipping(self, optimizer: torch.optim.Optimizer, clip_at: float | None) -> None:
        """With a loss scale S, gradients that were clipped before unscaling have the norm clip / S at the step."""
        scale = sum(loss_factor(one) for one in self.passes if one.step == self.steps)
        if clip_at is None or not scale >= LOSS_SCALE:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        at_the_limit = 0.9 <= norm * scale / clip_at <= 1.1
        self.clipped_before_unscale = bool(at_the_limit or self.clipped_before_unscale)


def loss_factor(one: ForwardPass) -> float:
    """Sum over the rows of the factors before their cross-entropies: 1 for a mean, the number of rows for a sum.

    NaN where the gradient is not that of a cross-entropy, or too short to tell.
    """
    logits, gradient = one.logits.cpu().double(), one.gradient.cpu().double()  # Apple's GPUs have no float64.
    if not bool(torch.isfinite(gradient).all()):
        return float("nan")
    label = gradient.argmin(dim=1)
    ideal = logits.softmax(dim=1) - nn.functional.one_hot(label, logits.shape[1])
    length, ideal_length = gradient.norm(dim=1), ideal.norm(dim=1)
    sure = (ideal_length > UNSURE) & (length > 0)
    if not bool(sure.any()):
        return float("nan")
    factor = float((length / ideal_length)[sure].mean())
    if float((gradient - factor * ideal)[sure].norm() / gradient[sure].norm()) > AGREES:
        return float("nan")
    return factor * len(logits)


def kind_of_loss(one: ForwardPass) -> Literal["mean", "sum", "probabilities"] | None:
    """What the gradient shows the loss to be: a mean or a sum of cross-entropies, or one that is given probabilities.

    None where it is neither, or can't be told.
    """
    rows, factor = len(one.logits), loss_factor(one)
    if not bool(torch.isfinite(one.gradient).all()):
        return None
    plain, of_probabilities = bool(np.isfinite(factor)), is_loss_of_probabilities(one)
    if plain == of_probabilities:  # Neither fits, or both: a few rows that are alike can't tell.
        return None
    if of_probabilities:
        return "probabilities"
    return "sum" if rows > 1 and abs(factor / rows - 1) < AGREES else "mean"


def is_loss_of_probabilities(one: ForwardPass) -> bool:
    """Whether the gradient is that of a cross-entropy which is given softmax(logits), for some label in each row."""
    if one.logits.shape[1] > MOST_CLASSES:
        return False
    gradient, p = one.gradient.cpu().double(), one.logits.cpu().double().softmax(dim=1)
    lengths = gradient.norm(dim=1)
    # Where a row or two hold nearly all of the gradient, there are labels and a scale that fit any loss. And near a
    # probability of 1 the gradients of both losses fall in the same proportion.
    telling = (lengths > UNSURE * lengths.max()) & (p.amax(dim=1) < 1 - UNSURE)
    if int(telling.sum()) < MIN_TELLING_ROWS:
        return False
    q = p.softmax(dim=1)
    without_label = p * (q - (p * q).sum(dim=1, keepdim=True))
    # For every row and every label that it may have, shape (rows, K, K).
    expected = without_label[:, None, :] - torch.diag_embed(p) + p[:, None, :] * p[:, :, None]
    along = nn.functional.cosine_similarity(expected, gradient[:, None, :], dim=2, eps=1e-30)
    likeliest = expected[torch.arange(len(p)), along.argmax(dim=1)]
    scale = float((gradient * likeliest).sum() / (likeliest * likeliest).sum().clamp_min(1e-30))
    return float((gradient - scale * likeliest).norm() / gradient.norm().clamp_min(1e-30)) < AGREES


def _is_scaled(one: ForwardPass) -> bool:
    return loss_factor(one) >= LOSS_SCALE or not bool(torch.isfinite(one.gradient).all())


def has_dropout_on(model: nn.Module) -> bool:
    """Whether a dropout module with a probability above 0 is in training mode."""
    return any(
        module.training and getattr(module, "p", 0.0) > 0.0
        for module in model.modules()
        if "dropout" in type(module).__name__.lower()
    )


class _Listener:
    """A forward hook that a copied or saved model leaves behind."""

    def __init__(self, hear: Callable[[nn.Module, Any], None] | None = None) -> None:
        self.hear = hear

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.hear is not None:
            self.hear(module, output)

    def __reduce__(self) -> tuple[type["_Listener"], tuple[()]]:
        return _Listener, ()


def _counts(classes: Sequence[torch.Tensor], k: int) -> np.ndarray:
    # One by one to the processor: `nn.DataParallel` makes passes on every GPU.
    return np.bincount(torch.cat([one.cpu() for one in classes]).numpy(), minlength=k)
