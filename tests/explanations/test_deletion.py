"""The test of explanations accepts those that find the decisive words, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from tenor.explanations.deletion import (
    FEWEST_ROWS,
    Explained,
    explain_rows,
    mean_interval,
    measure_deletion,
    without,
)
from tenor.explanations.explainer import Explainer
from tenor.inference.predictor import Predictor

GOOD, BAD = ("bright", "moving", "superb", "funny"), ("dull", "awful", "stale", "boring")


@pytest.fixture(scope="module")
def explained(predictor: Predictor) -> tuple[Explainer, list[Explained]]:
    explainer = Explainer.of(predictor)
    texts = [
        f"film {number} was {(GOOD if number % 2 else BAD)[number % 4]} and scene {number + 1}" for number in range(40)
    ]
    return explainer, explain_rows(explainer, texts)


def shuffled(rows: list[Explained]) -> list[Explained]:
    """The same texts, with the values of each in random order."""
    random = np.random.default_rng(3)
    mixed = []
    for row in rows:
        words = row.explanation.words
        order = random.permutation(len(words))
        moved = tuple(replace(word, value=words[at].value) for word, at in zip(words, order, strict=True))
        mixed.append(replace(row, explanation=replace(row.explanation, words=moved)))
    return mixed


def test_the_words_that_decide_move_the_probability_more_than_random_ones(
    explained: tuple[Explainer, list[Explained]],
) -> None:
    result = measure_deletion(*explained)
    assert result is not None
    assert result.important.shape == (40,)
    assert set(result.deleted) == {1}
    assert result.interval.low > 0.05
    assert result.interval.low < result.difference < result.interval.high


def test_a_shuffled_explainer_is_no_better_than_random(explained: tuple[Explainer, list[Explained]]) -> None:
    explainer, rows = explained
    result = measure_deletion(explainer, shuffled(rows))
    assert result is not None
    assert result.interval.low <= 0


def test_too_few_rows_give_no_result(explained: tuple[Explainer, list[Explained]]) -> None:
    explainer, rows = explained
    assert measure_deletion(explainer, rows[: FEWEST_ROWS - 1]) is None


def test_texts_that_cannot_be_predicted_are_left_out(predictor: Predictor) -> None:
    done: list[int] = []
    rows = explain_rows(Explainer.of(predictor), ["film 1 was dull", " ", "film 2 was funny"], done.append)
    assert [row.text for row in rows] == ["film 1 was dull", "film 2 was funny"]
    assert sum(done) == 3


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 400)
    interval = mean_interval(values)
    assert interval.low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.02)


def test_deleting() -> None:
    assert without("one two three", [(0, 4), (8, 13)]) == "two "
    assert without("one", []) == "one"
