"""Optimizer steps as they happened: gradients, clipping, updates, rates."""

import numpy as np

from tenor.checks.evidence import ProbeEvidence, StepEvidence
from tenor.checks.finding import CannotTell, Finding, Severity
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown

MIN_RECORDS = 10

ALWAYS = 0.95
"""Share of the records that counts as always."""

FAR, VERY_FAR = 10.0, 100.0
"""Times the limit: a healthy fine-tuning has gradient norms of 1 to 10 and clips at 1."""

UPDATE_SMALL, UPDATE_LARGE = 1e-7, 0.1
"""Update over weight: 1e-3 is usual from scratch (Karpathy 2022), 1e-5 to 1e-3 in fine-tuning; float32: 6e-8."""

UPDATE_BEYOND_WEIGHTS = 1.0
"""For weights without pretraining. A head that starts at 0.02 and learns at 5e-3 begins with 0.25."""

RATE_TOLERANCE, RATE_WRONG = 0.02, 0.1
"""Of the planned peak; a step more or less in the count is allowed for besides."""

RATIO_TOLERANCE = 0.25
"""ModelParts of unequal size shift a mean of means by a few per cent; a missing division by two parts doubles it."""


def record(values: np.ndarray | None, what: str) -> np.ndarray:
    """A recorded series as finite floats, shape (records,); raises `CannotTell` below 10 of them."""
    try:
        series = np.asarray(known(values, what), dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise CannotTell(f"{what}: not numbers") from None
    series = series[np.isfinite(series)]
    if len(series) < MIN_RECORDS:
        raise CannotTell(f"{what}: {len(series)} records; {MIN_RECORDS} are needed")
    return series


@rule(
    "OPT012",
    "error",
    symptoms=("gradients kept",),
    explains=("stalled loss", "clipped gradients", "diverging loss", "large updates"),
)
def gradients_not_cleared(steps: StepEvidence) -> Finding | None:
    """Gradients are not cleared between steps

    Measures: whether parameters hold a gradient when a new accumulation begins.

    Threshold: none may; an exact invariant.

    Why: each step then follows the sum of all gradients since the start: a momentum that never fades, and a norm that
    grows with time.

    Look-alikes: accumulation over forward passes of one step keeps gradients on purpose; only its beginning is looked
    at.

    Fix: `optimizer.zero_grad()` before the first backward pass of every step.

    Reference: PyTorch, `torch.optim.Optimizer.zero_grad`.
    """
    if not known(steps.gradient_kept, "whether gradients were cleared"):
        return None
    return Finding(
        observed="gradients of an earlier step are there when a new one begins",
        expected="no gradient, or zeros",
        n=len(steps.steps),
        cause="optimizer.zero_grad() is missing, comes between backward and step, or belongs to another optimizer",
        fix="call optimizer.zero_grad() right after optimizer.step()",
    )


@rule("OPT013", "note", symptoms=("clipped gradients",))
def always_clipped(steps: StepEvidence) -> Finding | None:
    """Every gradient is clipped, by far

    Measures: the gradient norm before clipping over the limit.

    Threshold: above the limit in 95% of at least 10 records, and 10 times in the middle: a note; 100 times: a warning.

    Why: the limit then sets the length of each step and hides the scale of a loss that sums, an accumulation that is
    not divided, or a gradient that is still scaled.

    Look-alikes: norms of 2 to 10 with a limit of 1 are usual at the start of fine-tuning, and pass.

    Fix: find why the norm is large (sum instead of mean, no division by the accumulation); then clip at the median
    norm.

    Reference: Pascanu et al. 2013, On the difficulty of training recurrent neural networks.
    """
    limit = known(steps.clip_at, "the limit of clipping")
    norms = record(steps.grad_norm, "the gradient norm")
    if not limit > 0:
        raise CannotTell("the limit of clipping is not above 0")
    ratio, share = float(np.median(norms)) / limit, float(np.mean(norms > limit))
    if share < ALWAYS or ratio <= FAR:
        return None
    return Finding(
        observed=f"{share:.0%} of {len(norms)} records clipped, at {ratio:,.0f} times the limit in the middle",
        expected=f"norms of the order of the limit, {limit:g}",
        n=len(norms),
        cause="the gradient is on another scale than the limit",
        fix="check that the loss is a mean and is divided by the accumulation; then raise the limit to the median norm",
        severity="warning" if ratio > VERY_FAR else "note",
    )


@rule("OPT014", "error", explains=("stalled loss", "clipped gradients", "no updates", "small updates"))
def clipped_before_unscaling(steps: StepEvidence) -> Finding | None:
    """Gradients are clipped before they are unscaled

    Measures: whether clipping sees gradients that still carry the loss scale.

    Threshold: never; an exact invariant.

    Why: scaled by 65,536, every gradient is beyond the limit; unscaled afterwards, it is 65,536 times too short.

    Look-alikes: no loss scaling (bf16, fp32): the order does not matter. `accelerator.clip_grad_norm_` unscales first.

    Fix: `scaler.unscale_(optimizer)` before `clip_grad_norm_`.

    Reference: PyTorch, Automatic Mixed Precision examples, "Gradient clipping".
    """
    if not known(steps.clipped_before_unscale, "the order of clipping and unscaling"):
        return None
    return Finding(
        observed="clipping came before unscaling",
        expected="scaler.unscale_(optimizer), then clip_grad_norm_",
        n=len(steps.steps),
        cause="unscale_ is not called before clipping",
        fix="call scaler.unscale_(optimizer) once before torch.nn.utils.clip_grad_norm_",
    )


@rule("OPT017", "warning", symptoms=("small updates",), explains=("swapped classes",))
def updates_small(steps: StepEvidence) -> Finding | None:
    """Updates are too small for the weights

    Measures: the norm of the update over that of the weights, in its upper tenth over the records.

    Threshold: 1e-7, about float32's rounding, over at least 10 records.

    Why: such updates are lost in the last bit of the weights.

    Look-alikes: warm-up and the end of a decay have small updates; the upper tenth is not among them. Frozen base: the
    ratio must be of a tensor that learns.

    Fix: raise the rate; see whether gradients arrive and the schedule is not at 0.

    Reference: Karpathy 2022, makemore part 3 (update-to-data ratio).
    """
    ratio = float(np.quantile(record(steps.update_ratio, "the size of updates"), 0.9))
    if ratio >= UPDATE_SMALL:
        return None
    return Finding(
        observed=f"updates of {ratio:.1e} of the weights",
        expected="1e-5 to 1e-3",
        n=len(steps.steps),
        cause="the rate, the gradient or both are next to nothing",
        fix="raise the learning rate; check the schedule's factor and the gradient norm",
    )


@rule("OPT018", "warning", symptoms=("large updates",), explains=("diverging loss", "not a number"))
def updates_large(steps: StepEvidence) -> Finding | None:
    """Updates are too large for the weights

    Measures: the norm of the update over that of the weights, in the middle over the records, for a matrix of the
    encoder; where none learns, for one of the head or an adapter.

    Threshold: 0.1, over at least 10 records; 1 for a head or an adapter, in which no pretraining can be lost.

    Why: ten such steps replace the weights; nothing of the pretraining is left.

    Look-alikes: tensors that start at zero (LoRA's B, BOFT's rotations) have large ratios at first, and are not taken.

    Fix: a lower rate, a warm-up.

    Reference: Karpathy 2022, makemore part 3; You et al. 2020, LAMB (trust ratio).
    """
    ratio = float(np.median(record(steps.update_ratio, "the size of updates")))
    if ratio <= (UPDATE_LARGE if steps.update_of_encoder else UPDATE_BEYOND_WEIGHTS):
        return None
    return Finding(
        observed=f"updates of {ratio:.0%} of the weights",
        expected="1e-5 to 1e-3",
        n=len(steps.steps),
        cause="the learning rate is far too large for these weights",
        fix="lower the learning rate a hundredfold and add a warm-up",
    )


STEPS_OF_SLIP = 2
"""By which a record, the scheduler and the optimizer may count apart."""


def rate_deviation(steps: StepEvidence) -> tuple[float, float]:
    """Share of records off the plan, and the largest deviation over the planned peak; a step's slip is allowed."""
    actual = np.asarray(known(steps.learning_rate, "the learning rate"), dtype=np.float64).ravel()
    planned = np.asarray(known(steps.planned_rate, "the planned rate"), dtype=np.float64).ravel()
    skipped = 0 if steps.skipped_steps is None else int(np.sum(steps.skipped_steps))
    if skipped > STEPS_OF_SLIP:
        raise CannotTell(f"loss scaling skipped {skipped:,} steps, which some loops' schedulers count and others don't")
    if len(actual) != len(planned) or len(actual) < 2 or len(actual) != len(steps.steps):
        raise CannotTell("learning rates and plan are not of the same records")
    peak = float(planned.max())
    if not peak > 0:
        raise CannotTell("the planned rate is 0 throughout")
    per_step = np.abs(np.diff(planned)) / np.maximum(1, np.diff(np.asarray(steps.steps, dtype=np.float64)))
    deviation = np.abs(actual - planned) - STEPS_OF_SLIP * per_step.max()
    return float(np.mean(deviation > RATE_TOLERANCE * peak)), float(deviation.max() / peak)


@rule("OPT019", "warning", symptoms=("unplanned learning rate", "wrong schedule"), explains=("diverging loss",))
def rate_off_plan(steps: StepEvidence) -> Finding | None:
    """The learning rate is not the planned one

    Measures: the optimizer's rate beside the plan's, record by record, less what two steps' slip explains.

    Threshold: 2% of the peak a warning; 10% of the peak, in more than 10% of the records, an error.

    Why: the rate that a report names is then not the one that trained: a scheduler that steps twice, never, or on
    another optimizer, or one that starts anew on resume.

    Look-alikes: a scheduler that is one step ahead or behind the record. Where loss scaling skipped more than two
    steps nothing is judged: a scheduler may count them or not (PRC003 judges the skips).

    Fix: one scheduler, stepped once after each optimizer step, and restored with the optimizer.

    Reference: PyTorch, `torch.optim.lr_scheduler`.
    """
    share, largest = rate_deviation(steps)
    if largest <= RATE_TOLERANCE:
        return None
    return Finding(
        observed=f"off by up to {largest:.0%} of the peak, in {share:.0%} of the records",
        expected="the planned rate at each step",
        n=len(steps.steps),
        cause="the scheduler is stepped at another rhythm, or not on this optimizer, or was not restored",
        fix="step the scheduler once after each optimizer.step(), and save and load its state with the optimizer's",
        severity="error" if largest > RATE_WRONG and share > RATE_WRONG else "warning",
    )


def may_stand_idle(name: str) -> bool:
    """BERT's pooler, where a head of one's own pools the tokens; the original that PEFT keeps of a layer that
    `modules_to_save` replaced."""
    return "pooler" in name or "original_module" in name.split(".")


def has_shift_freedom(name: str) -> bool:
    """A bias's gradient can be exactly zero: a key's bias shifts all scores alike, and softmax takes it out."""
    return name.endswith("bias")


@rule("OPT020", "error", symptoms=("no gradient",), explains=("stalled loss", "no updates"))
def no_gradient(probe: ProbeEvidence) -> Finding | None:
    """Learning parameters receive no gradient

    Measures: learning parameters without any gradient, or with one of zeros that a few steps don't change, after a
    backward pass through the model's own loss.

    Threshold: none without gradient, an exact invariant (an idle pooler, or the original that PEFT's `modules_to_save`
    replaced: a note). A matrix with zeros is a warning.

    Why: a `detach`, `no_grad`, `.data`, an argmax or an unused layer stands between them and the loss: they never
    learn.

    Look-alikes: an idle pooler; the bias of keys, whose gradient is zero in theory; under a head or LoRA matrix that
    starts at zero gradients arrive from the second step on, and pass.

    Fix: print `p.grad is None` along the layers from the top down; the cut is where it first becomes True. Freeze
    what is not meant to learn.

    Reference: PyTorch, Autograd mechanics.
    """
    without = known(
        probe.parameters_without_gradient, "which parameters receive a gradient", probe.failures.get("gradients")
    )
    dead = [name for name in probe.parameters_with_zero_gradient or () if not has_shift_freedom(name)]
    cut = [name for name in without if not may_stand_idle(name)]
    severity: Severity = "error" if cut else "warning" if dead else "note"
    if not without and not dead:
        return None
    parts = [f"{len(without):,} without a gradient ({shown(without)})"] if without else []
    parts += [f"{len(dead):,} with zeros ({shown(dead)})"] if dead else []
    return Finding(
        observed="; ".join(parts),
        expected="a gradient in every learning parameter",
        n=len(without) + len(dead),
        cause="the graph is cut between them and the loss"
        if cut
        else "they are not used, or their activations are dead",
        fix="look for detach, no_grad, .data, argmax or an unused layer above them; freeze what should not learn",
        severity=severity,
    )


@rule("OPT021", "error", symptoms=("no updates",), explains=("stalled loss", "swapped classes"))
def never_moved(steps: StepEvidence) -> Finding | None:
    """Learning parameters never moved

    Measures: learning parameters whose values are the same, bit by bit, as before the first step.

    Threshold: none after two steps at a rate above 0; an exact invariant (an idle pooler, an original that PEFT's
    `modules_to_save` replaced, or biases alone: a note).

    Why: whatever the plan says, these weights are as they were.

    Look-alikes: a warm-up whose first rate is 0; an idle pooler; what was updated and then set to 0 again, as AdaLoRA
    does with ranks that it gives up.

    Fix: see whether they are in the optimizer, receive a gradient, and have a rate above 0.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    if steps.learning_rate is not None and np.count_nonzero(np.asarray(steps.learning_rate) > 0) < 2:
        raise CannotTell("fewer than two records at a learning rate above 0")
    if len(steps.steps) < 2:
        raise CannotTell(f"{len(steps.steps)} records of steps; 2 are needed")
    still = known(steps.learning_still, "whether learning parameters moved")
    if not still:
        return None
    idle = all(may_stand_idle(name) or has_shift_freedom(name) for name in still)
    return Finding(
        observed=f"{len(still):,} learning parameters unchanged: {shown(still)}",
        expected="every learning parameter has changed",
        n=len(still),
        cause="they are not in the optimizer, receive no gradient, or their updates are rounded away",
        fix="check the optimizer's groups, p.grad, the rate and the weights' type for these names",
        severity="note" if idle else "error",
    )


@rule("OPT022", "warning", symptoms=("summed loss",), explains=("clipped gradients",))
def accumulation_not_scaled(steps: StepEvidence) -> Finding | None:
    """Accumulated gradients are not scaled to one step

    Measures: the sum of the losses on which `backward` was called within one step, over the mean loss of its rows.

    Threshold: 1 within 25%, with two or more forward passes per step.

    Why: not divided, the gradient grows with the accumulation: plain gradient descent takes longer steps, and clipping
    shortens all of them; divided twice (by the loop and by `accelerator.accumulate`), it shrinks.

    Look-alikes: parts of unequal size, whose mean of means differs by some per cent; one forward pass per step.
    `transformers.Trainer` 5 is none: it takes the mean loss of a sequence classifier for one that was divided already.

    Fix: divide each loss by the number of forward passes (or by the rows of the whole step), once. In a `Trainer` with
    `gradient_accumulation_steps`: `trainer.model_accepts_loss_kwargs = False`.

    Reference: transformers, "Fixing gradient accumulation" (Hugging Face, 2024).
    """
    ratio, parts = known(steps.backward_ratio, "the accumulated loss"), known(steps.parts_per_step, "the accumulation")
    if parts < 2:
        return None
    if abs(ratio - 1) <= RATIO_TOLERANCE:
        return None
    return Finding(
        observed=f"{parts} forward passes add up to {ratio:.2g} times the mean loss",
        expected="1",
        n=parts,
        cause="the loss is not divided by the number of passes" if ratio > 1 else "the loss is divided more than once",
        fix=f"divide each loss by {parts}, once; in a Trainer: trainer.model_accepts_loss_kwargs = False",
    )
