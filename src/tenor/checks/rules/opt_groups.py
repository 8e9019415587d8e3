"""The optimizer's groups: whether they hold exactly the trainable parameters, at suitable learning rates."""

import math
from collections import Counter

import numpy as np

from tenor.checks.evidence import OptimizerEvidence, ProbeEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.probes.experiments import HIGHEST, moving_mean
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown, uninformed

ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")

SMALL_RATE = {"encoder": 1e-6, "head": 1e-5}
"""For Adam: published fine-tuning uses 1e-5 to 1e-4 (Devlin et al. 2019: 2e-5 to 5e-5); a tenth hardly moves."""

LARGE_RATE, RUINOUS_RATE = 3e-4, 1e-3
"""For Adam on an encoder: BERT degenerates from 1e-4 on in some seeds (Mosbach et al. 2021), small ones bear 3e-4."""

SGD_SMALL, SGD_LARGE = 1e-4, 1.0
"""Plain gradient descent needs rates about a thousand times those of Adam."""


def held(optimizer: OptimizerEvidence) -> Counter[str]:
    """How often each name stands in the optimizer."""
    return Counter(name for group in optimizer.groups for name in group.names)


def body_rates(optimizer: OptimizerEvidence) -> list[float]:
    """The rates of groups with encoder matrices that learn; biases, norms and adapters bear head-like rates."""
    heavy = optimizer.learning - optimizer.head - optimizer.one_dimensional - optimizer.added
    return [group.learning_rate for group in optimizer.groups if not heavy.isdisjoint(group.names)]


@rule(
    "OPT001",
    "error",
    symptoms=("parameters not optimized",),
    explains=("bad result", "stalled loss", "gradients kept", "no updates", "odd probabilities"),
    one_class="usually",
    training_loss="high",
)
def missing_from_optimizer(optimizer: OptimizerEvidence) -> Finding | None:
    """Learning parameters are missing from the optimizer

    Measures: parameters of the encoder and its adapters with `requires_grad` that stand in no group.

    Threshold: none; an exact invariant.

    Why: they receive gradients at full cost and never change. It happens when layers are unfrozen, adapters are added,
    or a model is moved or loaded, after the optimizer was built, and when groups are chosen by fragments of names.

    Look-alikes: an encoder kept out on purpose; freeze it, and it costs nothing either.

    Fix: build the optimizer last, from every parameter with `requires_grad`; or call `requires_grad_(False)` on what
    should stay.

    Reference: PyTorch, `torch.optim` ("Constructing it").
    """
    missing = optimizer.learning - optimizer.head - held(optimizer).keys()
    if not missing:
        return None
    return Finding(
        observed=f"{len(missing):,} of {len(optimizer.learning):,} learning parameters in no group: {shown(missing)}",
        expected="every parameter with requires_grad stands in one group",
        n=len(missing),
        cause="the groups were built before these parameters learned, or from a choice of names that leaves them out",
        fix="build the optimizer after loading and unfreezing, or freeze with requires_grad_(False) what should stay",
    )


@rule(
    "OPT002",
    "error",
    symptoms=("parameters not optimized", "head not trainable"),
    explains=("bad result", "stalled loss", "gradients kept", "no updates", "swapped classes"),
    one_class="usually",
)
def head_missing_from_optimizer(optimizer: OptimizerEvidence) -> Finding | None:
    """The head is not in the optimizer

    Measures: the head's learning parameters that stand in no group.

    Threshold: none; an exact invariant.

    Why: the head starts at random. Without it the encoder must bend to a random projection, and with a frozen base
    nothing learns at all.

    Look-alikes: an unused pooler has no business in the optimizer, but does no harm there.

    Fix: `AdamW(model.parameters())`; with groups, one for what is not in the encoder.

    Reference: PyTorch, `torch.optim` ("Per-parameter options").
    """
    missing = (optimizer.learning & optimizer.head) - held(optimizer).keys()
    if not missing:
        return None
    return Finding(
        observed=f"of the head in no group: {shown(missing)}",
        expected="every learning parameter of the head stands in one group",
        n=len(missing),
        cause="the optimizer was built from the encoder alone, or before the head was replaced",
        fix="build the optimizer last, from model.parameters(), not from model.base_model.parameters()",
    )


@rule("OPT003", "error")
def twice_in_optimizer(optimizer: OptimizerEvidence) -> Finding | None:
    """A parameter stands in the optimizer twice

    Measures: how often each parameter stands in the groups.

    Threshold: once; an exact invariant.

    Why: it is updated twice per step, at twice the rate, with decay twice; PyTorch only warns within a group.

    Look-alikes: tied weights are one parameter with two names, and count once.

    Fix: gather parameters with `named_parameters()`, which names each once.

    Reference: PyTorch, `torch.optim.Optimizer.add_param_group`.
    """
    twice = [name for name, count in held(optimizer).items() if count > 1]
    if not twice:
        return None
    return Finding(
        observed=f"{len(twice):,} parameters more than once: {shown(twice)}",
        expected="each parameter once",
        n=len(twice),
        cause="lists of parameters that overlap were joined",
        fix="gather the parameters from model.named_parameters() and put each name into one group",
    )


@rule(
    "OPT004",
    "error",
    explains=("bad result", "stalled loss", "gradients kept", "no updates", "parameters not optimized"),
    one_class="usually",
    training_loss="high",
)
def foreign_parameters(optimizer: OptimizerEvidence) -> Finding | None:
    """The optimizer holds parameters of another model

    Measures: parameters in the groups that are not the model's.

    Threshold: an error while any learning parameter of the model is missing, an exact invariant; else a note.

    Why: the model was copied, reloaded or wrapped after the optimizer was built: the optimizer trains the copy that no
    one evaluates.

    Look-alikes: a loss with parameters of its own, or a second model trained along, beside a model that is complete.

    Fix: build the optimizer after the last `from_pretrained`, `deepcopy`, `to` or wrap.

    Reference: PyTorch, `torch.nn.Module.to` and optimizers.
    """
    foreign = sum(group.foreign for group in optimizer.groups)
    if not foreign:
        return None
    missing = optimizer.learning - held(optimizer).keys()
    return Finding(
        observed=f"{foreign:,} parameters are not the model's; {len(missing):,} of the model's are missing",
        expected="parameters of the model that is trained, and no others",
        n=foreign,
        cause="the optimizer was built from another instance of the model"
        if missing
        else "something else is trained too",
        fix="build the optimizer from the parameters of the model that the loop calls, after it is loaded",
        severity="error" if missing else "note",
    )


@rule(
    "OPT005",
    "error",
    explains=(
        "bad result",
        "stalled loss",
        "no updates",
        "small learning rate",
        "small updates",
        "swapped classes",
        "unplanned learning rate",
    ),
    one_class="usually",
    training_loss="high",
    setting={"training.learning_rate": 8e-05, "training.head_learning_rate": 0.001},
)
def rate_is_zero(optimizer: OptimizerEvidence) -> Finding | None:
    """The learning rate is zero

    Measures: each group's peak rate, or its present one where no peak is known.

    Threshold: above 0; an exact invariant. Zero in some groups alone is a warning.

    Why: nothing changes, whatever the loss.

    Look-alikes: a warm-up that begins at 0 (a scheduler keeps the peak as `initial_lr`); a group switched off on
    purpose.

    Fix: give the rate as a number (`2e-5`; YAML 1.1 reads `2e-5` as text, and some loops then fall back to 0).

    Reference: Devlin et al. 2019 (2e-5 to 5e-5).
    """
    groups = [group for group in optimizer.groups if group.names]
    zero = [group for group in groups if not group.learning_rate > 0]
    if not zero:
        return None
    whole = len(zero) == len(groups)
    return Finding(
        observed=f"rate 0 in {len(zero)} of {len(groups)} groups ({shown(n for g in zero for n in g.names)})",
        expected="a rate above 0",
        n=sum(len(group.names) for group in zero),
        cause="the rate was set to 0, or rounded or parsed to it",
        fix="set the learning rate, 2e-5 to 1e-4 for AdamW on an encoder; freeze what should not learn",
        severity="error" if whole else "warning",
    )


@rule(
    "OPT006",
    "note",
    symptoms=("small learning rate",),
    explains=("stalled loss", "small updates", "swapped classes"),
    setting={"training.learning_rate": 8e-05, "training.head_learning_rate": 0.001},
)
def rate_is_small(optimizer: OptimizerEvidence) -> Finding | None:
    """The learning rate is too small to matter

    Measures: the largest rate over all groups.

    Threshold: Adam 1e-6 where the encoder learns, 1e-5 where only a head or adapters do, plain gradient descent 1e-4.
    A heuristic: a note; a warning ten times below.

    Why: Adam moves a weight by about the rate per step; weights are about 0.05, so that 1,000 steps at 1e-7 change
    0.2%.

    Look-alikes: the lowest layers under layer-wise decay are judged by the top; a last, careful phase of training.

    Fix: 2e-5 to 1e-4 for an encoder, 1e-3 for a head or adapters alone.

    Reference: Devlin et al. 2019; Mosbach et al. 2021, On the Stability of Fine-tuning BERT.
    """
    rate = max((group.learning_rate for group in optimizer.groups if group.names), default=0.0)
    if optimizer.kind in ADAPTIVE:
        limit = SMALL_RATE["encoder" if body_rates(optimizer) else "head"]
    elif optimizer.kind == "SGD":
        limit = SGD_SMALL
    else:
        raise CannotTell(f"no rates are known for {optimizer.kind}")
    if rate >= limit or rate == 0:
        return None
    return Finding(
        observed=f"{optimizer.kind} at {rate:.1e}",
        expected=f"{limit:.0e} or more",
        n=len(optimizer.learning),
        cause="at this rate the weights hardly move within an epoch or two",
        fix="try 5e-5 for an encoder with AdamW, 1e-3 for a head or adapters alone",
        severity="warning" if rate < limit / 10 else "note",
    )


@rule(
    "OPT007",
    "note",
    explains=("bad result", "stalled loss", "diverging loss", "large updates", "not a number"),
    one_class="usually",
    settled_by="the learning rate and the training losses",
    setting={"training.learning_rate": 8e-05, "training.head_learning_rate": 0.001},
)
def rate_is_large(optimizer: OptimizerEvidence) -> Finding | None:
    """The learning rate is too large for a pretrained encoder

    Measures: the largest rate of a group with encoder weights.

    Threshold: Adam 3e-4 a note, 1e-3 a warning; gradient descent 1.0 a warning. A heuristic, never an error.

    Why: the first steps wipe out what pretraining learned; the loss stays at ln K and one class is predicted.

    Look-alikes: a head alone, adapters, networks without attention, and an encoder trained from scratch (norms exactly
    1, biases exactly 0) bear 1e-3 and more, and pass.

    Fix: 2e-5 to 1e-4, with a warm-up of 6 to 10%.

    Reference: Mosbach et al. 2021, On the Stability of Fine-tuning BERT; Sun et al. 2019, How to Fine-Tune BERT.
    """
    rates = body_rates(optimizer)
    attends = any("attention" in name or "attn" in name for name in held(optimizer))
    if not rates or not attends or optimizer.fresh_body:
        return None
    rate = max(rates)
    if optimizer.kind in ADAPTIVE:
        limit, ruinous = LARGE_RATE, RUINOUS_RATE
    elif optimizer.kind == "SGD":
        limit, ruinous = SGD_LARGE, SGD_LARGE
    else:
        raise CannotTell(f"no rates are known for {optimizer.kind}")
    if rate <= limit:
        return None
    return Finding(
        observed=f"{optimizer.kind} at {rate:.1e} on encoder weights",
        expected=f"{limit:.0e} or less",
        n=len(optimizer.learning),
        cause="such a rate is one for training from scratch or for a head alone",
        fix="use 2e-5 to 1e-4 for the encoder; give the head a rate of its own if it needs more",
        severity="warning" if rate >= ruinous else "note",
    )


@rule("OPT011", "note")
def decay_on_norms(optimizer: OptimizerEvidence) -> Finding | None:
    """Weight decay on norms and biases

    Measures: learning one-dimensional parameters in groups with weight decay above 0.

    Threshold: none. A convention with little measured effect: a note.

    Why: decay draws a norm's scale from 1 towards 0, which is not the simpler function.

    Look-alikes: plain `AdamW(model.parameters())` decays everything by 0.01 and trains well.

    Fix: a second group with `weight_decay=0.0` for parameters of one dimension.

    Reference: Devlin et al. 2019, reference implementation (`exclude_from_weight_decay`).
    """
    vectors = optimizer.one_dimensional & optimizer.learning  # An optimizer skips what has no gradient.
    decayed = {n for g in optimizer.groups if g.weight_decay > 0 for n in g.names if n in vectors}
    if not decayed:
        return None
    return Finding(
        observed=f"{len(decayed):,} norms and biases decay: {shown(decayed)}",
        expected="weight decay on matrices only",
        n=len(decayed),
        cause="all parameters stand in groups with weight decay",
        fix="put parameters with p.ndim < 2 into a group with weight_decay=0.0",
    )


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
def rate_outside_tested_range(probe: ProbeEvidence, optimizer: OptimizerEvidence) -> Finding | None:
    """The learning rate is one at which the loss runs away

    Measures: with --deep, the loss over some 40 steps of AdamW at rates that rise from 1e-6 to 1; the rate at which its
    moving mean is half of ln K above its lowest; and the optimizer's largest peak rate.

    Threshold: a peak at or above that rate.

    Why: what destroys the weights in a step or two of a test does so in training; one class is predicted afterwards.

    Look-alikes: plain gradient descent bears other rates than AdamW, with which the test is made: not judged. A warm-up
    helps up to a factor of a few, which is why the threshold is the rate of running away itself and not a tenth of it.

    Fix: a tenth of that rate, with a warm-up.

    Reference: Smith 2017, Cyclical Learning Rates for Training Neural Networks (section 3.3, the range test).
    """
    falls, away = range_of_rates(probe)
    if not optimizer.kind.startswith("Adam"):
        raise CannotTell(f"the test is made with AdamW, the optimizer is {optimizer.kind}")
    peak = max((group.learning_rate for group in optimizer.groups), default=0.0)
    if peak < away or not math.isfinite(away):
        return None
    began = f"; it began to fall at {falls:.0e}" if falls is not None and falls < away else ""
    return Finding(
        observed=f"a peak of {peak:.1e}; in the test the loss ran away at {away:.1e}{began}",
        expected=f"below {min(away, HIGHEST):.0e}, about {away / 10:.0e}",
        n=len(probe.rates_tried or ()),
        cause="such a rate destroys these weights within a few steps",
        fix=f"use a rate of about {away / 10:.0e}, with a warm-up",
    )
