"""Collapsed results: classes that are missing from the predictions."""

from collections.abc import Callable, Mapping
from math import log

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import (
    MOST_ROWS,
    accuracy,
    class_indices,
    class_name,
    confusion,
    distributions,
    is_never_right,
    joined,
    numbering_differs,
    one_class_of,
    per_split,
    ranking,
)
from tenor.measures.intervals import wilson_interval
from tenor.runs.findings import RULE_SEVERITY, Finding

# One other prediction in 200 is still a collapse; sound models of data as skewed as 99/1 stay below this share.
ONE_CLASS_SHARE = 0.995
# Largest p-value under a model that draws classes at the labels' rates; there are few tests per run.
ALPHA = 1e-3
# Above this share of one label, always predicting it may be the best a weak model can do.
SKEWED_SHARE = 0.9
MIN_MINORITY = 10
# "Acceptable discrimination" begins at 0.7 (Hosmer and Lemeshow 2000); below 0.6 is close to chance.
GOOD_AUC = 0.7
POOR_AUC = 0.6
# 99.9% of the AUCs of random scores are within this many standard deviations of 0.5.
DEVIATIONS = 3.29
# A model that has learned a class this frequent would predict it at least once.
MIN_SUPPORT = 20
SAME_SCORES = 1e-6
# One class in a thousand is called weak by chance.
WEAK_CONFIDENCE = 0.998
# Half of what one class of three costs that is never right, at an accuracy of 0.9.
MACRO_GAP = 0.15
MIN_UNLABELLED = 100
MIN_VALIDATIONS = 3
# Shares of ln K, the loss of equal probabilities: of a training loss and of a validation loss.
FITTED, ABOVE_CHANCE = 0.25, 1.1
# A higher accuracy that does not change may be that of a good model on a few validation rows.
MOST_OF_ONE_CLASS = 0.75


def collapse(claims: ReportedSplit, n_classes: int) -> tuple[int, int, int, float] | None:
    """(class, rows predicted as it, rows, its share of the labels), if nearly all predictions are one class."""
    counts = confusion(claims, n_classes)
    if len(counts) < 2:
        raise CannotTell("there is only one class")
    rows, predicted = int(counts.sum()), counts.sum(axis=0)
    k = int(predicted.argmax())
    share = float(counts[k].sum() / rows)
    if share == 1:
        raise CannotTell("all labels are of one class")
    # A model that draws its classes at the labels' rates predicts k for all rows with this probability.
    chance = share ** int(predicted[k])
    if predicted[k] < ONE_CLASS_SHARE * rows or chance > ALPHA or rows - counts[k].sum() < MIN_MINORITY:
        return None
    return k, int(predicted[k]), rows, share


def collapsed_splits(evaluation: EvaluationEvidence) -> list[tuple[str, ReportedSplit, tuple[int, int, int, float]]]:
    """The splits in which nearly all predictions are one class."""
    affected = per_split(evaluation, lambda claims: collapse(claims, evaluation.n_classes))
    return [(name, claims, one) for name, claims, one in affected if one is not None]


@rule(
    "EVL001",
    "error",
    symptoms=("bad result", "one class predicted"),
    explains=("class never predicted", "low accuracy"),
    says_why=False,
)
def one_class_predicted(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class

    Measures: the share of the rows that are predicted as the most predicted class, compared with that class's share of
    the labels.

    Threshold: 99.5% of the predictions, at least 10 labels of other classes, and a probability below 0.001 that a model
    drawing its classes at the labels' rates would predict this. A warning where one label has 90% or more.

    Why: an accuracy of 50% on balanced classes looks like a weak model, but the model ignores its input. This is a
    symptom: the cause is in the data, the loss, the optimizer, the freezing, or in which checkpoint was evaluated.

    Look-alikes: very skewed classes, where predicting the most frequent one nearly always may be right; tiny splits.

    Fix: first count the labels of the rows that the model was trained on; then follow the first finding that explains
    this one.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    affected = collapsed_splits(evaluation)
    if not affected:
        return None
    return Finding(
        observed=joined(
            [
                (name, f"{k_n:,} of {rows:,} predicted as class {class_name(claims, k)}")
                for name, claims, (k, k_n, rows, _) in affected
            ]
        ),
        expected=joined(
            [
                (name, f"class {class_name(claims, k)} is {share:.1%} of the labels")
                for name, claims, (k, _, _, share) in affected
            ]
        ),
        n=sum(rows for _, _, (_, _, rows, _) in affected),
        cause="the model does not separate the classes, or its decision threshold is outside the range of its scores",
        fix="count the labels of the training rows; then follow the first finding that explains this one",
        severity="warning" if all(share >= SKEWED_SHARE for _, _, (*_, share) in affected) else RULE_SEVERITY,
    )


@rule(
    "EVL002",
    "error",
    symptoms=("bad threshold",),
    explains=("one class predicted",),
    says_why=False,
    settled_by="labels and probabilities of the evaluated rows",
)
def one_class_despite_ranking(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class although the scores rank well

    Measures: the area under the ROC curve (for K > 2 its one-versus-rest mean over the classes) of the splits in which
    nearly all predictions are one class.

    Threshold: 0.7 or more ("acceptable", Hosmer and Lemeshow), and 3.29 standard deviations (p = 0.001) above 0.5.

    Why: the model has learned to separate the classes; only the decision is wrong. Training again would be a waste.

    Look-alikes: none where the labels are balanced. With 95/5, a high AUC without any positive prediction is common, so
    that is a warning.

    Fix: set the threshold (or correct the bias) on validation rows; then look for what shifted it: skewed training
    labels, class weights, a head that was trained too briefly.

    Reference: Hosmer and Lemeshow 2000, Applied Logistic Regression; Provost 2000, Learning from Imbalanced Data Sets
    101.
    """
    return _ranked_collapse(
        evaluation,
        lambda auc, deviation: auc >= GOOD_AUC and auc > 0.5 + DEVIATIONS * deviation,
        expected="predictions of every class, because the scores separate the classes",
        cause="the ranking is right, the decision is wrong: a threshold or bias is outside the range of the scores",
        fix="choose the threshold on the validation rows, and look for skewed training labels or class weights",
    )


@rule("EVL003", "error", symptoms=("bad result",), explains=("low accuracy",), says_why=False)
def one_class_and_no_ranking(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class and the scores rank no better than chance

    Measures: the area under the ROC curve, as in EVL002.

    Threshold: between 0.4 and 0.6; random scores give 0.5. Not applicable where chance alone could exceed 0.7.

    Why: nothing was learned that separates the classes, so no threshold can help. The fault comes before the decision.

    Look-alikes: a run that was not meant to learn, such as one step for a smoke test.

    Fix: check the data, the loss and the optimizer, in this order; do not tune the threshold.

    Reference: Hosmer and Lemeshow 2000, Applied Logistic Regression.
    """
    return _ranked_collapse(
        evaluation,
        lambda auc, deviation: 1 - POOR_AUC <= auc <= POOR_AUC and DEVIATIONS * deviation < GOOD_AUC - 0.5,
        expected=f"an AUC above {GOOD_AUC}",
        cause="the model learned nothing, or weights other than the trained ones were evaluated",
        fix="check the labels, the loss and the optimizer; a different threshold cannot fix it",
    )


@rule("EVL013", "warning", symptoms=("bad result", "class never predicted"), says_why=False)
def class_never_predicted(evaluation: EvaluationEvidence) -> Finding | None:
    """A class is never predicted

    Measures: for more than two classes, classes that have true rows in a split and no prediction.

    Threshold: at least 20 true rows; a model with a recall of 20% would predict such a class with probability 0.99.

    Why: accuracy and weighted F1 hide the loss of a class. Often its rows, or its label, are missing from training.

    Look-alikes: rare classes with few rows pass. Weak models often lose a neutral class between two extremes. EVL007
    reports labels numbered from 1 with predictions numbered from 0.

    Fix: count the class among the training rows and compare its label in training and evaluation; then weight it in the
    loss, or train longer.

    Reference: Grandini et al. 2020, Metrics for Multi-Class Classification.
    """
    if evaluation.n_classes < 3:
        raise CannotTell("there are only two classes")
    affected = per_split(evaluation, lambda claims: _lost(claims, evaluation.n_classes))
    lost = [
        (name, f"class {class_name(claims, k)} ({support:,} rows)")
        for name, claims, pairs in affected
        for k, support in pairs
    ]
    if not lost:
        return None
    return Finding(
        observed=f"never predicted: {joined(lost)}",
        expected=f"at least one prediction of every class with {MIN_SUPPORT} rows or more",
        n=sum(support for _, _, pairs in affected for _, support in pairs),
        cause="the class is missing or rare in the training rows, or its label means another class there",
        fix="count the class in the training rows, and compare the label names of training and evaluation",
    )


@rule(
    "EVL024",
    "warning",
    symptoms=("bad result", "low accuracy", "one class predicted"),
    explains=("splits disagree",),
    says_why=False,
)
def fitted_but_constant(evaluation: EvaluationEvidence) -> Finding | None:
    """The training rows are fitted, but the validation accuracy never changes

    Measures: the last training loss, and the accuracies and losses of all validations of the run.

    Threshold: a training loss below 0.25 ln K, at least three validations with exactly the same accuracy of 0.75 or
    less, and a last validation loss above 1.1 ln K. K is 2 where it is not recorded.

    Why: a model that predicts one class for every row has the same accuracy after every epoch, the share of that class.
    A small training loss shows that this is what its training rows taught: they are of one class.

    Look-alikes: overfitting (LOS015) changes some predictions from epoch to epoch. A few validation rows may give the
    same accuracy by chance.

    Fix: count the labels of the rows that were trained on, and print the predicted classes of the validation rows.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    course = evaluation.course
    validated = [] if course is None else [{p.step for p in points} for points in (course.accuracy, course.loss)]
    if course is None or course.training_loss is None or min(map(len, validated)) < MIN_VALIDATIONS:
        raise CannotTell(f"{MIN_VALIDATIONS} validation accuracies and losses and a training loss are needed")
    accuracies, loss = [point.value for point in course.accuracy], course.loss[-1].value
    reference = log(course.n_classes or 2)
    if not course.training_loss < FITTED * reference or not loss > ABOVE_CHANCE * reference:
        return None
    if not max(accuracies) - min(accuracies) <= SAME_SCORES or max(accuracies) > MOST_OF_ONE_CLASS:
        return None
    return Finding(
        observed=f"training loss {course.training_loss:.4g} at the end; accuracy {accuracies[-1]:.4f} in all "
        f"{len(accuracies)} validations, loss {loss:.4g} in the last",
        expected=f"an accuracy that changes, and a validation loss below {reference:.4f}",
        n=len(accuracies),
        cause="the model predicts one class for every validation row, as its training rows taught it",
        fix="count the labels of the rows that were trained on, and print the predicted classes of the validation rows",
    )


@rule("EVL021", "warning", symptoms=("class never predicted",), says_why=False)
def class_hardly_ever_right(evaluation: EvaluationEvidence) -> Finding | None:
    """A class is hardly ever right, which the accuracy hides

    Measures: the recall of each class that is predicted at all, where the confusion matrix is known; otherwise the
    accuracy minus the macro F1, or minus the balanced accuracy. Of two classes, an F1 without a mean is that of one
    class, which is its recall if as many rows are taken for the class as are missed.

    Threshold: at least 20 rows of the class, and an upper limit of its recall (Wilson, 99.9%) below half of the
    accuracy and below 0.5; the same limits for the F1 of one class. Otherwise a difference of 0.15, and of half of what
    one class in K costs if it is never predicted correctly (accuracy / 2K).

    Why: accuracy and weighted F1 are those of the frequent classes. The class that matters is often the rare one.

    Look-alikes: rare classes with few rows pass. Weak models often lose a neutral class between two extremes. EVL013
    reports classes that are never predicted, EVL032 an F1 that shows one class for every row.

    Fix: look at the confusion matrix; count the class among the training rows, and compare its label in training and
    evaluation; then weight it in the loss, add rows, or choose a threshold for it.

    Reference: Grandini et al. 2020, Metrics for Multi-Class Classification; Opitz and Burst 2019, Macro F1 and Macro
    F1.
    """
    measured = per_split(evaluation, lambda claims: _weak_classes(claims, evaluation.n_classes))
    weak = [(name, claims, one) for name, claims, one in measured if one]
    if not weak:
        return None
    return Finding(
        observed=joined([(name, one) for name, _, one in weak]),
        expected="a recall of each class not far below the accuracy",
        n=sum(claims.n for _, claims, _ in weak),
        cause="the class is rare among the training rows, or its label means another class there",
        fix="count the class in the training rows, compare the label names, and report recall or F1 per class",
    )


@rule("EVL023", "warning", symptoms=("one class predicted",), says_why=False)
def one_class_without_labels(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class, in a file without true classes

    Measures: the share of the most predicted class where the true classes are not known.

    Threshold: 99.5% of at least 100 rows. A warning, because all texts may belong to this class.

    Why: without true classes neither accuracy nor a collapse can be measured, but few collections of texts are of one
    class only.

    Look-alikes: texts that were selected by their class.

    Fix: label 50 of the rows by hand and compare, or evaluate the model on labelled rows.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    measured = per_split(evaluation, lambda claims: _unlabelled_share(claims, evaluation.n_classes))
    constant = [(name, claims, one) for name, claims, one in measured if one[1] >= ONE_CLASS_SHARE * one[2]]
    if not constant:
        return None
    return Finding(
        observed=joined(
            [(name, f"{of:,} of {n:,} predicted as class {class_name(c, k)}") for name, c, (k, of, n) in constant]
        ),
        expected="predictions of several classes",
        n=sum(n for _, _, (_, _, n) in constant),
        cause="the model does not separate the classes, or all texts are of one class",
        fix="label 50 of the rows by hand and compare, or evaluate the model on labelled rows",
    )


@rule("EVL014", "error", symptoms=("odd probabilities",), says_why=False)
def invalid_probabilities(evaluation: EvaluationEvidence) -> Finding | None:
    """The probabilities are not a distribution, or equal for all rows

    Measures: values that are not finite, negative values, rows that do not sum to 1, and the spread over the rows.

    Threshold: sums of 1 within 0.001 per class (a softmax in bfloat16 is no more precise); a spread above 1e-6 over at
    least 10 rows. Exact invariants.

    Why: calibration and thresholds need a distribution. Equal probabilities for all rows mean that the text has no
    influence on the output.

    Look-alikes: logits instead of probabilities, and independent sigmoids of a multi-label model. Neither is a
    distribution, and both are reported.

    Fix: apply softmax to the logits once, in float32. If all rows are equal, check that the texts reach the model.

    Reference: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    affected = [
        (name, claims.n, message) for name, claims, message in per_split(evaluation, _distribution_fault) if message
    ]
    if not affected:
        return None
    return Finding(
        observed=joined([(name, message) for name, _, message in affected]),
        expected="rows of probabilities that sum to 1 and depend on the text",
        n=sum(n for _, n, _ in affected),
        cause="logits were saved as probabilities, values overflowed, or the output does not depend on the text",
        fix="apply softmax to the logits once, in float32; if all rows are equal, compare the inputs of two texts",
    )


def _ranked_collapse(
    evaluation: EvaluationEvidence, fits: Callable[[float, float], bool], expected: str, cause: str, fix: str
) -> Finding | None:
    collapsed = collapsed_splits(evaluation)
    if not collapsed:
        return None
    only = EvaluationEvidence({name: claims for name, claims, _ in collapsed}, evaluation.n_classes)
    ranked = per_split(only, lambda claims: ranking(claims, evaluation.n_classes))
    affected = [(name, claims, one) for name, claims, one in ranked if fits(one.auc, one.chance_deviation)]
    if not affected:
        return None
    skewed = all(share >= SKEWED_SHARE for _, _, (*_, share) in collapsed)
    return Finding(
        observed=joined([(name, f"one class predicted, AUC {one.auc:.3f}") for name, _, one in affected]),
        expected=expected,
        n=sum(claims.n for _, claims, _ in affected),
        cause=cause,
        fix=fix,
        severity="warning" if skewed else RULE_SEVERITY,
    )


def _lost(claims: ReportedSplit, n_classes: int) -> list[tuple[int, int]]:
    counts = confusion(claims, n_classes)
    if numbering_differs(counts):
        return []
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    return [(int(k), int(support[k])) for k in np.flatnonzero((support >= MIN_SUPPORT) & (predicted == 0))]


def _distribution_fault(claims: ReportedSplit) -> str:
    """What is wrong with the probabilities; empty if nothing."""
    values = distributions(claims)
    rows = len(values)
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        return f"{broken:,} of {rows:,} rows contain NaN or infinity"
    wrong = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3 * values.shape[1])
    if wrong.any():
        return f"{int(wrong.sum()):,} of {rows:,} rows have negative values or do not sum to 1"
    if rows >= MIN_MINORITY and np.ptp(values, axis=0).max() <= SAME_SCORES:
        return f"all {rows:,} rows have the same probabilities"
    return ""


def _weak_classes(claims: ReportedSplit, n_classes: int) -> str:
    """The classes that are hardly ever right, as text; empty if there are none."""
    try:
        counts = confusion(claims, n_classes)
    except CannotTell:
        classes = _recalls(claims)
    else:
        support, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
        classes = [
            (class_name(claims, k), int(right[k]), int(support[k]) if predicted[k] else 0) for k in range(len(counts))
        ]
        if not predicted.all() and len(counts) == 2:
            return ""  # EVL001 judges it.
    if not classes:
        return _macro_gap(claims, n_classes)
    share = accuracy(claims, n_classes)[0]
    weak = [
        f"class {name}: {right:,} of {support:,} rows right"
        for name, right, support in classes
        if support >= MIN_SUPPORT and wilson_interval(right, support, WEAK_CONFIDENCE).high < min(0.5, share / 2)
    ]
    return f"accuracy {share:.4f}, but {', '.join(weak)}" if weak else ""


def _recalls(claims: ReportedSplit) -> list[tuple[str, int, int]]:
    """Name, rows that are right, and rows of each class in a report of all classes; empty if it does not tell."""
    report = claims.report or {}
    classes = []
    for key, entry in report.items():
        if not isinstance(entry, Mapping) or key.endswith(" avg"):
            continue
        recall, support = entry.get("recall"), entry.get("support")
        if not isinstance(recall, int | float) or not isinstance(support, int | float) or not 0 <= recall <= 1:
            return []
        if not 0 <= support < MOST_ROWS:
            return []
        classes.append((key, min(round(recall * support), int(support)), int(support)))
    return classes if "accuracy" in report else []


def _macro_gap(claims: ReportedSplit, n_classes: int) -> str:
    """A macro F1 far below the accuracy, as text; empty if it is not."""
    if claims.macro_f1 is None or claims.accuracy is None:
        raise CannotTell("neither a confusion matrix nor accuracy and macro F1 are known")
    if one_class_of(claims) is not None or is_never_right(claims):
        return ""  # EVL032 judges it.
    if claims.macro_name == "F1" and n_classes == 2:
        is_weak = claims.macro_f1 < min(0.5, claims.accuracy / 2)
    else:
        is_weak = claims.accuracy - claims.macro_f1 >= max(MACRO_GAP, claims.accuracy / (2 * n_classes))
    if not is_weak:
        return ""
    return f"accuracy {claims.accuracy:.4f}, {claims.macro_name} {claims.macro_f1:.4f}"


def _unlabelled_share(claims: ReportedSplit, n_classes: int) -> tuple[int, int, int]:
    """The most predicted class, its rows and all rows; CannotTell if the true classes are known."""
    if claims.labels is not None or claims.confusion is not None:
        raise CannotTell("the true classes are known")
    predicted = class_indices(claims.predicted, n_classes, "predictions")
    if len(predicted) < MIN_UNLABELLED:
        raise CannotTell(f"fewer than {MIN_UNLABELLED} predictions")
    counts = np.bincount(predicted, minlength=n_classes)
    return int(counts.argmax()), int(counts.max()), len(predicted)
