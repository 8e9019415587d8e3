"""The text baseline's part of an explanation is exact."""

import numpy as np
import pytest

from tenor.explanations.linear_terms import baseline_attributions, class_weights
from tenor.measures.text_baseline import TextBaseline, fit_text_baseline

TEXTS = [
    "a good film, a very good film",
    "a bad film and a bad plot",
    "not good at all",
    "good good fun",
    "the plot isn't bad",
    "bad bad bad",
    "İt was good",
    "so so, and long",
]


def fitted(classes: int) -> TextBaseline:
    labels = np.array([1, 0, 0, 1, 1, 0, 1, 0]) if classes == 2 else np.array([1, 0, 0, 1, 2, 0, 1, 2])
    return fit_text_baseline(TEXTS, labels, classes, seed=0)


def score(baseline: TextBaseline, text: str, label: int) -> float:
    return float(baseline.log_probabilities([text])[0] @ class_weights(label, len(baseline.class_frequencies)))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("text", [*TEXTS, "nothing known", "İİ good bad film"])
def test_the_sum_is_the_change_of_the_score(classes: int, text: str) -> None:
    baseline = fitted(classes)
    for label in range(classes):
        spans, values = baseline_attributions(baseline, text, label)
        assert len(spans) == len(values)
        assert values.sum() == pytest.approx(score(baseline, text, label) - score(baseline, "", label), abs=1e-9)


def test_with_two_classes_a_words_value_is_its_weight() -> None:
    baseline = fitted(2)
    weights = dict(zip(baseline.vocabulary, (baseline.ratio.astype(float) * baseline.coef)[0], strict=True))
    spans, values = baseline_attributions(baseline, "good film", 1)
    assert spans == [(0, 4), (5, 9)]
    pair = weights.get("good film", 0.0)
    assert values == pytest.approx([weights["good"] + pair / 2, weights["film"] + pair / 2])
    _, opposite = baseline_attributions(baseline, "good film", 0)
    assert opposite == pytest.approx(-values)


def test_a_repeated_term_counts_once_and_is_divided_between_its_occurrences() -> None:
    baseline = fitted(2)
    spans, values = baseline_attributions(baseline, "bad, bad", 0)
    assert spans == [(0, 3), (3, 4), (5, 8)]
    once = baseline_attributions(baseline, "bad", 0)[1]
    comma = values[1]
    assert values.sum() - comma == pytest.approx(once.sum(), abs=0.5)
    assert values[0] == pytest.approx(values[2], abs=abs(comma) + 1e-9)


def test_positions_are_those_of_the_given_text() -> None:
    text = "İt WAS Good"
    spans, values = baseline_attributions(fitted(2), text, 1)
    assert {text[start:end] for (start, end), value in zip(spans, values, strict=True) if value} >= {"Good"}
    assert max(end for _, end in spans) == len(text)


def test_a_baseline_without_terms_adds_nothing() -> None:
    baseline = fit_text_baseline(["a", "b"], np.array([0, 0]), 2, seed=0)
    assert baseline_attributions(baseline, "a b", 1)[1].size == 0
