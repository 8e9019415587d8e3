"""The loss while training: flat, not a number, diverging, and predictions that collapse."""

import math

import numpy as np

from tenor.checks.evidence import StepEvidence
from tenor.checks.finding import OWN, CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.shared import ALPHA, known, uninformed

FLAT = 0.03
"""Of ln K: two classes' loss falls by more within 100 steps of any training that works, a frozen base included."""

MIN_FLAT_RECORDS, MIN_FLAT_STEPS = 30, 100

RISE = 0.5
"""Of ln K: back half the way to knowing nothing."""

MIN_ZEROS, FAR_FROM_ZERO = 3, 0.1
"""Losses of exactly 0 that directly follow one this far from it, nats: no step learns that much."""

MIN_WINDOW = 10

ONE_CLASS, BALANCED = 0.98, 0.8
"""Largest share of the predictions, and of the labels."""

MIN_PREDICTIONS = 300

PATIENCE = 0.9
"""Share of the planned steps that an encoder drawn at random is given: small ones took off after a third to a half."""


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


def require_patience(steps: StepEvidence) -> None:
    """Raise CannotTell while an encoder that was drawn at random may still take off."""
    if steps.fresh_body and steps.total_steps and np.max(steps.steps, initial=0) < PATIENCE * steps.total_steps:
        raise CannotTell(f"the encoder was drawn at random: it is judged at {PATIENCE:.0%} of the planned steps")


def finite_losses(steps: StepEvidence) -> np.ndarray:
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    if len(losses) != len(steps.steps) or not np.isfinite(losses).all():
        raise CannotTell("the recorded losses are not all numbers")
    return losses


@rule("LOS006", "warning", symptoms=("stalled loss", "flat loss"), explains=("bad result",), says_why=False)
def loss_is_flat(steps: StepEvidence) -> Finding | None:
    """The loss stays where it started

    Measures: over the records after warm-up, the fall of the mean loss from the first third to the last, its standard
    error, and Kendall's test for a falling trend.

    Threshold: a fall below 3% of the loss of knowing only the class frequencies (ln K if balanced), a mean within 5% of
    it, and no trend (p > 0.05). At least 30 records, 100 steps, and a standard error below 3%. An error past half the
    planned steps.

    Why: it is the symptom by which most faults show: nothing is learned from the text.

    Look-alikes: the warm-up; a frozen base, whose loss falls slowly but in a trend; a loss flat near 0, which is
    learned; an encoder drawn at random, which stands still for long before it takes off, and is judged at 90% of the
    planned steps.

    Fix: the causes found besides; else overfit 20 examples first.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks; Kendall 1938.
    """
    from scipy.stats import kendalltau

    reference, at = label_entropy(steps), after_warmup(steps)
    losses, numbers = finite_losses(steps)[at], np.asarray(steps.steps)[at]
    require_patience(steps)
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
    return Finding(
        observed=f"{first.mean():.4f} at first, {last.mean():.4f} at last (trend p = {p:.2f})",
        expected=f"a fall below {reference:.4f}, the loss of knowing only the class frequencies",
        n=len(losses),
        cause="nothing is learned from the text; other findings may say why",
        fix="mend the findings above this one; else try to overfit 20 examples, and lower or raise the rate threefold",
        severity="error" if late else "warning",
    )


@rule(
    "LOS007",
    "error",
    symptoms=("not a number",),
    explains=("bad result", "collapsing predictions", "metric not a number", "skipped steps"),
)
def not_a_number(steps: StepEvidence) -> Finding | None:
    """A loss or a gradient is not a number

    Measures: NaN and infinity among the recorded losses, among gradient norms of steps that were taken, and among
    validation losses; losses of exactly 0 from some record to the last.

    Threshold: none; an exact invariant. Zeros count where a validation loss is NaN too, or, as a warning, where there
    are three or more and the loss before them was above 0.1: `transformers` logs 0 for NaN
    (`logging_nan_inf_filter`).

    Why: one such step makes all weights NaN; every later prediction is class 0, argmax of NaN.

    Look-alikes: with loss scaling an infinite gradient norm in a skipped step is how the scale is found, and passes. A
    loss that falls to 0 bit by bit was learned by heart.

    Fix: a lower rate, fp32, and a look for log(0), division by a mask's sum of 0, and empty texts.

    Reference: PyTorch, `torch.autograd.set_detect_anomaly`.
    """
    losses = np.asarray(steps.loss, dtype=np.float64).ravel()
    broken = [point for point in steps.validation_loss if not math.isfinite(point.value)]
    bad, zeros = _not_finite(steps, losses), _zeros_at_last(losses)
    is_sure = bool(bad.any() or broken)
    dropped = zeros >= MIN_ZEROS and zeros < len(losses) and losses[-zeros - 1] > FAR_FROM_ZERO
    if not is_sure and not dropped:
        return None
    filtered = zeros > 0 and not bad.any() and (bool(broken) or dropped)
    if filtered:
        bad[-zeros:] = True
    said = []
    if bad.any():
        first = int(np.argmax(bad))
        norm = steps.grad_norm
        gradient = "" if norm is None or len(norm) <= first else f", gradient {norm[first]}"
        said.append(
            f"first at step {int(steps.steps[first]):,}: loss {losses[first]:g}{gradient} in {int(bad.sum())} records"
        )
    said += [f"validation loss {broken[0].value} at step {broken[0].step:,}"] if broken else []
    return Finding(
        observed="; ".join(said),
        expected="finite numbers" + (", and no loss of exactly 0" if filtered else ""),
        n=len(losses) + len(steps.validation_loss),
        cause="a number overflowed, or 0 was divided by or its logarithm taken"
        + ("; zeros are what transformers logs for NaN (logging_nan_inf_filter)" if filtered else ""),
        fix="lower the learning rate, use fp32, and run once under torch.autograd.set_detect_anomaly(True)",
        severity=OWN if is_sure else "warning",
    )


def _not_finite(steps: StepEvidence, losses: np.ndarray) -> np.ndarray:
    """Which records have a loss, or the gradient norm of a step that was taken, that is NaN or infinite."""
    bad = ~np.isfinite(losses)
    if steps.grad_norm is not None and len(steps.grad_norm) == len(losses):
        taken = np.ones(len(losses), dtype=bool)
        if steps.skipped_steps is not None and len(steps.skipped_steps) == len(losses):
            taken = np.asarray(steps.skipped_steps) == 0
        bad |= ~np.isfinite(np.asarray(steps.grad_norm, dtype=np.float64)) & taken
    return bad


def _zeros_at_last(losses: np.ndarray) -> int:
    """How many records at the end have a loss of exactly 0."""
    other = np.flatnonzero(losses != 0)
    return len(losses) - (int(other[-1]) + 1 if len(other) else 0)


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

    Measures: the median loss of the last records (a tenth, at least 10) beside the first ones and the best ones.

    Threshold: higher by half of ln K, and significantly (Mann-Whitney, p < 1e-4). Above the start an error; above the
    best alone a warning.

    Why: the rate is beyond what the curvature allows, or a batch broke the weights; the rest of the run is lost.

    Look-alikes: single bad batches; noise of small batches; both are no change of the median.

    Fix: a third of the rate, longer warm-up, clipping at 1; restart from the last good checkpoint.

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
    return Finding(
        observed=f"{np.median(start):.3f} at first, {np.median(best):.3f} at best, {np.median(tail):.3f} at last",
        expected="a loss that falls, or stays low",
        n=len(losses),
        cause="steps are too long for the loss's curvature, or one batch broke the weights",
        fix="divide the learning rate by 3, warm up over 6 to 10% of the steps, clip gradients at 1",
        severity="error" if above["start"] else "warning",
    )


@rule("LOS013", "error")
def trained_through_softmax(steps: StepEvidence) -> Finding | None:
    """Training goes through a softmax before the loss

    Measures: the gradient that arrives at the logits, beside that of a cross-entropy which is given their softmax.

    Threshold: equal within 2%, in three forward passes, and not that of a cross-entropy of the logits; an exact
    invariant. A pass counts where six rows or more are predicted with less than 95%: near 1 both gradients are alike.

    Why: a second softmax shrinks the gradient to a half and less, and the loss can't fall below 0.31 for two classes.

    Look-alikes: label smoothing, focal and weighted losses have other gradients and pass.

    Fix: give raw logits to `torch.nn.functional.cross_entropy`; in `Trainer.compute_loss`, `outputs.logits`.

    Reference: PyTorch, `torch.nn.CrossEntropyLoss` ("unnormalized logits").
    """
    if known(steps.kind_of_loss, "what the loss's gradient is") != "probabilities":
        return None
    return Finding(
        observed="the gradient at the logits is that of a cross-entropy of probabilities",
        expected="that of a cross-entropy of the logits",
        n=len(steps.steps),
        cause="a softmax stands between the logits and the loss",
        fix="remove it, and apply softmax only to report probabilities",
    )


@rule("LOS014", "warning", symptoms=("summed loss",), explains=("clipped gradients",))
def trained_on_a_sum(steps: StepEvidence) -> Finding | None:
    """Training sums the losses of a batch

    Measures: the gradient that arrives at the logits, beside that of a cross-entropy summed over the rows.

    Threshold: equal within 2%, in three forward passes of two rows or more.

    Why: the gradient grows with the batch: rate and clipping mean something else for each batch size, and a short last
    batch weighs less.

    Look-alikes: a deliberate sum with a rate to match; that is why it is a warning.

    Fix: `reduction="mean"`.

    Reference: Goyal et al. 2017, Accurate, Large Minibatch SGD (section 2.1).
    """
    if known(steps.kind_of_loss, "what the loss's gradient is") != "sum":
        return None
    return Finding(
        observed="the gradient at the logits is that of a sum over the rows",
        expected="that of a mean",
        n=len(steps.steps),
        cause='the loss is computed with reduction="sum", or multiplied by the batch size',
        fix='use reduction="mean", or divide the rate by the batch size',
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
    labels; the binomial probability of so few other predictions if they occurred as often as the labels.

    Threshold: 98% of at least 300 predictions, with labels below 80%, p < 1e-4. From a quarter of the planned steps
    on; an error past half.

    Why: the model says the same to every text: accuracy is that of the majority, and half of it was wasted money.

    Look-alikes: the first steps of a fresh head; labels of which most are one class; both are left out. An encoder
    drawn at random stands still for long before it takes off, and is judged at 90% of the planned steps.

    Fix: the causes found besides; else a third of the rate and a longer warm-up.

    Reference: Mosbach et al. 2021 (degenerate runs).
    """
    from scipy.stats import binom

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
    p = float(binom.cdf(n - int(predicted[winner]), n, 1 - among_labels))
    if share < ONE_CLASS or labels.max() / max(1, labels.sum()) > BALANCED or p >= ALPHA:
        return None
    return Finding(
        observed=f"class {winner} in {share:.1%} of {n:,} predictions, and in {among_labels:.0%} of the labels",
        expected="predictions of every class, about as often as the labels",
        n=n,
        cause="the model learned the class frequencies at most; other findings may say why",
        fix="mend the findings above this one; else divide the learning rate by 3 and warm up longer",
        severity="error" if done > 0.5 else "warning",
    )
