"""Courses of losses: overfitting, a training loss of another size, and a masked-token loss above its trivial value."""

import math

import numpy as np

from tenor.checks.evidence.training_evidence import MaskedLossEvidence, StepEvidence, ValidationPoint
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
"""Share of the validations whose median is the final loss, and of those whose median is the minimum."""

ENOUGH_FOR_NOISE, ABOVE_NOISE = 5, 3.0
"""Validations that show their own noise, and its multiple that a rise has to exceed."""

NORMAL_MEDIAN = 0.6745
"""Median of the absolute value of a normal variable with standard deviation 1."""

KEPT_SHOWN = 4

OF_ANOTHER_SIZE, WITHOUT_CLASSES = 1.8, 3.0
"""Ratio of the training loss to the validation loss: dropout, label smoothing and the decline within the interval reach
1.5 in the first validations. Two passes that are not divided give 2. Stricter where ln K is not known."""

STEADY = 4.0
"""Ratio of the largest multiple to the smallest: a sum is a constant multiple, and memorizing halves it."""

HIGH_START = 1.5
"""Multiple of ln K: a new head starts at ln K within a tenth."""

STARTING_SHARE, NEAREST = 0.05, 5
"""Share of the records that show the initial loss, and the records before a validation that are compared with it."""

TRAINING_FELL = 0.95
"""Ratio of the training loss after the minimum to the one before it: below, the model still learns its own rows."""


@rule("LOS015", "note", symptoms=("rising validation loss",), explains=("splits disagree",))
def overfits(steps: StepEvidence) -> Finding | None:
    """The model overfits: the validation loss rises while the training loss falls

    Measures: the final validation loss (the median of the last tenth) divided by its minimum (the lowest median of as
    many), and the mean training loss after the minimum divided by the one before it. The noise of a validation is
    determined from the differences between neighbours.

    Threshold: at least three validations, a rise of 10% from the minimum, which from five validations on is more than
    three times their noise, and a training loss that fell by 5% and is below ln K, where K is known. A note; a warning
    from a rise of 50%, unless the model that is used is the best checkpoint.

    Why: the model memorizes its training rows. Its probabilities become too confident, and later its predictions
    become worse, too.

    Look-alikes: in fine-tuning the validation loss often rises in the last epoch while the accuracy still improves. A
    training loss that rises too is divergence (LOS008). A validation loss of single batches is noise, and passes.

    Fix: use the checkpoint of the minimum (`load_best_model_at_end` in `transformers`, `restore_best_weights` in Keras,
    the default in Tenor), and train fewer epochs, with more rows or stronger regularization.

    Reference: Prechelt 1998, Early Stopping - But When?
    """
    points = [point for point in steps.validation_loss if math.isfinite(point.value)]
    if len(points) < MIN_VALIDATIONS:
        raise CannotTell(f"{len(points)} validation losses; {MIN_VALIDATIONS} are needed")
    width = max(1, round(LAST_SHARE * len(points)))
    lowest = _lowest(points, width)
    final = float(np.median([point.value for point in points[-width:]]))
    if lowest.value <= 0 or lowest.step == points[-1].step or final < ROSE * lowest.value:
        return None
    if math.log(final / lowest.value) < ABOVE_NOISE * _noise(points) / math.sqrt(width):
        return None
    before, after = _training_loss_around(steps, lowest)
    if after >= TRAINING_FELL * before or (steps.n_classes and after >= uninformed(steps.n_classes)):
        return None
    ratio = final / lowest.value
    recorded = next(point.value for point in points if point.step == lowest.step)
    medians = "" if width == 1 else f"; medians of {width}: {lowest.value:.4g} and {final:.4g}"
    loud = ratio >= ROSE_FAR and not steps.keeps_best
    return Finding(
        observed=f"validation loss {recorded:.4g} at {steps.at(lowest.step)}, {points[-1].value:.4g} at the end"
        f"{medians} ({ratio:.2f} times the minimum); training loss {before:.4g} up to that {steps.unit}, {after:.4g} "
        "after it",
        expected=f"a final validation loss below {ROSE:g} times its minimum",
        n=len(points),
        cause="the model memorizes its training rows after the minimum"
        + ("; the best checkpoint is kept, so the model that is used is not affected" if steps.keeps_best else ""),
        fix=_fix(steps, lowest.step),
        severity="warning" if loud else "note",
    )


def _lowest(points: list[ValidationPoint], width: int) -> ValidationPoint:
    """The best of the `width` neighbouring validations whose median is lowest, with that median."""
    parts = [points[first : first + width] for first in range(len(points) - width + 1)]
    medians = [float(np.median([point.value for point in part])) for part in parts]
    lowest = int(np.argmin(medians))
    return ValidationPoint(min(parts[lowest], key=lambda point: point.value).step, medians[lowest])


def _noise(points: list[ValidationPoint]) -> float:
    """Standard deviation of the logarithm of a validation loss around its course; 0 if there are too few to tell.

    From the median of the second differences, which a single bend of the course does not change.
    """
    values = np.array([point.value for point in points if point.value > 0])
    if len(values) < ENOUGH_FOR_NOISE:
        return 0.0
    return float(np.median(np.abs(np.diff(np.log(values), 2)))) / (NORMAL_MEDIAN * math.sqrt(6))


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


@rule("LOS016", "warning", symptoms=("summed loss", "low validation loss", "multiple of the validation loss"))
def training_loss_of_another_size(steps: StepEvidence) -> Finding | None:
    """The recorded training loss is a multiple of the validation loss

    Measures: the training loss just before each validation divided by the validation loss, and the first training
    losses divided by ln K.

    Threshold: a ratio of 1.8 at every validation and first losses of 1.5 ln K; or, where K is not known, a ratio of 3
    at every validation. The training loss must fall and nowhere rise to 1.5 times its start, and no validation loss may
    be above 1.5 ln K; where K is not known, the ratios differ by a factor of 4 at most. Without validations, first
    losses of 3 ln K are a note.

    Why: a new head starts at ln K, and training loss and validation loss are means of the same quantity. A constant
    multiple is a sum: over the rows of a batch, over accumulated passes, over processes. The gradient is then too
    large by the same factor, and the learning rate no longer has its usual effect.

    Look-alikes: a training that diverged and recovered, whose validation losses are high too or whose ratio changes. A
    training loss with further terms (distillation, regularization), and one with mixed or smoothed labels. A training
    loss that is higher at first because it is a mean over the first epoch passes. Validation rows that are too easy
    (EVL031) lower the other loss.

    Fix: divide the loss by the number of rows, or by the number of accumulated passes (OPT022 measures it during
    training; in `transformers` 5, `trainer.model_accepts_loss_kwargs = False`).

    Reference: transformers issue 47688; Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """
    numbers, losses = np.asarray(steps.steps), np.asarray(steps.loss, dtype=np.float64).ravel()
    if len(losses) != len(numbers) or not len(losses) or not np.isfinite(losses).all():
        raise CannotTell("some of the recorded losses are missing, NaN or infinite")
    reference = None if steps.n_classes is None else uninformed(steps.n_classes)
    first = float(losses[: max(1, round(STARTING_SHARE * len(losses)))].mean())
    ratios = _ratios_at_validations(steps, numbers, losses)
    if len(ratios) < 2:
        if reference is None:
            raise CannotTell("neither two validation losses nor the number of classes are known")
        return _high_start(steps, first, reference) if first >= WITHOUT_CLASSES * reference else None
    is_high = reference is None or first >= HIGH_START * reference
    if not is_high or min(ratios) < (WITHOUT_CLASSES if reference is None else OF_ANOTHER_SIZE):
        return None
    if losses[-1] >= losses[0] or _went_astray(steps, losses, ratios, reference):
        return None  # Divergence, which LOS008 judges, or one from which the training recovered.
    level = (
        "" if reference is None else f"; it starts at {first:.4g}, {first / reference:.1f} times ln {steps.n_classes}"
    )
    return Finding(
        observed=f"a training loss of {min(ratios):.1f} to {max(ratios):.1f} times the validation loss{level}",
        expected="about the same loss on training rows and on held-out rows",
        n=len(ratios),
        cause="the training loss is a sum over rows, accumulated passes or processes, or has further terms",
        fix="divide the loss by the rows of the batch and by the accumulated passes, once; then choose the rate again",
    )


def _went_astray(steps: StepEvidence, losses: np.ndarray, ratios: list[float], reference: float | None) -> bool:
    """Whether the losses are high because the model is bad, which a loss of another size does not make it."""
    width = max(1, round(STARTING_SHARE * len(losses)))
    means = np.convolve(losses, np.full(width, 1 / width), mode="valid")
    held_out = [point.value for point in steps.validation_loss if math.isfinite(point.value)]
    is_bad = max(ratios) > STEADY * min(ratios) if reference is None else max(held_out) >= HIGH_START * reference
    return is_bad or bool(means.max() >= ROSE_FAR * means[0])


def _ratios_at_validations(steps: StepEvidence, numbers: np.ndarray, losses: np.ndarray) -> list[float]:
    before = [(losses[numbers <= point.step][-NEAREST:], point.value) for point in steps.validation_loss]
    return [float(near.mean()) / value for near, value in before if len(near) and math.isfinite(value) and value > 0]


def _high_start(steps: StepEvidence, first: float, reference: float) -> Finding:
    return Finding(
        observed=f"the first training losses are {first:.4g}, {first / reference:.1f} times ln {steps.n_classes}",
        expected=f"about ln {steps.n_classes} = {reference:.4f} before anything is learned",
        n=len(steps.loss),
        cause="the loss is a sum over rows or passes, the head starts with large weights, or the first steps diverged",
        fix="record a validation loss and compare; check the reduction of the loss and the first logits",
        severity="note",
    )


MIN_MASKED = 1_000  # Masked tokens: the standard error of their mean loss is then about 0.1 nats.


@rule("LOS020", "warning")
def masked_loss_above_unigrams(result: MaskedLossEvidence) -> Finding | None:
    """Masked tokens are predicted no better than by their frequencies

    Measures: the mean loss on held-out masked tokens at the end, and the entropy of the corpus' tokens: the loss of a
    model that knows only how frequent each token is.

    Threshold: a loss at or above the entropy, on at least 1,000 masked tokens.

    Why: such a model uses nothing of the context. Its encoder was changed by gradients of a head that had not learned
    yet, and is likely to be worse than before.

    Look-alikes: held-out texts of another domain than the corpus, whose own entropy is higher. In a small corpus the
    entropy is a little too low: by (K - 1) / 2N nats for N tokens of K kinds.

    Fix: train for more steps, with a larger corpus, more `adaptation.epochs` or a smaller `adaptation.batch_size`; if
    the loss does not fall, with another `adaptation.learning_rate`.

    Reference: Shannon 1951, Prediction and entropy of printed English; Miller 1955, Note on the bias of information
    estimates.
    """
    if result.tokens < MIN_MASKED:
        raise CannotTell(f"{result.tokens:,} masked tokens; {MIN_MASKED:,} are needed")
    if result.loss < result.unigram_entropy:
        return None
    before = "" if result.first_loss is None else f", {result.first_loss:.2f} before the first step"
    return Finding(
        observed=f"a loss of {result.loss:.3f} nats on {result.tokens:,} masked tokens after {result.steps:,} "
        f"steps{before}",
        expected=f"less than {result.unigram_entropy:.3f} nats, the unigram entropy of the corpus",
        n=result.tokens,
        cause="too few steps, or a learning rate that is far too low or too high",
        fix="train for more steps (adaptation.epochs, a larger corpus), or with another adaptation.learning_rate",
    )
