"""The learning-rate schedule: warm-up, decay, steps per call, accumulation."""

import numpy as np

from tenor.checks.evidence.training_evidence import ScheduleEvidence, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known
from tenor.runs.findings import Finding

NOTHING = 1e-6
"""Share of the largest factor; a lower rate has no relevant effect on float32 weights."""

MIN_STEPS = 20
"""With fewer steps, the ends of a schedule cannot be distinguished from its shape."""

IDLE_SHARE, IDLE_ERROR = 0.05, 0.25
"""Share of the steps at rate 0 at the end: a decay ends with one or two, a quarter of the budget is an error."""

LATE_WARMUP = 0.5
"""Share of all steps; published warm-ups take 6 to 10% (Devlin et al. 2019; Liu et al. 2019)."""

LATE_BY = 2.0
"""Multiple of the declared warm-up."""

TAIL_SHARE = 0.1
"""Share of an epoch's batches."""


def factors(schedule: ScheduleEvidence) -> np.ndarray:
    """The factors of the schedule, shape (steps,); raises `CannotTell` if there are too few or some are not finite."""
    try:
        values = np.asarray(schedule.factors, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise CannotTell("the factors are not numbers") from None
    if len(values) < MIN_STEPS or not np.isfinite(values).all():
        raise CannotTell(f"{len(values)} planned steps; {MIN_STEPS} finite factors are needed")
    return values


def working_steps(values: np.ndarray) -> int:
    """The number of steps up to the last one whose rate is above 0."""
    alive = np.flatnonzero(values > NOTHING * max(values.max(), NOTHING))
    return int(alive[-1]) + 1 if len(alive) else 0


def warmup_end(values: np.ndarray) -> int:
    """The first step at (99.9% of) the peak."""
    return int(np.argmax(values >= 0.999 * values.max()))


def is_constant_within_epochs(values: np.ndarray, steps_per_epoch: int) -> bool:
    """Whether the rate changes only between epochs."""
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

    Threshold: at most 5% of the steps, or one step; more than a quarter is an error, otherwise a warning.

    Why: all later steps are computed but change nothing. The schedule was given another number of steps than are taken:
    epochs, batch size, accumulation or processes were counted differently.

    Look-alikes: a linear or cosine decay that reaches 0 at the last step; restarts that rise again.

    Fix: total = ceil(batches per epoch / accumulation) · epochs, and the same number for the schedule and the loop.

    Reference: transformers, `get_linear_schedule_with_warmup(num_training_steps)`.
    """
    values = factors(schedule)
    idle = len(values) - working_steps(values)
    if idle < 2 or idle <= IDLE_SHARE * len(values):
        return None
    share = idle / len(values)
    return Finding(
        observed=f"rate 0 in the last {idle:,} of {len(values):,} steps ({share:.0%})",
        expected="a rate above 0 until the last step or nearly so",
        n=len(values),
        cause="the schedule was made for fewer steps than are taken"
        if idle < len(values)
        else "the schedule is 0 from the first step",
        fix=f"give the schedule {len(values):,} steps: ceil(batches / accumulation) times epochs",
        severity="error" if share > IDLE_ERROR else "warning",
    )


@rule("OPT009", "warning", symptoms=("wrong schedule",), explains=("unplanned learning rate",))
def warmup_differs(schedule: ScheduleEvidence) -> Finding | None:
    """The declared warm-up is missing or too long

    Measures: the first step at the peak rate, compared with the declared warm-up and the number of steps.

    Threshold: a declared warm-up of two steps or more must begin below the peak and end within twice its length.
    Without a declaration, the peak must be in the first half of the steps. A warning, because such a schedule may be
    intended.

    Why: without a warm-up, Adam's first steps, scaled by a variance from few gradients, can destroy the pretrained
    weights. With a warm-up that never ends, the rate never reaches its peak.

    Look-alikes: no warm-up, declared or used; one-cycle schedules with their peak at 30%; constant rates.

    Fix: warm-up steps = round(0.06 · total steps), counted in optimizer steps.

    Reference: Devlin et al. 2019; Liu et al. 2020, On the Variance of the Adaptive Learning Rate and Beyond.
    """
    values, declared = factors(schedule), schedule.declared_warmup_steps
    end, total = warmup_end(values), len(values)
    if declared is not None and declared >= 2 and end == 0:
        what, cause = (
            "the first step already has the peak rate",
            "the scheduler is not the declared one, or is not used",
        )
    elif declared and end > LATE_BY * declared + 1:
        what, cause = f"the peak comes at step {end + 1:,} of {total:,}", "steps are counted differently than declared"
    elif values.max() > 0 and end >= LATE_WARMUP * total:
        what, cause = f"the peak comes at step {end + 1:,} of {total:,}", "the warm-up is longer than half of training"
    else:
        return None
    return Finding(
        observed=what,
        expected=f"a warm-up of {declared:,} steps" if declared else f"the peak within {LATE_WARMUP:.0%} of the steps",
        n=total,
        cause=cause,
        fix=f"set the warm-up to {max(1, round(0.06 * total)):,} optimizer steps (6%); step the scheduler once in each",
    )


@rule("OPT010", "error", explains=("stalled loss", "small updates", "wrong schedule"))
def scheduler_stepped_at_wrong_points(schedule: ScheduleEvidence) -> Finding | None:
    """The scheduler is not stepped once per optimizer step

    Measures: where the schedule ends and where its rate changes, compared with accumulation and epochs.

    Threshold: stepped per forward pass: the schedule ends at 1/accumulation of the steps, within 5%. Stepped per epoch:
    the rate changes only between epochs, although the declared warm-up is shorter than an epoch or the whole first
    epoch has rate 0.

    Why: stepped per forward pass, most of the training runs at rate 0. Stepped per epoch, a warm-up of 100 steps takes
    100 epochs.

    Look-alikes: schedules made for epochs (`StepLR`, `ExponentialLR`), which begin at their peak; constant rates.

    Fix: call `scheduler.step()` once after each `optimizer.step()`, and nowhere else.

    Reference: PyTorch, `torch.optim.lr_scheduler` ("How to adjust learning rate").
    """
    values = factors(schedule)
    total, end = len(values), working_steps(values)
    if schedule.accumulation > 1 and end > 0 and abs(end * schedule.accumulation - total) <= IDLE_SHARE * total:
        observed = (
            f"the schedule ends after {end:,} of {total:,} steps, with {schedule.accumulation} forward passes per step"
        )
        cause = "the scheduler steps once per forward pass instead of once per optimizer step"
    elif is_constant_within_epochs(values, schedule.steps_per_epoch) and starts_low(values, schedule):
        observed = f"the rate changes only every {schedule.steps_per_epoch:,} steps, and starts at {values[0]:.0%}"
        cause = "the scheduler steps once per epoch instead of once per optimizer step"
    else:
        return None
    return Finding(
        observed=observed,
        expected=f"a schedule over {total:,} optimizer steps",
        n=total,
        cause=cause,
        fix="call scheduler.step() once after each optimizer.step()",
    )


def starts_low(values: np.ndarray, schedule: ScheduleEvidence) -> bool:
    """Whether a warm-up that was declared in steps takes epochs."""
    declared = schedule.declared_warmup_steps
    if declared is not None:
        return 0 < declared < schedule.steps_per_epoch and values[0] < values.max()
    return bool(values[0] <= NOTHING * values.max())


@rule("OPT015", "warning", explains=("dropped batches",))
def accumulation_beyond_epoch(schedule: ScheduleEvidence) -> Finding | None:
    """One optimizer step takes more than an epoch

    Measures: forward passes per optimizer step compared with those of an epoch.

    Threshold: not more than an epoch has.

    Why: gradients that are discarded at the end of an epoch never become a step; gradients that are carried over mix
    epochs.

    Look-alikes: exactly as many as an epoch has is full-batch gradient descent, slow but valid.

    Fix: use fewer forward passes per step, or larger batches.

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
        cause="accumulation was set for a larger dataset or smaller batches",
        fix=f"set accumulation to {max(1, batches // 8):,} or less, so that an epoch has several steps",
    )


@rule("OPT016", "note", symptoms=("dropped batches",))
def tail_dropped(schedule: ScheduleEvidence) -> Finding | None:
    """Accumulation drops the last batches of each epoch

    Measures: the forward passes left over when those of an epoch are divided into steps, where the schedule counts only
    full steps.

    Threshold: any is a note; more than 10% of the epoch a warning.

    Why: `if (i + 1) % accumulation == 0` leaves the last passes without a step. Their gradients are discarded, or leak
    into the first step of the next epoch.

    Look-alikes: a loop that also steps on the last batch plans one more step, and passes.

    Fix: also step at the last batch of the epoch, and divide by the actual number of passes.

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
        cause=f"{batches:,} passes are not a multiple of {accumulation:,}, and only full accumulations take a step",
        fix="also take a step at the last batch of an epoch",
        severity="warning" if left > TAIL_SHARE * batches else "note",
    )


MIN_RATES = 4
"""With fewer records, a rise may be the first half of a triangle."""

RISING = 1.05
"""Ratio of the last rate to the one halfway: below it, the rate counts as constant."""

USUAL_WARMUP = 0.06
"""Share of the steps (Liu et al. 2019, RoBERTa)."""

NEARLY_ALL = 0.9
"""Share of the planned steps after which a warm-up should be long over (6 to 10% is usual)."""

COMPLETE = 0.95
"""Share of the planned steps that counts as all: rounding of epochs and the last record may miss some."""


@rule("OPT024", "warning", explains=("stalled loss", "small updates"))
def rate_still_rises_at_the_end(steps: StepEvidence) -> Finding | None:
    """The learning rate still rises at the end: the warm-up is longer than the run

    Measures: the recorded learning rates, from the first record to the last.

    Threshold: at least 4 records, no fall between any two of them, and a last rate 5% above the one halfway. Judged
    after 90% of the planned steps; a note where the plan is not recorded.

    Why: the rate never reaches its peak, and there is no decay: most of the run trains with a fraction of the rate that
    was set.

    Look-alikes: a run that was interrupted during its warm-up; a rate that is increased on purpose, as in a range test.

    Fix: a warm-up of 6 to 10% of all steps (`warmup_ratio` instead of `warmup_steps` in `transformers`).

    Reference: Devlin et al. 2019; Smith 2017, Cyclical Learning Rates (range test).
    """
    rates = np.asarray(known(steps.learning_rate, "the learning rate at each record"), dtype=np.float64).ravel()
    if len(rates) < MIN_RATES or len(rates) != len(steps.steps) or not np.isfinite(rates).all():
        raise CannotTell(f"{len(rates)} learning rates; {MIN_RATES} finite ones are needed")
    last = steps.last_step or int(np.asarray(steps.steps)[-1])
    if steps.total_steps is None and not steps.ended:
        raise CannotTell("the number of planned steps is not known")
    if steps.total_steps is not None and last < NEARLY_ALL * steps.total_steps:
        raise CannotTell(f"{last:,} of {steps.total_steps:,} planned steps are recorded: the warm-up may still end")
    slack = NOTHING * max(float(rates.max()), 0.0)
    if (np.diff(rates) < -slack).any() or not rates[-1] > RISING * rates[len(rates) // 2 - 1]:
        return None
    plan = "" if steps.total_steps is None else f" of {steps.total_steps:,}"
    warmup = f"{max(1, round(USUAL_WARMUP * (steps.total_steps or last))):,} optimizer steps ({USUAL_WARMUP:.0%})"
    return Finding(
        observed=f"learning rate {rates[0]:.3g} at the first record, {rates[-1]:.3g} at {steps.at(last)}{plan}, rising "
        "throughout",
        expected="a peak after 6 to 10% of the steps, and then a constant or falling rate",
        n=len(rates),
        cause="the warm-up is longer than the run",
        fix=f"set the warm-up to {warmup}, or as a ratio of all steps"
        if steps.unit == "step"
        else f"set the warm-up to {USUAL_WARMUP:.0%} of the optimizer steps, as a ratio",
        severity="warning" if steps.total_steps is not None else "note",
    )


REACHED = 0.5
"""Share of the configured rate."""
MOST_EPOCHS = 20
"""More different rates than this are those of steps."""


@rule("OPT036", "warning", explains=("stalled loss", "small updates"))
def configured_rate_never_reached(steps: StepEvidence) -> Finding | None:
    """The learning rate never comes near the configured one

    Measures: the largest logged learning rate of a training that has ended, compared with that of its settings.

    Threshold: below half of it, with at least 4 logged rates that never fall and rise by 5%.

    Why: the run ends within the warm-up. Usually the schedule counts optimizer steps but is called once per epoch,
    which is what Lightning does unless `"interval": "step"` is given with the scheduler; or the warm-up is longer than
    the run.

    Look-alikes: a group with a rate of its own, which is constant or falls as configured, passes. A run that was
    interrupted in its warm-up is not judged where its plan is recorded.

    Fix: `{"scheduler": scheduler, "interval": "step"}` in Lightning; otherwise `scheduler.step()` after each
    `optimizer.step()`, and a warm-up of 6 to 10% of the steps.

    Reference: Lightning, `LightningModule.configure_optimizers`.
    """
    configured = known(steps.configured_rate, "the configured learning rate")
    rates = np.array([point.value for point in steps.logged_rates], dtype=np.float64)
    if not len(rates) and steps.learning_rate is not None:
        rates = np.asarray(steps.learning_rate, dtype=np.float64).ravel()
    if len(rates) < MIN_RATES or not np.isfinite(rates).all() or not steps.ended:
        raise CannotTell(f"{len(rates)} learning rates of a training that has ended; {MIN_RATES} are needed")
    last = steps.last_step or int(np.asarray(steps.steps)[-1])
    if steps.total_steps is not None and last < NEARLY_ALL * steps.total_steps:
        raise CannotTell(f"{last:,} of {steps.total_steps:,} planned steps are recorded: the warm-up may still end")
    rises = not (np.diff(rates) < 0).any() and rates[-1] > RISING * rates[0]
    if not rises or rates[-1] >= REACHED * configured:
        return None
    per_epoch = len(np.unique(rates)) <= MOST_EPOCHS and len(steps.steps) > len(np.unique(rates))
    return Finding(
        observed=f"learning rate {rates[0]:.3g} at first and {rates[-1]:.3g} at last ({rates[-1] / configured:.0%} of "
        f"the configured {configured:.3g}), {len(np.unique(rates))} different values",
        expected="the configured rate after 6 to 10% of the steps",
        n=len(rates),
        cause="the schedule seems to be called once per epoch, but to be made for steps"
        if per_epoch
        else "the warm-up is longer than the run",
        fix='call the scheduler after each optimizer step (in Lightning: "interval": "step"), or shorten the warm-up',
    )


@rule("OPT025", "warning")
def ended_before_its_plan(steps: StepEvidence) -> Finding | None:
    """Training ended before its planned end

    Measures: the last step compared with the planned number of steps, in the files of a run.

    Threshold: 95% of the planned steps, unless the run's own record says why it ended. A heuristic: the files do not
    show whether the run is still in progress.

    Why: the run was interrupted, ran out of time or memory, or its files are those of an earlier checkpoint. Its last
    weights are not those that were planned, and its learning rate has not decayed.

    Look-alikes: early stopping that recorded itself (`EarlyStoppingCallback`) passes, and so does a run of Tenor, whose
    status says how it ended.

    Fix: resume it (`trainer.train(resume_from_checkpoint=True)`, `tenor train --resume RUN`).

    Reference: transformers, `TrainerState.max_steps`.
    """
    if not steps.ended:
        raise CannotTell("training has not ended")
    total = known(steps.total_steps, "the number of planned steps")
    last = steps.last_step or int(np.max(steps.steps, initial=0))
    if last >= COMPLETE * total or steps.stopped_because:
        return None
    return Finding(
        observed=f"the last {steps.unit} is {last:,} of {total:,} planned ones ({last / total:.0%})",
        expected="all planned steps, or a record of early stopping",
        n=last,
        cause="the run was interrupted or is still in progress, or these are the files of an earlier checkpoint",
        fix="resume the run from its last checkpoint, or judge it as what it is: a part of a training",
    )
