"""Recorded optimizer steps: gradients, clipping, updates, learning rates."""

import numpy as np

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.los_function import is_focal_of_mean
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding, Severity

MIN_RECORDS = 10

ALWAYS = 0.95
"""Share of the records that counts as always."""

FAR, VERY_FAR = 10.0, 100.0
"""Multiples of the limit; a healthy fine-tuning has gradient norms of 1 to 10 and clips at 1."""

UPDATE_SMALL, UPDATE_LARGE = 1e-7, 0.1
"""Ratio of update to weight: 1e-3 is usual from scratch (Karpathy 2022), 1e-5 to 1e-3 in fine-tuning; float32
resolves 6e-8."""

UPDATE_BEYOND_WEIGHTS = 1.0
"""For weights without pretraining. A head initialized at 0.02 and trained at 5e-3 starts with 0.25."""

RATE_TOLERANCE, RATE_WRONG = 0.02, 0.1
"""Share of the planned peak, in addition to the tolerance for step counts (`STEP_TOLERANCE`)."""

RATIO_TOLERANCE = 0.25
"""Parts of unequal size shift a mean of means by a few percent; a missing division by two parts doubles it."""


def record(values: np.ndarray | None, what: str) -> np.ndarray:
    """The finite values of a recorded series, shape (records,); raises `CannotTell` for fewer than 10."""
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

    Measures: whether parameters have a gradient when a new accumulation begins.

    Threshold: none; an exact invariant.

    Why: each step then follows the sum of all gradients since the start: a momentum that never decays, and a norm that
    grows with time.

    Look-alikes: accumulation over the forward passes of one step keeps gradients on purpose; only the first pass of a
    step is checked.

    Fix: `optimizer.zero_grad()` before the first backward pass of every step.

    Reference: PyTorch, `torch.optim.Optimizer.zero_grad`.
    """
    if not known(steps.gradient_kept, "whether gradients were cleared"):
        return None
    return Finding(
        observed="gradients of an earlier step still exist when a new step begins",
        expected="no gradient, or zeros",
        n=len(steps.steps),
        cause="optimizer.zero_grad() is missing, is called between backward and step, or belongs to another optimizer",
        fix="call optimizer.zero_grad() right after optimizer.step()",
    )


@rule("OPT013", "note", symptoms=("clipped gradients",))
def always_clipped(steps: StepEvidence) -> Finding | None:
    """Every gradient is clipped far above the limit

    Measures: the gradient norm before clipping, divided by the limit.

    Threshold: above the limit in 95% of at least 10 records, with a median of 10 times the limit: a note; 100 times: a
    warning.

    Why: the limit then determines the length of each step and hides the scale of a summed loss, an accumulation that is
    not divided, or a gradient that is still scaled.

    Look-alikes: norms of 2 to 10 with a limit of 1 are usual at the start of fine-tuning, and pass.

    Fix: find out why the norm is large (sum instead of mean, no division by the accumulation); then clip at the median
    norm.

    Reference: Pascanu et al. 2013, On the difficulty of training recurrent neural networks.
    """
    limit = known(steps.clip_at, "the clipping limit")
    norms = record(steps.grad_norm, "the gradient norm")
    if not limit > 0:
        raise CannotTell("the clipping limit is not above 0")
    ratio, share = float(np.median(norms)) / limit, float(np.mean(norms > limit))
    if share < ALWAYS or ratio <= FAR:
        return None
    return Finding(
        observed=f"{share:.0%} of {len(norms)} records clipped, with a median of {ratio:,.0f} times the limit",
        expected=f"norms of the order of the limit, {limit:g}",
        n=len(norms),
        cause="the gradient has another scale than the limit",
        fix="check that the loss is a mean and is divided by the accumulation; then raise the limit to the median norm",
        severity="warning" if ratio > VERY_FAR else "note",
    )


@rule("OPT014", "error", explains=("stalled loss", "clipped gradients", "no updates", "small updates"))
def clipped_before_unscaling(steps: StepEvidence) -> Finding | None:
    """Gradients are clipped before they are unscaled

    Measures: whether clipping is applied to gradients that are still multiplied by the loss scale.

    Threshold: never; an exact invariant.

    Why: scaled by 65,536, every gradient exceeds the limit. After unscaling it is 65,536 times too small.

    Look-alikes: without loss scaling (bf16, fp32) the order does not matter. `accelerator.clip_grad_norm_` unscales
    first.

    Fix: call `scaler.unscale_(optimizer)` before `clip_grad_norm_`.

    Reference: PyTorch, Automatic Mixed Precision examples, "Gradient clipping".
    """
    if not known(steps.clipped_before_unscale, "the order of clipping and unscaling"):
        return None
    return Finding(
        observed="gradients were clipped before unscaling",
        expected="scaler.unscale_(optimizer), then clip_grad_norm_",
        n=len(steps.steps),
        cause="unscale_ is not called before clipping",
        fix="call scaler.unscale_(optimizer) once before torch.nn.utils.clip_grad_norm_",
    )


@rule("OPT017", "warning", symptoms=("small updates",), explains=("swapped classes",))
def updates_small(steps: StepEvidence) -> Finding | None:
    """Updates are too small for the weights

    Measures: the ratio of the norm of the update to that of the weights, as the 90th percentile over the records.

    Threshold: 1e-7, about the resolution of float32, over at least 10 records.

    Why: such updates are lost in the rounding of the weights.

    Look-alikes: the warm-up and the end of a decay have small updates, which the 90th percentile ignores. With a frozen
    base, the ratio must be that of a trainable tensor.

    Fix: raise the learning rate; check that gradients arrive and that the schedule is not at 0.

    Reference: Karpathy 2022, makemore part 3 (update-to-data ratio).
    """
    ratio = float(np.quantile(record(steps.update_ratio, "the size of updates"), 0.9))
    if ratio >= UPDATE_SMALL:
        return None
    return Finding(
        observed=f"updates of {ratio:.1e} of the weights",
        expected="1e-5 to 1e-3",
        n=len(steps.steps),
        cause="the learning rate, the gradient or both are close to 0",
        fix="raise the learning rate; check the schedule's factor and the gradient norm",
    )


@rule("OPT018", "warning", symptoms=("large updates",), explains=("diverging loss", "not a number"))
def updates_large(steps: StepEvidence) -> Finding | None:
    """Updates are too large for the weights

    Measures: the median ratio of the norm of the update to that of the weights, for a matrix of the encoder or, if none
    is trainable, one of the head or an adapter.

    Threshold: 0.1, over at least 10 records; 1 for a head or an adapter, which have no pretraining to lose.

    Why: ten such steps replace the weights, and the pretraining is lost.

    Look-alikes: tensors initialized to zero (LoRA's B, BOFT's rotations) have large ratios at first, and are not
    measured.

    Fix: use a lower learning rate and a warm-up.

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


STEP_TOLERANCE = 2
"""Steps by which the counts of the records, the scheduler and the optimizer may differ."""


def rate_deviation(steps: StepEvidence) -> tuple[float, float]:
    """Share of records that deviate from the plan, and the largest deviation as a share of the planned peak.

    `STEP_TOLERANCE` steps more or less are allowed.
    """
    actual = np.asarray(known(steps.learning_rate, "the learning rate"), dtype=np.float64).ravel()
    planned = np.asarray(known(steps.planned_rate, "the planned rate"), dtype=np.float64).ravel()
    skipped = 0 if steps.skipped_steps is None else int(np.sum(steps.skipped_steps))
    if skipped > STEP_TOLERANCE:
        raise CannotTell(f"loss scaling skipped {skipped:,} steps, and only some schedulers count these")
    if len(actual) != len(planned) or len(actual) < 2 or len(actual) != len(steps.steps):
        raise CannotTell("recorded and planned learning rates belong to different records")
    peak = float(planned.max())
    if not peak > 0:
        raise CannotTell("the planned rate is 0 throughout")
    per_step = np.abs(np.diff(planned)) / np.maximum(1, np.diff(np.asarray(steps.steps, dtype=np.float64)))
    deviation = np.abs(actual - planned) - STEP_TOLERANCE * per_step.max()
    return float(np.mean(deviation > RATE_TOLERANCE * peak)), float(deviation.max() / peak)


@rule("OPT019", "warning", symptoms=("unplanned learning rate", "wrong schedule"), explains=("diverging loss",))
def rate_off_plan(steps: StepEvidence) -> Finding | None:
    """The learning rate differs from the planned one

    Measures: the optimizer's rate compared with the planned rate, record by record, with a tolerance of two steps.

    Threshold: 2% of the peak is a warning; 10% of the peak in more than 10% of the records is an error.

    Why: the reported rate is then not the one that was used: a scheduler is stepped twice, never, or on another
    optimizer, or restarts on resume.

    Look-alikes: a scheduler one step ahead of or behind the record. Where loss scaling skipped more than two steps
    nothing is judged, because a scheduler may count them or not (PRC003 judges the skips).

    Fix: use one scheduler, step it once after each optimizer step, and restore it with the optimizer.

    Reference: PyTorch, `torch.optim.lr_scheduler`.
    """
    share, largest = rate_deviation(steps)
    if largest <= RATE_TOLERANCE:
        return None
    return Finding(
        observed=f"off by up to {largest:.0%} of the peak, in {share:.0%} of the records",
        expected="the planned rate at each step",
        n=len(steps.steps),
        cause="the scheduler is not stepped once per step, belongs to another optimizer, or was not restored",
        fix="step the scheduler once after each optimizer.step(), and save and load its state with the optimizer's",
        severity="error" if largest > RATE_WRONG and share > RATE_WRONG else "warning",
    )


LARGE_PART = 0.25
"""Share of the trainable weights: two unused layers of twelve have less, an encoder without a gradient has more."""


def may_be_unused(name: str) -> bool:
    """BERT's pooler, if a custom head pools the tokens itself; the original that PEFT keeps of a layer that
    `modules_to_save` replaced."""
    return "pooler" in name or "original_module" in name.split(".")


def may_have_zero_gradient(name: str) -> bool:
    """Biases: a key's bias shifts all scores by the same amount, which softmax removes, so its gradient is zero."""
    return name.endswith("bias")


@rule("OPT020", "error", symptoms=("no gradient",), explains=("stalled loss", "no updates"))
def no_gradient(probe: ProbeEvidence) -> Finding | None:
    """Trainable parameters receive no gradient

    Measures: trainable parameters without any gradient, or with a gradient of zeros even after a few steps, in
    backward passes through the model's own loss, in the mode in which the program trains.

    Threshold: none without a gradient, an exact invariant (an unused pooler, or the original that PEFT's
    `modules_to_save` replaced: a note). Less than a quarter of the trainable weights, as in layers above the one whose
    hidden states are used, or a matrix with zeros: a warning.

    Why: a `detach`, `no_grad`, `.data`, an argmax or an unused layer separates them from the loss, so they are never
    trained. So does reentrant checkpointing over frozen embeddings: none of its inputs requires a gradient.

    Look-alikes: an unused pooler; the bias of keys, whose gradient is zero in theory. Below a head or LoRA matrix that
    starts at zero, gradients arrive from the second step on, and pass.

    Fix: print `p.grad is None` layer by layer from the top down; the graph is broken where it first becomes True.
    Freeze parameters that should not be trained.

    Reference: PyTorch, Autograd mechanics.
    """
    without = known(
        probe.parameters_without_gradient, "which parameters receive a gradient", probe.failures.get("gradients")
    )
    dead = [name for name in probe.parameters_with_zero_gradient or () if not may_have_zero_gradient(name)]
    disconnected = [name for name in without if not may_be_unused(name)]
    small = probe.share_without_gradient is not None and probe.share_without_gradient < LARGE_PART
    severity: Severity = "error" if disconnected and not small else "warning" if dead or disconnected else "note"
    if not without and not dead:
        return None
    parts = [f"{len(without):,} without a gradient ({shown(without)})"] if without else []
    parts += [f"{len(dead):,} with zeros ({shown(dead)})"] if dead else []
    return Finding(
        observed="; ".join(parts),
        expected="a gradient in every trainable parameter",
        n=len(without) + len(dead),
        cause="the graph is broken between them and the loss"
        if disconnected
        else "they are unused, or their activations are dead",
        fix="look for detach, no_grad, .data, argmax or an unused layer above them; freeze what should not be trained",
        severity=severity,
    )


MIN_STEPS = 5
"""Steps after which a parameter counts as without gradient, since LayerDrop skips layers at random."""


@rule("OPT028", "error", symptoms=("no gradient",), explains=("stalled loss", "no updates", "small updates"))
def no_gradient_at_steps(steps: StepEvidence) -> Finding | None:
    """Parameters have no gradient when the optimizer steps

    Measures: the optimizer's parameters whose gradient was missing, or zero throughout, at every step so far.

    Threshold: none after five steps, an exact invariant. Less than a quarter of the optimizer's weights is a warning;
    an unused pooler, the original that PEFT's `modules_to_save` replaced, or only biases: a note.

    Why: the optimizer skips them, so they are never trained. Only the program's own steps show what training mode
    causes: reentrant checkpointing over frozen embeddings, an `if self.training` branch, an encoder that is detached.

    Look-alikes: layers above the one whose hidden states are used, and heads of other tasks, have no gradient on
    purpose: freeze them, or leave them out of the optimizer. All steps count, so layers that LayerDrop skips and
    matrices below one that starts at zero pass.

    Fix: checkpoint with `use_reentrant=False`; look for detach, no_grad or an unused layer between them and the loss.

    Reference: PyTorch, `torch.utils.checkpoint`: "at least one of the inputs needs requires_grad=True" if reentrant.
    """
    without = known(steps.without_gradient, "which parameters have a gradient when the optimizer steps")
    taken = int(np.max(steps.steps, initial=0))
    if taken < MIN_STEPS:
        raise CannotTell(f"{taken} steps; {MIN_STEPS} are needed")
    if not without:
        return None
    harmless = all(may_be_unused(name) or may_have_zero_gradient(name) for name in without)
    is_small = steps.share_without_gradient is not None and steps.share_without_gradient < LARGE_PART
    return Finding(
        observed=f"{len(without):,} parameters without a gradient in {taken:,} steps ({shown(without)})",
        expected="a gradient in every parameter of the optimizer",
        n=len(without),
        cause="the graph is broken between them and the loss while the model trains",
        fix="use_reentrant=False in checkpointing; look for detach, no_grad, argmax or an unused layer above them; "
        "freeze what should not be trained",
        severity="note" if harmless else "warning" if is_small else "error",
    )


@rule("OPT021", "error", symptoms=("no updates",), explains=("stalled loss", "swapped classes"))
def never_moved(steps: StepEvidence) -> Finding | None:
    """Trainable parameters never changed

    Measures: trainable parameters whose values are the same, bit by bit, as before the first step.

    Threshold: none after two steps at a rate above 0; an exact invariant (an unused pooler, an original that PEFT's
    `modules_to_save` replaced, or only biases: a note).

    Why: these weights are as they were before training, whatever the configuration says.

    Look-alikes: a warm-up whose first rate is 0; an unused pooler; weights that are updated and then reset to 0, as
    AdaLoRA does with ranks that it removes.

    Fix: check that they are in the optimizer, receive a gradient, and have a rate above 0.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    if steps.learning_rate is not None and np.count_nonzero(np.asarray(steps.learning_rate) > 0) < 2:
        raise CannotTell("fewer than two records at a learning rate above 0")
    if len(steps.steps) < 2:
        raise CannotTell(f"{len(steps.steps)} records of steps; 2 are needed")
    unchanged = known(steps.unchanged_trainable, "whether trainable parameters changed")
    if not unchanged:
        return None
    harmless = all(may_be_unused(name) or may_have_zero_gradient(name) for name in unchanged)
    return Finding(
        observed=f"{len(unchanged):,} trainable parameters unchanged: {shown(unchanged)}",
        expected="every trainable parameter has changed",
        n=len(unchanged),
        cause="they are not in the optimizer, receive no gradient, or their updates are rounded away",
        fix="check the optimizer's groups, p.grad, the learning rate and the dtype of these parameters",
        severity="note" if harmless else "error",
    )


@rule("OPT022", "warning", symptoms=("summed loss",), explains=("clipped gradients", "multiple of the validation loss"))
def accumulation_not_scaled(steps: StepEvidence) -> Finding | None:
    """Accumulated losses are not divided by the number of passes

    Measures: the sum of the losses on which `backward` was called within one step, divided by the mean loss of its
    rows, from the gradient at the logits.

    Threshold: 1 within 25%, with two or more forward passes per step. Plain and focal cross-entropy, label smoothing
    and class weights (PyTorch's weighted mean, or weights on a usual scale) are read; any other loss is not judged.

    Why: without the division, the gradient grows with the accumulation: plain gradient descent takes longer steps, and
    clipping shortens all of them. Divided twice (by the loop and by `accelerator.accumulate`), it shrinks.

    Look-alikes: passes of unequal size, whose mean of means differs by a few percent; one forward pass per step.
    `transformers.Trainer` 5 is a real case: it assumes that the mean loss of a sequence classifier was already divided.

    Fix: divide each loss once, by the number of forward passes (or by the rows of the whole step). In a `Trainer` with
    `gradient_accumulation_steps`: `trainer.model_accepts_loss_kwargs = False`.

    Reference: transformers, "Fixing gradient accumulation" (Hugging Face, 2024).
    """
    ratio, parts = known(steps.backward_ratio, "the accumulated loss"), known(steps.parts_per_step, "the accumulation")
    if parts < 2:
        return None
    if steps.focal_fit is not None and is_focal_of_mean(steps.focal_fit):
        raise CannotTell("the loss has a focal factor of the batch mean (LOS019), which changes from pass to pass")
    if abs(ratio - 1) <= RATIO_TOLERANCE:
        return None
    return Finding(
        observed=f"{parts} forward passes add up to {ratio:.2g} times the mean loss",
        expected="1",
        n=parts,
        cause="the loss is not divided by the number of passes" if ratio > 1 else "the loss is divided more than once",
        fix=f"divide each loss by {parts}, once; in a Trainer: trainer.model_accepts_loss_kwargs = False",
    )
