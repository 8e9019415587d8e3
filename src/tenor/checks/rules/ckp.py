"""Checkpoints: whether the evaluated weights are known, kept, and the best of the run."""

import re

from tenor.checks.evidence import CheckpointEvidence, ValidationPoint
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule

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
"""The name of a class ("f1_negative"), or a minus sign ("neg_log_loss")."""
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
"""Words that mean the opposite together; a Hamming score is one minus the Hamming loss."""


def larger_is_better(name: str) -> bool | None:
    """True for an accuracy, False for a loss, None where the name does not say.

    Every word of the name must be known, since "accuracy_drop" and "brier_skill_score" turn the direction round.
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
# Metrics are logged with 4 to 6 digits by common loops; a smaller difference may be their rounding.
ROUNDING = 1e-6
DIGEST_SHOWN = 12


def best_validation(validations: tuple[ValidationPoint, ...], larger: bool) -> ValidationPoint:
    """The validation with the largest value (else the smallest), of equal ones the first; NaN counts as worst."""
    sign = 1.0 if larger else -1.0
    return max(validations, key=lambda point: sign * point.value if point.value == point.value else float("-inf"))


def direction(checkpoint: CheckpointEvidence) -> bool:
    """Whether more of the selecting metric is better; raises CannotTell where neither the record nor its name says."""
    larger = checkpoint.larger_is_better
    if larger is None and checkpoint.metric is not None:
        larger = larger_is_better(checkpoint.metric)
    if larger is None:
        metric = checkpoint.metric or "the selecting metric"
        raise CannotTell(f"whether more or less of {metric} is better is not known{_why(checkpoint)}")
    return larger


def trace_gap(checkpoint: CheckpointEvidence) -> str | None:
    """Why the checkpoint can't be traced, in words; None where it can."""
    if checkpoint.path_recorded and checkpoint.path is None:
        return "the recorded path is null"
    if checkpoint.path is not None and checkpoint.exists is False:
        return f"nothing lies at the recorded path {checkpoint.path}"
    return None


@rule("CKP001", "error", explains=("bad result",), settled_by="the log of validations, and the step that was chosen")
def chosen_is_not_best(checkpoint: CheckpointEvidence) -> Finding | None:
    """The chosen checkpoint is not the best one in the log

    Measures: the selecting metric at the chosen checkpoint and its best value over all validations of the log. Whether
    more or less is better comes from the metric's name (accuracy, F1, loss, Brier score, …), else from the run's own
    arguments (`greater_is_better`); where neither says, nothing is judged.

    Threshold: no validation may be better by more than 1e-6, the rounding of logged metrics; an exact invariant.

    Why: selection that compares in the wrong direction (a loss maximised, a score minimised) or keeps the last
    checkpoint reports a worse model than the one that was paid for, and sometimes the untrained one.

    Look-alikes: ties between validations are fine, whichever of them was chosen. A run that keeps its last weights on
    purpose chooses nothing; give no chosen step for it.

    Fix: select by the metric in its direction (`greater_is_better` in `transformers`), load that checkpoint before the
    evaluation, and evaluate again; in Tenor `training.select_by`.

    Reference: Prechelt 1998, Early Stopping - But When?
    """
    if checkpoint.chosen_step is None or not checkpoint.validations:
        raise CannotTell(f"the chosen step, or a log of the metric that chose it, is not known{_why(checkpoint)}")
    larger = direction(checkpoint)
    best = best_validation(checkpoint.validations, larger)
    chosen = [point for point in checkpoint.validations if point.step == checkpoint.chosen_step]
    if not chosen:
        raise CannotTell(f"the log has no validation at the chosen step {checkpoint.chosen_step:,}")
    value = best_validation(tuple(chosen), larger).value
    gain = best.value - value if larger else value - best.value
    if not gain > ROUNDING and (value == value or best.value != best.value):
        return None
    metric, better = checkpoint.metric or "the selecting metric", "more" if larger else "less"
    return Finding(
        observed=f"step {checkpoint.chosen_step:,} was chosen: {metric} {value:.6g} ({better} is better)",
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
    settled_by="digests of the chosen and of the evaluated checkpoint",
)
def evaluated_is_not_chosen(checkpoint: CheckpointEvidence) -> Finding | None:
    """The evaluated checkpoint is not the chosen one

    Measures: the digest (else the step) of the weights that were evaluated beside that of the chosen checkpoint.

    Threshold: they must be the same; an exact invariant.

    Why: a result that belongs to other weights than those that are shipped says nothing about them. Freshly
    initialised weights, loaded by mistake, predict one class.

    Look-alikes: averaged or quantised weights differ from the checkpoint on purpose; give their own digest as chosen.

    Fix: load the chosen checkpoint right before the evaluation, compare digests, and evaluate again.

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
        raise CannotTell("digest or step of both the chosen and the evaluated checkpoint are not recorded")
    if same:
        return None
    return Finding(
        observed=f"evaluated: {kind} {evaluated}",
        expected=f"the chosen checkpoint: {kind} {chosen}",
        n=1,
        cause="other weights than the chosen ones were in memory, or loaded, when the model was evaluated",
        fix="load the chosen checkpoint right before the evaluation, compare its digest, and evaluate again",
    )


@rule("CKP003", "error", explains=("no result",))
def untraceable_checkpoint(checkpoint: CheckpointEvidence) -> Finding | None:
    """No checkpoint can be traced

    Measures: whether the run's record names a checkpoint, and whether something lies there.

    Threshold: a path that is recorded is not null, and exists; an exact invariant.

    Why: without it no one can say which weights the reported numbers belong to, nor load, check or ship them.

    Look-alikes: a record without any field for a path is not judged, nor is a path of another machine.

    Fix: save the best checkpoint during training, write its path and digest into the record, and fail the run where
    that is not possible; in Tenor every completed run has one.

    Reference: Pineau et al. 2021, Improving Reproducibility in Machine Learning Research.
    """
    gap = trace_gap(checkpoint)
    if gap is None:
        if checkpoint.path is None or checkpoint.exists is None:
            raise CannotTell("there is no record of a checkpoint's path that can be looked up from here")
        return None
    return Finding(
        observed=gap,
        expected="the path of a checkpoint that exists",
        n=1,
        cause="no checkpoint was saved, or it was saved and its path was lost, moved or pruned",
        fix="save the best checkpoint, record its path and digest, and evaluate from the file, not from memory",
    )


@rule("CKP004", "error", explains=("no result",))
def metrics_not_recorded(checkpoint: CheckpointEvidence) -> Finding | None:
    """Validation metrics are null

    Measures: whether the run's record holds validation metrics where it has a place for them.

    Threshold: the place is not null; an exact invariant.

    Why: a model without a validation result was not selected by one, and a collapse goes unnoticed until the test.

    Look-alikes: a run that failed or was refused before its first validation says so in its status and is not judged.

    Fix: validate at least once per epoch, write the metrics with the checkpoint, and treat their absence as a failure.

    Reference: Dodge et al. 2019, Show Your Work.
    """
    if checkpoint.metrics_recorded is None:
        raise CannotTell("there is no record with a place for validation metrics")
    if checkpoint.metrics_recorded:
        return None
    return Finding(
        observed="the validation metrics are null",
        expected="the chosen checkpoint's metrics on the validation rows",
        n=1,
        cause="no validation took place, or its result was looked up under a name that does not exist",
        fix="validate the chosen checkpoint and write the result; let the run fail where it is missing",
    )


@rule("CKP005", "error", symptoms=("no result",))
def success_without_result(checkpoint: CheckpointEvidence) -> Finding | None:
    """The status says success though the checkpoint or the metrics are missing

    Measures: the recorded status beside the recorded checkpoint and validation metrics.

    Threshold: a status of success (ok, completed, …) needs both; an exact invariant.

    Why: whoever reads the summary believes the status. "ok" then only means that no exception was raised.

    Look-alikes: failed, interrupted, refused and running say that something may be missing, and pass.

    Fix: set the status from what is there (checkpoint on disk, finite metrics), as the last thing that a run does.

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
        expected="a success only with a checkpoint and metrics",
        n=len(missing),
        cause="the status tells that the program did not crash, not that there is a result",
        fix="decide the status from the checkpoint and the metrics, after both were written and read back",
    )


def _why(checkpoint: CheckpointEvidence) -> str:
    return f": {checkpoint.selection_unknown}" if checkpoint.selection_unknown else ""
