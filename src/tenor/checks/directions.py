"""Whether more of a metric is better, read off its name; nothing is assumed of a name that does not say."""

import re

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
