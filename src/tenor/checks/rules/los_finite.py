"""Losses and gradients that are not finite, also where a program logs 0 for them."""

import math

import numpy as np

from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.rule import rule
from tenor.runs.findings import RULE_SEVERITY, Finding

EXPLODED = 3.0
"""Times the first loss: no noise of batches, nor an uninformed model's loss, is so far above it."""

MIN_ZEROS, FAR_FROM_ZERO = 3, 0.1
"""Number of losses of exactly 0, and the loss before them in nats: no single step gains that much."""


@rule(
    "LOS007",
    "error",
    symptoms=("not a number",),
    explains=(
        *("bad result", "low accuracy", "majority accuracy", "one class predicted", "class never predicted"),
        *("unchanged score", "below chance", "collapsing predictions", "metric not a number", "skipped steps"),
    ),
)
def loss_is_nan(steps: StepEvidence) -> Finding | None:
    """A loss or a gradient is NaN or infinite

    Measures: NaN and infinity in the recorded losses, in the gradient norms of steps that were taken, and in the
    validation losses; losses of exactly 0 from some record to the last; a mean training loss of exactly 0.

    Threshold: none; an exact invariant. Zeros count if a validation loss is NaN too, or, as a warning, if there are
    three or more and the loss before them was above 0.1, or no other loss was recorded: `transformers` logs 0 for NaN
    (`logging_nan_inf_filter`).

    Why: a single such step makes all weights NaN. Every later prediction is class 0, the argmax of NaN.

    Look-alikes: with loss scaling, an infinite gradient norm in a skipped step is part of calibrating the scale, and
    passes. A loss that falls to 0 gradually was memorized.

    Fix: use a lower rate and fp32, and look for log(0), division by a mask whose sum is 0, and empty texts.

    Reference: PyTorch, `torch.autograd.set_detect_anomaly`.
    """
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    broken = [point for point in steps.validation_loss if not math.isfinite(point.value)]
    bad, zeros = _not_finite(steps, losses), _zeros_at_end(losses)
    is_sure = bool(bad.any() or broken or steps.mean_loss == 0)
    dropped = 0 < zeros == len(losses) or (MIN_ZEROS <= zeros < len(losses) and losses[-zeros - 1] > FAR_FROM_ZERO)
    if not is_sure and not dropped:
        return None
    filtered = zeros > 0 and not bad.any() and (bool(broken) or dropped)
    if filtered:
        bad[-zeros:] = True
    parts = ["the mean loss of the training is exactly 0"] if steps.mean_loss == 0 else []
    filtered = filtered or bool(parts)
    exploded = ""
    if bad.any():
        first = int(np.argmax(bad))
        exploded = _explosion(losses[:first])
        norm = steps.grad_norm
        gradient = "" if norm is None or len(norm) <= first else f", gradient {norm[first]}"
        where = steps.at(int(steps.steps[first]))
        parts.append(f"first at {where}: loss {losses[first]:g}{gradient} in {int(bad.sum())} records{exploded}")
    parts += (
        [f"validation loss {str(broken[0].value).replace('nan', 'NaN')} at {steps.at(broken[0].step)}"]
        if broken
        else []
    )
    return Finding(
        observed="; ".join(parts),
        expected="finite numbers" + (", and no loss of exactly 0" if filtered else ""),
        n=len(losses) + len(steps.validation_loss),
        cause="the steps are too large: the loss exploded before"
        if exploded
        else "an overflow, a division by 0 or a logarithm of 0"
        + ("; transformers logs 0 for NaN (logging_nan_inf_filter)" if filtered else ""),
        fix="lower the learning rate, use fp32, and run once under torch.autograd.set_detect_anomaly(True)",
        severity=RULE_SEVERITY if is_sure else "warning",
    )


def _explosion(losses: np.ndarray) -> str:
    """How far the losses rose, as text; empty if they did not rise to several times the first one."""
    if not len(losses) or not losses.max() > EXPLODED * losses[0] > 0:
        return ""
    return f"; the loss rose from {losses[0]:.4g} to {losses.max():.4g} before"


def _not_finite(steps: StepEvidence, losses: np.ndarray) -> np.ndarray:
    """Records whose loss, or the gradient norm of a step that was taken, is NaN or infinite."""
    bad = ~np.isfinite(losses)
    if steps.grad_norm is not None and len(steps.grad_norm) == len(losses):
        taken = np.ones(len(losses), dtype=bool)
        if steps.skipped_steps is not None and len(steps.skipped_steps) == len(losses):
            taken = np.asarray(steps.skipped_steps) == 0
        bad |= ~np.isfinite(np.asarray(steps.grad_norm, dtype=np.float64)) & taken
    return bad


def _zeros_at_end(losses: np.ndarray) -> int:
    """The number of records at the end with a loss of exactly 0."""
    other = np.flatnonzero(losses != 0)
    return len(losses) - (int(other[-1]) + 1 if len(other) else 0)
