"""Training and validation loss together: overfitting."""

import math

import numpy as np

from tenor.checks.evidence import StepEvidence, ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import uninformed
from tenor.runs.findings import Finding

MIN_VALIDATIONS = 3
"""With two, a rise may be the noise of one of them."""

ROSE, ROSE_FAR = 1.1, 1.5
"""Ratios to the minimum. A rise of a tenth is more than validation losses vary between neighbouring epochs; a rise by
half is usual after two to three epochs too many, and more than a temperature alone can repair (Guo et al. 2017)."""

LAST_SHARE = 0.1
"""Share of the validations whose median is the final loss."""

KEPT_SHOWN = 4

TRAINING_FELL = 0.95
"""Ratio of the training loss after the minimum to the one before it: below, the model still learns its own rows."""


@rule("LOS015", "note", symptoms=("rising validation loss",), explains=("splits disagree",))
def overfits(steps: StepEvidence) -> Finding | None:
    """The model overfits: the validation loss rises while the training loss falls

    Measures: the final validation loss (the median of the last tenth) divided by its minimum, and the mean training
    loss after the minimum divided by the one before it.

    Threshold: at least three validations, a rise of 10% from the minimum, and a training loss that fell by 5% and is
    below ln K, where K is known. A note; a warning from a rise of 50%, unless the model that is used is the best
    checkpoint.

    Why: the model memorizes its training rows. Its probabilities become too confident, and later also its predictions
    worse.

    Look-alikes: in fine-tuning the validation loss often rises in the last epoch while the accuracy still improves. A
    training loss that rises too is divergence (LOS008).

    Fix: use the checkpoint of the minimum (`load_best_model_at_end` in `transformers`, `restore_best_weights` in Keras,
    the default in Tenor), and train fewer epochs, with more rows or stronger regularization.

    Reference: Prechelt 1998, Early Stopping - But When?
    """
    points = [point for point in steps.validation_loss if math.isfinite(point.value)]
    if len(points) < MIN_VALIDATIONS:
        raise CannotTell(f"{len(points)} validation losses; {MIN_VALIDATIONS} are needed")
    lowest = min(points, key=lambda point: point.value)
    tail = points[-max(1, round(LAST_SHARE * len(points))) :]
    final = float(np.median([point.value for point in tail]))
    if lowest.value <= 0 or lowest is points[-1] or final < ROSE * lowest.value:
        return None
    before, after = _training_loss_around(steps, lowest)
    if after >= TRAINING_FELL * before or (steps.n_classes and after >= uninformed(steps.n_classes)):
        return None
    ratio = final / lowest.value
    loud = ratio >= ROSE_FAR and not steps.keeps_best
    return Finding(
        observed=f"validation loss {lowest.value:.4g} at {steps.at(lowest.step)}, {final:.4g} at the end ({ratio:.2f} "
        f"times the minimum); training loss {before:.4g} up to that {steps.unit}, {after:.4g} after it",
        expected=f"a final validation loss below {ROSE:g} times its minimum",
        n=len(points),
        cause="the model memorizes its training rows after the minimum"
        + ("; the best checkpoint is kept, so the model that is used is not affected" if steps.keeps_best else ""),
        fix=_fix(steps, lowest.step),
        severity="warning" if loud else "note",
    )


def _fix(steps: StepEvidence, best: int) -> str:
    """What to do; a checkpoint that is gone cannot be used."""
    kept = steps.kept_checkpoints
    stop = "stop training there: fewer epochs, or early stopping"
    if not kept or best in kept:
        return f"use the checkpoint of {steps.at(best)}, and {stop}"
    nearest = min(kept, key=lambda step: abs(step - best))
    shown = ", ".join(f"{step:,}" for step in sorted(kept)[:KEPT_SHOWN])
    hint = (
        f"; of those that are kept ({shown}), {nearest:,} is the nearest"
        if len(kept) > 1
        else f"; only {shown} is kept"
    )
    return (
        f"train again up to {steps.at(best)}, of which no checkpoint is kept{hint}. Save one at every validation and "
        "keep the best (`load_best_model_at_end`), or stop early"
    )


def _training_loss_around(steps: StepEvidence, lowest: ValidationPoint) -> tuple[float, float]:
    """Mean training loss of the records up to the minimum, at most as many as follow it, and of those that follow."""
    numbers = np.asarray(steps.steps)
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    if len(losses) != len(numbers):
        raise CannotTell("steps and losses do not match")
    finite = np.isfinite(losses)
    before, after = losses[finite & (numbers <= lowest.step)], losses[finite & (numbers > lowest.step)]
    if not len(before) or not len(after):
        raise CannotTell("the training loss is not recorded before and after the lowest validation loss")
    return float(before[-len(after) :].mean()), float(after.mean())
