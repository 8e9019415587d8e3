"""When to call a row one of a class: the threshold on its probability that gives a wanted precision or recall."""

from dataclasses import dataclass

import numpy as np

from tenor.data.sequences import array_of


@dataclass(frozen=True)
class Operating:
    """One class at one threshold: rows whose score is `threshold` or more are called members."""

    threshold: float
    called: int
    right: int
    """Of those called."""
    members: int
    """Rows that are of the class."""

    @property
    def precision(self) -> float | None:
        """None where no row is called."""
        return self.right / self.called if self.called else None

    @property
    def recall(self) -> float | None:
        """None where no row is of the class."""
        return self.right / self.members if self.members else None


def at_threshold(scores: np.ndarray, member: np.ndarray, threshold: float) -> Operating:
    """What a threshold gives on n rows: `scores` (n,) are probabilities of the class, `member` (n,) is the truth."""
    called = array_of(scores, "scores") >= threshold
    member = array_of(member, "member").astype(bool)
    return Operating(threshold, int(called.sum()), int((called & member).sum()), int(member.sum()))


def threshold_for_precision(scores: np.ndarray, member: np.ndarray, precision: float) -> float | None:
    """The lowest threshold at which the precision is reached, so that the recall is the highest; None: at no score.

    It lies halfway between two scores: a score that is computed again, in another batch or on another processor,
    differs in its last digits and must not move its row to the other side.

    Raises ValueError for no rows and for scores and members of other shapes than (n,).
    """
    precisions, _, thresholds = _curve(scores, member)
    reached = np.flatnonzero(precisions >= precision)
    return _below(thresholds, int(reached[0])) if len(reached) else None


def threshold_for_recall(scores: np.ndarray, member: np.ndarray, recall: float) -> float:
    """The highest threshold at which the recall is reached, so that as few others as possible are called.

    Halfway between two scores, and raises ValueError, as `threshold_for_precision` does; also where no row is of the
    class.
    """
    _, recalls, thresholds = _curve(scores, member)
    return _below(thresholds, int(np.flatnonzero(recalls >= recall)[-1]))


def best_precision(scores: np.ndarray, member: np.ndarray) -> Operating:
    """The threshold with the highest precision, and of such the one that calls the most rows."""
    scores, member = array_of(scores, "scores"), array_of(member, "member")
    precisions, _, thresholds = _curve(scores, member)
    return at_threshold(scores, member, float(thresholds[precisions.argmax()]))


def _below(scores: np.ndarray, index: int) -> float:
    """Halfway from the score at `index` to the next lower one, or to 0, of distinct scores in rising order."""
    lower = scores[index - 1] if index else 0.0
    return float(lower + scores[index]) / 2


def _curve(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold, each distinct score once and rising."""
    from sklearn.metrics import precision_recall_curve

    scores, member = array_of(scores, "scores").astype(np.float64), array_of(member, "member").astype(bool)
    if scores.ndim != 1 or scores.shape != member.shape or not len(scores):
        raise ValueError(f"expected scores and members of shape (n,), n > 0; found {scores.shape} and {member.shape}")
    if not member.any():
        raise ValueError("no row is of the class, so there is no recall")
    precision, recall, thresholds = precision_recall_curve(member, scores)
    return precision[:-1], recall[:-1], thresholds
