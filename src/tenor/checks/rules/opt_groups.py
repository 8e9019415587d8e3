"""The optimizer's groups: whether they contain exactly the trainable parameters, at suitable learning rates."""

import math
from collections import Counter

import numpy as np

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import OptimizerEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.probes.short_experiments import HIGHEST, moving_mean
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown, uninformed
from tenor.runs.findings import Finding

ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")

SMALL_RATE = {"encoder": 1e-6, "head": 1e-5}
"""For Adam: published fine-tuning uses 1e-5 to 1e-4 (Devlin et al. 2019: 2e-5 to 5e-5); a tenth changes little."""

LARGE_RATE, DESTRUCTIVE_RATE = 3e-4, 1e-3
"""For Adam on an encoder: BERT fails from 1e-4 on with some seeds (Mosbach et al. 2021); small models tolerate 3e-4."""

SGD_SMALL, SGD_LARGE = 1e-4, 1.0
"""Plain gradient descent needs rates about a thousand times those of Adam."""


def occurrences(optimizer: OptimizerEvidence) -> Counter[str]:
    """How often each name occurs in the optimizer."""
    return Counter(name for group in optimizer.groups for name in group.names)


def body_rates(optimizer: OptimizerEvidence) -> list[float]:
    """The rates of groups with trainable encoder matrices; biases, norms and adapters tolerate higher rates."""
    heavy = optimizer.trainable - optimizer.head - optimizer.one_dimensional - optimizer.added
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
    """Trainable parameters are missing from the optimizer

    Measures: parameters of the encoder and its adapters with `requires_grad` that are in no group.

    Threshold: none; an exact invariant.

    Why: their gradients are computed at full cost, but they never change. It happens when layers are unfrozen, adapters
    are added, or a model is moved or loaded after the optimizer was built, and when groups are selected by name
    fragments.

    Look-alikes: an encoder left out on purpose; freeze it to save the cost of its gradients.

    Fix: build the optimizer last, from all parameters with `requires_grad`; or call `requires_grad_(False)` on those
    that should not change.

    Reference: PyTorch, `torch.optim` ("Constructing it").
    """
    missing = optimizer.trainable - optimizer.head - occurrences(optimizer).keys()
    if not missing:
        return None
    return Finding(
        observed=f"{len(missing):,} of {len(optimizer.trainable):,} trainable parameters in no group: {shown(missing)}",
        expected="every parameter with requires_grad in exactly one group",
        n=len(missing),
        cause="the groups were built before these parameters became trainable, or selected by names that exclude them",
        fix="build the optimizer after loading and unfreezing, or freeze these parameters with requires_grad_(False)",
    )


@rule(
    "OPT002",
    "error",
    symptoms=("parameters not optimized", "head not trainable"),
    explains=("bad result", "stalled loss", "gradients kept", "no updates", "swapped classes"),
    one_class="usually",
)
def head_missing_from_optimizer(optimizer: OptimizerEvidence) -> Finding | None:
    """The head is missing from the optimizer

    Measures: trainable parameters of the head that are in no group.

    Threshold: none; an exact invariant.

    Why: the head is newly initialized. Without updates to it, the encoder must adapt to a random projection, and with a
    frozen base nothing is trained.

    Look-alikes: an unused pooler does not need to be in the optimizer, but does no harm there. It should be frozen.

    Fix: `AdamW(model.parameters())`; with several groups, add one for all parameters outside the encoder.

    Reference: PyTorch, `torch.optim` ("Per-parameter options").
    """
    missing = (optimizer.trainable & optimizer.head) - occurrences(optimizer).keys()
    if not missing:
        return None
    return Finding(
        observed=f"{len(missing):,} parameters of the head are in no group: {shown(missing)}",
        expected="every trainable parameter of the head in exactly one group",
        n=len(missing),
        cause="the optimizer was built from the encoder alone, or before the head was replaced",
        fix="build the optimizer last, from model.parameters(), not from model.base_model.parameters()",
    )


@rule("OPT003", "error")
def twice_in_optimizer(optimizer: OptimizerEvidence) -> Finding | None:
    """A parameter is in the optimizer more than once

    Measures: how often each parameter occurs in the groups.

    Threshold: once; an exact invariant.

    Why: it is updated several times per step, at a multiple of the rate and of the weight decay; PyTorch only warns
    within a group.

    Look-alikes: tied weights are one parameter with two names, and count once.

    Fix: gather parameters with `named_parameters()`, which lists each one once.

    Reference: PyTorch, `torch.optim.Optimizer.add_param_group`.
    """
    twice = [name for name, count in occurrences(optimizer).items() if count > 1]
    if not twice:
        return None
    return Finding(
        observed=f"{len(twice):,} parameters occur more than once: {shown(twice)}",
        expected="each parameter once",
        n=len(twice),
        cause="overlapping lists of parameters were combined",
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
    """The optimizer contains parameters of another model

    Measures: parameters in the groups that are not the model's.

    Threshold: an error if any trainable parameter of the model is missing, an exact invariant; otherwise a note.

    Why: the model was copied, reloaded or wrapped after the optimizer was built. The optimizer trains a copy that is
    never evaluated.

    Look-alikes: a loss with its own parameters, or a second model trained together with a complete first one.

    Fix: build the optimizer after the last `from_pretrained`, `deepcopy`, `to` or wrap.

    Reference: PyTorch, `torch.nn.Module.to` and optimizers.
    """
    foreign = sum(group.foreign for group in optimizer.groups)
    if not foreign:
        return None
    missing = optimizer.trainable - occurrences(optimizer).keys()
    return Finding(
        observed=f"{foreign:,} parameters are not the model's; {len(missing):,} of the model's are missing",
        expected="only parameters of the model that is trained",
        n=foreign,
        cause="the optimizer was built from another instance of the model"
        if missing
        else "another module is trained together with the model",
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

    Measures: the peak rate of each group, or the current one where no peak is known.

    Threshold: above 0; an exact invariant. Zero in only some groups is a warning.

    Why: nothing changes, whatever the loss.

    Look-alikes: a warm-up that starts at 0 (a scheduler keeps the peak as `initial_lr`); a group switched off on
    purpose.

    Fix: set the rate as a number (`2e-5`; YAML 1.1 reads `2e-5` as text, and some loops then fall back to 0).

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
        fix="set the learning rate, 2e-5 to 1e-4 for AdamW on an encoder; freeze parameters that should not change",
        severity="error" if whole else "warning",
    )


@rule(
    "OPT006",
    "note",
    symptoms=("small learning rate",),
    explains=("bad result", "stalled loss", "small updates", "no updates", "unchanged score", "swapped classes"),
    training_loss="high",
    setting={"training.learning_rate": 8e-05, "training.head_learning_rate": 0.001},
)
def rate_is_small(optimizer: OptimizerEvidence) -> Finding | None:
    """The learning rate is too small to have an effect

    Measures: the largest rate over all groups.

    Threshold: Adam 1e-6 where the encoder is trainable, 1e-5 where only a head or adapters are, plain gradient descent
    1e-4. A heuristic: a note; a warning ten times below.

    Why: Adam changes a weight by about the rate per step. Weights are about 0.05, so 1,000 steps at 1e-7 change them by
    0.2%.

    Look-alikes: layer-wise decay gives the lowest layers small rates, so the largest rate is judged. A last training
    phase may use a low rate on purpose.

    Fix: 2e-5 to 1e-4 for an encoder, 1e-3 for a head or adapters alone.

    Reference: Devlin et al. 2019; Mosbach et al. 2021, On the Stability of Fine-tuning BERT.
    """
    rate = max((group.learning_rate for group in optimizer.groups if group.names), default=0.0)
    if optimizer.kind in ADAPTIVE:
        limit = SMALL_RATE["encoder" if body_rates(optimizer) else "head"]
    elif optimizer.kind == "SGD":
        limit = SGD_SMALL
    else:
        raise CannotTell(f"no suitable rates are known for {optimizer.kind}")
    if rate >= limit or rate == 0:
        return None
    return Finding(
        observed=f"{optimizer.kind} at {rate:.1e}",
        expected=f"{limit:.0e} or more",
        n=len(optimizer.trainable),
        cause="at this rate the weights hardly change within an epoch or two",
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

    Measures: the largest rate of a group with trainable encoder matrices.

    Threshold: for Adam 3e-4 is a note and 1e-3 a warning; for gradient descent 1.0 is a warning. A heuristic, never an
    error.

    Why: the first steps destroy the pretrained weights. The loss stays at ln K and one class is predicted.

    Look-alikes: a head alone, adapters, networks without attention, and an encoder trained from scratch (norms exactly
    1, biases exactly 0) tolerate 1e-3 and more, and pass.

    Fix: 2e-5 to 1e-4, with a warm-up of 6 to 10%.

    Reference: Mosbach et al. 2021, On the Stability of Fine-tuning BERT; Sun et al. 2019, How to Fine-Tune BERT.
    """
    rates = body_rates(optimizer)
    attends = any("attention" in name or "attn" in name for name in occurrences(optimizer))
    if not rates or not attends or optimizer.body_newly_initialized:
        return None
    rate = max(rates)
    if optimizer.kind in ADAPTIVE:
        limit, destructive = LARGE_RATE, DESTRUCTIVE_RATE
    elif optimizer.kind == "SGD":
        limit, destructive = SGD_LARGE, SGD_LARGE
    else:
        raise CannotTell(f"no suitable rates are known for {optimizer.kind}")
    if rate <= limit:
        return None
    return Finding(
        observed=f"{optimizer.kind} at {rate:.1e} on encoder weights",
        expected=f"{limit:.0e} or less",
        n=len(optimizer.trainable),
        cause="this rate suits training from scratch or a head alone",
        fix="use 2e-5 to 1e-4 for the encoder, and a separate rate for the head if it needs more",
        severity="warning" if rate >= destructive else "note",
    )


@rule("OPT011", "note")
def decay_on_norms(optimizer: OptimizerEvidence) -> Finding | None:
    """Weight decay is applied to norms and biases

    Measures: trainable one-dimensional parameters in groups with weight decay above 0.

    Threshold: none. A convention with little measured effect: a note.

    Why: decay pulls the scale of a norm from 1 towards 0, which does not make the function simpler.

    Look-alikes: plain `AdamW(model.parameters())` decays all parameters by 0.01 and trains well.

    Fix: add a second group with `weight_decay=0.0` for one-dimensional parameters.

    Reference: Devlin et al. 2019, reference implementation (`exclude_from_weight_decay`).
    """
    vectors = optimizer.one_dimensional & optimizer.trainable  # An optimizer skips parameters without a gradient.
    decayed = {n for g in optimizer.groups if g.weight_decay > 0 for n in g.names if n in vectors}
    if not decayed:
        return None
    return Finding(
        observed=f"{len(decayed):,} norms and biases have weight decay: {shown(decayed)}",
        expected="weight decay on matrices only",
        n=len(decayed),
        cause="all parameters are in groups with weight decay",
        fix="put parameters with p.ndim < 2 into a group with weight_decay=0.0",
    )


DIVERGES = 0.5
"""Share of ln K above the lowest mean loss so far: halfway back to the loss of an uninformed model."""

FALLS = 0.1
"""Share of ln K below the first losses: where the loss begins to fall."""

MIN_TRIED = 12
WARM_STEPS = 5
"""First steps of the test, which give the loss before training has an effect."""


def range_of_rates(probe: ProbeEvidence) -> tuple[float | None, float]:
    """The rate at which the loss first fell, None if it never did; and the rate at which it diverged, or infinity."""
    rates = known(probe.rates_tried, "losses at rising learning rates", probe.failures.get("rising_rates"))
    losses = known(probe.losses_at_rates, "losses at rising learning rates", probe.failures.get("rising_rates"))
    if len(rates) < MIN_TRIED:
        raise CannotTell(f"{len(rates)} rates were tried; {MIN_TRIED} are needed")
    means, scale = np.array(moving_mean(list(losses))), uninformed(probe.n_classes)
    first = float(np.mean(losses[:WARM_STEPS]))
    fallen = np.flatnonzero(means < first - FALLS * scale)
    diverged = np.flatnonzero(~np.isfinite(means) | (means > np.minimum.accumulate(means) + DIVERGES * scale))
    return (rates[fallen[0]] if len(fallen) else None), (rates[diverged[0]] if len(diverged) else math.inf)


@rule("OPT023", "warning")
def rate_outside_tested_range(probe: ProbeEvidence, optimizer: OptimizerEvidence) -> Finding | None:
    """The loss diverges at this learning rate

    Measures: with --deep, the loss over some 40 steps of AdamW at rates that rise from 1e-6 to 1; the rate at which its
    moving mean is half of ln K above its lowest value; and the optimizer's largest peak rate.

    Threshold: a peak rate at or above the rate of divergence.

    Why: a rate that destroys the weights in a step or two of the test also does so in training. Afterwards one class is
    predicted.

    Look-alikes: plain gradient descent needs other rates than AdamW, which the test uses: not judged. A warm-up allows
    a few times more, so the threshold is the rate of divergence itself and not a tenth of it.

    Fix: use a tenth of that rate, with a warm-up.

    Reference: Smith 2017, Cyclical Learning Rates for Training Neural Networks (section 3.3, the range test).
    """
    falls, diverged = range_of_rates(probe)
    if not optimizer.kind.startswith("Adam"):
        raise CannotTell(f"the test uses AdamW, but the optimizer is {optimizer.kind}")
    peak = max((group.learning_rate for group in optimizer.groups), default=0.0)
    if peak < diverged or not math.isfinite(diverged):
        return None
    began = f"; it began to fall at {falls:.0e}" if falls is not None and falls < diverged else ""
    return Finding(
        observed=f"a peak rate of {peak:.1e}; in the test the loss diverged at {diverged:.1e}{began}",
        expected=f"below {min(diverged, HIGHEST):.0e}, about {diverged / 10:.0e}",
        n=len(probe.rates_tried or ()),
        cause="this rate destroys the pretrained weights within a few steps",
        fix=f"use a rate of about {diverged / 10:.0e}, with a warm-up",
    )
