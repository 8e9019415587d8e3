"""What short experiments show of learning: examples memorised, from the text, and faster with the right labels."""

from tenor.checks.evidence import ProbeEvidence
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.rule import rule
from tenor.checks.rules.known import known
from tenor.checks.rules.los_causes import STALLED

LEFT_OVER = 0.25
"""Share of the examples: what an attempt cut short by time may leave."""

MIN_FALL = 0.1

FULL = 0.5
"""Share of weights that learn from which on memorising 20 examples is certain to be possible."""

RESPONDS = 0.9
"""Loss on texts over loss on blanks."""

MIN_DEEP = 100

DEEP_MARGIN = 0.98


@rule("LOS009", "warning", explained_by=STALLED)
def cannot_overfit(probe: ProbeEvidence) -> Observation | None:
    """A handful of examples can't be memorised

    Measures: errors and loss on at most 20 examples after a short attempt to memorise them, dropout off.

    Threshold: a loss that does not fall by 10% an error where at least half of the weights learn, else a warning;
    errors on more than a quarter of the examples a warning, where half of the weights learn.

    Why: a model that can't learn 20 examples by heart can't learn 20,000. It is the quickest test of the whole chain.

    Look-alikes: a frozen base or LoRA has little freedom, and is judged by the fall of the loss alone; two equal texts
    with two labels can't both be right; the attempt uses each text once.

    Mend: other findings; else follow one example from ids to gradient by hand.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("overfit one batch").
    """
    before, after = known(probe.overfit_loss, "an attempt to memorise some examples", probe.failures.get("overfitting"))
    errors, examples = known(probe.overfit_errors, "its errors"), known(probe.overfit_examples, "its examples")
    full = probe.learning_share is None or probe.learning_share >= FULL
    stuck = not after < (1 - MIN_FALL) * before and errors > 0
    if not stuck and not (full and errors > LEFT_OVER * examples):
        return None
    return Observation(
        observed=f"{errors} of {examples} examples still wrong; loss {before:.3f} before, {after:.3f} after",
        expected="no error, a loss near 0",
        n=examples,
        cause="between token ids, loss and optimizer something keeps the model from learning",
        fix="mend the findings above this one; else step through one example: ids, mask, logits, loss, gradients",
        severity="error" if stuck and full else "warning",
    )


@rule("LOS010", "warning", explained_by=("MOD005", "LOS009", *STALLED))
def learning_ignores_text(probe: ProbeEvidence) -> Observation | None:
    """Learning does not respond to the text

    Measures: the loss after a short attempt on real texts over that after the same attempt on blanked ones.

    Threshold: 0.9. With at most 20 examples and few steps: a warning.

    Why: on blanks only class frequencies can be learned. Texts that bring no more are not reaching the head.

    Look-alikes: an attempt cut short by time, or a frozen base with a slow head, may not have come far enough; if the
    loss on blanks and texts is the same to the last digit, they are not the reason.

    Mend: compare hidden states of two texts layer by layer.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """
    real, blank = known(probe.overfit_responds, "the same attempt on blanked texts", probe.failures.get("overfitting"))
    if real < RESPONDS * blank:
        return None
    return Observation(
        observed=f"loss {real:.3f} after the attempt on texts, {blank:.3f} on blanks",
        expected=f"below {RESPONDS:.0%} of the loss on blanks",
        n=probe.overfit_examples or 0,
        cause="what the texts say does not reach the head, or too little of it to learn from",
        fix="compare the hidden states of two texts; check ids, mask and pooling",
    )


@rule("LOS011", "warning", explained_by=("DAT008", "LOS009", "LOS010"))
def random_labels_learned_as_fast(probe: ProbeEvidence) -> Observation | None:
    """Random labels are learned as fast as the real ones

    Measures: the mean loss on examples not seen before, in one pass on the real labels and in one on shuffled labels.

    Threshold: the real one must be 2% lower, over at least 100 examples. Chance can do it: a warning.

    Why: labels that have lost their texts (a shuffle of one column, a wrong join) look healthy in every count.

    Look-alikes: a very hard task, a frozen base or a slow start may need more than one short pass.

    Mend: read 20 texts with their labels; look where texts and labels are sorted, joined or shuffled apart.

    Reference: Zhang et al. 2017, Understanding deep learning requires rethinking generalization.
    """
    random = known(probe.random_labels_loss, "learning on shuffled labels", probe.failures.get("random_labels"))
    real = probe.real_labels_loss
    if real is None or probe.deep_examples < MIN_DEEP:
        raise CannotTell(f"{probe.deep_examples} examples; {MIN_DEEP} are needed")
    if real <= DEEP_MARGIN * random:
        return None
    return Observation(
        observed=f"loss {real:.3f} on the real labels, {random:.3f} on shuffled ones",
        expected="a clearly lower loss on the real labels",
        n=probe.deep_examples,
        cause="the labels say nothing about the texts, or the model sees too little of them",
        fix="read 20 texts beside their labels; check joins, sorts and shuffles that part the two",
    )
