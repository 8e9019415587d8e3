"""Results at chance: of the last evaluation, and of all validations of a run."""

from math import isfinite, log, sqrt

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import accuracy, one_class_of, per_split
from tenor.checks.rules.evl_ranking import MIN_ROWS, MIN_ROWS_FOR_ERROR, TIE
from tenor.runs.findings import RULE_SEVERITY, Finding

# Of an accuracy around 1/K where the number of rows is not recorded.
CHANCE_TOLERANCE = 0.01
# Above it, ln K and ln (K + 1) differ by less than 2%.
MOST_CHANCE_CLASSES = 20
# Validations, and steps or epochs, after which a run that is still at chance is no trial run.
MIN_VALIDATIONS, MIN_STEPS, MIN_EPOCHS = 4, 100, 3
# Share of ln K: a lower training loss shows that something was learned, at least the training rows.
LEARNED = 0.9
NEAR_CHANCE, NEAR_LEVEL, MOST_GUESSED = 0.12, 0.015, 5
"""Shares of 1/K and of ln K within which all validations must be where neither K nor their rows are recorded, and the
largest K for which this is tried."""


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
    and a training loss above 0.9 ln K. Where K is not recorded, all accuracies within 12% of 1/K for a K up to 5, and
    all losses within 1.5% of ln K, or above ln K with a training loss above ln 20. An error from 1,000 rows on, where
    the accuracy is determined within 5 points.

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
    fewest = MIN_EPOCHS if course.by_epoch or (course.epochs or 0.0) >= MIN_EPOCHS else MIN_VALIDATIONS
    if len(values) < fewest or not are_finite or not _is_long(course):
        return None
    same = max(values) - min(values) < TIE
    k = course.n_classes
    if k is None and (k := _classes_of_all(course, values, losses)) is not None:
        return k
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


def _classes_of_all(course: ValidationCourse, values: list[float], losses: list[float]) -> int | None:
    """K, if every accuracy is near 1/K, and every loss within 1.5% of ln K or all of them above ln 20; None if K is not
    determined in this way."""
    if len(losses) < MIN_EPOCHS or course.training_loss is None:
        return None
    for k in range(2, MOST_GUESSED + 1):
        at_chance = all(abs(value - 1 / k) <= NEAR_CHANCE / k for value in values)
        flat = all(abs(loss - log(k)) <= NEAR_LEVEL * log(k) for loss in losses)
        if at_chance and flat and course.training_loss >= LEARNED * log(k):
            return k
        if (
            at_chance
            and min(*losses, course.training_loss) > log(k)
            and course.training_loss > log(MOST_CHANCE_CLASSES)
        ):
            return k
    return None


def is_above_chance(course: ValidationCourse, k: int) -> bool:
    """Whether most of the losses are clearly above ln K: the weights changed, for the worse."""
    values = sorted(point.value for point in course.loss if isfinite(point.value))
    return bool(values) and values[len(values) // 2] > 1.01 * log(k)


def _is_long(course: ValidationCourse) -> bool:
    first, last = course.accuracy[0].step, course.accuracy[-1].step
    if course.by_epoch:
        return last - first + 1 >= MIN_EPOCHS
    return last >= MIN_STEPS or (course.epochs or 0.0) >= MIN_EPOCHS


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
