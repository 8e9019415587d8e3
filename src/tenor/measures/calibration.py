"""Calibration of probabilities: reliability bins, calibration error, temperature scaling, thresholds.

Brier score and precision-recall curves are scikit-learn's. Written here: reliability bins and the calibration error,
because scikit-learn has neither for more than two classes, and the temperature, for which a bracketed root of the
likelihood's derivative is faster and more exact than a general optimizer.
"""

from dataclasses import dataclass

import numpy as np

from tenor.data.sequences import array_of
from tenor.measures.metrics import check_labels, check_numbers, check_predictions, mean_negative_log_likelihood

BINS = 15
"""The count of bins of Guo et al. (2017) and most later papers: an ECE is comparable only for the same count."""

_EXPONENTS = (-12.0, 12.0)  # Of the inverse temperature, base e: wider than any float32 logits need.


@dataclass(frozen=True)
class ReliabilityBin:
    """The rows whose confidence, the probability of the predicted class, is in (low, high]."""

    low: float
    high: float
    n: int
    mean_confidence: float
    accuracy: float


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Rows by confidence, in `bins` bins of equal width over (0, 1]; empty bins are left out.

    `probabilities` is (n, K), `labels` is (n,). Of equally probable classes the lowest is the predicted one.
    Raises ValueError as `measure` does, and for fewer bins than 1.
    """
    if bins < 1:
        raise ValueError(f"expected 1 bin or more, observed {bins}")
    probabilities, labels = check_predictions(probabilities, labels)
    # By rounding, the sum of a distribution may exceed 1, and so may its largest probability.
    confidence = probabilities.max(axis=1).clip(0.0, 1.0)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(place, minlength=bins)
    confidences, rights = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    return tuple(
        ReliabilityBin(
            low=float(edges[k]),
            high=float(edges[k + 1]),
            n=int(counts[k]),
            mean_confidence=float(confidences[k] / counts[k]),
            accuracy=float(rights[k] / counts[k]),
        )
        for k in np.flatnonzero(counts)
    )


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their rows, in 0 … 1.

    Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning", on the
    predicted class as in Guo et al. (2017). Raises ValueError as `reliability_bins` does.
    """
    filled = reliability_bins(probabilities, labels, bins)
    n = sum(one.n for one in filled)
    return sum(one.n / n * abs(one.mean_confidence - one.accuracy) for one in filled)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the truth (Brier 1950), scikit-learn's `brier_score_loss`.

    In 0 … 1 for two classes (the error of one of them), and the sum over the classes, in 0 … 2, for more. Raises
    ValueError as `measure` does.
    """
    from sklearn.metrics import brier_score_loss

    probabilities, labels = check_predictions(probabilities, labels)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return float(brier_score_loss(labels, probabilities, labels=range(probabilities.shape[1])))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels in nats, the `loss` of `measure`. Raises ValueError as that does."""
    probabilities, labels = check_predictions(probabilities, labels)
    return mean_negative_log_likelihood(labels, probabilities)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 for which softmax(logits / T) gives the labels the highest likelihood (Guo et al. 2017).

    `logits` is (n, K), `labels` is (n,): rows used for neither training nor testing. No predicted class changes. The
    likelihood is concave in 1/T, so its derivative has at most one root. It has none if every row is right (T → 0: the
    rows cannot show overconfidence) or if the logits are no better than chance (T → ∞): T is then 1.
    Raises ValueError for no rows, shapes that do not fit, labels outside 0 … K-1, and logits that are not finite.
    """
    from scipy.optimize import brentq

    logits = check_numbers(logits, "logits")
    if logits.ndim != 2 or len(logits) == 0 or not np.isfinite(logits).all():
        raise ValueError(f"expected finite logits of shape (n, K) with n > 0, observed shape {logits.shape}")
    labels = check_labels(labels, logits.shape[1])
    if len(labels) != len(logits):
        raise ValueError(f"{len(labels)} labels, but {len(logits)} rows of logits")
    below_best = logits - logits.max(axis=1, keepdims=True)
    of_label = below_best[np.arange(len(labels)), labels]

    def slope(exponent: float) -> float:
        """Derivative of the mean negative log-likelihood by the inverse temperature e^exponent."""
        weights = np.exp(np.exp(exponent) * below_best)
        expected = (weights * below_best).sum(axis=1) / weights.sum(axis=1)
        return float((expected - of_label).mean())

    if slope(_EXPONENTS[0]) >= 0 or slope(_EXPONENTS[1]) <= 0:
        return 1.0
    return float(np.exp(-brentq(slope, *_EXPONENTS)))


def choose_temperature(logits: np.ndarray, labels: np.ndarray, alpha: float = 0.05) -> float:
    """The temperature of `fit_temperature` if it is significantly better than 1, else 1.

    Tested with the likelihood ratio (Wilks 1938) at the level `alpha`: a temperature fitted on a few dozen rows could
    otherwise make other rows worse. It is also 1 if even the scaled logits are not significantly better than equal
    probabilities: scaling would hide that the model has learned nothing. Raises as `fit_temperature`.
    """
    from scipy.special import log_softmax
    from scipy.stats import chi2

    logits, labels = check_numbers(logits, "logits"), array_of(labels, "labels")
    temperature = fit_temperature(logits, labels)
    rows = np.arange(len(labels))
    before, after = (log_softmax(logits / t, axis=1)[rows, labels] for t in (1.0, temperature))
    least = chi2.ppf(1 - alpha, df=1)
    better = 2 * float((after - before).sum()) > least
    informative = 2 * float((after + np.log(logits.shape[1])).sum()) > least
    return temperature if better and informative else 1.0


def with_temperature(probabilities: np.ndarray, current: float, wanted: float) -> np.ndarray:
    """Probabilities (n, K) at the temperature `current` → the same logits' at `wanted`, float64, shape (n, K)."""
    from scipy.special import softmax

    probabilities = array_of(probabilities, "probabilities")
    if current == wanted:
        return probabilities
    return softmax(current * log_probabilities(probabilities) / wanted, axis=1)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Logits (n, K) of probabilities (n, K), up to a shift per row; finite even for a probability of 0."""
    return np.log(check_numbers(probabilities, "probabilities").clip(np.finfo(np.float64).tiny, None))


@dataclass(frozen=True)
class Operating:
    """One class at one threshold: rows with a score of at least `threshold` are predicted as its members."""

    threshold: float
    called: int
    right: int
    """Count of members among the predicted rows."""
    members: int
    """Count of rows of the class."""

    @property
    def precision(self) -> float | None:
        """None if no row is predicted."""
        return self.right / self.called if self.called else None

    @property
    def recall(self) -> float | None:
        """None if no row is of the class."""
        return self.right / self.members if self.members else None


def at_threshold(scores: np.ndarray, member: np.ndarray, threshold: float) -> Operating:
    """Counts at a threshold on n rows: `scores` (n,) are probabilities of the class, `member` (n,) is the truth."""
    called = array_of(scores, "scores") >= threshold
    member = array_of(member, "member").astype(bool)
    return Operating(threshold, int(called.sum()), int((called & member).sum()), int(member.sum()))


def threshold_for_precision(scores: np.ndarray, member: np.ndarray, precision: float) -> float | None:
    """The lowest threshold that reaches the precision, for the highest recall; None if no score reaches it.

    It is halfway between two scores: a score computed in another batch or on another processor differs in its last
    digits, which must not change the prediction.

    Raises ValueError for no rows and for scores and members of other shapes than (n,).
    """
    precisions, _, thresholds = _curve(scores, member)
    reached = np.flatnonzero(precisions >= precision)
    return _below(thresholds, int(reached[0])) if len(reached) else None


def threshold_for_recall(scores: np.ndarray, member: np.ndarray, recall: float) -> float:
    """The highest threshold that reaches the recall, for the fewest false positives.

    Halfway between two scores as in `threshold_for_precision`. Raises ValueError as that does, and if no row is of the
    class.
    """
    _, recalls, thresholds = _curve(scores, member)
    return _below(thresholds, int(np.flatnonzero(recalls >= recall)[-1]))


def best_precision(scores: np.ndarray, member: np.ndarray) -> Operating:
    """The threshold with the highest precision; of several, the one that predicts the most rows."""
    scores, member = array_of(scores, "scores"), array_of(member, "member")
    precisions, _, thresholds = _curve(scores, member)
    return at_threshold(scores, member, float(thresholds[precisions.argmax()]))


def _below(scores: np.ndarray, index: int) -> float:
    """Halfway between the score at `index` and the next lower one, or 0; `scores` are distinct and ascending."""
    lower = scores[index - 1] if index else 0.0
    return float(lower + scores[index]) / 2


def _curve(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold for each distinct score, ascending."""
    from sklearn.metrics import precision_recall_curve

    scores, member = array_of(scores, "scores").astype(np.float64), array_of(member, "member").astype(bool)
    if scores.ndim != 1 or scores.shape != member.shape or not len(scores):
        raise ValueError(
            f"expected scores and members of shape (n,), n > 0; observed {scores.shape} and {member.shape}"
        )
    if not member.any():
        raise ValueError("no row is of the class, so there is no recall")
    precision, recall, thresholds = precision_recall_curve(member, scores)
    return precision[:-1], recall[:-1], thresholds
