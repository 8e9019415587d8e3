"""Whether a model is right as often as it says it is."""

from dataclasses import dataclass

import numpy as np

from tenor.measures.metrics import check_labels, check_probabilities


@dataclass(frozen=True)
class ReliabilityBin:
    """The n rows whose confidence, the probability of the predicted class, lies in (low, high]; n > 0."""

    low: float
    high: float
    n: int
    mean_confidence: float
    accuracy: float


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Rows by confidence in `bins` equal steps of 0 … 1; bins without rows are left out.

    `probabilities` is (n, K), `labels` (n,) with class indices. Raises ValueError as `measure` does, and for no bins.
    """
    probabilities, labels = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"expected 1 or more bins, found {bins}")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # Closed above, as in Guo et al.; a distribution in bfloat16 may reach just over 1.
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = []
    for k in np.unique(index):
        rows = index == k
        found.append(
            ReliabilityBin(
                low=float(edges[k]),
                high=float(edges[k + 1]),
                n=int(rows.sum()),
                mean_confidence=float(confidence[rows].mean()),
                accuracy=float(right[rows].mean()),
            )
        )
    return tuple(found)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The mean distance between confidence and accuracy over equal bins, weighted by their rows, in 0 … 1.

    Naeini et al. 2015; Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    found = reliability_bins(probabilities, labels, bins)
    return sum(one.n * abs(one.accuracy - one.mean_confidence) for one in found) / sum(one.n for one in found)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance of the distribution (n, K) from the label's, in 0 … 2 (Brier 1950)."""
    probabilities, labels = _checked(probabilities, labels)
    target = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - target) ** 2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean in nats; a probability below the resolution of float64 counts as that, as in `measure`."""
    probabilities, labels = _checked(probabilities, labels)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(likelihood.clip(np.finfo(np.float64).eps, 1.0)).mean())


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities = check_probabilities(probabilities, np.asarray(probabilities).shape[-1])
    labels = check_labels(labels, probabilities.shape[1])
    if len(labels) != len(probabilities):
        raise ValueError(f"{len(labels)} labels, but {len(probabilities)} rows of probabilities")
    return probabilities, labels
