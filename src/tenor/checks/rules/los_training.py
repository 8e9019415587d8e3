"""The loss during training: flat, NaN, diverging, of probabilities, a sum; and predictions that collapse."""

import math
from dataclasses import dataclass

import numpy as np

from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import ALPHA, known, uninformed
from tenor.measures.tail_probabilities import binomial_at_most, kendall_falls
from tenor.runs.findings import Finding

FLAT = 0.03
"""Share of ln K: with two classes, any working training gains more within 100 steps, even with a frozen base."""

FLAT_SPANS = ((30, 100), (10, 300))
"""Records and steps that are enough to call a loss flat: fewer records if each is the mean of more steps."""

FLAT_EPOCHS, FLAT_EPOCH_RECORDS = 3, 6
"""Epochs and records that are enough: an encoder learns most within its first epoch (Devlin et al. 2019: 3 epochs)."""

SMALLEST_TREND = 0.002
"""Share of ln K: a smaller fall from the first third to the last is no learning, however significant. A rate that is a
million times too small gives a trend without noise; a frozen base gains more within its first steps."""

NEAR = 0.05
"""Share of the reference within which a loss counts as that of a model that knows nothing."""

LOWEST_UNINFORMED = (1 - NEAR) * math.log(2)
"""The loss of a model that knows nothing, with the fewest classes; a lower flat loss may be one that was learned."""

RISE = 0.5
"""Share of ln K: halfway back to the loss of an uninformed model."""

DIVERGED_EPOCHS = 3
"""Of the last epochs."""

MOST_CLASSES = 20
"""Above it, ln K and ln (K + 1) differ by less than 2%: a loss does not determine K."""

MIN_WINDOW = 10

ONE_CLASS, BALANCED = 0.98, 0.8
"""Largest share of the predictions, and of the labels."""

MIN_PREDICTIONS = 300

PATIENCE = 0.9
"""Share of the planned steps before an encoder trained from scratch is judged: small ones started after 1/3 to 1/2."""


def label_entropy(steps: StepEvidence) -> float:
    """The loss of a model that knows only the class frequencies, in nats: at most ln K."""
    n_classes = known(steps.n_classes, "the number of classes")
    if steps.label_counts is None or np.sum(steps.label_counts) == 0:
        return uninformed(n_classes)
    shares = np.asarray(steps.label_counts, dtype=np.float64).reshape(len(steps.label_counts), -1).sum(axis=0)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def after_warmup(steps: StepEvidence) -> np.ndarray:
    """Positions of the records from the peak rate on; without recorded rates, those after a tenth of the steps."""
    numbers = np.asarray(steps.steps)
    if steps.learning_rate is not None and len(steps.learning_rate) == len(numbers) > 0:
        rates = np.asarray(steps.learning_rate, dtype=np.float64)
        return np.arange(int(np.argmax(rates >= 0.999 * rates.max())), len(numbers))
    return np.flatnonzero(numbers > 0.1 * (steps.total_steps or numbers.max(initial=0)))


def require_patience(steps: StepEvidence) -> None:
    """Raise CannotTell while an encoder trained from scratch may still start to learn."""
    if (
        steps.body_newly_initialized
        and steps.total_steps
        and np.max(steps.steps, initial=0) < PATIENCE * steps.total_steps
    ):
        raise CannotTell(f"the encoder is newly initialized: it is judged at {PATIENCE:.0%} of the planned steps")


def finite_losses(steps: StepEvidence) -> np.ndarray:
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    if len(losses) != len(steps.steps) or not np.isfinite(losses).all():
        raise CannotTell("some of the recorded losses are NaN or infinite")
    return losses


@dataclass(frozen=True)
class _Plateau:
    """The course of a loss."""

    first: float
    """Mean of the first third after warm-up."""
    last: float
    """Mean of the last third."""
    start: float
    """Mean of the first records, warm-up included."""
    error: float
    """Standard error of the difference of the two thirds."""
    p: float
    """Of Kendall's test for a falling trend."""
    records: int
    last_step: int


@rule("LOS006", "warning", symptoms=("stalled loss", "flat loss"), explains=("bad result",), says_why=False)
def loss_is_flat(steps: StepEvidence) -> Finding | None:
    """The loss does not fall

    Measures: over the records after warm-up, the fall of the mean loss from the first third to the last, its standard
    error, and Kendall's test for a falling trend.

    Threshold: a fall below 3% without a trend (p > 0.05, or a fall below 0.2%), and one of two levels: within 5% of the
    loss of a model that knows only the class frequencies (ln K if balanced), which is an error after half of the
    planned steps; or, for any or an unknown number of classes, the same loss from the first record on (within 3%),
    above 0.66 (ln 2 less 5%), which is a warning. At least 30 records over 100 steps, 10 over 300, or 6 over 3 epochs,
    and a standard error below 3%.

    Why: this is the most common symptom of a fault: nothing is learned from the text.

    Look-alikes: the warm-up; a frozen base, whose loss falls slowly but with a trend; a loss that is flat near 0, where
    training is complete; a loss that fell before and is flat since. An encoder trained from scratch is slow to start,
    and is judged at 90% of the planned steps.

    Fix: follow the causes among the other findings; otherwise overfit 20 examples first.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks; Kendall 1938.
    """
    require_patience(steps)
    course = _plateau(steps)
    reference = None if steps.n_classes is None else label_entropy(steps)
    is_at_reference = reference is not None and abs(course.last - reference) <= NEAR * reference
    scale = max(course.last, LOWEST_UNINFORMED) if reference is None else reference
    fall = course.first - course.last
    has_trend = course.p <= 0.05 and fall >= SMALLEST_TREND * scale
    if fall >= FLAT * scale and has_trend:
        return None
    if course.error > FLAT * scale:
        raise CannotTell(f"the loss is too noisy for a trend (standard error {course.error:.3f})")
    if fall >= FLAT * scale or has_trend:
        return None
    # Away from ln K the loss must have been the same from the start: after a fall, a plateau is what training ends in.
    change = max(abs(course.first - course.last), abs(course.start - course.last))
    is_the_same = change < FLAT * course.last
    if not is_at_reference and not (is_the_same and course.last >= LOWEST_UNINFORMED):
        return None
    late = steps.total_steps is not None and course.last_step > steps.total_steps / 2
    return Finding(
        observed=f"mean loss {course.first:.4f} in the first third, {course.last:.4f} in the last "
        f"({_trend(course, fall)}){_known_level(course.last, steps.n_classes, is_at_reference)}",
        expected=f"below {reference:.4f}, the loss of a model that knows only the class frequencies"
        if reference is not None and is_at_reference
        else "a loss that falls",
        n=course.records,
        cause="nothing is learned from the text; other findings may explain it",
        fix="fix the other findings first; otherwise overfit 20 examples, and try a third and three times the rate",
        severity="error" if late and is_at_reference else "warning",
    )


def _plateau(steps: StepEvidence) -> _Plateau:
    """The course of the loss after warm-up; CannotTell if there are too few records."""
    everything, at = finite_losses(steps), after_warmup(steps)
    if len(everything) <= 2 * (steps.epochs or 0):
        at = np.arange(len(everything))  # Means over epochs: the warm-up is within the first.
    losses, numbers = everything[at], np.asarray(steps.steps)[at]
    span = int(numbers[-1] - numbers[0]) if len(numbers) else 0
    by_epochs = (steps.epochs or 0) >= FLAT_EPOCHS and len(losses) >= FLAT_EPOCH_RECORDS
    if not by_epochs and not any(len(losses) >= count and span >= steps_ for count, steps_ in FLAT_SPANS):
        needed = " or ".join(f"{count} over {steps_} steps" for count, steps_ in FLAT_SPANS)
        raise CannotTell(f"{len(losses)} records over {span:,} steps after warm-up; {needed} are needed")
    first, _, last = np.array_split(losses, 3)
    error = math.hypot(first.std(ddof=1) / math.sqrt(len(first)), last.std(ddof=1) / math.sqrt(len(last)))
    p = kendall_falls(losses)
    start = everything[: max(1, len(everything) // 10)]
    return _Plateau(
        first=float(first.mean()),
        last=float(last.mean()),
        start=float(start.mean()),
        error=error,
        p=1.0 if math.isnan(p) else p,  # All losses are equal.
        records=len(losses),
        last_step=int(numbers[-1]),
    )


def _trend(course: _Plateau, fall: float) -> str:
    return f"trend p = {course.p:.2f}" if course.p > 0.05 else f"a fall of {fall:.1g}"


def _known_level(loss: float, n_classes: int | None, is_at_reference: bool) -> str:
    """The number of classes whose uninformed loss this is, as text, unless it is the one expected."""
    classes = round(math.exp(min(loss, 10.0)))
    if is_at_reference or not 2 <= classes <= MOST_CLASSES or abs(loss - math.log(classes)) > 0.01 * loss:
        return ""
    contrast = f", although there are {n_classes} classes" if n_classes not in (None, classes) else ""
    return f", which is ln {classes}: the loss of a model of {classes} classes that knows nothing{contrast}"


def significantly_above(tail: np.ndarray, other: np.ndarray) -> bool:
    """The test of Mann and Whitney (1947), one-sided."""
    from scipy.stats import mannwhitneyu

    return bool(mannwhitneyu(tail, other, alternative="greater").pvalue < ALPHA)


@rule(
    "LOS008",
    "error",
    symptoms=("diverging loss",),
    explains=("bad result", "collapsing predictions", "flat loss", "skipped steps"),
)
def loss_diverges(steps: StepEvidence) -> Finding | None:
    """The loss diverges

    Measures: the median loss of the last records (a tenth, at least 10), compared with the first and the best ones.

    Threshold: higher by half of ln K, and significantly (Mann-Whitney, p < 1e-4). Above the start is an error; above
    only the best a warning. With fewer than 20 means over epochs: each of the last three twice the first and higher by
    half of ln K.

    Why: the learning rate is too high for the curvature, or one batch destroyed the weights. The rest of the run is
    useless.

    Look-alikes: single bad batches and the noise of small batches do not change the median.

    Fix: use a third of the rate, a longer warm-up and clipping at 1; restart from the last good checkpoint.

    Reference: Mosbach et al. 2021, On the Stability of Fine-tuning BERT.
    """
    losses = finite_losses(steps)
    if steps.unit == "epoch" and len(losses) < 2 * MIN_WINDOW:
        return _diverging_epochs(steps, losses)
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
    return Finding(
        observed=f"median loss {np.median(start):.3f} at the start, {np.median(best):.3f} at best, "
        f"{np.median(tail):.3f} at the end",
        expected="a loss that falls, or stays low",
        n=len(losses),
        cause="the steps are too long for the curvature of the loss, or one batch destroyed the weights",
        fix="divide the learning rate by 3, warm up over 6 to 10% of the steps, clip gradients at 1",
        severity="error" if above["start"] else "warning",
    )


def _diverging_epochs(steps: StepEvidence, losses: np.ndarray) -> Finding | None:
    """The same for a few means over epochs, which vary little."""
    if len(losses) <= DIVERGED_EPOCHS:
        raise CannotTell(f"{len(losses)} epochs; {DIVERGED_EPOCHS + 1} are needed")
    rise = RISE * (uninformed(steps.n_classes) if steps.n_classes else abs(float(losses[0])))
    if not (losses[-DIVERGED_EPOCHS:] > np.maximum(losses[0] + rise, 2 * losses[0])).all():
        return None
    return Finding(
        observed=f"mean loss {losses[0]:.3f} in the first epoch, {losses.min():.3f} at best, {losses[-1]:.3f} in the "
        "last",
        expected="a loss that falls, or stays low",
        n=len(losses),
        cause="the steps are too long for the curvature of the loss, or one batch destroyed the weights",
        fix="divide the learning rate by 3, warm up over 6 to 10% of the steps, clip gradients at 1",
    )


@rule("LOS013", "error")
def trained_through_softmax(steps: StepEvidence) -> Finding | None:
    """The loss is computed on probabilities instead of logits

    Measures: the gradient that arrives at the logits, compared with that of a cross-entropy applied to their softmax.

    Threshold: equal within 2% in three forward passes, and different from that of a cross-entropy of the logits; an
    exact invariant. A pass counts if six rows or more are predicted with less than 95%: near 1 both gradients are
    equal.

    Why: a second softmax reduces the gradient to half or less, and the loss cannot fall below 0.31 for two classes.

    Look-alikes: label smoothing, focal and weighted losses have other gradients and pass.

    Fix: pass raw logits to `torch.nn.functional.cross_entropy`; in `Trainer.compute_loss`, `outputs.logits`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` ("unnormalized logits").
    """
    if known(steps.kind_of_loss, "the gradient of the loss") != "probabilities":
        return None
    return Finding(
        observed="the gradient at the logits is that of a cross-entropy of probabilities",
        expected="that of a cross-entropy of the logits",
        n=len(steps.steps),
        cause="a softmax is applied between the logits and the loss",
        fix="remove it, and apply softmax only to report probabilities",
    )


@rule("LOS014", "warning", symptoms=("summed loss",), explains=("clipped gradients",))
def trained_on_a_sum(steps: StepEvidence) -> Finding | None:
    """The loss is summed over the batch

    Measures: the gradient that arrives at the logits, compared with that of a cross-entropy summed over the rows.

    Threshold: equal within 2%, in three forward passes of two rows or more.

    Why: the gradient grows with the batch. Suitable values of the learning rate and the clipping limit then depend on
    the batch size, and a smaller last batch weighs less.

    Look-alikes: a deliberate sum with a matching learning rate; therefore a warning.

    Fix: `reduction="mean"`.

    Reference: Goyal et al. 2017, Accurate, Large Minibatch SGD (section 2.1).
    """
    if known(steps.kind_of_loss, "the gradient of the loss") != "sum":
        return None
    return Finding(
        observed="the gradient at the logits is that of a sum over the rows",
        expected="that of a mean",
        n=len(steps.steps),
        cause='the loss is computed with reduction="sum", or multiplied by the batch size',
        fix='use reduction="mean", or divide the rate by the batch size',
    )


@rule("LOS018", "error", explains=("bad result", "collapsing predictions", "swapped classes", "stalled loss"))
def rewards_a_wrong_class(steps: StepEvidence) -> Finding | None:
    """The loss rewards one class for the rows of several

    Measures: the targets of a cross-entropy, determined from the logits and their gradient: rows of one class have the
    gradient `s p - t` with the same s and t.

    Threshold: two groups of rows with different targets whose likeliest class is the same, and no other rows, in three
    forward passes or more; an exact invariant.

    Why: the model is trained to predict that class for rows of another. Class weights with label smoothing do so where
    the ratio of two weights is above K/smoothing - K + 1: 19 for two classes and 0.1.

    Look-alikes: class weights alone, label smoothing alone and focal losses reward the right class; targets that differ
    from row to row (mixup, a teacher's probabilities) are no groups. All pass.

    Fix: use either class weights or label smoothing.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` (weight, label_smoothing).
    """
    rewarded = known(steps.rewarded_for_several, "the targets of the loss")
    if rewarded < 0:
        return None
    return Finding(
        observed=f"class {rewarded} is the likeliest target of rows of two classes or more",
        expected="each class as the likeliest target of its own rows",
        n=len(steps.steps),
        cause="the smoothed share of a class, times its weight, outweighs the right class",
        fix="use class weights without label_smoothing, or weights whose ratio is far below K / label_smoothing",
    )


@rule(
    "LOS012",
    "warning",
    symptoms=("stalled loss", "collapsing predictions"),
    explains=("one class predicted",),
    says_why=False,
)
def predictions_collapse(steps: StepEvidence) -> Finding | None:
    """Training predictions collapse to one class

    Measures: over the last third of the records (at least 10), the largest class's share of the predictions and of the
    labels; the binomial probability of so few other predictions if they were as frequent as the labels.

    Threshold: 98% of at least 300 predictions, with labels below 80% and p < 1e-4. After a quarter of the planned
    steps; an error after half.

    Why: the model predicts the same class for every text, so its accuracy is the majority's and the compute is wasted.

    Look-alikes: the first steps of a new head, and labels of which most are one class, are excluded. An encoder trained
    from scratch is slow to start, and is judged at 90% of the planned steps.

    Fix: follow the causes among the other findings; otherwise use a third of the rate and a longer warm-up.

    Reference: Mosbach et al. 2021 (degenerate runs).
    """
    require_patience(steps)
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
    if share < ONE_CLASS or labels.max() / max(1, labels.sum()) > BALANCED:
        return None
    if binomial_at_most(n - int(predicted[winner]), n, 1 - among_labels) >= ALPHA:
        return None
    return Finding(
        observed=f"class {winner} in {share:.1%} of {n:,} predictions, and in {among_labels:.0%} of the labels",
        expected="predictions of every class, about as frequent as its labels",
        n=n,
        cause="the model learned at most the class frequencies; other findings may explain it",
        fix="fix the other findings first; otherwise divide the learning rate by 3 and use a longer warm-up",
        severity="error" if done > 0.5 else "warning",
    )
