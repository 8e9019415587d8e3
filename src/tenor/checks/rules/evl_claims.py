"""Claims: whether the numbers that were kept of an evaluation agree with each other and with its rows."""

from collections import Counter
from collections.abc import Mapping
from math import isfinite

import numpy as np

from tenor.checks.evidence import EvaluationEvidence, SplitClaims, StepEvidence
from tenor.checks.finding import OWN, CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import claimed_confusion, confusion_of_rows, joined, per_split, rounding_of

SHOWN = 3
METRICS_SHOWN = 6
MAIN_METRICS = frozenset({"accuracy", "acc", "loss"})
# The spacing of float32 just below 1, in which many loops keep their metrics.
FLOAT32 = 6e-8


@rule("EVL008", "error")
def rows_lost_or_repeated(evaluation: EvaluationEvidence) -> Finding | None:
    """Evaluated rows were lost or repeated

    Measures: the number of evaluated rows beside the split's, and row ids that occur twice.

    Threshold: equal, and none; exact invariants.

    Why: `drop_last`, a filter or a distributed sampler that evens out ranks changes the rows, and the result is one
    of another set than it says.

    Look-alikes: texts that occur twice have ids of their own and pass.

    Fix: evaluate in one process without `drop_last`, or gather and cut the padding (`gather_for_metrics`).

    Reference: Accelerate documentation, gather_for_metrics.
    """
    found = [(name, claims, said) for name, claims, said in per_split(evaluation, _row_fault) if said]
    if not found:
        return None
    return Finding(
        observed=joined([(name, said) for name, _, said in found]),
        expected="every row of the split once",
        n=sum(claims.n for _, claims, _ in found),
        cause="a last batch was dropped, or padding rows of a distributed sampler were counted",
        fix="don't drop the last batch in evaluation; with several processes, cut the repeated rows after gathering",
    )


@rule("EVL009", "warning")
def accuracy_is_no_share(evaluation: EvaluationEvidence) -> Finding | None:
    """The accuracy is no share of the rows

    Measures: the accuracy times the number of rows.

    Threshold: a whole number within half the last digit written, and float32's resolution; from 0 to 1. An exact
    invariant, and a warning because the number of rows may be what is wrong.

    Why: such a number is a mean over batches, in which the rows of a smaller last batch weigh more, or a mean over
    folds, or belongs to another number of rows.

    Look-alikes: accuracies written with too few digits to tell are not judged.

    Fix: count right rows over the whole split and divide once.

    Reference: Brown and Heathers 2017, The GRIM Test.
    """
    found = [(name, claims, said) for name, claims, said in per_split(evaluation, _share_fault) if said]
    if not found:
        return None
    return Finding(
        observed=joined([(name, said) for name, _, said in found]),
        expected="a whole number of right rows",
        n=sum(claims.n for _, claims, _ in found),
        cause="the accuracy is a mean over batches, or belongs to other rows",
        fix="count the right rows of the whole split and divide by their number, once",
    )


@rule("EVL010", "error")
def report_contradicts_confusion(evaluation: EvaluationEvidence) -> Finding | None:
    """The report contradicts the confusion matrix

    Measures: accuracy, and precision, recall, F1 and support of every class, recomputed from the confusion matrix.

    Threshold: equal within half the last digit written; an exact invariant. Digits beyond the sixth are not compared.

    Why: the two were computed from different predictions, or the matrix has its rows and columns exchanged.

    Look-alikes: undefined precision (nothing predicted) may be 0, 1 or NaN and is not compared.

    Fix: compute both from the same two arrays, with rows as true classes.

    Reference: scikit-learn documentation, classification_report and confusion_matrix.
    """
    found = [(name, claims, wrong) for name, claims, wrong in per_split(evaluation, _report_faults) if wrong]
    if not found:
        return None
    return Finding(
        observed=joined([(name, ", ".join(f"{w} {s:.6g}" for w, s, _ in wrong[:SHOWN])) for name, _, wrong in found]),
        expected=joined([(name, ", ".join(f"{w} {s:.6g}" for w, _, s in wrong[:SHOWN])) for name, _, wrong in found]),
        n=sum(claims.n for _, claims, _ in found),
        cause="report and matrix come from different predictions, or the matrix has true classes in its columns",
        fix="compute both from the same labels and predictions, in the order (true, predicted)",
    )


@rule("EVL011", "error")
def predictions_contradict_metrics(evaluation: EvaluationEvidence) -> Finding | None:
    """The saved predictions contradict the saved metrics

    Measures: the confusion matrix and the accuracy, recomputed from the saved labels and predictions.

    Threshold: equal counts, and an accuracy equal within half its last digit; exact invariants.

    Why: either the predictions or the metrics belong to another checkpoint or another run, and no one knows which.

    Look-alikes: none.

    Fix: evaluate the chosen checkpoint once, and write predictions and metrics from the same arrays.

    Reference: Pineau et al. 2021, Improving Reproducibility in Machine Learning Research.
    """
    measured = per_split(evaluation, lambda claims: _contradiction(claims, evaluation.n_classes))
    found = [(name, claims, said) for name, claims, said in measured if said]
    if not found:
        return None
    return Finding(
        observed=joined([(name, said[0]) for name, _, said in found]),
        expected=joined([(name, said[1]) for name, _, said in found]),
        n=sum(claims.n for _, claims, _ in found),
        cause="predictions and metrics come from different checkpoints or runs",
        fix="evaluate the chosen checkpoint once more, and write both from the same arrays",
    )


@rule("EVL012", "error")
def evaluated_in_training_mode(steps: StepEvidence) -> Finding | None:
    """Evaluated in training mode

    Measures: whether a module with dropout was in training mode during a validation.

    Threshold: none may be; an exact invariant.

    Why: dropout then removes activations at random: the result is worse than the model, and differs each time.

    Look-alikes: Monte Carlo dropout, which does it on purpose, many times per row.

    Fix: `model.eval()` before the evaluation and `model.train()` after it.

    Reference: Srivastava et al. 2014, Dropout; Gal and Ghahramani 2016, Dropout as a Bayesian Approximation.
    """
    if steps.evaluated_in_training_mode is None:
        raise CannotTell("the mode of the modules during validation was not recorded")
    if not steps.evaluated_in_training_mode:
        return None
    return Finding(
        observed="a module with dropout was in training mode during validation",
        expected="every module in evaluation mode",
        n=1,
        cause="model.eval() is missing, or undone before the evaluation ends",
        fix="call model.eval() before the evaluation, and model.train() after it; evaluate again",
    )


@rule("EVL018", "warning", symptoms=("metric not a number",), says_why=False)
def metric_is_not_a_number(evaluation: EvaluationEvidence) -> Finding | None:
    """A recorded metric is not a number

    Measures: NaN and infinity among the metrics of an evaluation, wherever they are recorded.

    Threshold: none; an exact invariant. An error where it is the accuracy or the loss, else a warning.

    Why: a metric that could not be computed compares as neither better nor worse than any other, so that it selects
    nothing and passes every threshold.

    Look-alikes: precision and F1 of a class that is never predicted are undefined, and may be NaN.

    Fix: look for a split without rows or with one class (ROC AUC), a baseline that was not run, a division by zero;
    where the loss is NaN, see LOS007.

    Reference: IEEE 754-2019, section 5.11 (comparisons with NaN).
    """
    if evaluation.not_numbers is None:
        raise CannotTell("no record of metrics was searched")
    found = {place: said for place, said in evaluation.not_numbers.items() if said}
    if not found:
        return None
    names = [one.partition(" is ")[0].rpartition(".")[2] for said in found.values() for one in said]
    return Finding(
        observed=joined([(place, _first_ones(said)) for place, said in found.items()]),
        expected="finite numbers",
        n=len(names),
        cause="the metric was computed on no rows, or from a loss or a baseline that is not a number",
        fix="compute it again by hand from the saved predictions; record what is missing as missing, with the reason",
        severity="error" if any(name.removeprefix("eval_") in MAIN_METRICS for name in names) else OWN,
    )


def _first_ones(said: tuple[str, ...]) -> str:
    more = len(said) - METRICS_SHOWN
    return ", ".join(said[:METRICS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _row_fault(claims: SplitClaims) -> str:
    if claims.expected_n is None and claims.ids is None:
        raise CannotTell("neither the split's number of rows nor the rows' ids are known")
    said = []
    if claims.expected_n is not None and claims.n != claims.expected_n:
        said.append(f"{claims.n:,} rows were evaluated, the split has {claims.expected_n:,}")
    repeated = [row for row, times in Counter(claims.ids or ()).items() if times > 1]
    if repeated:
        said.append(f"{len(repeated):,} ids occur more than once, such as {', '.join(map(str, repeated[:SHOWN]))}")
    return " and ".join(said)


def _share_fault(claims: SplitClaims) -> str:
    if claims.accuracy is None or not claims.n:
        raise CannotTell("accuracy and number of rows are not both known")
    if not isfinite(claims.accuracy) or not 0 <= claims.accuracy <= 1:
        return f"the accuracy is {claims.accuracy:g}"
    right, rounding = claims.accuracy * claims.n, rounding_of(claims.accuracy) * claims.n
    off = abs(right - round(right))
    if off > FLOAT32 * claims.n and rounding >= 0.25:
        raise CannotTell("the accuracy is written with too few digits for so many rows")
    return "" if off <= rounding else f"{claims.accuracy:g} of {claims.n:,} rows are {right:.3f}"


def _report_faults(claims: SplitClaims) -> list[tuple[str, float, float]]:
    """What the report says otherwise than the matrix: (name, said, recomputed)."""
    counts = claimed_confusion(claims)
    said = dict(_said(claims, len(counts)))
    if not said:
        raise CannotTell("there is no report, and no accuracy, beside the confusion matrix")
    computed = _recomputed(counts)
    return [
        (name, value, computed[name])
        for name, value in said.items()
        if name in computed and isfinite(value) and abs(value - computed[name]) > max(rounding_of(value), 1e-6)
    ]


def _said(claims: SplitClaims, n_classes: int) -> list[tuple[str, float]]:
    report = claims.report or {}
    said = [("accuracy", claims.accuracy), ("accuracy", report.get("accuracy"))]
    entries = [(key, value) for key, value in report.items() if isinstance(value, Mapping) and " avg" not in key]
    if len(entries) == n_classes:
        said += [(f"{name} of class {k}", e.get(name)) for k, (_, e) in enumerate(entries) for name in e]
    return [(name, float(value)) for name, value in said if isinstance(value, int | float)]


def _recomputed(counts: np.ndarray) -> dict[str, float]:
    """Accuracy and every class's numbers; undefined ones are left out."""
    right, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    values = {"accuracy": float(right.sum() / counts.sum())}
    for k in range(len(counts)):
        values[f"support of class {k}"] = float(support[k])
        if support[k]:
            values[f"recall of class {k}"] = float(right[k] / support[k])
        if predicted[k]:
            values[f"precision of class {k}"] = float(right[k] / predicted[k])
        if support[k] and predicted[k]:
            values[f"f1-score of class {k}"] = float(2 * right[k] / (support[k] + predicted[k]))
    return values


def _contradiction(claims: SplitClaims, n_classes: int) -> tuple[str, str] | None:
    """What is said and what the rows give, where they differ."""
    counts = confusion_of_rows(claims, n_classes)
    if claims.confusion is None and claims.accuracy is None:
        raise CannotTell("there are predictions, but no metrics beside them")
    if claims.confusion is not None and not np.array_equal(claimed_confusion(claims), counts):
        saved = claimed_confusion(claims)
        return f"saved confusion matrix {saved.tolist()}", f"{counts.tolist()}, from the saved predictions"
    share = float(np.trace(counts) / counts.sum())
    if claims.accuracy is not None and not abs(claims.accuracy - share) <= max(rounding_of(claims.accuracy), 1e-6):
        return f"saved accuracy {claims.accuracy:.6g}", f"{share:.6g}, from the saved predictions"
    return None
