"""What a result is worth: compared with chance, a cheap model, its best relabelling and another split."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import (
    accuracy,
    best_relabelling,
    class_indices,
    class_name,
    confusion,
    distributions,
    is_of_one_true_class,
    joined,
    numbering_differs,
    per_split,
)
from tenor.measures.intervals import wilson_interval
from tenor.measures.tail_probabilities import binomial_at_most
from tenor.runs.findings import RULE_SEVERITY, Finding

# With fewer rows, the interval of an accuracy of 0.5 is wider than ±0.14, too wide for a comparison.
MIN_ROWS = 50
MIN_ROWS_FOR_WARNING = 100
# 3.29 standard deviations of an accuracy of 0.5 are then 5 points.
MIN_ROWS_FOR_ERROR = 1000
# One-sided, divided by the number of splits; strict, because every evaluation of every run is tested.
ALPHA = 1e-3
# Mean recall this far above chance justifies an accuracy below the majority's.
BALANCED_GAIN = 0.1
# A gain over the most frequent class that is worth a model, unless it is significant.
CLEAR_GAIN, NOT_SIGNIFICANT = 0.02, 0.05
# A relabelling must give a good classifier, not only a less bad one.
GOOD_ACCURACY = 0.5
RELABELLING_GAIN = 0.05
FAR_APART, LITTLE_IN_COMMON = 0.05, 0.3
MEMORIZED, FAR_ABOVE = 0.95, 0.15
# Held-out rows that are assumed where their number is not recorded; usual splits have more.
ROWS_NOT_RECORDED = 60
# Of the other split, if the accuracy of one rounds to 100.0%.
PERFECT, FAR_FROM_PERFECT = 0.9995, 0.2
# Share of 1/K.
FAR_BELOW_CHANCE = 0.5
# Probabilities are stored as float32 or rounded to 6 decimals: closer ones are ties.
TIE = 1e-6
PAIRS_SHOWN = 8
COSTLY = 0.05
"""Of the accuracy and of the mean recall: a threshold that trades one class for another gains in one of them."""


def difference_interval(a: float, b: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Newcombe's interval (1998, method 10) of a - b for two accuracies on n rows each; wide: it ignores pairing."""
    one, other = (wilson_interval(round(share * n), n, confidence) for share in (a, b))
    low = a - b - sqrt((a - one.low) ** 2 + (other.high - b) ** 2)
    return low, a - b + sqrt((one.high - a) ** 2 + (b - other.low) ** 2)


@rule(
    "EVL004",
    "error",
    explains=("bad threshold", "majority accuracy", "one class predicted"),
    settled_by="predicted labels and probabilities of the evaluated rows",
)
def label_is_not_argmax(evaluation: EvaluationEvidence) -> Finding | None:
    """Predicted labels are not the most probable classes

    Measures: rows whose predicted class is less probable than another class by more than 1e-6.

    Threshold: none; an exact invariant. Labels that follow from a threshold on one class's probability are a note; of
    two classes, if the threshold is 0.5 on the logit (a probability of 0.62), known to within 0.25, a warning; and if
    the most probable class would give 0.05 more accuracy (p < 0.001, binomial test of the rows that differ) and 0.05
    more mean recall.

    Why: labels and probabilities then come from two models, two row orders or two class orders, and one of them is
    wrong. A logit that is compared with 0.5 as if it was a probability loses rows of the second class.

    Look-alikes: a deliberate threshold on one class, as set by `tenor calibrate --class`: all rows predicted as this
    class have a higher probability of it than all other rows, and the other rows are predicted as the most probable of
    the other classes.

    Fix: take the argmax over the class axis of the array that is saved.

    Reference: Provost and Fawcett 2001, Robust Classification for Imprecise Environments.
    """
    results = per_split(evaluation, lambda claims: _not_argmax(claims, evaluation.n_classes))
    faults = [(name, claims, one) for name, claims, one in results if one[0]]
    if not faults:
        return None
    rows = sum(claims.n for _, claims, _ in faults)
    thresholded = all(threshold for _, _, (_, threshold) in faults)
    on_logit = thresholded and all(_is_half_on_logit(claims, evaluation.n_classes) for _, claims, _ in faults)
    if on_logit:
        return Finding(
            observed=joined([(name, f"{wrong:,} of {claims.n:,} rows") for name, claims, (wrong, _) in faults])
            + "; the labels change where the logit is 0.5, a probability of 0.62",
            expected="the second class from a logit of 0 on, a probability of 0.5",
            n=rows,
            cause="logits are compared with 0.5, as if they were probabilities",
            fix="predict with logits > 0, or with logits.sigmoid() > 0.5",
            severity="warning",
        )
    prices = [_price_of_threshold(claims, evaluation.n_classes) if thresholded else None for _, claims, _ in faults]
    texts = [f"{wrong:,} of {claims.n:,} rows" for _, claims, (wrong, _) in faults]
    named = zip(faults, texts, prices, strict=True)
    is_costly = all(price is not None and price.is_costly for price in prices)
    return Finding(
        observed=joined([(name, f"{text}{f'; {price.text}' if price else ''}") for (name, *_), text, price in named]),
        expected="every predicted label is the most probable class",
        n=rows,
        cause="a threshold on one class decides"
        if thresholded
        else "the labels come from another array, another class order, or a threshold outside the range of the scores",
        fix="take the most probable class, or choose the threshold on validation rows (tenor calibrate)"
        if is_costly
        else "report the threshold together with the result"
        if thresholded
        else "take the argmax over the classes of the saved probabilities",
        severity="warning" if is_costly else "note" if thresholded else RULE_SEVERITY,
    )


@rule(
    "EVL005",
    "warning",
    symptoms=("bad result", "low accuracy", "majority accuracy"),
    explains=("below the text baseline",),
    says_why=False,
)
def no_better_than_majority(evaluation: EvaluationEvidence) -> Finding | None:
    """The accuracy is no better than the majority class

    Measures: the accuracy compared with the share of the most frequent class, by a one-sided binomial test with
    Wilson's interval.

    Threshold: at least 50 rows. An accuracy not above that share is a warning, as is one that is above it by less than
    0.02, not significantly (p > 0.05) and without a mean recall of 0.1 above chance; one significantly below it
    (p < 0.001 over the number of splits) is an error.

    Why: a model that always predicts the same class reaches this accuracy.

    Look-alikes: with skewed classes, accuracy may be traded for recall on purpose. Where the mean recall is 0.1 above
    chance, it is a note.

    Fix: see which finding explains it (one class predicted, labels swapped); without one, train longer or with a higher
    learning rate.

    Reference: Wilson 1927, Probable Inference; Powers 2011, Evaluation.
    """
    measured = per_split(evaluation, lambda claims: _against_majority(claims, evaluation.n_classes))
    poor = [(name, one) for name, _, one in measured if _is_no_better(*one)]
    if not poor:
        return None
    worse = [binomial_at_most(round(a * n), n, majority) < ALPHA / len(measured) for _, (a, majority, n, _) in poor]
    traded = all(balanced is not None and balanced >= BALANCED_GAIN for _, (_, _, _, balanced) in poor)
    intervals = [wilson_interval(round(a * n), n) for _, (a, _, n, _) in poor]
    return Finding(
        observed=joined(
            [
                (name, f"accuracy {a:.4f} (95%: {i.low:.4f} to {i.high:.4f})")
                for (name, (a, *_)), i in zip(poor, intervals, strict=True)
            ]
        ),
        expected=joined(
            [(name, f"clearly above {majority:.4f}, the most frequent class") for name, (_, majority, *_) in poor]
        ),
        n=sum(n for _, (_, _, n, _) in poor),
        cause="accuracy is traded for recall on the rarer classes"
        if traded
        else "the model uses only the class frequencies" + (", or predicts the opposite" if any(worse) else ""),
        fix="report macro F1 together with the accuracy"
        if traded
        else "follow the finding that explains it; without one, compare the training loss with ln K and raise the rate",
        severity="note" if traded else "error" if any(worse) else RULE_SEVERITY,
    )


@rule("EVL006", "warning", symptoms=("bad result", "low accuracy", "below the text baseline"), says_why=False)
def no_better_than_text_baseline(evaluation: EvaluationEvidence) -> Finding | None:
    """The accuracy is no better than the text baseline's

    Measures: the accuracy minus that of naive-Bayes-weighted bigrams with logistic regression, with Newcombe's
    interval.

    Threshold: not above 0. A warning with 100 rows or more, a note where the interval contains 0 or the split is
    smaller.

    Why: the baseline trains in seconds. A transformer that does not beat it is not worth its cost.

    Look-alikes: with a frozen base, very few rows or a short trial run, a lower accuracy is expected.

    Fix: train longer or on more rows, unfreeze the encoder, raise the maximum length; or use the baseline.

    Reference: Wang and Manning 2012, Baselines and Bigrams.
    """
    measured = per_split(evaluation, lambda claims: _against_baseline(claims, evaluation.n_classes))
    poor = [(name, one, difference_interval(*one)) for name, _, one in measured if one[0] <= one[1]]
    if not poor:
        return None
    clear = any(n >= MIN_ROWS_FOR_WARNING and high < 0 for _, (_, _, n), (_, high) in poor)
    return Finding(
        observed=joined(
            [
                (name, f"accuracy {a:.4f}, {100 * (a - b):+.1f} points (95%: {100 * low:+.1f} to {100 * high:+.1f})")
                for name, (a, b, _), (low, high) in poor
            ]
        ),
        expected=joined([(name, f"above the text baseline's {b:.4f}") for name, (_, b, _), _ in poor]),
        n=sum(n for _, (_, _, n), _ in poor),
        cause="as trained here, the encoder adds nothing to word counts",
        fix="train longer or on more rows, unfreeze the encoder or raise the maximum length; or use the baseline",
        severity=RULE_SEVERITY if clear else "note",
    )


@rule(
    "EVL007",
    "error",
    symptoms=("swapped classes",),
    explains=("low accuracy", "class never predicted", "splits disagree"),
    says_why=False,
)
def labels_swapped(evaluation: EvaluationEvidence) -> Finding | None:
    """The labels are swapped: the predictions are right under other class names

    Measures: the accuracy under the best one-to-one relabelling of the predictions, found exactly (Kuhn 1955), compared
    with the accuracy as given.

    Threshold: a gain of at least 0.05, an accuracy of at least 0.5 and 0.05 above the majority's share, and p < 0.001
    over the K! relabellings in a binomial test on the rows that only one of the two readings gets right.

    Why: the model has learned the task; only the class names are wrong, on one side. Training again would be a waste.

    Look-alikes: a model at chance. Its best relabelling gains a little, but is not a good classifier.

    Fix: compare the model's `id2label` with the class names of the data, in training and in evaluation.

    Reference: Kuhn 1955, The Hungarian Method for the Assignment Problem.
    """
    measured = per_split(evaluation, lambda claims: _relabelling(claims, evaluation.n_classes))
    results = [(name, claims, one) for name, claims, one in measured if one]
    if not results:
        return None
    return Finding(
        observed=joined(
            [(name, f"accuracy {before:.4f}, but {after:.4f} with {how}") for name, _, (before, after, how) in results]
        ),
        expected="the highest accuracy with the class names as given",
        n=sum(claims.n for _, claims, _ in results),
        cause="training and evaluation use different class orders, or the evaluated labels are inverted",
        fix="compare id2label with the class names of the data in training and evaluation, and use one mapping",
    )


@rule("EVL015", "note", symptoms=("splits disagree",), says_why=False)
def validation_and_test_far_apart(evaluation: EvaluationEvidence) -> Finding | None:
    """Validation and test results are far apart

    Measures: the difference between the two accuracies, by a two-sided test of two proportions.

    Threshold: 0.05 and p < 0.001, with at least 100 rows in both; where a number of rows is not recorded, as if both
    had 60, which is 0.3 around one half and 0.2 near 1. A warning from 0.3 on, or from 0.2 on if one of the two is
    perfect, else a note.

    Why: one of the two results is misleading: the test rows come from another source, validation rows were seen in
    training, or hundreds of trials were selected on the validation rows.

    Look-alikes: a test split from another domain on purpose; therefore only a note, unless the two have little in
    common. An accuracy on the test rows that is far below chance shows labels that are numbered differently.

    Fix: compare the class names of the splits; look for rows shared with training, and for a distribution shift.

    Reference: Recht et al. 2019, Do ImageNet Classifiers Generalize to ImageNet?
    """
    if not {"validation", "test"} <= set(evaluation.splits):
        raise CannotTell("results on validation and on test rows are needed")
    (a, n), (b, m) = (_accuracy_and_rows(evaluation, split) for split in ("validation", "test"))
    if 0 < n < MIN_ROWS_FOR_WARNING or 0 < m < MIN_ROWS_FOR_WARNING:
        raise CannotTell(f"fewer than {MIN_ROWS_FOR_WARNING} rows in one of the splits")
    rows_a, rows_b = (n, m) if n and m else (ROWS_NOT_RECORDED, ROWS_NOT_RECORDED)
    pooled = (a * rows_a + b * rows_b) / (rows_a + rows_b)
    limit = max(FAR_APART, 3.29 * sqrt(pooled * (1 - pooled) * (1 / rows_a + 1 / rows_b)))  # Two-sided p = 0.001.
    if abs(a - b) < limit:
        return None
    rows = [f" (n = {count:,})" if count else "" for count in (n, m)]
    return Finding(
        observed=f"validation {a:.4f}{rows[0]}, test {b:.4f}{rows[1]}",
        expected=f"less than {100 * FAR_APART:.0f} points apart",
        n=n + m,
        cause="the splits differ in distribution, or validation rows were seen in training or selected on too often"
        if b > FAR_BELOW_CHANCE / evaluation.n_classes or a < b
        else "the test rows number the classes differently, or come from another source",
        fix="look for rows shared with training, and compare length, source and labels of the two splits",
        severity="warning"
        if abs(a - b) >= (FAR_FROM_PERFECT if max(a, b) >= PERFECT else LITTLE_IN_COMMON)
        else RULE_SEVERITY,
    )


@rule("EVL039", "note")
def training_far_above_held_out(evaluation: EvaluationEvidence) -> Finding | None:
    """The model overfits: its training rows are nearly all right, the held-out rows are not

    Measures: the accuracy of an evaluation on the training rows, and the lowest of those on validation and test rows.

    Threshold: a training accuracy of 0.95 or more, and a difference of 0.15 with at least 100 held-out rows. A warning
    from 0.3 on, else a note.

    Why: the model has memorized its training rows, and what it memorized does not carry over.

    Look-alikes: held-out rows of another domain, or whose labels mean other classes (EVL007, EVL015). A course of the
    losses shows overfitting sooner (LOS015).

    Fix: train fewer epochs, with more rows or stronger regularization; compare with a bag of words on the same rows.

    Reference: Zhang et al. 2017, Understanding Deep Learning Requires Rethinking Generalization.
    """
    held_out = [name for name in ("validation", "test") if name in evaluation.splits]
    if "train" not in evaluation.splits or not held_out:
        raise CannotTell("results on training rows and on held-out rows are needed")
    trained, _ = _accuracy_and_rows(evaluation, "train")
    (lowest, rows), name = min((_accuracy_and_rows(evaluation, split), split) for split in held_out)
    if 0 < rows < MIN_ROWS_FOR_WARNING:
        raise CannotTell(f"{rows} {name} rows; {MIN_ROWS_FOR_WARNING} are needed")
    if trained < MEMORIZED or trained - lowest < FAR_ABOVE:
        return None
    return Finding(
        observed=f"training {trained:.4f}, {name} {lowest:.4f}{f' (n = {rows:,})' if rows else ''}",
        expected=f"less than {100 * FAR_ABOVE:.0f} points apart",
        n=rows,
        cause="the model has memorized its training rows",
        fix="train fewer epochs, with more rows or stronger regularization",
        severity="warning" if trained - lowest >= LITTLE_IN_COMMON else RULE_SEVERITY,
    )


def _accuracy_and_rows(evaluation: EvaluationEvidence, split: str) -> tuple[float, int]:
    """The accuracy of a split, and its rows; 0 where their number is not recorded."""
    claims = evaluation.splits[split]
    try:
        return accuracy(claims, evaluation.n_classes)
    except CannotTell:
        if claims.accuracy is None or not 0 <= claims.accuracy <= 1:
            raise
        return float(claims.accuracy), 0


def _not_argmax(claims: ReportedSplit, n_classes: int) -> tuple[int, bool]:
    """Rows that contradict the argmax, and whether a threshold explains them."""
    predicted, values = class_indices(claims.predicted, n_classes, "predictions"), distributions(claims)
    if values.shape != (len(predicted), n_classes) or not np.isfinite(values).all():
        raise CannotTell("the probabilities do not match the predictions, or are not finite")
    wrong = int((values.max(axis=1) - values[np.arange(len(predicted)), predicted] > TIE).sum())
    return wrong, wrong > 0 and any(_by_threshold(predicted, values, k) for k in range(n_classes))


def _by_threshold(predicted: np.ndarray, values: np.ndarray, k: int) -> bool:
    """Whether rows above some probability of `k` are predicted as `k`, the others as the most probable other class."""
    predicted_k = predicted == k
    if predicted_k.all() or not predicted_k.any() or values[~predicted_k, k].max() > values[predicted_k, k].min() + TIE:
        return False
    others = np.where(np.arange(values.shape[1]) == k, -np.inf, values)[~predicted_k]
    return bool((others.max(axis=1) - others[np.arange(len(others)), predicted[~predicted_k]] <= TIE).all())


@dataclass(frozen=True)
class _Price:
    """What a threshold costs, compared with the most probable class."""

    text: str
    is_costly: bool


def _price_of_threshold(claims: ReportedSplit, n_classes: int) -> _Price | None:
    """None without true classes."""
    if claims.labels is None:
        return None
    labels, predicted = (class_indices(one, n_classes, "classes") for one in (claims.labels, claims.predicted))
    values = distributions(claims)
    most_probable = values.argmax(axis=1)
    was, could = predicted == labels, most_probable == labels
    recalls = [[float(right[labels == k].mean()) for k in np.unique(labels)] for right in (was, could)]
    lost, won = int((could & ~was).sum()), int((was & ~could).sum())
    is_significant = binomial_at_most(won, won + lost, 0.5) < ALPHA
    gains = (float(could.mean() - was.mean()), float(np.mean(recalls[1]) - np.mean(recalls[0])))
    place = ""
    if n_classes == 2:
        place = f"class {class_name(claims, 1)} from a probability of {values[predicted == 1, 1].min():.3g} on: "
    text = f"{place}accuracy {was.mean():.4f}, of the most probable class {could.mean():.4f}"
    return _Price(text, is_significant and min(gains) >= COSTLY)


HALF, NARROW = 0.5, 0.25
"""The usual threshold of a probability, and the widest range of logits in which a threshold counts as known."""


def _is_half_on_logit(claims: ReportedSplit, n_classes: int) -> bool:
    """Whether the second of two classes is predicted from a logit of 0.5 on."""
    if n_classes != 2:
        return False
    predicted, values = class_indices(claims.predicted, 2, "predictions"), distributions(claims)
    z = np.log(np.maximum(values[:, 1], 1e-12) / np.maximum(values[:, 0], 1e-12))
    below, above = z[predicted == 0], z[predicted == 1]
    if not len(below) or not len(above):
        return False
    low, high = float(below.max()), float(above.min())
    return 0 < low <= HALF < high and high - low <= NARROW


def _is_no_better(share: float, majority: float, n: int, balanced: float | None) -> bool:
    """Whether an accuracy is not above the share of the most frequent class, or only by chance."""
    if share <= majority:
        return True
    by_chance = binomial_at_most(n - round(share * n), n, 1 - majority)
    return (
        share - majority < CLEAR_GAIN and by_chance > NOT_SIGNIFICANT and (balanced is None or balanced < BALANCED_GAIN)
    )


def _against_majority(claims: ReportedSplit, n_classes: int) -> tuple[float, float, int, float | None]:
    """The accuracy, the majority's share, the number of rows, and the mean recall minus 1/K where it is known."""
    share, n = accuracy(claims, n_classes)
    if n < MIN_ROWS:
        raise CannotTell(f"fewer than {MIN_ROWS} rows")
    try:
        counts = confusion(claims, n_classes)
    except CannotTell:
        if claims.majority_accuracy is None:
            raise CannotTell("the class frequencies are not known") from None
        if is_of_one_true_class(claims.report):
            raise CannotTell("all labels are of one class") from None
        return share, claims.majority_accuracy, n, None
    support = counts.sum(axis=1)
    if (support > 0).sum() < 2:
        raise CannotTell("all labels are of one class")
    recall = (np.diag(counts)[support > 0] / support[support > 0]).mean()
    return share, float(support.max() / n), n, float(recall - 1 / (support > 0).sum())


def _against_baseline(claims: ReportedSplit, n_classes: int) -> tuple[float, float, int]:
    share, n = accuracy(claims, n_classes)
    if claims.text_baseline_accuracy is None:
        raise CannotTell("the text baseline was not measured on these rows")
    return share, claims.text_baseline_accuracy, n


def _relabelling(claims: ReportedSplit, n_classes: int) -> tuple[float, float, str] | None:
    """Accuracy before and after the best relabelling, and the relabelling in words, if it is far better."""
    counts = confusion(claims, n_classes)
    rows, order = counts.sum(), best_relabelling(counts)
    moved = np.flatnonzero(order != np.arange(len(counts)))
    before, after = np.trace(counts) / rows, counts[order, np.arange(len(counts))].sum() / rows
    majority = counts.sum(axis=1).max() / rows
    if after - before < RELABELLING_GAIN or after < max(GOOD_ACCURACY, majority + RELABELLING_GAIN):
        return None
    lost, won = int(counts[moved, moved].sum()), int(counts[order[moved], moved].sum())
    trials = sum(log(k) for k in range(2, len(counts) + 1))
    if log(max(binomial_at_most(lost, lost + won, 0.5), 1e-300)) + trials > log(ALPHA):
        return None
    names = [class_name(claims, k) for k in range(len(counts))]
    return (
        float(before),
        float(after),
        _in_words(names, order, moved[counts[:, moved].any(axis=0)], numbering_differs(counts)),
    )


def _in_words(names: list[str], order: np.ndarray, moved: np.ndarray, is_shift: bool) -> str:
    """Which predicted class is read as which."""
    pairs = ", ".join(f"{names[k]} read as {names[order[k]]}" for k in moved[:PAIRS_SHOWN])
    more = f" and {len(moved) - PAIRS_SHOWN} more" if len(moved) > PAIRS_SHOWN else ""
    numbered = ": the classes of one side are numbered from 0, those of the other from 1" if is_shift else ""
    return f"{pairs}{more}{numbered}"
