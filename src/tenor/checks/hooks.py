"""PyTorch hooks that observe a training loop without changing it: predictions, the scale of the loss, the steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tenor.checks.focal_of_mean import MeanLoss, fit_focal, read_mean
from tenor.checks.labels_and_logits import LABEL_NAMES
from tenor.checks.loss_families import read_losses
from tenor.checks.loss_gradients import AGREES, ForwardPass, kind_of_loss, loss_factor
from tenor.checks.one_output import OutputKind, gradient_of_two, scores_in, two_logits

LOSS_SCALE = 1024.0
"""A larger factor is the loss scale of float16 (initially 65,536), not a missing division of the loss."""

PASSES_EXAMINED = 3
"""Passes of a record whose kind of loss is determined."""

TAKES_READ = 10
"""Records in which the loss is read; later only in every tenth."""

SAME_BATCH_ROWS = 8
"""Rows whose classes are equal in several batches by chance less than once in 200 steps, and never in all of them."""

PASSES_READ = 8
"""Passes of a record whose factor is determined."""

MEANS_KEPT = 200
"""Passes, the newest ones, to which a focal factor of the mean is fitted."""


@dataclass
class LoopHooks:
    """What the hooks on one model and its optimizer observed since the last record."""

    model: nn.Module
    one_output: OutputKind | None = None
    """What the only output per row is, of a model for two classes; None: it has a logit per class."""
    steps: int = 0
    """Optimizer steps so far, without those that loss scaling skipped."""
    calls: int = 0
    """Calls of the optimizer so far, which a scheduler follows: a fused optimizer is called for a skipped step too."""
    rate: float | None = None
    """The largest learning rate among the optimizer's groups at its last step."""
    attached: bool = False
    """Whether hooks are registered on an optimizer."""
    scaled: bool = False
    """Whether a loss had the scale of float16, or overflowed with it."""
    noisy_forward: bool = False
    """Whether a forward pass without gradients ran with dropout on."""
    clipped_before_unscale: bool | None = None
    rows_evaluated: int = 0
    """Rows of forward passes without gradients."""
    rows_not_finite: int | torch.Tensor = 0
    """Those whose largest logit is NaN or infinite; on the model's device, which is not waited for."""
    n_classes: int | None = None
    """Columns of the logits, once a pass was seen."""
    is_paused: bool = False
    """Whether forward passes are not those of the program."""
    takes: int = 0
    """Records so far."""
    most_passes: int = 0
    """The number of passes of the steps that have the most."""
    passes: list[ForwardPass] = field(default_factory=list)
    means: list[MeanLoss] = field(default_factory=list)
    """Of the passes whose loss depends on their rows through one mean."""
    not_numbers: list[torch.Tensor] = field(default_factory=list)
    """Of each pass of training since `is_finite` was last asked: whether it has NaN, shape ()."""

    def __post_init__(self) -> None:
        self.model.register_forward_hook(_ForwardHook(self._on_forward), with_kwargs=True)

    def attach(
        self,
        optimizer: Any,
        before: Callable[[], None],
        after: Callable[[], None],
        due: Callable[[], bool],
        clip_at: float | None,
        every_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Call `before` and `after` around the steps of `optimizer`, `before` only at steps that are `due`, and
        `every_step` before each."""
        inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
        self.attached = True

        def before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            self.rate = max(float(group["lr"]) for group in optimizer.param_groups)
            every_step()
            if due():
                self._check_clipping(optimizer, clip_at)
                before()

        def after_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            overflowed = getattr(optimizer, "found_inf", None)  # Set by a GradScaler on a fused optimizer.
            self.scaled = self.scaled or overflowed is not None
            self.calls += 1
            self.steps += overflowed is None or not float(overflowed)
            after()

        inner.register_step_pre_hook(before_step)
        inner.register_step_post_hook(after_step)

    def take(self) -> dict[str, Any]:
        """Fields of `StepEvidence` from the passes since the last call, as far as they can be determined."""
        passes, self.passes = self.passes, []
        fields: dict[str, Any] = {}
        if not passes:
            return fields
        k = passes[0].logits.shape[1]
        fields["predicted_counts"] = _counts([item.logits.argmax(dim=1) for item in passes], k)
        fields["label_counts"] = _counts([item.classes for item in passes], k)
        fields["loss"] = float(torch.stack([item.nats for item in passes]).nanmean())
        self.scaled = self.scaled or _are_scaled(passes)
        if self.takes < TAKES_READ or self.takes % TAKES_READ == 0:
            fields |= self._read(passes)
        self.takes += 1
        return fields

    def _read(self, passes: Sequence[ForwardPass]) -> dict[str, Any]:
        """What the loss is according to its gradient, as far as it can be determined."""
        fields: dict[str, Any] = {}
        by_step: dict[int, list[ForwardPass]] = {}
        for item in passes:
            by_step.setdefault(item.step, []).append(item)
        # The last accumulation of an epoch may have fewer passes than the others.
        parts = self.most_passes = max(self.most_passes, *(len(step) for step in by_step.values()))
        whole = [step for step in by_step.values() if len(step) == parts]
        if not whole:
            return fields
        steps = _last_steps(whole)
        read = [item for step in steps for item in step]
        reading = read_losses(read, parts)
        if reading.rewarded is not None:
            fields["rewarded_for_several"] = reading.rewarded
        means = [mean for item in read if (mean := read_mean(item)) is not None]
        self.means = [*self.means, *means][-MEANS_KEPT:]
        if self.means:
            fields["focal_fit"] = fit_focal(self.means)
        kinds = {kind_of_loss(item) for item in passes[-PASSES_EXAMINED:]}
        if kinds == {None} and np.isfinite(reading.factors).all():  # Class weights, a focal loss, label smoothing.
            sums = [
                len(item.logits) > 1 and abs(f / len(item.logits) - 1) < AGREES
                for item, f in zip(read, reading.factors, strict=True)
            ]
            kinds = {"sum" if all(sums) else "mean"}
        if len(kinds) == 1 and None not in kinds:
            fields["kind_of_loss"] = kinds.pop()
        scales = [part.sum() for part in np.split(reading.factors, np.cumsum([len(step) for step in steps])[:-1])]
        if all(_is_one_batch(step) for step in steps):
            return fields  # Adversarial training and R-Drop add up several losses of the same rows on purpose.
        if self.steps and np.isfinite(scales).any() and np.nanmedian(scales) < LOSS_SCALE:
            fields["backward_ratio"] = float(np.nanmedian(scales))
            fields["parts_per_step"] = parts
        return fields

    def is_finite(self) -> bool:
        """Whether the passes of training since the last call had neither NaN logits nor a loss that is no number.

        On another device than the CPU, the newest passes are left for the next call, so that nothing waits for them.
        """
        ready, self.not_numbers = self.not_numbers, []
        if ready and ready[-1].device.type != "cpu":
            ready, self.not_numbers = ready[:-1], ready[-1:]
        return not any(bool(flag) for flag in ready)

    def _on_forward(self, module: nn.Module, given: Mapping[str, Any], output: Any) -> None:
        if self.is_paused:
            return
        scores = scores_in(output) if self.one_output is not None else None
        logits = scores if scores is not None else getattr(output, "logits", output)
        if not torch.is_grad_enabled():
            self.noisy_forward = self.noisy_forward or has_dropout_on(module)
            if scores is not None:
                logits = scores.reshape(-1, 1)
            if isinstance(logits, torch.Tensor) and logits.ndim == 2 and logits.shape[1] > 0:
                self.rows_evaluated += len(logits)
                self.rows_not_finite = self.rows_not_finite + (~logits.amax(dim=1).isfinite()).sum()
        elif isinstance(logits, torch.Tensor) and logits.requires_grad and _is_per_class(logits, scores):
            self._keep_pass(logits, given, output, self.one_output if scores is not None else None)

    def _keep_pass(
        self, outputs: torch.Tensor, given: Mapping[str, Any], output: Any, one_output: OutputKind | None
    ) -> None:
        """Keep the logits of one pass, and their gradient when it arrives."""
        scores = outputs.detach()  # A hook that holds the output itself would keep its graph.
        values = scores if one_output is None else two_logits(scores, one_output)
        step, labels = self.steps, _class_labels(given, values)
        self.n_classes = values.shape[1]
        self.not_numbers.append(_is_not_a_number(values, getattr(output, "loss", None)))

        def on_backward(gradient: torch.Tensor) -> None:
            if gradient.dtype != torch.float16:  # There, a loss scale that is too large makes NaN too.
                self.not_numbers.append(gradient.isnan().any())
            found = gradient.detach()
            found = found if one_output is None else gradient_of_two(found, scores, one_output)
            self.passes.append(ForwardPass(step, values, found, labels))

        outputs.register_hook(on_backward)

    def _check_clipping(self, optimizer: torch.optim.Optimizer, clip_at: float | None) -> None:
        """With a loss scale S, gradients that were clipped before unscaling have the norm clip / S at the step."""
        scale = sum(loss_factor(item) for item in self.passes if item.step == self.steps)
        if clip_at is None or not scale >= LOSS_SCALE:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        at_the_limit = 0.9 <= norm * scale / clip_at <= 1.1
        self.clipped_before_unscale = bool(at_the_limit or self.clipped_before_unscale)


def _is_per_class(logits: torch.Tensor, scores: torch.Tensor | None) -> bool:
    """Whether a tensor has a logit per class, or stands for those of two classes."""
    return scores is not None or (logits.ndim == 2 and logits.shape[1] > 1)


def _is_one_batch(passes: Sequence[ForwardPass]) -> bool:
    """Whether several passes of a step have the same classes in the same order, on enough rows that this is no
    chance."""
    first = passes[0].classes
    return (
        len(passes) > 1
        and len(first) >= SAME_BATCH_ROWS
        and len(first.unique()) > 1
        and all(torch.equal(first, one.classes) for one in passes[1:])
    )


def _last_steps(steps: Sequence[list[ForwardPass]]) -> list[list[ForwardPass]]:
    """The last steps with at most `PASSES_READ` passes together; at least one."""
    counts = np.cumsum([len(step) for step in reversed(steps)])
    return list(steps[-max(1, int((counts <= PASSES_READ).sum())) :])


def _class_labels(given: Mapping[str, Any], logits: torch.Tensor) -> torch.Tensor | None:
    """The labels among a model's named inputs, where they are one class per row."""
    labels = next((given[name] for name in LABEL_NAMES if given.get(name) is not None), None)
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.shape != logits.shape[:1]:
        return None
    return labels.detach()


def _is_not_a_number(logits: torch.Tensor, loss: Any) -> torch.Tensor:
    """Whether logits are NaN (classes may be masked with infinity) or the model's loss is NaN or infinite, shape ()."""
    wrong = logits.isnan().any()
    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        wrong = wrong | ~loss.detach().isfinite().reshape(())
    return wrong


def _are_scaled(passes: Sequence[ForwardPass]) -> bool:
    """Whether a loss scale multiplies the gradients: the newest pass shows it, or any whose gradient overflowed."""
    if loss_factor(passes[-1]) >= LOSS_SCALE:
        return True
    return not all(bool(torch.isfinite(item.gradient).all()) for item in passes)


def with_gradient(parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """Names of the parameters with a gradient that is not zero everywhere; one transfer for each device."""
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    by_device: dict[torch.device, list[str]] = {}
    for name, gradient in gradients.items():
        if type(gradient) is torch.Tensor and gradient.layout == torch.strided and gradient.numel():
            by_device.setdefault(gradient.device, []).append(name)
    zero: set[str] = set()
    for names in by_device.values():
        arrived = torch.stack([gradients[name].detach().any() for name in names]).tolist()
        zero |= {name for name, has in zip(names, arrived, strict=True) if not has}
    return gradients.keys() - zero


def has_dropout_on(model: nn.Module) -> bool:
    """Whether a dropout module with a probability above 0 is in training mode."""
    return any(
        module.training and getattr(module, "p", 0.0) > 0.0
        for module in model.modules()
        if "dropout" in type(module).__name__.lower()
    )


class _ForwardHook:
    """A forward hook that does nothing in a copied or unpickled model."""

    def __init__(self, call: Callable[[nn.Module, Mapping[str, Any], Any], None] | None = None) -> None:
        self.call = call

    def __call__(self, module: nn.Module, inputs: Any, named_inputs: Mapping[str, Any], output: Any) -> None:
        if self.call is not None:
            self.call(module, named_inputs, output)

    def __reduce__(self) -> tuple[type["_ForwardHook"], tuple[()]]:
        return _ForwardHook, ()


def _counts(classes: Sequence[torch.Tensor], k: int) -> np.ndarray:
    # Each to the CPU: `nn.DataParallel` makes passes on every GPU.
    indices = torch.cat([part.cpu() for part in classes]).numpy()
    return np.bincount(indices[(indices >= 0) & (indices < k)], minlength=k)
