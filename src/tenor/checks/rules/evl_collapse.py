"""Collapse: results in which classes are missing from the predictions."""

from collections.abc import Callable

import numpy as np

from tenor.checks.evidence import EvaluationEvidence, SplitClaims
from tenor.checks.finding import OWN, CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import class_name, confusion, distributions, joined, per_split, ranking

# One stray prediction in 200 is still a collapse; sound models of sets as skewed as 99/1 lie below it.
ONE_CLASS_SHARE = 0.995
# So improbable must the predictions be for a model that draws classes at the labels' rates; tests per run are few.
ALPHA = 1e-3
# Above this share of one label, predicting it alone may be the best that weak evidence allows.
SKEWED_SHARE = 0.9
MIN_MINORITY = 10
# "Acceptable discrimination" begins at 0.7 (Hosmer and Lemeshow 2000); below 0.6 is next to a coin.
GOOD_AUC = 0.7
POOR_AUC = 0.6
# 99.9% of the AUCs of scores that know nothing lie within so many deviations.
DEVIATIONS = 3.29
# A class this frequent that is never predicted is beyond chance for any model that knows it.
MIN_SUPPORT = 20
SAME_SCORES = 1e-6


def collapse(claims: SplitClaims, n_classes: int) -> tuple[int, int, int, float] | None:
    """(class, rows predicted as it, rows, its share among the labels) where nearly all predictions are one class."""
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


def collapsed_splits(evaluation: EvaluationEvidence) -> list[tuple[str, SplitClaims, tuple[int, int, int, float]]]:
    """The splits with nearly one class predicted."""
    found = per_split(evaluation, lambda claims: collapse(claims, evaluation.n_classes))
    return [(name, claims, one) for name, claims, one in found if one is not None]


@rule(
    "EVL001",
    "error",
    symptoms=("bad result", "one class predicted"),
    explains=("class never predicted", "low accuracy"),
    says_why=False,
)
def one_class_predicted(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class

    Measures: the share of rows that are predicted as the most predicted class, beside that class's share of the labels.

    Threshold: 99.5%, while the labels hold at least 10 rows of other classes, and where a model that drew its classes
    at the labels' rates would do so with a probability below 0.001. A warning where one label has 90% or more.

    Why: an accuracy of 50% on balanced classes looks like a weak model and is none at all. It is a symptom: the cause
    lies in the data, the loss, the optimizer, the freezing, or in which checkpoint was evaluated.

    Look-alikes: very skewed classes, for which the most frequent may rightly be predicted nearly always; tiny splits.

    Fix: look at the label counts of the rows that trained first, then at the first finding that explains this one.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks.
    """
    found = collapsed_splits(evaluation)
    if not found:
        return None
    return Finding(
        observed=joined(
            [
                (name, f"{k_n:,} of {rows:,} predicted as class {class_name(claims, k)}")
                for name, claims, (k, k_n, rows, _) in found
            ]
        ),
        expected=joined(
            [
                (name, f"class {class_name(claims, k)} is {share:.1%} of the labels")
                for name, claims, (k, _, _, share) in found
            ]
        ),
        n=sum(rows for _, _, (_, _, rows, _) in found),
        cause="the model tells the classes apart nowhere, or its threshold lies outside its scores",
        fix="count the labels of the rows that trained; then follow the first finding that explains this one",
        severity="warning" if all(share >= SKEWED_SHARE for _, _, (*_, share) in found) else OWN,
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

    Measures: the area under the ROC curve (for K > 2 its mean over classes against the rest) of the splits in which
    nearly all predictions are one class.

    Threshold: 0.7 or more ("acceptable", Hosmer and Lemeshow), and 3.29 deviations (p = 0.001) above 0.5.

    Why: the model has learned to tell the classes apart; only the decision is wrong. Training again would be a waste.

    Look-alikes: none where the labels are not skewed; with 95/5 a high AUC and no positive prediction is common, so
    that is a warning.

    Fix: set the threshold (or correct the bias) on validation rows; then look for what shifted it: skewed training
    labels, class weights, a head that learned too briefly.

    Reference: Hosmer and Lemeshow 2000, Applied Logistic Regression; Provost 2000, Learning from Imbalanced Data Sets
    101.
    """
    return _ranked_collapse(
        evaluation,
        lambda auc, deviation: auc >= GOOD_AUC and auc > 0.5 + DEVIATIONS * deviation,
        expected="predictions of every class, as the scores tell the classes apart",
        cause="the decision is wrong, not the ranking: a threshold or a bias lies beyond the scores",
        fix="choose the threshold on the validation rows, and look for skewed training labels or class weights",
    )


@rule("EVL003", "error", symptoms=("bad result",), explains=("low accuracy",), says_why=False)
def one_class_and_no_ranking(evaluation: EvaluationEvidence) -> Finding | None:
    """All predictions are one class and the scores rank no better than chance

    Measures: the same area under the ROC curve as EVL002.

    Threshold: between 0.4 and 0.6; a coin gives 0.5. CannotTell where chance alone would reach beyond 0.7.

    Why: nothing that tells the classes apart was learned, so no threshold can help; the fault lies before the decision.

    Look-alikes: a run that was meant to learn nothing, such as one step for a smoke test.

    Fix: look at data, loss and optimizer, in this order; don't tune the threshold.

    Reference: Hosmer and Lemeshow 2000, Applied Logistic Regression.
    """
    return _ranked_collapse(
        evaluation,
        lambda auc, deviation: 1 - POOR_AUC <= auc <= POOR_AUC and DEVIATIONS * deviation < GOOD_AUC - 0.5,
        expected=f"an AUC above {GOOD_AUC}",
        cause="nothing was learned, or other weights than the learned ones were evaluated",
        fix="look at labels, loss and optimizer before the decision; a threshold can't mend it",
    )


@rule("EVL013", "warning", symptoms=("bad result", "class never predicted"), says_why=False)
def class_never_predicted(evaluation: EvaluationEvidence) -> Finding | None:
    """A class is never predicted

    Measures: classes with true rows in a split and no prediction, for more than two classes.

    Threshold: at least 20 true rows; a model with a recall of 20% would predict such a class with probability 0.99.

    Why: accuracy and weighted F1 hide a class that is lost; often its rows, or its label, are missing from training.

    Look-alikes: rare classes of few rows pass. Neutral classes between two poles are often lost by weak models.

    Fix: count the class among the rows that trained and compare its label in training and evaluation; then weigh it,
    or train longer.

    Reference: Grandini et al. 2020, Metrics for Multi-Class Classification.
    """
    if evaluation.n_classes < 3:
        raise CannotTell("there are only two classes")
    found = per_split(evaluation, lambda claims: _lost(claims, evaluation.n_classes))
    lost = [
        (name, f"class {class_name(claims, k)} ({support:,} rows)")
        for name, claims, pairs in found
        for k, support in pairs
    ]
    if not lost:
        return None
    return Finding(
        observed=f"never predicted: {joined(lost)}",
        expected=f"some prediction of every class with {MIN_SUPPORT} rows or more",
        n=sum(support for _, _, pairs in found for _, support in pairs),
        cause="the class is missing or rare among the rows that trained, or its label means another class there",
        fix="count the class among the rows that trained, and compare label names on both sides",
    )


@rule("EVL014", "error", symptoms=("odd probabilities",), says_why=False)
def no_distribution(evaluation: EvaluationEvidence) -> Finding | None:
    """The probabilities are no distribution, or the same for every row

    Measures: values that are not finite, negative ones, rows that don't sum to 1, and the spread over rows.

    Threshold: sums within 0.001 per class of 1 (a softmax in bfloat16 is no better); a spread above 1e-6 over at least
    10 rows. Exact invariants.

    Why: what is no distribution has no calibration and no threshold; equal probabilities mean that the text has no
    influence on the output.

    Look-alikes: logits in the place of probabilities, and independent sigmoids of several labels: both are no
    distribution and are told so.

    Fix: softmax the logits once, in float32. Where all rows are equal, check that the texts reach the model.

    Reference: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    found = [(name, claims.n, said) for name, claims, said in per_split(evaluation, _distribution_fault) if said]
    if not found:
        return None
    return Finding(
        observed=joined([(name, said) for name, _, said in found]),
        expected="rows of probabilities that sum to 1 and depend on the text",
        n=sum(n for _, n, _ in found),
        cause="logits were saved for probabilities, numbers overflowed, or the output does not depend on the text",
        fix="softmax the logits once, in float32; if all rows are equal, compare the model's inputs for two texts",
    )


def _ranked_collapse(
    evaluation: EvaluationEvidence, fits: Callable[[float, float], bool], expected: str, cause: str, fix: str
) -> Finding | None:
    collapsed = collapsed_splits(evaluation)
    if not collapsed:
        return None
    only = EvaluationEvidence({name: claims for name, claims, _ in collapsed}, evaluation.n_classes)
    ranked = per_split(only, lambda claims: ranking(claims, evaluation.n_classes))
    found = [(name, claims, found) for name, claims, found in ranked if fits(found.auc, found.chance_deviation)]
    if not found:
        return None
    skewed = all(share >= SKEWED_SHARE for _, _, (*_, share) in collapsed)
    return Finding(
        observed=joined([(name, f"one class predicted, AUC {one.auc:.3f}") for name, _, one in found]),
        expected=expected,
        n=sum(claims.n for _, claims, _ in found),
        cause=cause,
        fix=fix,
        severity="warning" if skewed else OWN,
    )


def _lost(claims: SplitClaims, n_classes: int) -> list[tuple[int, int]]:
    counts = confusion(claims, n_classes)
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    return [(int(k), int(support[k])) for k in np.flatnonzero((support >= MIN_SUPPORT) & (predicted == 0))]


def _distribution_fault(claims: SplitClaims) -> str:
    """What is wrong with the probabilities, or nothing."""
    values = distributions(claims)
    rows = len(values)
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        return f"{broken:,} of {rows:,} rows hold NaN or infinity"
    wrong = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3 * values.shape[1])
    if wrong.any():
        return f"{int(wrong.sum()):,} of {rows:,} rows are negative somewhere or don't sum to 1"
    if rows >= MIN_MINORITY and np.ptp(values, axis=0).max() <= SAME_SCORES:
        return f"all {rows:,} rows have the same probabilities"
    return ""
