"""What programs measure themselves with, scikit-learn's metrics and torchmetrics: they are given the predictions."""

from types import ModuleType
from typing import Any

import numpy as np

from tenor.watch.patches import observe

OF_CLASSES = (
    "accuracy_score",
    "balanced_accuracy_score",
    "f1_score",
    "precision_score",
    "recall_score",
    "precision_recall_fscore_support",
    "classification_report",
    "confusion_matrix",
    "matthews_corrcoef",
    "cohen_kappa_score",
)
OF_RANKS = ("roc_auc_score", "average_precision_score")
"""They take any scores, probabilities among them."""
OF_PROBABILITIES = ("log_loss", "brier_score_loss")
"""They refuse what is no probability, and the program may catch that."""


def hook_sklearn(metrics: ModuleType) -> None:
    """Hear the functions of `sklearn.metrics` that take true and predicted classes, or scores."""
    for name in OF_CLASSES:
        observe(metrics, name, _after_classes(is_accuracy=name == "accuracy_score"))
    for name in OF_RANKS:
        observe(metrics, name, _after_ranks)
    for name in OF_PROBABILITIES:
        observe(metrics, name, _after_scores, even_if_refused=True)


def _after_classes(is_accuracy: bool) -> Any:
    def after(result: Any, y_true: Any = None, y_pred: Any = None, *rest: Any, **named: Any) -> None:
        observer = _observer()
        if observer is not None and named.get("sample_weight") is None:
            plain = is_accuracy and named.get("normalize", True)
            observer.evaluations.on_metric(y_true, y_pred, float(result) if plain else None)

    return after


def _after_scores(result: Any, y_true: Any = None, y_score: Any = None, *rest: Any, **named: Any) -> None:
    scores = next((named[key] for key in ("y_score", "y_proba", "y_prob", "y_pred") if key in named), y_score)
    observer = _observer()
    if observer is not None and scores is not None:
        observer.evaluations.on_scores(y_true, scores)


def _after_ranks(result: Any, y_true: Any = None, y_score: Any = None, *rest: Any, **named: Any) -> None:
    scores = named.get("y_score", y_score)
    if _are_probabilities(scores):
        _after_scores(result, named.get("y_true", y_true), scores)


def _are_probabilities(scores: Any) -> bool:
    """Whether scores are between 0 and 1, and of several columns add up to 1 in each row."""
    values = np.asarray(scores)
    if values.dtype.kind != "f" or not values.size or not (values.min() >= 0 and values.max() <= 1):
        return False
    return values.ndim == 1 or bool(np.allclose(values.sum(axis=1), 1, atol=1e-2))


def hook_torchmetrics(module: ModuleType) -> None:
    """Hear what torchmetrics' accuracy, precision, recall and F1 are updated with."""
    for name in ("BinaryStatScores", "MulticlassStatScores"):
        observe(getattr(module, name), "update", _after_update)


def _after_update(result: Any, metric: Any, preds: Any, target: Any) -> None:
    observer = _observer()
    if observer is not None:
        observer.evaluations.on_labels(target)


def hook_metric_objects(module: ModuleType) -> None:
    """Hear when any object of torchmetrics is updated and computed. Its `update` and `compute` are attributes of the
    object, made at its construction and again when it is copied."""
    metric = module.Metric
    for made in ("__init__", "__setstate__"):
        observe(metric, made, _after_made)
    observe(metric, "forward", _after_metric_forward)


def _after_made(result: Any, metric: Any, *rest: Any, **named: Any) -> None:
    # The attributes refer to the metric anyway, so a strong reference here keeps it no longer than before.
    observe(metric, "update", lambda result, *rest, **named: _on_object("update", metric))
    observe(metric, "compute", lambda result, *rest, **named: _on_object("compute", metric))


def _after_metric_forward(result: Any, metric: Any, *rest: Any, **named: Any) -> None:
    _on_object("forward", metric)


def _on_object(what: str, metric: Any) -> None:
    observer = _observer()
    if observer is not None:
        getattr(observer.metric_objects, f"on_{what}")(metric)


def _observer() -> Any:
    """The observer of a process that has imported torch; without torch nothing is trained that is watched."""
    import sys

    if "torch" not in sys.modules:
        return None
    from tenor.watch.observer import OBSERVER

    return OBSERVER if OBSERVER.is_watching else None
