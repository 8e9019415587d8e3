"""Whether the saved numbers of an evaluation agree with each other and with the saved rows."""

from collections import Counter
from collections.abc import Mapping
from math import isfinite

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import (
    claimed_confusion,
    confusion_of_rows,
    is_of_subset,
    joined,
    per_split,
    rounding_of,
)
from tenor.runs.findings import RULE_SEVERITY, Finding

SHOWN = 3
METRICS_SHOWN = 6
MAIN_METRICS = frozenset({"accuracy", "acc", "loss"})
# The spacing of float32 just below 1: many loops store their metrics as float32.
FLOAT32 = 6e-8


@rule("EVL008", "error")
def rows_lost_or_repeated(evaluation: EvaluationEvidence) -> Finding | None:
    """Evaluated rows are missing or repeated

    Measures: the number of evaluated rows compared with the split's, and row ids that occur more than once.

    Threshold: the numbers are equal and no id is repeated; exact invariants.

    Why: `drop_last`, a filter or a distributed sampler that pads the ranks to equal size changes the rows. The result
    then belongs to a different set of rows than it claims.

    Look-alikes: identical texts have different ids and pass.

    Fix: evaluate in one process without `drop_last`, or gather the rows and drop the padding (`gather_for_metrics`).

    Reference: Accelerate documentation, gather_for_metrics.
    """
    faults = [(name, claims, message) for name, claims, message in per_split(evaluation, _row_fault) if message]
    if not faults:
        return None
    return Finding(
        observed=joined([(name, message) for name, _, message in faults]),
        expected="every row of the split once",
        n=sum(claims.n for _, claims, _ in faults),
        cause="the last batch was dropped, or the padding rows of a distributed sampler were counted",
        fix="keep the last batch in evaluation; with several processes, drop the repeated rows after gathering",
    )


@rule("EVL009", "warning")
def accuracy_is_not_a_fraction_of_rows(evaluation: EvaluationEvidence) -> Finding | None:
    """The accuracy does not match a whole number of correct rows

    Measures: the accuracy times the number of rows.

    Threshold: the product is a whole number within half of the last digit written and float32's resolution; the
    accuracy is between 0 and 1. An exact invariant, but only a warning because the number of rows may be the wrong one.

    Why: such a number is a mean over batches (in which the rows of a smaller last batch weigh more) or a mean over
    folds, or it was computed on a different number of rows.

    Look-alikes: accuracies written with too few digits are not judged.

    Fix: count the correct rows of the whole split and divide once.

    Reference: Brown and Heathers 2017, The GRIM Test.
    """
    faults = [(name, claims, message) for name, claims, message in per_split(evaluation, _share_fault) if message]
    if not faults:
        return None
    return Finding(
        observed=joined([(name, message) for name, _, message in faults]),
        expected="a whole number of correct rows",
        n=sum(claims.n for _, claims, _ in faults),
        cause="the accuracy is a mean over batches, or was computed on a different number of rows",
        fix="count the correct rows of the whole split and divide once by the number of rows",
    )


@rule("EVL010", "error")
def report_contradicts_confusion(evaluation: EvaluationEvidence) -> Finding | None:
    """The report contradicts the confusion matrix

    Measures: accuracy, and precision, recall, F1 and support of every class, recomputed from the confusion matrix.

    Threshold: equal within half of the last digit written; an exact invariant. Digits after the sixth are not compared.

    Why: the two were computed from different predictions, or the matrix has its rows and columns swapped.

    Look-alikes: the precision of a class that is never predicted is undefined. It may be 0, 1 or NaN and is not
    compared. A report of some of the classes, which has a micro average in the place of the accuracy, is not compared.

    Fix: compute both from the same two arrays, with true classes as the rows of the matrix.

    Reference: scikit-learn documentation, classification_report and confusion_matrix.
    """
    faults = [(name, claims, wrong) for name, claims, wrong in per_split(evaluation, _report_faults) if wrong]
    if not faults:
        return None
    return Finding(
        observed=joined([(name, ", ".join(f"{w} {s:.6g}" for w, s, _ in wrong[:SHOWN])) for name, _, wrong in faults]),
        expected=joined([(name, ", ".join(f"{w} {s:.6g}" for w, _, s in wrong[:SHOWN])) for name, _, wrong in faults]),
        n=sum(claims.n for _, claims, _ in faults),
        cause="the report and the matrix come from different predictions, or the matrix has true classes as columns",
        fix="compute both from the same labels and predictions, in the order (true, predicted)",
    )


@rule("EVL011", "error", symptoms=("rows contradict metrics",))
def predictions_contradict_metrics(evaluation: EvaluationEvidence) -> Finding | None:
    """The saved predictions contradict the saved metrics

    Measures: the confusion matrix and the accuracy, recomputed from the saved labels and predictions.

    Threshold: equal counts, and an accuracy equal within half of its last digit; exact invariants.

    Why: either the predictions or the metrics belong to another checkpoint or another run, and the files do not say
    which. A matrix that is equal after its rows and columns are exchanged was computed with the arguments in the wrong
    order; precision and recall of its report are exchanged, too.

    Look-alikes: none.

    Fix: evaluate the chosen checkpoint once, and write predictions and metrics from the same arrays.

    Reference: Pineau et al. 2021, Improving Reproducibility in Machine Learning Research.
    """
    measured = per_split(evaluation, lambda claims: _contradiction(claims, evaluation.n_classes))
    faults = [(name, claims, message) for name, claims, message in measured if message]
    if not faults:
        return None
    transposed = all(_is_transposed(claims, evaluation.n_classes) for _, claims, _ in faults)
    return Finding(
        observed=joined([(name, message[0]) for name, _, message in faults]),
        expected=joined([(name, message[1]) for name, _, message in faults]),
        n=sum(claims.n for _, claims, _ in faults),
        cause="true and predicted classes were exchanged where the matrix was computed"
        if transposed
        else "predictions and metrics come from different checkpoints or runs",
        fix="pass them in the order (true, predicted): confusion_matrix(y_true, y_pred)"
        if transposed
        else "evaluate the chosen checkpoint again, and write both from the same arrays",
    )


@rule("EVL012", "error")
def evaluated_in_training_mode(steps: StepEvidence) -> Finding | None:
    """Evaluated in training mode

    Measures: whether a module with dropout was in training mode during a validation.

    Threshold: no module; an exact invariant.

    Why: dropout then removes activations at random. The result is worse than the model, and differs each time.

    Look-alikes: Monte Carlo dropout, which keeps dropout on purpose and runs each row many times.

    Fix: `model.eval()` before the evaluation and `model.train()` after it.

    Reference: Srivastava et al. 2014, Dropout; Gal and Ghahramani 2016, Dropout as a Bayesian Approximation.
    """
    if steps.evaluated_in_training_mode is None:
        raise CannotTell("the mode of the modules during validation was not recorded")
    if not steps.evaluated_in_training_mode:
        return None
    return Finding(
        observed="a module with dropout was in training mode during validation",
        expected="all modules in evaluation mode",
        n=1,
        cause="model.eval() was not called, or model.train() was called before the evaluation ended",
        fix="call model.eval() before the evaluation, and model.train() after it; evaluate again",
    )


@rule("EVL018", "warning", symptoms=("metric not a number",), says_why=False)
def metric_is_nan(evaluation: EvaluationEvidence) -> Finding | None:
    """A recorded metric is NaN or infinite

    Measures: NaN and infinity among the recorded metrics of an evaluation, in every file.

    Threshold: none; an exact invariant. An error for the accuracy or the loss, otherwise a warning.

    Why: NaN compares as neither better nor worse than any number, so such a metric selects nothing and passes every
    threshold.

    Look-alikes: precision and F1 of a class that is never predicted are undefined, and may be NaN.

    Fix: look for a split without rows or with a single class (ROC AUC), a baseline that was not run, or a division by
    zero. If the loss is NaN, see LOS007.

    Reference: IEEE 754-2019, section 5.11 (comparisons with NaN).
    """
    if evaluation.not_numbers is None:
        raise CannotTell("no recorded metrics were searched")
    faults = {place: entries for place, entries in evaluation.not_numbers.items() if entries}
    if not faults:
        return None
    names = [entry.partition(" is ")[0].rpartition(".")[2] for entries in faults.values() for entry in entries]
    return Finding(
        observed=joined([(place, _first_of(entries)) for place, entries in faults.items()]),
        expected="finite numbers",
        n=len(names),
        cause="the metric was computed on zero rows, or from a loss or a baseline that is NaN",
        fix="recompute it from the saved predictions; record a missing value as missing, with the reason",
        severity="error" if any(name.removeprefix("eval_") in MAIN_METRICS for name in names) else RULE_SEVERITY,
    )


@rule("EVL022", "warning", explains=("no result",))
def never_evaluated(steps: StepEvidence) -> Finding | None:
    """The run has no evaluation

    Measures: results on held-out rows among the files of a run that trained.

    Threshold: none at all. Judged once an epoch or 90% of the planned steps are done.

    Why: a training loss does not show whether the model works on other texts: it falls for memorized and for leaked
    rows as well. Without a validation, no checkpoint can be chosen.

    Look-alikes: a run that is evaluated by another program, whose result is stored elsewhere.

    Fix: validate at least once per epoch (`eval_strategy="epoch"` in `transformers`, whose default is "no"), and save
    the result next to the checkpoint.

    Reference: Dodge et al. 2019, Show Your Work.
    """
    if not steps.ended or steps.has_evaluation is None:
        raise CannotTell("the run's files were not searched for an evaluation")
    if steps.has_evaluation:
        return None
    last = steps.last_step or int(np.max(steps.steps, initial=0))
    done = (steps.epochs or 0) >= 1 or last >= 0.9 * (steps.total_steps or 0)
    if not done:
        raise CannotTell("the run ended before its first epoch was complete")
    return Finding(
        observed=f"{last:,} steps, and no result on held-out rows",
        expected="an evaluation on rows that were not trained on",
        n=len(steps.steps),
        cause="no evaluation was configured, or its results are stored elsewhere",
        fix="evaluate the model on held-out rows, and validate once per epoch in the next run",
    )


def _first_of(entries: tuple[str, ...]) -> str:
    more = len(entries) - METRICS_SHOWN
    return ", ".join(entries[:METRICS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _row_fault(claims: ReportedSplit) -> str:
    if claims.expected_n is None and claims.ids is None:
        raise CannotTell("neither the split's number of rows nor the row ids are known")
    parts = []
    if claims.expected_n is not None and claims.n != claims.expected_n:
        parts.append(f"{claims.n:,} rows were evaluated, the split has {claims.expected_n:,}")
    repeated = [row for row, times in Counter(claims.ids or ()).items() if times > 1]
    if repeated:
        parts.append(f"{len(repeated):,} ids occur more than once, such as {', '.join(map(str, repeated[:SHOWN]))}")
    return " and ".join(parts)


def _share_fault(claims: ReportedSplit) -> str:
    if claims.accuracy is None or not claims.n:
        raise CannotTell("the accuracy or the number of rows is not known")
    if not isfinite(claims.accuracy) or not 0 <= claims.accuracy <= 1:
        return f"the accuracy is {claims.accuracy:g}"
    right, rounding = claims.accuracy * claims.n, rounding_of(claims.accuracy) * claims.n
    off = abs(right - round(right))
    if off > FLOAT32 * claims.n and rounding >= 0.25:
        raise CannotTell("the accuracy has too few digits for this number of rows")
    return (
        "" if off <= rounding else f"accuracy {claims.accuracy:g} of {claims.n:,} rows gives {right:.3f} correct rows"
    )


def _report_faults(claims: ReportedSplit) -> list[tuple[str, float, float]]:
    """Entries of the report that differ from the matrix: (name, reported, recomputed)."""
    counts = claimed_confusion(claims)
    reported = dict(_reported(claims, len(counts)))
    if not reported:
        raise CannotTell("there is a confusion matrix, but neither a report nor an accuracy")
    computed = _recomputed(counts)
    return [
        (name, value, computed[name])
        for name, value in reported.items()
        if name in computed and isfinite(value) and abs(value - computed[name]) > max(rounding_of(value), 1e-6)
    ]


def _reported(claims: ReportedSplit, n_classes: int) -> list[tuple[str, float]]:
    report = claims.report or {}
    reported = [("accuracy", claims.accuracy), ("accuracy", report.get("accuracy"))]
    entries = [(key, value) for key, value in report.items() if isinstance(value, Mapping) and " avg" not in key]
    if all(key.isdecimal() for key, _ in entries):  # JSON with sorted keys has 10 before 2.
        entries.sort(key=lambda entry: int(entry[0]))
    if len(entries) == n_classes and not is_of_subset(report):
        reported += [(f"{name} of class {k}", e.get(name)) for k, (_, e) in enumerate(entries) for name in e]
    return [(name, float(value)) for name, value in reported if isinstance(value, int | float)]


def _recomputed(counts: np.ndarray) -> dict[str, float]:
    """The accuracy, and precision, recall, F1 and support of each class; undefined values are left out."""
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


def _is_transposed(claims: ReportedSplit, n_classes: int) -> bool:
    """Whether the saved matrix has the predicted classes of the rows as its rows."""
    return claims.confusion is not None and np.array_equal(
        claimed_confusion(claims), confusion_of_rows(claims, n_classes).T
    )


def _contradiction(claims: ReportedSplit, n_classes: int) -> tuple[str, str] | None:
    """(saved, recomputed) in words, where they differ."""
    counts = confusion_of_rows(claims, n_classes)
    if claims.confusion is None and claims.accuracy is None:
        raise CannotTell("there are predictions, but no metrics")
    if claims.confusion is not None and not np.array_equal(claimed_confusion(claims), counts):
        saved = claimed_confusion(claims)
        return f"saved confusion matrix {saved.tolist()}", f"{counts.tolist()}, from the saved predictions"
    share = float(np.trace(counts) / counts.sum())
    if claims.accuracy is not None and not abs(claims.accuracy - share) <= max(rounding_of(claims.accuracy), 1e-6):
        return f"saved accuracy {claims.accuracy:.6g}", f"{share:.6g}, from the saved predictions"
    return None
