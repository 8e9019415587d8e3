"""What a result is worth: compared with chance, a cheap model, its best relabelling and another split."""

from math import isfinite, log, sqrt

import numpy as np

from tenor.checks.evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import (
    accuracy,
    best_relabelling,
    class_indices,
    class_name,
    confusion,
    distributions,
    joined,
    numbering_differs,
    one_class_of,
    per_split,
)
from tenor.measures.intervals import wilson_interval
from tenor.runs.findings import RULE_SEVERITY, Finding

# With fewer rows, the interval of an accuracy of 0.5 is wider than ±0.14, too wide for a comparison.
MIN_ROWS = 50
MIN_ROWS_FOR_WARNING = 100
# 3.29 standard deviations of an accuracy of 0.5 are then 5 points.
MIN_ROWS_FOR_ERROR = 1000
# Of an accuracy around 1/K where the number of rows is not recorded.
CHANCE_TOLERANCE = 0.01
# Above it, ln K and ln (K + 1) differ by less than 2%.
MOST_CHANCE_CLASSES = 20
# Validations, and steps or epochs, after which a run that is still at chance is no trial run.
MIN_VALIDATIONS, MIN_STEPS, MIN_EPOCHS = 4, 100, 3
# Share of ln K: a lower training loss shows that something was learned, at least the training rows.
LEARNED = 0.9
# One-sided, divided by the number of splits; strict, because every evaluation of every run is tested.
ALPHA = 1e-3
# Mean recall this far above chance justifies an accuracy below the majority's.
BALANCED_GAIN = 0.1
# A gain over the most frequent class that is worth a model, unless it is significant.
CLEAR_GAIN, NOT_SIGNIFICANT = 0.02, 0.05
# A relabelling must give a good classifier, not only a less bad one.
GOOD_ACCURACY = 0.5
RELABELLING_GAIN = 0.05
FAR_APART = 0.05
# Probabilities are stored as float32 or rounded to 6 decimals: closer ones are ties.
TIE = 1e-6
PAIRS_SHOWN = 8


def binomial_tail(successes: int, n: int, share: float) -> float:
    """P(X ≤ successes) for X ~ Binomial(n, share)."""
    from scipy.stats import binom

    return float(binom.cdf(successes, n, share))


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

    Threshold: none; an exact invariant. Labels that follow from a threshold on one class's probability are a note.

    Why: labels and probabilities then come from two models, two row orders or two class orders, and one of them is
    wrong.

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
    return Finding(
        observed=joined([(name, f"{wrong:,} of {claims.n:,} rows") for name, claims, (wrong, _) in faults]),
        expected="every predicted label is the most probable class",
        n=rows,
        cause="a threshold on one class decides"
        if thresholded
        else "the labels come from another array, another class order, or a threshold outside the range of the scores",
        fix="report the threshold together with the result"
        if thresholded
        else "take the argmax over the classes of the saved probabilities",
        severity="note" if thresholded else RULE_SEVERITY,
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
    worse = [binomial_tail(round(a * n), n, majority) < ALPHA / len(measured) for _, (a, majority, n, _) in poor]
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


@rule("EVL007", "error", symptoms=("swapped classes",), explains=("low accuracy",), says_why=False)
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

    Threshold: 0.05 and p < 0.001, with at least 100 rows in both.

    Why: one of the two results is misleading: the test rows come from another source, validation rows were seen in
    training, or hundreds of trials were selected on the validation rows.

    Look-alikes: a test split from another domain on purpose; therefore only a note.

    Fix: look for rows shared with training, and for a distribution shift between the splits.

    Reference: Recht et al. 2019, Do ImageNet Classifiers Generalize to ImageNet?
    """
    if not {"validation", "test"} <= set(evaluation.splits):
        raise CannotTell("results on validation and on test rows are needed")
    (a, n), (b, m) = (accuracy(evaluation.splits[split], evaluation.n_classes) for split in ("validation", "test"))
    if min(n, m) < MIN_ROWS_FOR_WARNING:
        raise CannotTell(f"fewer than {MIN_ROWS_FOR_WARNING} rows in one of the splits")
    pooled = (a * n + b * m) / (n + m)
    deviation = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if abs(a - b) < FAR_APART or abs(a - b) < 3.29 * deviation:  # 3.29: two-sided p = 0.001
        return None
    return Finding(
        observed=f"validation {a:.4f} (n = {n:,}), test {b:.4f} (n = {m:,})",
        expected=f"less than {100 * FAR_APART:.0f} points apart",
        n=n + m,
        cause="the splits differ in distribution, or validation rows were seen in training or selected on too often",
        fix="look for rows shared with training, and compare length, source and labels of the two splits",
    )


@rule(
    "EVL020",
    "warning",
    symptoms=("stalled loss", "flat loss"),
    explains=("class never predicted", "below the text baseline", "majority accuracy"),
    says_why=False,
)
def result_at_chance(evaluation: EvaluationEvidence) -> Finding | None:
    """The result is no better than chance

    Measures: the recorded accuracy and the recorded mean loss (cross-entropy in nats), of the last evaluation and of
    all validations of the run.

    Threshold: for some K from 2 to 20, an accuracy within 3.29 standard deviations (p = 0.001) of 1/K, or within 0.01
    where the number of rows is not recorded, and a loss within 1% of ln K. Where K is recorded, or follows from the F1
    of a model of one class (EVL032), also a higher loss, if the accuracy is not above 1/K by p = 0.05 and the training
    loss is not below 0.9 ln K; without K, the rule cannot tell then. Or at least four validations over 100 steps
    or three epochs, all of them with such an accuracy or with the same one, none with a loss more than 1% below ln K,
    and a training loss above 0.9 ln K. An error from 1,000 rows on, where the accuracy is determined within 5 points.

    Why: equal probabilities for all K classes have a loss of exactly ln K. A model that never gets below it has learned
    nothing.

    Look-alikes: a trial run of a few steps. A validation loss that rises above ln K while the training loss falls is
    overfitting (LOS015). With skewed classes, EVL005 compares with the most frequent class.

    Fix: check the labels, the loss and the learning rate, in this order; overfit 20 examples first.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """
    course, never = evaluation.course, None
    try:
        never = None if course is None else classes_never_learned(course)
        measured = per_split(evaluation, lambda claims: _chance_classes(claims, evaluation))
    except CannotTell:
        if never is None:
            raise
        measured = []
    at_chance = [(name, claims, k) for name, claims, k in measured if k]
    if course is not None and never is not None:
        at_chance = [entry for entry in at_chance if entry[0] != "validation"]
    if not at_chance and never is None:
        return None
    last = evaluation.splits.get("validation")
    return Finding(
        observed="; ".join(
            ([_course_text(course)] if course is not None and never else [])
            + [f"{name}: accuracy {_share(c, evaluation.n_classes):.4f}, loss {c.loss:.4f}" for name, c, _ in at_chance]
        ),
        expected="; ".join(
            f"an accuracy {_more_than(k, course if k == never else None)} and a loss below ln {k} = {log(k):.4f}"
            for k in dict.fromkeys([*([never] if never else []), *(k for *_, k in at_chance)])
        ),
        n=sum(claims.n for _, claims, _ in at_chance),
        cause="the loss stays above that of equal probabilities: the steps are too large, or the labels are wrong"
        if (course is not None and never and is_above_chance(course, never))
        or any((c.loss or 0.0) > 1.01 * log(k) for _, c, k in at_chance if k)
        else "the model gives every class the same probability: it has learned nothing",
        fix="check the labels, the loss and the learning rate, in this order; overfit 20 examples first",
        severity="error"
        if any(claims.n >= MIN_ROWS_FOR_ERROR for _, claims, _ in at_chance)
        or (never and last is not None and last.n >= MIN_ROWS_FOR_ERROR)
        else RULE_SEVERITY,
    )


def classes_never_learned(course: ValidationCourse) -> int | None:
    """The number of classes K if no validation of a run is better than chance, else None.

    Where K is not recorded, only the same accuracy 1/K in all validations determines it.
    """
    values = [point.value for point in course.accuracy if isfinite(point.value)]
    losses = [point.value for point in course.loss]
    are_finite = len(values) == len(course.accuracy) and all(map(isfinite, losses))
    if len(values) < MIN_VALIDATIONS or not are_finite or not _is_long(course):
        return None
    same = max(values) - min(values) < TIE
    k = course.n_classes
    if k is None:
        k = min(range(2, MOST_CHANCE_CLASSES + 1), key=lambda count: abs(values[0] - 1 / count))
        if not same or not losses or abs(values[0] - 1 / k) > CHANCE_TOLERANCE:
            return None
    # The same accuracy, but not 1/K, is the share of the only class that is predicted.
    is_chance = all(abs(value - 1 / k) <= CHANCE_TOLERANCE for value in values)
    is_constant = same and bool(losses) and values[0] >= 1 / k - CHANCE_TOLERANCE
    is_learned = course.training_loss is not None and course.training_loss < LEARNED * log(k)
    if is_learned or not (is_chance or is_constant) or any(loss < 0.99 * log(k) for loss in losses):
        return None
    return k


def is_above_chance(course: ValidationCourse, k: int) -> bool:
    """Whether most of the losses are clearly above ln K: the weights changed, for the worse."""
    values = sorted(point.value for point in course.loss if isfinite(point.value))
    return bool(values) and values[len(values) // 2] > 1.01 * log(k)


def _is_long(course: ValidationCourse) -> bool:
    first, last = course.accuracy[0].step, course.accuracy[-1].step
    return last - first + 1 >= MIN_EPOCHS if course.by_epoch else last >= MIN_STEPS


def _course_text(course: ValidationCourse) -> str:
    accuracy, loss = (_range([point.value for point in points]) for points in (course.accuracy, course.loss))
    return f"accuracy {accuracy} in all {len(course.accuracy)} validations{f', loss {loss}' if loss else ''}"


def _more_than(k: int, course: ValidationCourse | None) -> str:
    """Above 1/K; above the share of one class, if that is what an accuracy that never changes shows."""
    share = course.accuracy[0].value if course is not None else 0.0
    is_share = course is not None and share > 1 / k + CHANCE_TOLERANCE and len({p.value for p in course.accuracy}) == 1
    return f"above {share:.4f}, the share of one class," if is_share else f"above 1/{k} = {1 / k:.4f}"


def _range(values: list[float]) -> str:
    ends = list(dict.fromkeys(f"{end:.4f}" for end in (min(values), max(values)))) if values else []
    return " to ".join(ends)


def _share(claims: ReportedSplit, n_classes: int) -> float:
    """The recorded accuracy, else that of the confusion matrix or the rows."""
    return claims.accuracy if claims.accuracy is not None else accuracy(claims, n_classes)[0]


def _chance_classes(claims: ReportedSplit, evaluation: EvaluationEvidence) -> int | None:
    """The number of classes K for which accuracy and loss are those of chance; None if there is none."""
    if claims.loss is None or not isfinite(claims.loss):
        raise CannotTell("the loss is not known")
    share, n = _share(claims, evaluation.n_classes), claims.n
    if not 0 < share <= 1 or 0 < n < MIN_ROWS:
        raise CannotTell(f"fewer than {MIN_ROWS} rows, or no accuracy in 0 … 1")
    for k in range(2, MOST_CHANCE_CLASSES + 1):
        if abs(share - 1 / k) <= _tolerance(k, n, 3.29) and abs(claims.loss - log(k)) <= 0.01 * log(k):
            return k
    return _worse_than_chance(claims, share, evaluation.course)


def _worse_than_chance(claims: ReportedSplit, share: float, course: ValidationCourse | None) -> int | None:
    """K, if the accuracy is not above 1/K and the loss is above ln K, of a model that has not fitted its training rows.

    CannotTell if K is not known and this would be so for some K.
    """
    assert claims.loss is not None
    known = one_class_of(claims)
    known = known if known is not None and known > 1 else None if course is None else course.n_classes
    known = len(claims.confusion) if claims.confusion is not None else known
    trained = None if course is None else course.training_loss
    for k in (known,) if known is not None else range(2, MOST_CHANCE_CLASSES + 1):
        is_chance = abs(share - 1 / k) <= _tolerance(k, claims.n, 1.645)
        is_fitted = trained is not None and trained < LEARNED * log(k)
        if not is_chance or claims.loss < log(k) or is_fitted:
            continue
        if known is None:
            raise CannotTell(
                f"the number of classes is not known; for {k}, accuracy {share:.4f} with a loss of {claims.loss:.4f} "
                f"is no better than chance"
            )
        return k
    return None


def _tolerance(k: int, n: int, deviations: float) -> float:
    """By which an accuracy of chance differs from 1/K on n rows; n is 0 where it is not known."""
    return deviations * sqrt((k - 1) / n) / k if n else CHANCE_TOLERANCE


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


def _is_no_better(share: float, majority: float, n: int, balanced: float | None) -> bool:
    """Whether an accuracy is not above the share of the most frequent class, or only by chance."""
    if share <= majority:
        return True
    by_chance = binomial_tail(n - round(share * n), n, 1 - majority)
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
    if log(max(binomial_tail(lost, lost + won, 0.5), 1e-300)) + trials > log(ALPHA):
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
