"""The loss: what it rewards, where it starts, how it falls, and whether the text brings it down."""

import math

import numpy as np

from tenor.checks.evidence import ProbeEvidence, StepEvidence
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.rule import rule
from tenor.checks.rules.known import known
from tenor.checks.rules.significance import ALPHA

FAR_ABOVE, VERY_FAR_ABOVE = 1.5, 3.0
"""Times ln K: a fresh head's logits are about 0.1 apart; 1.5 ln K takes logits several units apart."""

SQUASHED_FLOOR, SQUASHED_GAP = 0.1, 1.5
"""Values in [0, 1] taken for logits leave a loss of at least ln(1+1/e) = 0.31 and differ by at most about 1."""

UNREWARDED = 0.01
"""Of the larger of two losses: below it they count as the same."""

SUMS = 1.5
"""Half-way between a mean (1) and a sum (2)."""

FLAT = 0.03
"""Of ln K: two classes' loss falls by more within 100 steps of any training that works, a frozen base included."""

MIN_FLAT_RECORDS, MIN_FLAT_STEPS = 30, 100

RISE = 0.5
"""Of ln K: back half the way to knowing nothing."""

MIN_WINDOW = 10

LEFT_OVER = 0.25
"""Share of the examples: what an attempt cut short by time may leave."""

MIN_FALL = 0.1

FULL = 0.5
"""Share of weights that learn from which on memorising 20 examples is certain to be possible."""

RESPONDS = 0.9
"""Loss on texts over loss on blanks."""

MIN_DEEP = 100
DEEP_MARGIN = 0.98

ONE_CLASS, BALANCED = 0.98, 0.8
"""Largest share of the predictions, and of the labels."""

MIN_PREDICTIONS = 300

STALLED = (
    "DAT008",
    "MOD003",
    "MOD005",
    "FRZ003",
    "FRZ005",
    "OPT001",
    "OPT002",
    "OPT004",
    "OPT005",
    "OPT006",
    "OPT007",
    "OPT008",
    "OPT010",
    "OPT012",
    "OPT014",
    "OPT020",
    "OPT021",
    "PRC002",
    "PRC003",
    "PRC004",
    "LOS002",
    "LOS003",
    "LOS004",
)
"""What keeps a loss from falling."""


def uninformed(n_classes: int) -> float:
    """Cross-entropy of equal probabilities: ln K nats."""
    return math.log(max(2, n_classes))


@rule("LOS001", "warning", explained_by=("LOS005", "LOS003", "MOD001"))
def starts_far_from_uninformed(probe: ProbeEvidence) -> Observation | None:
    """The first loss is far above that of knowing nothing

    Measures: the mean loss on real batches before the first step, over ln K.

    Threshold: 1.5 a note, 3 a warning. A heuristic, since losses may be weighted.

    Why: a fresh head knows nothing and should say so: ln 2 = 0.69 for two classes. Far above, it is certain of wrong
    answers: weights too large, inputs not normalised, a sum instead of a mean, labels counted from 1.

    Look-alikes: a head that was fine-tuned before starts lower, focal loss too; both pass.

    Mend: draw the head's weights with a standard deviation of 0.02; check that labels are 0 … K-1 and the loss a mean.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """
    loss, expected = known(probe.initial_loss, "the first loss"), uninformed(probe.n_classes)
    if not math.isfinite(loss):
        raise CannotTell("the first loss is not a number; LOS007 judges that")
    if loss <= FAR_ABOVE * expected:
        return None
    return Observation(
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
    if right is None or wrong is None:
        return False
    return right > SQUASHED_FLOOR and 0 < wrong - right < SQUASHED_GAP


@rule("LOS002", "error")
def softmax_before_loss(probe: ProbeEvidence) -> Observation | None:
    """A softmax or sigmoid stands before the loss

    Measures: whether the model's outputs are non-negative and sum to 1 per row; and the loss on logits that are right
    or wrong by a margin of 10.

    Threshold: outputs that are a distribution; or a loss above 0.1 when right that is less than 1.5 larger when wrong.
    An exact consequence: cross-entropy on values in [0, 1] can't fall below ln(1 + (K-1)/e).

    Why: cross-entropy applies a softmax itself. After another one gradients shrink, the loss stalls at 0.31 for two
    classes, and confidence is wrong.

    Look-alikes: label smoothing keeps a loss above 0 when right, but a large one when wrong; a log-softmax before
    cross-entropy changes nothing; NLLLoss wants log-probabilities. All pass.

    Mend: return raw logits from the model and give them to `torch.nn.functional.cross_entropy`.

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
    return Observation(
        observed=observed,
        expected="raw logits into the loss: nearly 0 when right by 10, about 10 when wrong",
        n=max(1, probe.n_examples),
        cause=f"a softmax or sigmoid comes before cross-entropy, which can then not fall below {floor:.2f}",
        fix="remove it from the model's forward (or the loss), and apply softmax only to report probabilities",
    )


@rule("LOS003", "error")
def loss_is_inverted(probe: ProbeEvidence) -> Observation | None:
    """The loss rewards wrong answers

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10.

    Threshold: right must cost less than wrong; an exact invariant.

    Why: a lost or superfluous minus sign trains the model to be wrong: accuracy falls far below chance.

    Look-alikes: none for classification; gradient ascent on purpose (adversarial examples) is not training.

    Mend: minimise the negative log-probability; `nll_loss` carries the minus already.

    Reference: PyTorch, `torch.nn.NLLLoss`.
    """
    right = known(probe.loss_when_right, "the loss on right logits")
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits")
    if not right - wrong > UNREWARDED * max(abs(right), abs(wrong)):
        return None
    return Observation(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong",
        expected="less when right",
        n=probe.n_classes,
        cause="the sign of the loss, or the order of the classes in it, is turned round",
        fix="use torch.nn.functional.cross_entropy(logits, labels) as it is",
    )


@rule("LOS004", "error", explained_by=("MOD001", "MOD008"))
def loss_does_not_reward(probe: ProbeEvidence) -> Observation | None:
    """The loss does not reward the right class

    Measures: the loss on logits that are right, and on logits that are wrong, by a margin of 10; and its gradient with
    respect to equal logits.

    Threshold: the two must differ by 1% of the larger, and the gradient must not be 0; an exact invariant.

    Why: a loss that is constant, detached, rounded or made from an argmax has no gradient: nothing can be learned.

    Look-alikes: label smoothing costs more on logits right by 10 than on equal ones, by design; a hinge or squared loss
    is another shape and still rewards.

    Mend: compute the loss from the logits themselves, in the graph: no argmax, `.item()`, `.detach()`, `torch.tensor`.

    Reference: PyTorch, Autograd mechanics.
    """
    right = known(probe.loss_when_right, "the loss on right logits")
    wrong = known(probe.loss_when_inverted, "the loss on wrong logits")
    cut = probe.loss_gradient is not None and probe.loss_gradient == 0
    if not cut and abs(wrong - right) >= UNREWARDED * max(abs(right), abs(wrong)) > 0:
        return None
    gradient = "" if probe.loss_gradient is None else f"; gradient {probe.loss_gradient:.2g}"
    return Observation(
        observed=f"loss {right:.3f} when right, {wrong:.3f} when wrong{gradient}",
        expected="less when right, and a gradient above 0",
        n=probe.n_classes,
        cause="no gradient goes from the loss to the logits" if cut else "the loss is the same whatever the logits say",
        fix="use torch.nn.functional.cross_entropy(logits, labels) on the logits as the model returns them",
    )


@rule("LOS005", "warning")
def loss_sums(probe: ProbeEvidence) -> Observation | None:
    """The loss is a sum, not a mean

    Measures: the loss of one example twice over that of the example alone.

    Threshold: 1.5, half-way between a mean (1) and a sum (2).

    Why: the gradient then grows with the batch: the rate means something else for each batch size, the last, smaller
    batch counts less, and clipping cuts every step.

    Look-alikes: a sum that is divided by the examples later (as Tenor's loop does over forward passes) is sound.

    Mend: `reduction="mean"`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` (reduction); Goyal et al. 2017, section 2.3.
    """
    ratio = known(probe.mean_of_loss, "how the loss is reduced")
    if not ratio > SUMS:
        return None
    return Observation(
        observed=f"one example twice has {ratio:.2f} times the loss of it alone",
        expected="1",
        n=2,
        cause='the loss is reduced with "sum"',
        fix='use reduction="mean", and choose the learning rate anew',
    )


def label_entropy(steps: StepEvidence) -> float:
    """The loss of knowing only how often each class occurs, nats: at most ln K."""
    n_classes = known(steps.n_classes, "the number of classes")
    if steps.label_counts is None or np.sum(steps.label_counts) == 0:
        return uninformed(n_classes)
    shares = np.asarray(steps.label_counts, dtype=np.float64).reshape(len(steps.label_counts), -1).sum(axis=0)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def after_warmup(steps: StepEvidence) -> np.ndarray:
    """Positions of the records from the peak rate on; without recorded rates, after a tenth of the steps."""
    numbers = np.asarray(steps.steps)
    if steps.learning_rate is not None and len(steps.learning_rate) == len(numbers) > 0:
        rates = np.asarray(steps.learning_rate, dtype=np.float64)
        return np.arange(int(np.argmax(rates >= 0.999 * rates.max())), len(numbers))
    return np.flatnonzero(numbers > 0.1 * (steps.total_steps or numbers.max(initial=0)))


def finite_losses(steps: StepEvidence) -> np.ndarray:
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    if len(losses) != len(steps.steps) or not np.isfinite(losses).all():
        raise CannotTell("the recorded losses are not all numbers")
    return losses


@rule("LOS006", "warning", explained_by=(*STALLED, "LOS008"))
def loss_is_flat(steps: StepEvidence) -> Observation | None:
    """The loss stays where it started

    Measures: over the records after warm-up, the fall of the mean loss from the first third to the last, its standard
    error, and Kendall's test for a falling trend.

    Threshold: a fall below 3% of the loss of knowing only the class frequencies (ln K if balanced), a mean within 5% of
    it, and no trend (p > 0.05). At least 30 records, 100 steps, and a standard error below 3%. An error past half the
    planned steps.

    Why: it is the symptom by which most faults show: nothing is learned from the text.

    Look-alikes: the warm-up; a frozen base, whose loss falls slowly but in a trend; a loss flat near 0, which is
    learned.

    Mend: the causes found besides; else overfit 20 examples first.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks; Kendall 1938.
    """
    from scipy.stats import kendalltau

    reference, at = label_entropy(steps), after_warmup(steps)
    losses, numbers = finite_losses(steps)[at], np.asarray(steps.steps)[at]
    if len(losses) < MIN_FLAT_RECORDS or numbers[-1] - numbers[0] < MIN_FLAT_STEPS:
        raise CannotTell(
            f"{len(losses)} records after warm-up; {MIN_FLAT_RECORDS} over {MIN_FLAT_STEPS} steps are needed"
        )
    first, last = np.array_split(losses, 3)[0], np.array_split(losses, 3)[2]
    fall = float(first.mean() - last.mean())
    error = math.hypot(first.std(ddof=1) / math.sqrt(len(first)), last.std(ddof=1) / math.sqrt(len(last)))
    if error > FLAT * reference:
        raise CannotTell(f"the loss is too noisy for a trend (standard error {error:.3f})")
    p = float(kendalltau(np.arange(len(losses)), losses, alternative="less").pvalue)
    if fall >= FLAT * reference or p <= 0.05 or abs(last.mean() - reference) > 0.05 * reference:
        return None
    late = steps.total_steps is not None and numbers[-1] > steps.total_steps / 2
    return Observation(
        observed=f"{first.mean():.4f} at first, {last.mean():.4f} at last (trend p = {p:.2f})",
        expected=f"a fall below {reference:.4f}, the loss of knowing only the class frequencies",
        n=len(losses),
        cause="nothing is learned from the text; other findings may say why",
        fix="mend the findings above this one; else try to overfit 20 examples, and lower or raise the rate threefold",
        severity="error" if late else "warning",
    )


@rule("LOS007", "error", explained_by=("PRC002", "OPT007", "OPT018"))
def not_a_number(steps: StepEvidence) -> Observation | None:
    """A loss or a gradient is not a number

    Measures: NaN and infinity among the recorded losses, and among gradient norms of steps that were taken.

    Threshold: none; an exact invariant.

    Why: one such step makes all weights NaN; every later prediction is class 0, argmax of NaN.

    Look-alikes: with loss scaling an infinite gradient norm in a skipped step is how the scale is found, and passes.

    Mend: a lower rate, fp32, and a look for log(0), division by a mask's sum of 0, and empty texts.

    Reference: PyTorch, `torch.autograd.set_detect_anomaly`.
    """
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    bad = ~np.isfinite(losses)
    if steps.grad_norm is not None and len(steps.grad_norm) == len(losses):
        taken = np.ones(len(losses), dtype=bool)
        if steps.skipped_steps is not None and len(steps.skipped_steps) == len(losses):
            taken = np.asarray(steps.skipped_steps) == 0
        bad |= ~np.isfinite(np.asarray(steps.grad_norm, dtype=np.float64)) & taken
    if not bad.any():
        return None
    first = int(np.argmax(bad))
    gradient = (
        "" if steps.grad_norm is None or len(steps.grad_norm) <= first else f", gradient {steps.grad_norm[first]}"
    )
    return Observation(
        observed=f"first at step {int(steps.steps[first]):,}: loss {losses[first]}{gradient}; {int(bad.sum())} records",
        expected="finite numbers",
        n=len(losses),
        cause="a number overflowed, or 0 was divided by or its logarithm taken",
        fix="lower the learning rate, use fp32, and run once under torch.autograd.set_detect_anomaly(True)",
    )


def significantly_above(tail: np.ndarray, other: np.ndarray) -> bool:
    """The test of Mann and Whitney (1947), one-sided."""
    from scipy.stats import mannwhitneyu

    return bool(mannwhitneyu(tail, other, alternative="greater").pvalue < ALPHA)


@rule("LOS008", "error", explained_by=("DAT004", "LOS003", "OPT007", "OPT012", "OPT018", "OPT019"))
def loss_diverges(steps: StepEvidence) -> Observation | None:
    """The loss diverges

    Measures: the median loss of the last records (a tenth, at least 10) beside the first ones and the best ones.

    Threshold: higher by half of ln K, and significantly (Mann-Whitney, p < 1e-4). Above the start an error; above the
    best alone a warning.

    Why: the rate is beyond what the curvature allows, or a batch broke the weights; the rest of the run is lost.

    Look-alikes: single bad batches; noise of small batches; both are no change of the median.

    Mend: a third of the rate, longer warm-up, clipping at 1; restart from the last good checkpoint.

    Reference: Mosbach et al. 2021, On the Stability of Fine-tuning BERT.
    """
    losses = finite_losses(steps)
    window = max(MIN_WINDOW, len(losses) // 10)
    if len(losses) < 2 * window:
        raise CannotTell(f"{len(losses)} records; {2 * MIN_WINDOW} are needed")
    start, tail = losses[:window], losses[-window:]
    earlier = [losses[i : i + window] for i in range(0, len(losses) - 2 * window + 1, window)]
    best = min(earlier, key=lambda part: float(np.median(part)))
    rise = RISE * (uninformed(steps.n_classes) if steps.n_classes else abs(float(np.median(start))))
    above = {
        name: float(np.median(tail) - np.median(part)) > rise and significantly_above(tail, part)
        for name, part in (("start", start), ("best", best))
    }
    if not any(above.values()):
        return None
    return Observation(
        observed=f"{np.median(start):.3f} at first, {np.median(best):.3f} at best, {np.median(tail):.3f} at last",
        expected="a loss that falls, or stays low",
        n=len(losses),
        cause="steps are too long for the loss's curvature, or one batch broke the weights",
        fix="divide the learning rate by 3, warm up over 6 to 10% of the steps, clip gradients at 1",
        severity="error" if above["start"] else "warning",
    )


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
    before, after = known(probe.overfit_loss, "an attempt to memorise some examples")
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
    real, blank = known(probe.overfit_responds, "the same attempt on blanked texts")
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
    random, real = known(probe.random_labels_loss, "learning on shuffled labels"), probe.real_labels_loss
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


@rule("LOS012", "warning", explained_by=("DAT001", "DAT002", "DAT003", "DAT004", "LOS007", "LOS008", *STALLED))
def predictions_collapse(steps: StepEvidence) -> Observation | None:
    """Training predictions collapse to one class

    Measures: over the last third of the records (at least 10), the largest class's share of the predictions and of the
    labels; the binomial probability of so few other predictions if they occurred as often as the labels.

    Threshold: 98% of at least 300 predictions, with labels below 80%, p < 1e-4. From a quarter of the planned steps
    on; an error past half.

    Why: the model says the same to every text: accuracy is that of the majority, and half of it was wasted money.

    Look-alikes: the first steps of a fresh head; labels of which most are one class; both are left out.

    Mend: the causes found besides; else a third of the rate and a longer warm-up.

    Reference: Mosbach et al. 2021 (degenerate runs).
    """
    from scipy.stats import binom

    predicted = np.asarray(known(steps.predicted_counts, "the training predictions"))
    labels = np.asarray(known(steps.label_counts, "the training labels"))
    if predicted.ndim != 2 or predicted.shape != labels.shape or not len(predicted):
        raise CannotTell("predictions and labels are not counted per record and class")
    records = len(predicted)
    part = max(MIN_WINDOW, records // 3)
    predicted, labels = predicted[-part:].sum(axis=0), labels[-part:].sum(axis=0)
    n, done = int(predicted.sum()), float(np.max(steps.steps)) / (steps.total_steps or math.inf)
    if records < MIN_WINDOW or n < MIN_PREDICTIONS:
        raise CannotTell(f"{n} predictions in {records} records; {MIN_PREDICTIONS} in {MIN_WINDOW} are needed")
    if steps.total_steps and done < 0.25:
        raise CannotTell("less than a quarter of the planned steps are done")
    winner = int(predicted.argmax())
    share, among_labels = predicted[winner] / n, labels[winner] / max(1, labels.sum())
    p = float(binom.cdf(n - int(predicted[winner]), n, 1 - among_labels))
    if share < ONE_CLASS or labels.max() / max(1, labels.sum()) > BALANCED or p >= ALPHA:
        return None
    return Observation(
        observed=f"class {winner} in {share:.1%} of {n:,} predictions, and in {among_labels:.0%} of the labels",
        expected="predictions of every class, about as often as the labels",
        n=n,
        cause="the model learned the class frequencies at most; other findings may say why",
        fix="mend the findings above this one; else divide the learning rate by 3 and warm up longer",
        severity="error" if done > 0.5 else "warning",
    )
