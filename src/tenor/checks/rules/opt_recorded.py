"""What the records of a whole training show: a learning rate of zero, all along or at the end, and too few steps."""

import numpy as np

from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.opt_schedule import COMPLETE
from tenor.checks.rules.shared import known
from tenor.runs.findings import Finding

MIN_RECORDED = 10
"""Recorded learning rates: fewer may all belong to the first steps of a warm-up."""

ENDS_AT_ZERO, DISTINCT_RATES = 0.15, 5
"""Share of the records, and the number of different rates before them: 5 rates of a linear decay that was rounded to
5 steps have the last tenth of it as 0."""

UNCHANGED = 1e-4
"""Share of a validation loss that rounding and the order of the rows change."""

FEW_STEPS = 100
"""Fine-tuning on 1,000 rows takes about 100 steps in 3 epochs, often too few (Zhang et al. 2021)."""

FELL = 0.9
"""Ratio of the last losses to the first ones: below it, something was learned in these steps."""


@rule(
    "OPT026",
    "error",
    symptoms=("zero rate",),
    explains=(
        *("bad result", "low accuracy", "stalled loss", "flat loss", "no updates", "small learning rate"),
        *("small updates", "unplanned learning rate"),
    ),
    one_class="usually",
    training_loss="high",
    setting={"training.learning_rate": 8e-05, "training.head_learning_rate": 0.001},
)
def recorded_rate_is_zero(steps: StepEvidence) -> Finding | None:
    """The learning rate is zero in every record or in the settings

    Measures: the learning rates that the run recorded; if it recorded none, the one in its settings.

    Threshold: above 0 in one of at least 10 records, or in the settings; an exact invariant.

    Why: nothing changes, whatever the loss.

    Look-alikes: a warm-up starts at 0, and a decay ends there; rounding to a few digits may print a small rate as 0. A
    rate of 0 in the settings of a run whose validation loss changes, or whose training loss falls, is not the one that
    was used.

    Fix: set the rate as a number (2e-5 to 1e-4 for AdamW on an encoder), and print `optimizer.param_groups[0]["lr"]`
    after the first step.

    Reference: Devlin et al. 2019 (2e-5 to 5e-5).
    """
    if steps.learning_rate is None and not steps.logged_rates and steps.configured_rate is not None:
        return _configured_zero(steps)
    rates = np.asarray(known(steps.learning_rate, "the learning rate at each record"), dtype=np.float64).ravel()
    if len(rates) < MIN_RECORDED or not np.isfinite(rates).all():
        raise CannotTell(f"{len(rates)} learning rates; {MIN_RECORDED} finite ones are needed")
    if (rates > 0).any():
        return None
    return Finding(
        observed=f"learning rate {rates.max():g} in all {len(rates):,} records",
        expected="a rate above 0",
        n=len(rates),
        cause="the rate was set to 0, parsed to it, or multiplied by 0 in the schedule",
        fix="set the learning rate, 2e-5 to 1e-4 for AdamW on an encoder, and print it after the first step",
    )


def _configured_zero(steps: StepEvidence) -> Finding | None:
    """A rate of 0 in the settings, unless the losses show that the weights change."""
    held_out = [point.value for point in steps.validation_loss]
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    part = max(1, len(losses) // 5)
    has_changed = bool(held_out) and max(held_out) - min(held_out) > UNCHANGED * max(held_out)
    has_fallen = len(losses) > 1 and losses[-part:].mean() < FELL * losses[:part].mean()
    if steps.configured_rate != 0 or has_changed or has_fallen:
        return None
    return Finding(
        observed="learning rate 0 in the settings, and no losses that contradict it",
        expected="a rate above 0",
        n=len(losses),
        cause="the rate was set to 0, or parsed to it",
        fix="set the learning rate, 2e-5 to 1e-4 for AdamW on an encoder, and print it after the first step",
    )


@rule("OPT037", "warning", explains=("stalled loss",))
def recorded_rate_ends_at_zero(steps: StepEvidence) -> Finding | None:
    """The learning rate is zero in the last part of the training

    Measures: the records at the end of a training whose learning rate is exactly 0, after rates above 0.

    Threshold: 15% of at least 10 records, after at least 5 different rates above 0: rates that were rounded to a few
    digits have fewer.

    Why: nothing changes from the first such step on. The schedule was made for fewer steps than were taken, or is
    called more than once per step (once for each of several processes, or in the program and in its library).

    Look-alikes: a decay to 0 ends there in its last record.

    Fix: make the schedule for all optimizer steps, ceil(batches per epoch / accumulation) times the epochs, and call it
    once after each.

    Reference: PyTorch, `torch.optim.lr_scheduler`.
    """
    rates = np.asarray(known(steps.learning_rate, "the learning rate at each record"), dtype=np.float64).ravel()
    if len(rates) < MIN_RECORDED or not np.isfinite(rates).all():
        raise CannotTell(f"{len(rates)} learning rates; {MIN_RECORDED} finite ones are needed")
    positive = np.flatnonzero(rates > 0)
    zeros = len(rates) - 1 - int(positive[-1]) if len(positive) else 0
    if zeros < ENDS_AT_ZERO * len(rates) or len(np.unique(rates[positive])) < DISTINCT_RATES:
        return None
    return Finding(
        observed=f"learning rate 0 in the last {zeros:,} of {len(rates):,} records, from "
        f"{steps.at(int(np.asarray(steps.steps)[positive[-1] + 1]))} on",
        expected="a rate above 0 up to the end",
        n=len(rates),
        cause="the schedule was made for fewer steps than were taken, or is called more than once per step",
        fix="make the schedule for all optimizer steps, and call it once after each",
    )


@rule(
    "OPT030",
    "note",
    explains=("bad result", "low accuracy", "majority accuracy", "stalled loss", "flat loss", "unchanged score"),
    one_class="usually",
    training_loss="high",
)
def very_few_steps(steps: StepEvidence) -> Finding | None:
    """The training took very few steps

    Measures: the optimizer steps of a run that has ended, with the number of its training rows if it is recorded.

    Threshold: fewer than 100, unless the recorded loss fell by a tenth from the first fifth of the records to the last.
    A heuristic: a few steps at a suitable rate can be enough for an easy task.

    Why: a new head has to be learned from nothing, and the warm-up takes a part of the steps. After a dozen steps the
    predictions are about those of an untrained model.

    Look-alikes: a trial run; prompts and pairs of texts (SetFit), which learn from a few rows.

    Fix: train on all rows, for more epochs, or with smaller batches, until the training loss has clearly fallen.

    Reference: Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning; Mosbach et al. 2021, On the Stability of
    Fine-tuning BERT.
    """
    if not steps.ended or steps.unit != "step":
        raise CannotTell("training has not ended, or its steps are not known")
    last = steps.last_step or int(np.max(steps.steps, initial=0))
    if steps.total_steps is not None and last < COMPLETE * steps.total_steps and not steps.stopped_because:
        raise CannotTell("training ended before its plan")
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    part = len(losses) // 5
    has_fallen = part > 0 and losses[-part:].mean() < FELL * losses[:part].mean()
    if last >= FEW_STEPS or has_fallen:
        return None
    rows = "" if steps.train_rows is None else f" on {steps.train_rows:,} training rows"
    return Finding(
        observed=f"{last:,} optimizer step{'s' if last != 1 else ''}{rows}",
        expected=f"{FEW_STEPS} steps or more",
        n=last,
        cause="few rows, few epochs or large batches",
        fix="train on all rows, for more epochs or with smaller batches, until the training loss has clearly fallen",
    )
