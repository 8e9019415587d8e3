"""The learning rate beside those that were tried in the range test of `--deep`."""

import math

import numpy as np

from tenor.checks.evidence import OptimizerEvidence, ProbeEvidence
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.probes.rates import HIGHEST, moving_mean
from tenor.checks.rule import rule
from tenor.checks.rules.known import known
from tenor.checks.rules.los_causes import uninformed

RUNS_AWAY = 0.5
"""Of ln K, above the lowest mean loss so far: half the way back to knowing nothing."""

FALLS = 0.1
"""Of ln K, below the first losses: where the rate begins to teach."""

MIN_TRIED = 12
WARM_STEPS = 5
"""Of the test that show the loss before anything is learned."""


def range_of_rates(probe: ProbeEvidence) -> tuple[float | None, float]:
    """The rate at which the loss first fell, None where it never did; and the one at which it ran away, or the last."""
    rates = known(probe.rates_tried, "losses at rising learning rates", probe.failures.get("rising_rates"))
    losses = known(probe.losses_at_rates, "losses at rising learning rates", probe.failures.get("rising_rates"))
    if len(rates) < MIN_TRIED:
        raise CannotTell(f"{len(rates)} rates were tried; {MIN_TRIED} are needed")
    means, scale = np.array(moving_mean(list(losses))), uninformed(probe.n_classes)
    first = float(np.mean(losses[:WARM_STEPS]))
    fallen = np.flatnonzero(means < first - FALLS * scale)
    away = np.flatnonzero(~np.isfinite(means) | (means > np.minimum.accumulate(means) + RUNS_AWAY * scale))
    return (rates[fallen[0]] if len(fallen) else None), (rates[away[0]] if len(away) else math.inf)


@rule("OPT023", "warning")
def rate_outside_tested_range(probe: ProbeEvidence, optimizer: OptimizerEvidence) -> Observation | None:
    """The learning rate is one at which the loss runs away

    Measures: with --deep, the loss over some 40 steps of AdamW at rates that rise from 1e-6 to 1; the rate at which its
    moving mean is half of ln K above its lowest; and the optimizer's largest peak rate.

    Threshold: a peak at or above that rate.

    Why: what destroys the weights in a step or two of a test does so in training; one class is predicted afterwards.

    Look-alikes: plain gradient descent bears other rates than AdamW, with which the test is made: not judged. A warm-up
    helps up to a factor of a few, which is why the threshold is the rate of running away itself and not a tenth of it.

    Mend: a tenth of that rate, with a warm-up.

    Reference: Smith 2017, Cyclical Learning Rates for Training Neural Networks (section 3.3, the range test).
    """
    falls, away = range_of_rates(probe)
    if not optimizer.kind.startswith("Adam"):
        raise CannotTell(f"the test is made with AdamW, the optimizer is {optimizer.kind}")
    peak = max((group.learning_rate for group in optimizer.groups), default=0.0)
    if peak < away or not math.isfinite(away):
        return None
    began = f"; it began to fall at {falls:.0e}" if falls is not None and falls < away else ""
    return Observation(
        observed=f"a peak of {peak:.1e}; in the test the loss ran away at {away:.1e}{began}",
        expected=f"below {min(away, HIGHEST):.0e}, about {away / 10:.0e}",
        n=len(probe.rates_tried or ()),
        cause="such a rate destroys these weights within a few steps",
        fix=f"use a rate of about {away / 10:.0e}, with a warm-up",
    )
