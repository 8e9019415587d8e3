"""The loss function and what short experiments show of it: reductions, first loss, memorization."""

import math

from tenor.checks.evidence import ProbeEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, uninformed

FAR_ABOVE, VERY_FAR_ABOVE = 1.5, 3.0
"""Times ln K: a fresh head's logits are about 0.1 apart; 1.5 ln K takes logits several units apart."""

SQUASHED_FLOOR, SQUASHED_GAP = 0.1, 1.5
"""Values in [0, 1] taken for logits leave a loss of at least ln(1+1/e) = 0.31 and differ by at most about 1."""

UNREWARDED = 0.01
"""Of the larger of two losses: below it they count as the same."""

SUMS = 1.5
"""Half-way between a mean (1) and a sum (2)."""


@rule("LOS001", "warning", symptoms=("high first loss",), explains=("bad result", "clipped gradients"))
def starts_far_from_uninformed(probe: ProbeEvidence) -> Finding | None:
    """The first loss is far above that of knowing nothing

    Measures: the mean loss on real batches before the first step, over ln K.

    Threshold: 1.5 a note, 3 a warning. A heuristic, since losses may be weighted.

    Why: a fresh head knows nothing and should say so: ln 2 = 0.69 for two classes. Far above, it is certain of wrong
    answers: weights too large, inputs not normalised, a sum instead of a mean, labels counted from 1.

    Look-alikes: a head that was fine-tuned before starts lower, focal loss too; both pass.

    Fix: draw the head's weights with a standard deviation of 0.02; check that labels are 0 … K-1 and the loss a mean.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """
    loss = known(probe.initial_loss, "the first loss", probe.failures.get("first_look"))
    expected = uninformed(probe.n_classes)
    if not math.isfinite(loss):
        raise CannotTell("the first loss is not a number; LOS007 judges that")
    if loss <= FAR_ABOVE * expected:
        return None
    return Finding(
        observed=f"{loss:.3f} nats on {probe.n_examples} examples",
        expected=f"about ln {probe.n_classes} = {expected:.3f}",
        n=probe.n_examples,
        cause="the untrained head is certain of wrong answers, or the loss is not a mean of nats",
        fix="look at the first logits: their spread should be about 0.1; then at labels and at the loss's reduction",
        severity="warning" if loss > VERY_FAR_ABOVE * expected else "note",
    )


def squashes(probe: ProbeEvidence) -> bool:
    """Whether the loss takes values in [0, 1] for logits: bounded from 0 when right, and from above when wrong."""
    right, wrong = probe.loss_when_right, probe.loss_when_inverted
    if right is None or wrong is None or probe.loss_gradient == 0:  # No gradient at all: LOS004 judges that.
        return False
    return right > SQUASHED_FLOOR and 0 < wrong - right < SQUASHED_GAP


@rule("LOS002", "error", explains=("bad result", "stalled loss", "no gradient"))
def softmax_before_loss(probe: ProbeEvidence) -> Finding | None:
    """A softmax or sigmoid stands before the loss

    Measures: whether the model's outputs are non-negative and sum to 1 per row; and the loss on logits that are right
    or wrong by a margin of 10.

    Threshold: outputs that are a distribution; or a loss above 0.1 when right that is less than 1.5 larger when wrong.
    An exact consequence: cross-entropy on values in [0, 1] can't fall below ln(1 + (K-1)/e).

    Why: cross-entropy applies a softmax itself. After another one gradients shrink, the loss stalls at 0.31 for two
    classes, and confidence is wrong.

    Look-alikes: label smoothing keeps a loss above 0 when right, but a large one when wrong; a log-softmax before
    cross-entropy changes nothing; NLLLoss wants log-probabilities. All pass.

    Fix: return raw logits from the model and give them to `torch.nn.functional.cross_entropy`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` ("unnormalized logits").
    """
    if probe.rows_sum_to_one is None and (probe.loss_when_right is None or probe.loss_when_inverted is None):
        raise CannotTell("neither the model's outputs nor the loss on given logits were looked at")
    if not probe.rows_sum_to_one and not squashes(probe):
        return None
    floor = math.log1p((probe.n_classes - 1) / math.e)
    observed = (
        "the model's outputs are non-negative and sum to 1 in each row"
        if probe.rows_sum_to_one
        else f"loss {probe.loss_when_right:.3f} on logits right by 10, {probe.loss_when_inverted:.3f} wrong by 10"
    )
    return Finding(
        observed=observed,
        expected="raw logits into the loss: nearly 0 when right by 10, about 10 when wrong",
        n=max(1, probe.n_examples),
        cause=f"a softmax or sigmoid comes before cross-entropy, which can then not fall below {floor:.2f}",
        fix="remove it from the model's forward (or the loss), and apply softmax only to report probabilities",
    )


@rule(
    "LOS003",
    "error",
    explains=("bad result", "stalled loss", "diverging loss", "high first loss", "swapped classes"),
)
def loss_is_inverted(probe: ProbeEvidence) -> Finding | None:
    """The loss rewards wrong answers

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10.

    Threshold: right must cost less than wrong; an exact invariant.

    Why: a lost or superfluous minus sign trains the model to be wrong: accuracy falls far below chance.

    Look-alikes: none for classification; gradient ascent on purpose (adversarial examples) is not training.

    Fix: minimise the negative log-probability; `nll_loss` carries the minus already.

    Reference: PyTorch, `torch.nn.NLLLoss`.
    """
    right = known(probe.loss_when_right, "the loss on right logits", probe.failures.get("given_logits"))
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits", probe.failures.get("given_logits"))
    if not right - wrong > UNREWARDED * max(abs(right), abs(wrong)):
        return None
    return Finding(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong",
        expected="less when right",
        n=probe.n_classes,
        cause="the sign of the loss, or the order of the classes in it, is turned round",
        fix="use torch.nn.functional.cross_entropy(logits, labels) as it is",
    )


@rule("LOS004", "error", symptoms=("loss without reward",), explains=("bad result", "stalled loss", "no gradient"))
def loss_does_not_reward(probe: ProbeEvidence) -> Finding | None:
    """The loss does not reward the right class

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10; and its gradient with
    respect to equal logits.

    Threshold: the two must differ by 1% of the larger, and the gradient must not be 0; an exact invariant.

    Why: a loss that is constant, detached, rounded or made from an argmax has no gradient: nothing can be learned.

    Look-alikes: label smoothing costs more on logits right by 10 than on equal ones, by design; a hinge or squared loss
    is another shape and still rewards.

    Fix: compute the loss from the logits themselves, in the graph: no argmax, `.item()`, `.detach()`, `torch.tensor`.

    Reference: PyTorch, Autograd mechanics.
    """
    right = known(probe.loss_when_right, "the loss on right logits", probe.failures.get("given_logits"))
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits", probe.failures.get("given_logits"))
    cut = probe.loss_gradient is not None and probe.loss_gradient == 0
    if not cut and abs(wrong - right) >= UNREWARDED * max(abs(right), abs(wrong)) > 0:
        return None
    gradient = "" if probe.loss_gradient is None else f"; gradient {probe.loss_gradient:.2g}"
    return Finding(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong{gradient}",
        expected="less when right, and a gradient above 0",
        n=probe.n_classes,
        cause="no gradient goes from the loss to the logits" if cut else "the loss is the same whatever the logits say",
        fix="use torch.nn.functional.cross_entropy(logits, labels) on the logits as the model returns them",
    )


@rule("LOS005", "warning", explains=("clipped gradients", "high first loss", "summed loss"))
def loss_sums(probe: ProbeEvidence) -> Finding | None:
    """The loss is a sum, not a mean

    Measures: the loss of one example twice over that of the example alone.

    Threshold: 1.5, half-way between a mean (1) and a sum (2).

    Why: the gradient then grows with the batch: the rate means something else for each batch size, the last, smaller
    batch counts less, and clipping cuts every step.

    Look-alikes: a sum that is divided by the examples later (as Tenor's loop does over forward passes) is sound.

    Fix: `reduction="mean"`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` (reduction); Goyal et al. 2017, section 2.3.
    """
    ratio = known(probe.mean_of_loss, "how the loss is reduced", probe.failures.get("given_logits"))
    if not ratio > SUMS:
        return None
    return Finding(
        observed=f"one example twice has {ratio:.2f} times the loss of it alone",
        expected="1",
        n=2,
        cause='the loss is reduced with "sum"',
        fix='use reduction="mean", and choose the learning rate anew',
    )


LEFT_OVER = 0.25
"""Share of the examples: what an attempt cut short by time may leave."""

MIN_FALL = 0.1

FULL = 0.5
"""Share of weights that learn from which on memorising 20 examples is certain to be possible."""

RESPONDS = 0.9
"""Loss on texts over loss on blanks."""

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
    """A handful of examples can't be memorised

    Measures: errors and loss on at most 20 examples after a short attempt to memorise them, dropout off.

    Threshold: a loss that does not fall by 10% an error where at least half of the weights learn, else a warning;
    errors on more than a quarter of the examples a warning, where half of the weights learn.

    Why: a model that can't learn 20 examples by heart can't learn 20,000. It is the quickest test of the whole chain.

    Look-alikes: a frozen base or LoRA has little freedom, and is judged by the fall of the loss alone; two equal texts
    with two labels can't both be right; the attempt uses each text once.

    Fix: other findings; else follow one example from ids to gradient by hand.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("overfit one batch").
    """
    before, after = known(probe.overfit_loss, "an attempt to memorise some examples", probe.failures.get("overfitting"))
    errors, examples = known(probe.overfit_errors, "its errors"), known(probe.overfit_examples, "its examples")
    full = probe.trainable_share is None or probe.trainable_share >= FULL
    stuck = not after < (1 - MIN_FALL) * before and errors > 0
    if not stuck and not (full and errors > LEFT_OVER * examples):
        return None
    return Finding(
        observed=f"{errors} of {examples} examples still wrong; loss {before:.3f} before, {after:.3f} after",
        expected="no error, a loss near 0",
        n=examples,
        cause="between token ids, loss and optimizer something keeps the model from learning",
        fix="mend the findings above this one; else step through one example: ids, mask, logits, loss, gradients",
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

    Measures: the loss after a short attempt on real texts over that after the same attempt on blanked ones.

    Threshold: 0.9. With at most 20 examples and few steps: a warning.

    Why: on blanks only class frequencies can be learned. Texts that bring no more are not reaching the head.

    Look-alikes: an attempt cut short by time, or a frozen base with a slow head, may not have come far enough; if the
    loss on blanks and texts is the same to the last digit, they are not the reason.

    Fix: compare hidden states of two texts layer by layer.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """
    real, blank = known(probe.overfit_responds, "the same attempt on blanked texts", probe.failures.get("overfitting"))
    if real < RESPONDS * blank:
        return None
    return Finding(
        observed=f"loss {real:.3f} after the attempt on texts, {blank:.3f} on blanks",
        expected=f"below {RESPONDS:.0%} of the loss on blanks",
        n=probe.overfit_examples or 0,
        cause="what the texts say does not reach the head, or too little of it to learn from",
        fix="compare the hidden states of two texts; check ids, mask and pooling",
    )


@rule("LOS011", "warning", symptoms=("random labels learned",))
def random_labels_learned_as_fast(probe: ProbeEvidence) -> Finding | None:
    """Random labels are learned as fast as the real ones

    Measures: the mean loss on examples not seen before, in one pass on the real labels and in one on shuffled labels.

    Threshold: the real one must be 2% lower, over at least 100 examples. Chance can do it: a warning.

    Why: labels that have lost their texts (a shuffle of one column, a wrong join) look healthy in every count.

    Look-alikes: a very hard task, a frozen base or a slow start may need more than one short pass.

    Fix: read 20 texts with their labels; look where texts and labels are sorted, joined or shuffled apart.

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
        cause="the labels say nothing about the texts, or the model sees too little of them",
        fix="read 20 texts beside their labels; check joins, sorts and shuffles that part the two",
    )
