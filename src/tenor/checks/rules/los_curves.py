"""Training and validation loss together: overfitting."""

import math

import numpy as np

from tenor.checks.evidence import CheckpointEvidence, StepEvidence, ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.runs.findings import Finding

MIN_VALIDATIONS = 3
"""With two, a rise may be the noise of one of them."""

ROSE, ROSE_FAR = 1.1, 1.5
"""Ratios to the minimum. A rise of a tenth is more than validation losses vary between neighbouring epochs; a rise by
half is usual after two to three epochs too many, and more than a temperature alone can repair (Guo et al. 2017)."""

LAST_SHARE = 0.1
"""Share of the validations whose median is the final loss."""

FITTED, ABOVE_CHANCE = 0.25, 1.1
"""Shares of ln K, the loss of equal probabilities: of a training loss and of a validation loss."""

SAME = 1e-6
MOST_OF_ONE_CLASS = 0.75
"""A higher accuracy that does not change may be that of a good model on a few validation rows."""

TRAINING_FELL = 0.95
"""Ratio of the training loss after the minimum to the one before it: below, the model still learns its own rows."""


@rule("LOS015", "note", explains=("splits disagree",))
def overfits(steps: StepEvidence) -> Finding | None:
    """The model overfits: the validation loss rises while the training loss falls

    Measures: the final validation loss (the median of the last tenth) divided by its minimum, and the mean training
    loss after the minimum divided by the one before it.

    Threshold: at least three validations, a rise of 10% from the minimum, and a training loss that fell by 5%. A note;
    a warning from a rise of 50%, unless the model that is used is the best checkpoint.

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
    if after >= TRAINING_FELL * before:
        return None
    ratio = final / lowest.value
    loud = ratio >= ROSE_FAR and not steps.keeps_best
    return Finding(
        observed=f"validation loss {lowest.value:.4g} at step {lowest.step:,}, {final:.4g} at the end ({ratio:.2f} "
        f"times the minimum); training loss {before:.4g} up to that step, {after:.4g} after it",
        expected=f"a final validation loss below {ROSE:g} times its minimum",
        n=len(points),
        cause="the model memorizes its training rows after the minimum"
        + ("; the best checkpoint is kept, so the model that is used is not affected" if steps.keeps_best else ""),
        fix=f"use the checkpoint of step {lowest.step:,}, and stop training there: fewer epochs, or early stopping",
        severity="warning" if loud else "note",
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


@rule(
    "LOS016",
    "warning",
    symptoms=("bad result", "low accuracy", "one class predicted"),
    explains=("splits disagree",),
    says_why=False,
)
def fitted_but_constant(steps: StepEvidence, checkpoint: CheckpointEvidence) -> Finding | None:
    """The training rows are fitted, but the validation accuracy never changes

    Measures: the mean training loss of the last tenth of the records, and all validation accuracies and losses.

    Threshold: a training loss below 0.25 ln K, at least three validations with exactly the same accuracy of 0.75 or
    less, and a last validation loss above 1.1 ln K. K is 2 where it is not recorded.

    Why: a model that predicts one class for every row has the same accuracy after every epoch, the share of that class.
    A small training loss shows that this is what its training rows taught: they are of one class.

    Look-alikes: overfitting (LOS015) changes some predictions from epoch to epoch. A few validation rows may give the
    same accuracy by chance.

    Fix: count the labels of the rows that were trained on, and print the predicted classes of the validation rows.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    accuracies = [point.value for point in checkpoint.validations]
    losses = [point.value for point in steps.validation_loss if math.isfinite(point.value)]
    if not checkpoint.metric or "acc" not in checkpoint.metric or min(len(accuracies), len(losses)) < MIN_VALIDATIONS:
        raise CannotTell(f"{MIN_VALIDATIONS} validation accuracies and losses are needed")
    reference = math.log(steps.n_classes or 2)
    training = np.asarray(steps.loss, dtype=np.float64).ravel()
    last = float(training[-max(1, len(training) // 10) :].mean()) if len(training) else math.nan
    if not last < FITTED * reference or losses[-1] <= ABOVE_CHANCE * reference:
        return None
    if max(accuracies) - min(accuracies) > SAME or max(accuracies) > MOST_OF_ONE_CLASS:
        return None
    return Finding(
        observed=f"training loss {last:.4g} at the end, and an accuracy of {accuracies[-1]:.4f} in all "
        f"{len(accuracies)} validations, with a loss of {losses[-1]:.4g}",
        expected=f"an accuracy that changes, and a validation loss below {reference:.4f}",
        n=len(accuracies),
        cause="the model predicts one class for every validation row, as its training rows taught it",
        fix="count the labels of the rows that were trained on, and print the predicted classes of the validation rows",
    )
