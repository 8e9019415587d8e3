"""The loss function, examined by short experiments: reduction, initial loss, memorization; and by its gradients: a
focal factor of the mean."""

import math

import numpy as np

from tenor.checks.evidence.data_evidence import BatchEvidence
from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import FocalFit, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, uninformed
from tenor.runs.findings import Finding

FAR_ABOVE, VERY_FAR_ABOVE = 1.5, 3.0
"""Multiples of ln K: the logits of a new head differ by about 0.1; a loss of 1.5 ln K requires several units."""

SQUASHED_FLOOR, SQUASHED_GAP = 0.1, 1.5
"""With values in [0, 1] as logits, the loss is at least ln(1+1/e) = 0.31 and varies by at most about 1."""

UNREWARDED = 0.01
"""Share of the larger of two losses; a smaller difference counts as equal."""

FEWEST_PAIRED = 32
"""Rows whose labels are compared with those of the loss."""

SUMS = 1.5
"""Halfway between a mean (1) and a sum (2)."""

MIN_PASSES, MIN_CHANGE = 10, 0.01
"""Forward passes, and the standard deviation of their factors' logarithms: 500 times the rounding of float32."""

UNEXPLAINED = 0.005
"""Largest share of that deviation: a focal factor leaves less than 0.003 in bfloat16; m² or exp(m) leave 0.017 even
where m varies by a tenth only."""

MIN_GAMMA = 0.1


@rule("LOS001", "warning", symptoms=("high first loss",), explains=("bad result", "clipped gradients"))
def initial_loss_too_high(probe: ProbeEvidence) -> Finding | None:
    """The initial loss is far above that of an uninformed model

    Measures: the mean loss on real batches before the first step, divided by ln K.

    Threshold: 1.5 is a note, 3 a warning. A heuristic, because losses may be weighted.

    Why: a newly initialized head should give equal probabilities: a loss of ln 2 = 0.69 for two classes. A far higher
    loss means confident wrong answers: too large weights, inputs that are not normalized, a sum instead of a mean,
    labels that start at 1.

    Look-alikes: a head that was already fine-tuned and a focal loss start lower; both pass.

    Fix: initialize the head's weights with a standard deviation of 0.02; check that labels are 0 … K-1 and that the
    loss is a mean.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """
    loss = known(probe.initial_loss, "the initial loss", probe.failures.get("first_look"))
    expected = uninformed(probe.n_classes)
    if not math.isfinite(loss):
        raise CannotTell("the initial loss is NaN or infinite, which LOS007 judges")
    if loss <= FAR_ABOVE * expected:
        return None
    return Finding(
        observed=f"{loss:.3f} nats on {probe.n_examples} examples",
        expected=f"about ln {probe.n_classes} = {expected:.3f}",
        n=probe.n_examples,
        cause="the untrained head is confident in wrong answers, or the loss is not a mean in nats",
        fix="check the first logits (their spread should be about 0.1), the labels, and the reduction of the loss",
        severity="warning" if loss > VERY_FAR_ABOVE * expected else "note",
    )


def squashes(probe: ProbeEvidence) -> bool:
    """Whether the loss gets values in [0, 1] as logits: it then has a lower bound above 0 and varies little."""
    right, wrong = probe.loss_when_right, probe.loss_when_inverted
    if right is None or wrong is None or probe.loss_gradient == 0:  # LOS004 judges a loss without any gradient.
        return False
    return right > SQUASHED_FLOOR and 0 < wrong - right < SQUASHED_GAP


@rule("LOS002", "error", explains=("bad result", "stalled loss", "no gradient"))
def softmax_before_loss(probe: ProbeEvidence) -> Finding | None:
    """A softmax or sigmoid is applied before the loss

    Measures: whether the model's outputs are non-negative and sum to 1 per row; and the loss on logits that are right
    or wrong by a margin of 10.

    Threshold: outputs that are a distribution; or a loss above 0.1 for right logits that is less than 1.5 larger for
    wrong ones. An exact consequence: cross-entropy on values in [0, 1] cannot fall below ln(1 + (K-1)/e).

    Why: cross-entropy applies a softmax itself. After another softmax, gradients shrink, the loss stalls at 0.31 for
    two classes, and the confidence is wrong.

    Look-alikes: label smoothing has a loss above 0 for right logits, but a large one for wrong logits; a log-softmax
    before cross-entropy changes nothing; NLLLoss needs log-probabilities. All pass.

    Fix: return raw logits from the model and pass them to `torch.nn.functional.cross_entropy`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` ("unnormalized logits").
    """
    if probe.rows_sum_to_one is None and (probe.loss_when_right is None or probe.loss_when_inverted is None):
        raise CannotTell("neither the model's outputs nor the loss on test logits were measured")
    if not probe.rows_sum_to_one and not squashes(probe):
        return None
    floor = math.log1p((probe.n_classes - 1) / math.e)
    observed = (
        "the model's outputs are non-negative and sum to 1 in each row"
        if probe.rows_sum_to_one
        else f"loss {probe.loss_when_right:.3f} for logits right by 10, {probe.loss_when_inverted:.3f} if wrong by 10"
    )
    return Finding(
        observed=observed,
        expected="raw logits as input of the loss: a loss near 0 when right by 10, and of about 10 when wrong",
        n=max(1, probe.n_examples),
        cause=f"a softmax or sigmoid is applied before cross-entropy, which then cannot fall below {floor:.2f}",
        fix="remove it from the model's forward (or the loss); apply softmax only to report probabilities",
    )


@rule(
    "LOS003",
    "error",
    explains=("bad result", "stalled loss", "diverging loss", "high first loss", "swapped classes"),
)
def loss_is_inverted(probe: ProbeEvidence) -> Finding | None:
    """The loss rewards wrong answers

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10, on average and for
    each class.

    Threshold: the right logits must have the smaller loss; an exact invariant.

    Why: a missing or extra minus sign trains the model to be wrong: the accuracy falls far below chance. Class weights
    with label smoothing reward the class with the larger weight for the rows of the other one, where the ratio of the
    two weights is above K/smoothing - K + 1: 19 for two classes and 0.1.

    Look-alikes: none for classification; gradient ascent on purpose (adversarial examples) is not training. Class
    weights alone, label smoothing alone and focal losses reward the right class and pass.

    Fix: minimize the negative log-probability; `nll_loss` already includes the minus sign. Use either class weights or
    label smoothing.

    Reference: PyTorch, `torch.nn.NLLLoss`; `torch.nn.CrossEntropyLoss` (weight, label_smoothing).
    """
    if probe.rewarded_instead:
        return _rewards_another_class(probe)
    right = known(probe.loss_when_right, "the loss on right logits", probe.failures.get("given_logits"))
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits", probe.failures.get("given_logits"))
    if not right - wrong > UNREWARDED * max(abs(right), abs(wrong)):
        return None
    return Finding(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong",
        expected="a smaller loss when right",
        n=probe.n_classes,
        cause="the sign of the loss, or its class order, is inverted",
        fix="use torch.nn.functional.cross_entropy(logits, labels) unchanged",
    )


def _rewards_another_class(probe: ProbeEvidence) -> Finding:
    label, other, right, wrong = probe.rewarded_instead[0]
    is_for_all = len(probe.rewarded_instead) == probe.n_classes
    return Finding(
        observed=f"loss {right:.3f} for a row of class {label} if that class is predicted, {wrong:.3f} if class "
        f"{other} is; so in {len(probe.rewarded_instead)} of {probe.n_classes} classes",
        expected="a smaller loss when right, for every class",
        n=probe.n_classes,
        cause="the sign of the loss, or its class order, is inverted"
        if is_for_all
        else f"the smoothed share of class {other}, times its class weight, outweighs class {label} itself",
        fix="use torch.nn.functional.cross_entropy(logits, labels) unchanged"
        if is_for_all
        else "use class weights without label_smoothing, or weights whose ratio is far below K / label_smoothing",
    )


@rule("LOS004", "error", symptoms=("loss without reward",), explains=("bad result", "stalled loss", "no gradient"))
def loss_does_not_reward(probe: ProbeEvidence) -> Finding | None:
    """The loss does not reward the right class

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10; and its gradient with
    respect to equal logits.

    Threshold: the two losses must differ by 1% of the larger, and the gradient must not be 0; an exact invariant.

    Why: a loss that is constant, detached, rounded or computed from an argmax has no gradient, so nothing can be
    learned.

    Look-alikes: label smoothing has, by design, a larger loss on logits right by 10 than on equal ones; a hinge or
    squared loss has another shape but still rewards the right class.

    Fix: compute the loss from the logits themselves, within the graph: no argmax, `.item()`, `.detach()` or
    `torch.tensor`.

    Reference: PyTorch, Autograd mechanics.
    """
    right = known(probe.loss_when_right, "the loss on right logits", probe.failures.get("given_logits"))
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits", probe.failures.get("given_logits"))
    detached = probe.loss_gradient is not None and probe.loss_gradient == 0
    if not detached and abs(wrong - right) >= UNREWARDED * max(abs(right), abs(wrong)) > 0:
        return None
    gradient = "" if probe.loss_gradient is None else f"; gradient {probe.loss_gradient:.2g}"
    return Finding(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong{gradient}",
        expected="a smaller loss when right, and a gradient above 0",
        n=probe.n_classes,
        cause="no gradient flows from the loss to the logits" if detached else "the loss does not depend on the logits",
        fix="use torch.nn.functional.cross_entropy(logits, labels) with the logits that the model returns",
    )


@rule(
    "LOS017",
    "error",
    symptoms=("loss without reward",),
    explains=("bad result", "stalled loss", "collapsing predictions"),
)
def loss_gets_other_labels(batches: BatchEvidence) -> Finding | None:
    """The loss is given other labels than the loader's

    Measures: the labels in the loader's batches, and those that the loss was called with for the same rows.

    Threshold: at least 32 rows with two classes or more, of which the loss gets one class for all, or different classes
    for rows of one class; an exact invariant.

    Why: the loss is computed against a constant, the predictions, or another column, so the model does not learn what
    the labels say.

    Look-alikes: classes that are renumbered or merged before the loss pass, since each class of the loader then becomes
    one class; mixup calls the loss twice, and is not judged.

    Fix: `loss = cross_entropy(logits, batch["labels"])`, with the labels of the same batch.

    Reference: Karpathy 2019, A recipe for training neural networks: verify what goes into the network.
    """
    loader, loss = known(batches.loss_labels, "what the loss was given")
    classes = np.unique(loader)
    if len(loader) < FEWEST_PAIRED or len(classes) < 2:
        raise CannotTell(
            f"the loss was seen with {len(loader)} rows of {len(classes)} classes; needed: {FEWEST_PAIRED} of 2"
        )
    is_constant = len(np.unique(loss)) == 1
    several = [int(k) for k in classes if len(np.unique(loss[loader == k])) > 1]
    if not is_constant and not several:
        return None
    differing = int((loss != loader).sum())
    what = f"class {int(loss[0])} for all" if is_constant else f"several classes for rows of class {several[0]}"
    return Finding(
        observed=f"of {len(loader):,} rows, {differing:,} have another label in the loss than in the batch: {what}",
        expected="one class in the loss for each class of the loader",
        n=len(loader),
        cause="the loss is computed against a constant, against predictions, or against the labels of other rows",
        fix="give the loss the labels of the same batch",
    )


@rule("LOS005", "warning", explains=("clipped gradients", "high first loss", "summed loss"))
def loss_sums(probe: ProbeEvidence) -> Finding | None:
    """The loss is a sum, not a mean

    Measures: the loss of one example given twice, divided by its loss alone.

    Threshold: 1.5, halfway between a mean (1) and a sum (2).

    Why: the gradient then grows with the batch: a suitable learning rate depends on the batch size, the smaller last
    batch counts less, and every step is clipped.

    Look-alikes: a sum that is divided by the number of examples later (as in Tenor's loop over forward passes) is
    correct.

    Fix: `reduction="mean"`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` (reduction); Goyal et al. 2017, section 2.3.
    """
    ratio = known(probe.mean_of_loss, "how the loss is reduced", probe.failures.get("given_logits"))
    if not ratio > SUMS:
        return None
    return Finding(
        observed=f"an example given twice has {ratio:.2f} times its loss alone",
        expected="1",
        n=2,
        cause='the loss is reduced with "sum"',
        fix='use reduction="mean", and choose a new learning rate',
    )


def is_focal_of_mean(fit: FocalFit) -> bool:
    """Whether a focal factor of the batch mean explains the loss."""
    return fit.change >= MIN_CHANGE and fit.gamma >= MIN_GAMMA and fit.error <= UNEXPLAINED * fit.change


@rule("LOS019", "warning", is_exact=True)
def focal_factor_of_mean(steps: StepEvidence) -> Finding | None:
    """A focal factor is computed from the mean of the batch

    Measures: from the gradients at the logits of some forward passes, the mean cross-entropy m of their rows and the
    derivative of the loss with respect to m; and the exponent γ of a focal factor of m that explains these best.

    Threshold: over at least ten passes whose derivatives vary, γ of 0.1 or more, and at most 0.5% of the variation left
    unexplained; an exact invariant. A pass counts only if all rows of a class have the same weight.

    Why: `cross_entropy` returns the mean of the batch, one number, so that `(1 - exp(-m)) ** gamma * m` has one factor
    for the whole batch. It rescales the gradient, and no row is weighted by its own difficulty: hard and rare rows
    count as in a plain cross-entropy.

    Look-alikes: a focal loss of each row has different factors for rows of one class, and passes, as do class weights,
    accumulation and warm-ups of the loss, whose factors do not follow m. Batches of one row have no other mean, and are
    not read.

    Fix: `nats = cross_entropy(logits, labels, reduction="none")`, then `((1 - exp(-nats)) ** gamma * nats).mean()`.
    Multiply class weights afterwards, so that exp(-nats) stays the probability of the label.

    Reference: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4.
    """
    fit = steps.focal_fit
    if fit is None:
        raise CannotTell("no batch was seen whose loss depends on its rows through one mean cross-entropy only")
    if fit.passes < MIN_PASSES:
        raise CannotTell(f"{fit.passes} forward passes were read; {MIN_PASSES} are needed")
    if not is_focal_of_mean(fit):
        return None
    return Finding(
        observed=f"in {fit.passes} batches the loss is (1 - exp(-m))^{fit.gamma:.2g} m, with the mean cross-entropy m "
        "of the batch; all rows of a class have one weight",
        expected="a focal factor for each row, from its own probability",
        n=fit.passes,
        cause='cross_entropy is called with reduction="mean", the default, and the factor is computed from its result',
        fix='call cross_entropy with reduction="none", compute the factor for each row, and take the mean last',
    )


LEFT_OVER = 0.25
"""Share of the examples that a time-limited attempt may leave wrong."""

MIN_FALL = 0.1

FULL = 0.5
"""Share of trainable weights with which memorizing 20 examples is certainly possible."""

RESPONDS = 0.9
"""Ratio of the loss on texts to the loss on blank texts."""

MIN_DEEP = 100

DEEP_MARGIN = 0.98


@rule(
    "LOS009",
    "warning",
    symptoms=("stalled loss",),
    explains=("ignored text", "random labels learned"),
    says_why=False,
)
def cannot_overfit(probe: ProbeEvidence) -> Finding | None:
    """A few examples cannot be memorized

    Measures: errors and loss on at most 20 examples after a short attempt to memorize them, without dropout.

    Threshold: a loss that does not fall by 10% is an error where at least half of the weights are trainable, otherwise
    a warning. Errors on more than a quarter of the examples are a warning where half of the weights are trainable.

    Why: a model that cannot memorize 20 examples cannot learn from 20,000. It is the quickest test of the whole
    pipeline.

    Look-alikes: a frozen base or LoRA has little capacity, and is judged only by the fall of the loss. Two equal texts
    with different labels cannot both be right, so the attempt uses each text once.

    Fix: follow the other findings; otherwise trace one example by hand from its ids to the gradient.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("overfit one batch").
    """
    before, after = known(probe.overfit_loss, "an attempt to memorize some examples", probe.failures.get("overfitting"))
    errors, examples = known(probe.overfit_errors, "its errors"), known(probe.overfit_examples, "its examples")
    full = probe.trainable_share is None or probe.trainable_share >= FULL
    stuck = not after < (1 - MIN_FALL) * before and errors > 0
    if not stuck and not (full and errors > LEFT_OVER * examples):
        return None
    return Finding(
        observed=f"{errors} of {examples} examples still wrong; loss {before:.3f} before, {after:.3f} after",
        expected="no errors, and a loss near 0",
        n=examples,
        cause="a fault between the token ids, the loss and the optimizer prevents learning",
        fix="fix the other findings first; otherwise step through one example: ids, mask, logits, loss, gradients",
        severity="error" if stuck and full else "warning",
    )


@rule(
    "LOS010",
    "warning",
    symptoms=("stalled loss", "ignored text"),
    explains=("random labels learned",),
    says_why=False,
)
def learning_ignores_text(probe: ProbeEvidence) -> Finding | None:
    """Learning does not respond to the text

    Measures: the loss after a short attempt on real texts, divided by that after the same attempt on blank texts.

    Threshold: 0.9. A warning, because there are at most 20 examples and few steps.

    Why: from blank texts only the class frequencies can be learned. If real texts give no lower loss, they do not reach
    the head.

    Look-alikes: a time-limited attempt, or a frozen base with a slow head, may not have progressed far enough. If the
    losses on blank and real texts are equal to the last digit, these are not the reason.

    Fix: compare the hidden states of two texts layer by layer.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """
    real, blank = known(probe.overfit_responds, "the same attempt on blank texts", probe.failures.get("overfitting"))
    if real < RESPONDS * blank:
        return None
    return Finding(
        observed=f"loss {real:.3f} after the attempt on real texts, {blank:.3f} on blank texts",
        expected=f"below {RESPONDS:.0%} of the loss on blank texts",
        n=probe.overfit_examples or 0,
        cause="the content of the texts does not reach the head, or too little of it to learn from",
        fix="compare the hidden states of two texts; check ids, mask and pooling",
    )


@rule("LOS011", "warning", symptoms=("random labels learned",))
def random_labels_learned_as_fast(probe: ProbeEvidence) -> Finding | None:
    """Random labels are learned as fast as the real ones

    Measures: the mean loss on examples not seen before, in one pass with the real labels and in one with shuffled
    labels.

    Threshold: the real loss must be 2% lower, over at least 100 examples. A warning, because chance can cause it.

    Why: labels that no longer belong to their texts (one column shuffled, a wrong join) look normal in every count.

    Look-alikes: a very hard task, a frozen base or a slow start may need more than one short pass.

    Fix: read 20 texts with their labels; look for steps that sort, join or shuffle texts and labels separately.

    Reference: Zhang et al. 2017, Understanding deep learning requires rethinking generalization.
    """
    random = known(probe.random_labels_loss, "learning on shuffled labels", probe.failures.get("random_labels"))
    real = probe.real_labels_loss
    if real is None or probe.deep_examples < MIN_DEEP:
        raise CannotTell(f"{probe.deep_examples} examples; {MIN_DEEP} are needed")
    if real <= DEEP_MARGIN * random:
        return None
    return Finding(
        observed=f"loss {real:.3f} on the real labels, {random:.3f} on shuffled ones",
        expected="a clearly lower loss on the real labels",
        n=probe.deep_examples,
        cause="the labels are unrelated to the texts, or the model sees too little of the texts",
        fix="read 20 texts with their labels; check for joins, sorts and shuffles that separate the two",
    )
