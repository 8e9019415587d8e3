"""What a report says of confidence, and on which scale."""

import numpy as np
import pytest

from tenor.evaluation.predictions import Predictions
from tenor.evaluation.report.reliability import calibration_section
from tenor.measures.calibration import brier_score


def _predictions(probabilities: np.ndarray, labels: np.ndarray) -> Predictions:
    names = tuple(f"class {k}" for k in range(probabilities.shape[1]))
    return Predictions(tuple(map(str, range(len(labels)))), labels, probabilities, names)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_brier_score_is_told_with_the_scale_that_it_has(n_classes: int) -> None:
    certain, labels = np.eye(n_classes), np.arange(n_classes)
    worst = np.roll(certain, 1, axis=0)
    facts = {name: meaning for name, _, meaning in calibration_section(_predictions(worst, labels), 0.95).facts}
    ends = brier_score(certain, labels), brier_score(worst, labels)
    assert facts["Brier score"].endswith(", {:g} (best) to {:g}".format(*ends))
