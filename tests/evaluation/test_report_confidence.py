"""The report's section on confidence: the scale of the scores, and accuracy if the model abstains."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.evaluation.report.results_sections import calibration_section
from tenor.measures.calibration import brier_score
from tenor.measures.selective import answered_above
from tenor.runs.predictions import Predictions


def _predictions(probabilities: np.ndarray, labels: np.ndarray) -> Predictions:
    names = tuple(f"class {k}" for k in range(probabilities.shape[1]))
    return Predictions(tuple(map(str, range(len(labels)))), labels, probabilities, names)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_brier_score_is_shown_with_its_scale(n_classes: int) -> None:
    certain, labels = np.eye(n_classes), np.arange(n_classes)
    worst = np.roll(certain, 1, axis=0)
    facts = {name: meaning for name, _, meaning in calibration_section(_predictions(worst, labels), 0.95).facts}
    ends = brier_score(certain, labels), brier_score(worst, labels)
    assert facts["Brier score"].endswith(", {:g} (best) to {:g}".format(*ends))


@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 10_000))
def test_each_point_of_the_coverage_curve_is_the_accuracy_above_it(n: int, n_classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.multinomial(10, np.ones(n_classes) / n_classes, n) / 10  # Many are equally confident.
    labels = random.integers(0, n_classes, n)
    chart = calibration_section(_predictions(probabilities, labels), 0.95).coverage
    ElementTree.fromstring(chart.picture)
    assert chart.picture.count("mark main") == len(chart.rows)
    for threshold, answered, _, accuracy, _ in chart.rows:
        left = answered_above(probabilities, labels, float(threshold))
        assert (answered, accuracy) == (f"{left.answered:,}", f"{100 * left.right / left.answered:.2f}%")
    assert chart.rows[0][1:4] == (f"{n:,}", "100.0%", f"{100 * (probabilities.argmax(axis=1) == labels).mean():.2f}%")
