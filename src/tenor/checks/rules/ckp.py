"""Checkpoints: whether the evaluated weights are known, saved, and the best of the run."""

import re

from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.runs.findings import Finding

LARGER = frozenset(
    {
        *("accuracy", "acc", "f1", "f1score", "f2", "fbeta", "macrof1", "microf1", "precision", "recall"),
        *("sensitivity", "specificity", "true", "auc", "auroc", "auprc", "rocauc", "prauc", "mcc", "matthews"),
        *("correlation", "pearson", "spearman", "kappa", "qwk", "jaccard", "iou", "gmean", "r2", "likelihood"),
        *("match", "correct", "tpr", "tnr", "bleu", "rouge"),
    }
)
SMALLER = frozenset(
    {
        *("loss", "error", "err", "mae", "mse", "rmse", "mape", "brier", "ece", "mce", "nll", "bce", "xent"),
        *("crossentropy", "cross", "perplexity", "ppl", "hamming", "hinge", "deviance", "false", "fpr", "fnr"),
        *("wer", "cer", "eer"),
    }
)
NEGATIVE = frozenset({"neg", "negative"})
"""Part of a class name ("f1_negative"), or a minus sign ("neg_log_loss")."""
QUALIFIERS = NEGATIVE | frozenset(
    {
        *("eval", "val", "valid", "validation", "dev", "test", "train", "training", "macro", "micro", "weighted"),
        *("samples", "mean", "avg", "average", "median", "max", "total", "overall", "score", "rate", "value", "top"),
        *("class", "label", "binary", "multiclass", "multilabel", "ovr", "ovo", "balanced", "squared", "absolute"),
        *("root", "log", "sk", "pos", "positive", "positives", "negatives", "neutral", "neu", "epoch", "expected"),
        *("calibration", "entropy", "classification", "categorical", "sparse", "focal", "exact", "roc", "pr", "cohen"),
        *("cohens", "coefficient", "corrcoef", "under", "curve", "area", "smooth", "smoothed"),
    }
)
CONTRADICTIONS = (frozenset({"hamming", "score"}),)
"""Words whose combination means the opposite; a Hamming score is one minus the Hamming loss."""


def larger_is_better(name: str) -> bool | None:
    """True for an accuracy, False for a loss, None if the name does not determine the direction.

    Every word of the name must be known, because "accuracy_drop" and "brier_skill_score" reverse the direction.
    """
    words = {word for word in re.split(r"[^a-z0-9]+", name.lower()) if word}
    words = {word for word in words if not re.fullmatch(r"(top|class|label|at)?\d+", word)}
    larger, smaller = words & LARGER, words & SMALLER
    if words - LARGER - SMALLER - QUALIFIERS or any(pair <= words for pair in CONTRADICTIONS):
        return None
    if words & NEGATIVE and larger == {"likelihood"} and not smaller:
        return False
    if bool(larger) == bool(smaller) or (words & NEGATIVE and smaller - {"false"}):
        return None
    return bool(larger)


SUCCESS_WORDS = frozenset({"ok", "completed", "complete", "success", "succeeded", "done", "finished"})
# Common loops log metrics with 4 to 6 digits; a smaller difference may be rounding.
ROUNDING = 1e-6
DIGEST_SHOWN = 12


def best_validation(validations: tuple[ValidationPoint, ...], larger: bool) -> ValidationPoint:
    """The validation with the largest value (or smallest, if not `larger`), the first of ties; NaN counts as worst."""
    sign = 1.0 if larger else -1.0
    return max(validations, key=lambda point: sign * point.value if point.value == point.value else float("-inf"))


def direction(checkpoint: CheckpointEvidence) -> bool:
    """Whether larger values of the selection metric are better; raises CannotTell if record and name do not say it."""
    larger = checkpoint.larger_is_better
    if larger is None and checkpoint.metric is not None:
        larger = larger_is_better(checkpoint.metric)
    if larger is None:
        metric = checkpoint.metric or "the selection metric"
        raise CannotTell(f"whether a larger or smaller {metric} is better is not known{_why(checkpoint)}")
    return larger


def trace_gap(checkpoint: CheckpointEvidence) -> str | None:
    """Why the checkpoint cannot be found, in words; None if it can."""
    if checkpoint.path_recorded and checkpoint.path is None:
        return "the recorded path is null"
    if checkpoint.path is not None and checkpoint.exists is False:
        return f"the recorded path {checkpoint.path} does not exist"
    return None


@rule("CKP001", "error", explains=("bad result",), settled_by="the log of validations, and the selected step")
def selected_is_not_best(checkpoint: CheckpointEvidence) -> Finding | None:
    """The selected checkpoint is not the best one in the log

    Measures: the selection metric at the selected checkpoint and its best value over all validations of the log. The
    direction comes from the metric's name (accuracy, F1, loss, Brier score, …), otherwise from the run's own arguments
    (`greater_is_better`). If neither determines it, nothing is judged.

    Threshold: no validation may be better by more than 1e-6, the rounding of logged metrics; an exact invariant.

    Why: a selection that compares in the wrong direction (a maximized loss, a minimized score) or keeps the last
    checkpoint reports a worse model than the run produced, sometimes an untrained one.

    Look-alikes: any of several tied validations may be selected. A run that keeps its last weights on purpose selects
    nothing; pass no selected step for it.

    Fix: select by the metric in its direction (`greater_is_better` in `transformers`), load that checkpoint before the
    evaluation, and evaluate again; in Tenor `training.select_by`.

    Reference: Prechelt 1998, Early Stopping - But When?
    """
    if checkpoint.chosen_step is None or not checkpoint.validations:
        raise CannotTell(f"the selected step, or a log of the selection metric, is not known{_why(checkpoint)}")
    larger = direction(checkpoint)
    best = best_validation(checkpoint.validations, larger)
    chosen = [point for point in checkpoint.validations if point.step == checkpoint.chosen_step]
    if not chosen:
        raise CannotTell(f"the log has no validation at the selected step {checkpoint.chosen_step:,}")
    value = best_validation(tuple(chosen), larger).value
    gain = best.value - value if larger else value - best.value
    if not gain > ROUNDING and (value == value or best.value != best.value):
        return None
    metric, better = checkpoint.metric or "the selection metric", "larger" if larger else "smaller"
    return Finding(
        observed=f"step {checkpoint.chosen_step:,} was selected: {metric} {value:.6g} ({better} is better)",
        expected=f"step {best.step:,}: {metric} {best.value:.6g}",
        n=len(checkpoint.validations),
        cause="the selection compares in the wrong direction, the last weights were kept, or the best were not saved",
        fix=f"load the checkpoint of step {best.step:,}, evaluate it, and correct the direction of the comparison",
    )


@rule(
    "CKP002",
    "error",
    explains=("bad result",),
    training_loss="fell",
    settled_by="digests of the selected and of the evaluated checkpoint",
)
def evaluated_is_not_selected(checkpoint: CheckpointEvidence) -> Finding | None:
    """The evaluated checkpoint is not the selected one

    Measures: the digest (otherwise the step) of the evaluated weights compared with that of the selected checkpoint.

    Threshold: equal; an exact invariant.

    Why: a result of other weights than those that are shipped says nothing about them. Newly initialized weights,
    loaded by mistake, predict one class.

    Look-alikes: averaged or quantized weights differ from the checkpoint on purpose; pass their own digest as the
    selected one.

    Fix: load the selected checkpoint directly before the evaluation, compare digests, and evaluate again.

    Reference: Pineau et al. 2021, Improving Reproducibility in Machine Learning Research.
    """
    digests = (checkpoint.chosen_digest, checkpoint.evaluated_digest)
    steps = (checkpoint.chosen_step, checkpoint.evaluated_step)
    if None not in digests:
        kind, chosen, evaluated = "digest", *(str(digest)[:DIGEST_SHOWN] for digest in digests)
        same = digests[0] == digests[1]
    elif None not in steps:
        kind, chosen, evaluated = "step", *(f"{step:,}" for step in steps)
        same = steps[0] == steps[1]
    else:
        raise CannotTell("neither digests nor steps are recorded for both the selected and the evaluated checkpoint")
    if same:
        return None
    return Finding(
        observed=f"evaluated: {kind} {evaluated}",
        expected=f"the selected checkpoint: {kind} {chosen}",
        n=1,
        cause="other weights than the selected ones were loaded or in memory when the model was evaluated",
        fix="load the selected checkpoint directly before the evaluation, compare its digest, and evaluate again",
    )


@rule("CKP003", "error", explains=("no result",))
def checkpoint_missing(checkpoint: CheckpointEvidence) -> Finding | None:
    """The run has no checkpoint

    Measures: whether the run's record names a checkpoint, and whether that path exists.

    Threshold: a recorded path is not null, and exists; an exact invariant.

    Why: without a checkpoint, the weights behind the reported numbers cannot be identified, loaded, checked or shipped.

    Look-alikes: a record without a field for a path is not judged, nor is a path on another machine.

    Fix: save the best checkpoint during training, record its path and digest, and let the run fail if that is not
    possible; in Tenor every completed run has a checkpoint.

    Reference: Pineau et al. 2021, Improving Reproducibility in Machine Learning Research.
    """
    gap = trace_gap(checkpoint)
    if gap is None:
        if checkpoint.path is None or checkpoint.exists is None:
            raise CannotTell("there is no recorded checkpoint path that can be checked on this machine")
        return None
    return Finding(
        observed=gap,
        expected="the path of a checkpoint that exists",
        n=1,
        cause="no checkpoint was saved, or it was moved, deleted or not recorded",
        fix="save the best checkpoint, record its path and digest, and evaluate from the file, not from memory",
    )


@rule("CKP004", "error", explains=("no result",))
def metrics_not_recorded(checkpoint: CheckpointEvidence) -> Finding | None:
    """Validation metrics are null

    Measures: whether the run's record contains validation metrics in its field for them.

    Threshold: the field is not null; an exact invariant.

    Why: a model without a validation result was not selected by one, and a collapse is not noticed before the test.

    Look-alikes: a run that failed or was refused before its first validation has such a status and is not judged.

    Fix: validate at least once per epoch, write the metrics with the checkpoint, and treat missing metrics as a
    failure.

    Reference: Dodge et al. 2019, Show Your Work.
    """
    if checkpoint.metrics_recorded is None:
        raise CannotTell("there is no record with a field for validation metrics")
    if checkpoint.metrics_recorded:
        return None
    return Finding(
        observed="the validation metrics are null",
        expected="the selected checkpoint's metrics on the validation rows",
        n=1,
        cause="no validation was run, or its result was read under the wrong name",
        fix="validate the selected checkpoint and record the result; let the run fail if it is missing",
    )


@rule("CKP005", "error", symptoms=("no result",))
def success_without_result(checkpoint: CheckpointEvidence) -> Finding | None:
    """The status is success, but the checkpoint or the metrics are missing

    Measures: the recorded status compared with the recorded checkpoint and validation metrics.

    Threshold: a status of success (ok, completed, …) requires both; an exact invariant.

    Why: readers of the summary trust the status. Here "ok" only means that no exception was raised.

    Look-alikes: failed, interrupted, refused and running indicate that something may be missing, and pass.

    Fix: derive the status from the results (checkpoint on disk, finite metrics), as the last action of a run.

    Reference: Sculley et al. 2015, Hidden Technical Debt in Machine Learning Systems.
    """
    if checkpoint.status is None:
        raise CannotTell("the run's status is not recorded")
    if checkpoint.status.strip().lower() not in SUCCESS_WORDS:
        return None
    missing = [gap for gap in (trace_gap(checkpoint),) if gap]
    missing += ["the validation metrics are null"] if checkpoint.metrics_recorded is False else []
    if not missing:
        return None
    return Finding(
        observed=f"status {checkpoint.status!r}, but {' and '.join(missing)}",
        expected="success only with a checkpoint and metrics",
        n=len(missing),
        cause="the status shows that the program did not crash, not that there is a result",
        fix="derive the status from the checkpoint and the metrics, after both were written and read back",
    )


GAIN = 0.01
"""One point of accuracy or F1: less is within the noise of a validation split of a thousand rows."""


@rule("CKP006", "note")
def other_metric_peaks_elsewhere(checkpoint: CheckpointEvidence) -> Finding | None:
    """The best checkpoint by loss is not the best one by accuracy

    Measures: each metric of which larger values are better (accuracy, F1, …), at the checkpoint that was selected by a
    metric of which smaller values are better (the loss), and its best value in the log.

    Threshold: one point (0.01). A note: the choice is a matter of purpose.

    Why: the loss rises as soon as the model becomes too confident, often while the accuracy still improves. If accuracy
    or F1 is what counts, another checkpoint is better.

    Look-alikes: a selection by loss on purpose, for good probabilities.

    Fix: select by the metric that is reported (`metric_for_best_model` in `transformers`, `training.select_by` in
    Tenor).

    Reference: Guo et al. 2017, On Calibration of Modern Neural Networks (section 3).
    """
    if checkpoint.chosen_step is None or not checkpoint.other_metrics:
        raise CannotTell("the selected step, or a log of several metrics, is not known")
    if direction(checkpoint):
        raise CannotTell("the checkpoint was not selected by a loss")
    better = []
    for name, points in checkpoint.other_metrics.items():
        finite = tuple(point for point in points if point.value == point.value)
        chosen = [point.value for point in finite if point.step == checkpoint.chosen_step]
        if not chosen or not larger_is_better(name):
            continue
        best = best_validation(finite, True)
        if best.value - max(chosen) >= GAIN - ROUNDING:
            better.append((name, max(chosen), best))
    if not better:
        return None
    return Finding(
        observed=f"step {checkpoint.chosen_step:,} was selected by {checkpoint.metric}: "
        + ", ".join(f"{name} {value:.4g}" for name, value, _ in better),
        expected=", ".join(f"{name} {best.value:.4g} at step {best.step:,}" for name, _, best in better),
        n=max(len(points) for points in checkpoint.other_metrics.values()),
        cause="the loss and the reported metric have their best values at different steps",
        fix="select by the metric that counts, and load the checkpoint of its best step if it was saved",
    )


def _why(checkpoint: CheckpointEvidence) -> str:
    return f": {checkpoint.selection_unknown}" if checkpoint.selection_unknown else ""
