"""Predictions belong to the texts at the same position, whatever kind of sequence the texts come in."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sequences import NAMES, kinds, made, no_sequences
from tenor.errors import TextError, UserError
from tenor.inference.predictor import Predictor

TEXTS = ["film was dull", "superb", "film and scene and film", "dull scene was superb", "film"]
NOT_TEXTS = list(no_sequences())


@pytest.mark.parametrize("kind", NAMES)
def test_each_prediction_is_that_of_the_text_at_its_position(small_predictor: Predictor, kind: str) -> None:
    expected = [small_predictor.predict([text])[0] for text in TEXTS]
    found = small_predictor.predict(made(TEXTS, kind))
    assert [one.label for one in found] == [one.label for one in expected]
    probabilities = small_predictor.probabilities(made(TEXTS, kind))
    alone = np.array([list(one.probabilities.values()) for one in expected])
    np.testing.assert_allclose(probabilities, alone, atol=1e-6, rtol=0)
    np.testing.assert_allclose([list(one.probabilities.values()) for one in found], alone, atol=1e-6, rtol=0)
    assert len(np.unique(alone[:, 0].round(4))) == len(TEXTS)  # A text at another's place would be seen.


@pytest.mark.parametrize("kind", NAMES)
def test_chunks_follow_the_positions_too(
    small_predictor: Predictor, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = small_predictor.probabilities(TEXTS)
    monkeypatch.setattr("tenor.inference.predictor.CHUNK_TEXTS", 2)
    np.testing.assert_allclose(small_predictor.probabilities(made(TEXTS, kind)), expected, atol=1e-6, rtol=0)


def test_a_sorted_and_a_filtered_column(small_predictor: Predictor) -> None:
    frame = pd.DataFrame({"text": TEXTS, "stars": [3, 1, 5, 2, 4]})
    expected = dict(zip(TEXTS, small_predictor.probabilities(TEXTS), strict=True))
    for part in (frame.sort_values("stars"), frame[frame["stars"] > 2], frame.sample(frac=1, random_state=1)):
        found = small_predictor.probabilities(part["text"])
        np.testing.assert_allclose(found, [expected[text] for text in part["text"]], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("value", "words"), [one[1:] for one in NOT_TEXTS], ids=[one[0] for one in NOT_TEXTS])
def test_what_is_no_list_of_texts_is_named(small_predictor: Predictor, value: Any, words: str) -> None:
    for call in (small_predictor.predict, small_predictor.probabilities):
        with pytest.raises(UserError, match=words) as caught:
            call(value)
        assert not isinstance(caught.value, TextError)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_text_is_named_by_its_position(small_predictor: Predictor, missing: Any) -> None:
    column = pd.Series(["film", "dull", missing, "superb"], index=[7, 3, 5, 0])
    with pytest.raises(TextError, match=r"texts\[2\] is missing") as caught:
        small_predictor.predict(column)
    assert caught.value.position == 2


def test_nothing_is_nothing_in_every_kind(small_predictor: Predictor) -> None:
    for empty in ([], (), pd.Series([], dtype=str), np.array([], dtype=str), iter([])):
        assert small_predictor.predict(empty) == []


def test_probabilities_are_decided_in_every_kind(small_predictor: Predictor) -> None:
    expected = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    given: Any = pd.DataFrame(expected, index=[2, 0, 1])
    assert small_predictor.decide(given).tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", ["sorted Series", "filtered Series", "chunked Arrow array", "generator"])
def test_a_sample_comes_in_every_kind(small_predictor: Predictor, small_classifier: Any, kind: str) -> None:
    texts = [f"film was dull {'and superb ' * (n % 5)}" for n in range(64)]
    found = Predictor.load(small_classifier, sample=dict(kinds(texts))[kind](), device="cpu", threads=1)
    assert "texts" in found.why
    with pytest.raises(UserError, match="sample is a single string"):
        Predictor.load(small_classifier, sample="film")
