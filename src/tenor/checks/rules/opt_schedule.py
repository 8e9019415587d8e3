"""The plan of steps: warm-up, decay, rhythm, accumulation."""

import numpy as np

from tenor.checks.evidence import ScheduleEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule

NOTHING = 1e-6
"""Of the largest factor: a rate below this changes no float32 weight that matters."""

MIN_STEPS = 20
"""In fewer steps the edges of a plan can't be told from its shape."""

IDLE_SHARE, IDLE_RUIN = 0.05, 0.25
"""Steps at rate 0 at the end: one or two belong to a decay, a quarter of the budget to nothing."""

LATE_WARMUP = 0.5
"""Share of all steps; published warm-ups take 6 to 10% (Devlin et al. 2019; Liu et al. 2019)."""

LATE_BY = 2.0
"""Times the declared warm-up."""

TAIL_SHARE = 0.1
"""Of an epoch's batches."""


def factors(schedule: ScheduleEvidence) -> np.ndarray:
    """The plan's factors, shape (steps,); raises `CannotTell` where there are too few or no finite ones."""
    try:
        values = np.asarray(schedule.factors, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise CannotTell("the factors are not numbers") from None
    if len(values) < MIN_STEPS or not np.isfinite(values).all():
        raise CannotTell(f"{len(values)} planned steps; {MIN_STEPS} finite factors are needed")
    return values


def working_steps(values: np.ndarray) -> int:
    """Steps up to the last one whose rate is above nothing."""
    alive = np.flatnonzero(values > NOTHING * max(values.max(), NOTHING))
    return int(alive[-1]) + 1 if len(alive) else 0


def warmup_end(values: np.ndarray) -> int:
    """The first step at (99.9% of) the peak."""
    return int(np.argmax(values >= 0.999 * values.max()))


def is_constant_within_epochs(values: np.ndarray, steps_per_epoch: int) -> bool:
    """Whether the rate changes at the ends of epochs and nowhere else."""
    changes = np.flatnonzero(np.abs(np.diff(values)) > NOTHING * max(values.max(), NOTHING)) + 1
    return steps_per_epoch > 1 and len(changes) > 0 and bool((changes % steps_per_epoch == 0).all())


@rule(
    "OPT008",
    "error",
    symptoms=("wrong schedule",),
    explains=("stalled loss", "small updates", "unplanned learning rate"),
)
def schedule_ends_early(schedule: ScheduleEvidence) -> Finding | None:
    """The learning rate falls to zero before training ends

    Measures: the steps after the last one whose rate is above 0.

    Threshold: at most 5% of the steps, and at least two steps; beyond a quarter an error, else a warning.

    Why: all later steps are computed and change nothing. The number of steps given to the schedule is not the number
    taken: epochs, batch size, accumulation or processes were counted otherwise.

    Look-alikes: a linear or cosine decay that touches 0 on the last step; restarts that rise again.

    Fix: total = ceil(batches per epoch / accumulation) · epochs, and the same number for schedule and loop.

    Reference: transformers, `get_linear_schedule_with_warmup(num_training_steps)`.
    """
    values = factors(schedule)
    idle = len(values) - working_steps(values)
    if idle < 2 or idle <= IDLE_SHARE * len(values):
        return None
    share = idle / len(values)
    return Finding(
        observed=f"rate 0 in the last {idle:,} of {len(values):,} steps ({share:.0%})",
        expected="a rate above 0 until about the last step",
        n=len(values),
        cause="the schedule was made for fewer steps than are taken"
        if idle < len(values)
        else "the schedule is 0 from its first step on",
        fix=f"give the schedule {len(values):,} steps: ceil(batches / accumulation) times epochs",
        severity="error" if share > IDLE_RUIN else "warning",
    )


@rule("OPT009", "warning", symptoms=("wrong schedule",), explains=("unplanned learning rate",))
def warmup_differs(schedule: ScheduleEvidence) -> Finding | None:
    """The declared warm-up does not happen, or ends too late

    Measures: the first step at the peak rate, beside the declared warm-up and the steps there are.

    Threshold: a declared warm-up of two steps or more must begin below the peak and end within twice its length;
    without a declaration the peak must come in the first half. A plan can be meant so: a warning.

    Why: without warm-up Adam's first steps, scaled by a variance from few gradients, can wipe out what was pretrained;
    with one that never ends the rate never arrives.

    Look-alikes: no warm-up declared and none there; one-cycle plans with their peak at 30%; constant rates.

    Fix: warm-up steps = round(0.06 · total steps), counted in optimizer steps.

    Reference: Devlin et al. 2019; Liu et al. 2020, On the Variance of the Adaptive Learning Rate and Beyond.
    """
    values, declared = factors(schedule), schedule.declared_warmup_steps
    end, total = warmup_end(values), len(values)
    if declared is not None and declared >= 2 and end == 0:
        what, cause = "the first step is at the peak rate already", "the scheduler is not the one declared, or not used"
    elif declared and end > LATE_BY * declared + 1:
        what, cause = f"the peak comes at step {end + 1:,} of {total:,}", "steps are counted otherwise than declared"
    elif values.max() > 0 and end >= LATE_WARMUP * total:
        what, cause = f"the peak comes at step {end + 1:,} of {total:,}", "the warm-up is longer than half of training"
    else:
        return None
    return Finding(
        observed=what,
        expected=f"a warm-up of {declared:,} steps" if declared else f"the peak within {LATE_WARMUP:.0%} of the steps",
        n=total,
        cause=cause,
        fix=f"set the warm-up to {max(1, round(0.06 * total)):,} optimizer steps (6%); step the scheduler after each",
    )


@rule("OPT010", "error", explains=("stalled loss", "small updates", "wrong schedule"))
def wrong_rhythm(schedule: ScheduleEvidence) -> Finding | None:
    """The schedule steps at the wrong rhythm

    Measures: where the plan ends and where its rate changes, beside accumulation and epochs.

    Threshold: it ends at 1/accumulation of the steps, within 5%: stepped per forward pass. It changes only between
    epochs although a warm-up was declared in fewer steps than an epoch has, or the first whole epoch has rate 0:
    stepped per epoch.

    Why: per forward pass, most of the training runs at rate 0; per epoch, a warm-up of 100 steps takes 100 epochs.

    Look-alikes: plans made for epochs (`StepLR`, `ExponentialLR`) that begin at their peak; constant rates.

    Fix: `scheduler.step()` once after each `optimizer.step()`, nowhere else.

    Reference: PyTorch, `torch.optim.lr_scheduler` ("How to adjust learning rate").
    """
    values = factors(schedule)
    total, end = len(values), working_steps(values)
    if schedule.accumulation > 1 and end > 0 and abs(end * schedule.accumulation - total) <= IDLE_SHARE * total:
        observed = (
            f"the plan ends after {end:,} of {total:,} steps, with {schedule.accumulation} forward passes per step"
        )
        cause = "the scheduler steps once per forward pass instead of once per optimizer step"
    elif is_constant_within_epochs(values, schedule.steps_per_epoch) and starts_low(values, schedule):
        observed = f"the rate changes only every {schedule.steps_per_epoch:,} steps, and starts at {values[0]:.0%}"
        cause = "the scheduler steps once per epoch instead of once per optimizer step"
    else:
        return None
    return Finding(
        observed=observed,
        expected=f"a plan over {total:,} optimizer steps",
        n=total,
        cause=cause,
        fix="call scheduler.step() once after each optimizer.step()",
    )


def starts_low(values: np.ndarray, schedule: ScheduleEvidence) -> bool:
    """Whether a warm-up meant for steps takes epochs."""
    declared = schedule.declared_warmup_steps
    if declared is not None:
        return 0 < declared < schedule.steps_per_epoch and values[0] < values.max()
    return bool(values[0] <= NOTHING * values.max())


@rule("OPT015", "warning", explains=("dropped batches",))
def accumulation_beyond_epoch(schedule: ScheduleEvidence) -> Finding | None:
    """One optimizer step takes more than an epoch

    Measures: forward passes per optimizer step beside those of an epoch.

    Threshold: no more than an epoch has.

    Why: gradients that are cut off at the end of an epoch never become a step; those carried over mix epochs.

    Look-alikes: as many as an epoch has: full-batch gradient descent, slow but sound.

    Fix: fewer forward passes per step, or larger ones.

    Reference: Masters and Luschi 2018, Revisiting Small Batch Training.
    """
    batches = schedule.batches_per_epoch
    if batches is None:
        raise CannotTell("the number of forward passes in an epoch is not known")
    if schedule.accumulation <= batches:
        return None
    return Finding(
        observed=f"{schedule.accumulation:,} forward passes per step, {batches:,} in an epoch",
        expected=f"{batches:,} or fewer per step",
        n=batches,
        cause="accumulation was set for a larger data set or smaller batches",
        fix=f"set accumulation to {max(1, batches // 8):,} or less, so that an epoch has several steps",
    )


@rule("OPT016", "note", symptoms=("dropped batches",))
def tail_dropped(schedule: ScheduleEvidence) -> Finding | None:
    """Accumulation drops the end of each epoch

    Measures: the forward passes left over when an epoch's are divided into steps, where the plan counts whole ones
    only.

    Threshold: a note; beyond 10% of the epoch a warning.

    Why: `if (i + 1) % accumulation == 0` leaves the last passes without a step: their gradients are thrown away or leak
    into the next epoch's first step.

    Look-alikes: a loop that steps on the last batch too plans one step more, and passes.

    Fix: step also at the last batch of the epoch, dividing by the passes that there were.

    Reference: Accelerate, Performing gradient accumulation.
    """
    batches, accumulation = schedule.batches_per_epoch, schedule.accumulation
    if batches is None:
        raise CannotTell("the number of forward passes in an epoch is not known")
    left = batches % accumulation
    if not left or accumulation > batches or schedule.steps_per_epoch > batches // accumulation:
        return None
    return Finding(
        observed=f"{left:,} of {batches:,} forward passes in an epoch belong to no step",
        expected=f"{-(-batches // accumulation):,} steps per epoch, the last one from {left:,} passes",
        n=batches,
        cause=f"{batches:,} passes are no multiple of {accumulation:,}, and only full accumulations take a step",
        fix="take a step at the last batch of an epoch too",
        severity="warning" if left > TAIL_SHARE * batches else "note",
    )
