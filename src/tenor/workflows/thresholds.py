"""The threshold on one class's probability that gives a wanted precision or recall: chosen on the validation rows."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tenor.errors import UserError
from tenor.evaluation.predictions import Predictions
from tenor.measures.thresholds import (
    Operating,
    at_threshold,
    best_precision,
    threshold_for_precision,
    threshold_for_recall,
)
from tenor.model.notes import Threshold, read_model_notes, stored_threshold, update_model_notes
from tenor.workflows.calibrate import Calibrated, bring_card_up_to_date
from tenor.workflows.evaluate import operating_record


@dataclass(frozen=True)
class ClassThreshold:
    """Call a row one of the class where its calibrated probability is `threshold` or more."""

    class_name: str
    wanted: str
    """`precision` or `recall` …"""
    value: float
    """… and how much of it, in 0 … 1."""
    threshold: float
    splits: dict[str, Operating]
    """What it gives on validation, where it was chosen, and on test, where there is one."""
    confidence: float


def choose_threshold(
    calibrated: Calibrated, class_name: str, wanted: str, value: float, confidence: float
) -> ClassThreshold:
    """Choose the threshold, and keep it in `model/tenor.json`, from where `tenor predict` decides by it.

    A model has one: that of another class before is replaced.

    Raises:
        UserError: no such class, none of its rows in the validation split, or a precision that no threshold reaches.
    """
    validation = calibrated.predictions["validation"]
    if class_name not in validation.class_names:
        raise UserError(f"--class {class_name}: the model knows the classes {', '.join(validation.class_names)}")
    if not 0 < value <= 1:
        raise UserError(f"--{wanted} {value:g}: expected a share above 0 and up to 1, such as 0.95")
    scores, member = _scores(validation, class_name)
    if not member.any():
        raise UserError(f"--class {class_name}: none of the {len(member):,} validation rows is of this class")
    threshold = _threshold(scores, member, class_name, wanted, value)
    splits = {
        name: at_threshold(*_scores(found, class_name), threshold) for name, found in calibrated.predictions.items()
    }
    chosen = ClassThreshold(class_name, wanted, value, threshold, splits, confidence)
    update_model_notes(calibrated.run.model, threshold=threshold_record(chosen))
    bring_card_up_to_date(calibrated.run)
    return chosen


def forget_threshold(calibrated: Calibrated) -> Calibrated:
    """Let the most probable class decide again."""
    update_model_notes(calibrated.run.model, threshold=None)
    bring_card_up_to_date(calibrated.run)
    return replace(calibrated, notes=read_model_notes(calibrated.run.model))


def threshold_record(chosen: ClassThreshold) -> dict[str, Any]:
    """As plain data: the threshold, what was wanted, and what each split gives, with Wilson's intervals."""
    splits = {name: operating_record(found, chosen.confidence) for name, found in chosen.splits.items()}
    kept = Threshold(chosen.class_name, chosen.threshold, chosen.wanted, chosen.value)
    return {**stored_threshold(kept), **splits}


def _scores(found: Predictions, class_name: str) -> tuple[np.ndarray, np.ndarray]:
    k = found.class_names.index(class_name)
    return found.probabilities[:, k], found.labels == k


def _threshold(scores: np.ndarray, member: np.ndarray, class_name: str, wanted: str, value: float) -> float:
    if wanted == "recall":
        return threshold_for_recall(scores, member, value)
    threshold = threshold_for_precision(scores, member, value)
    if threshold is None:
        best = best_precision(scores, member)
        raise UserError(
            f"no threshold gives {class_name} a precision of {value:g} on the {len(member):,} validation rows: the "
            f"highest is {best.precision:.4f}, at {best.threshold:.4f}, with {best.called:,} rows called. Ask for less"
        )
    return threshold
