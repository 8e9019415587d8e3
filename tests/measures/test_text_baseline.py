"""The text baseline learns, is the same after saving and loading, and does not depend on the order of rows."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.errors import UserError
from tenor.measures.text_baseline import TextBaseline, fit_text_baseline, majority_baseline

WORDS = {0: ["dull", "awful", "boring"], 1: ["great", "lovely", "fun"], 2: ["fine", "average", "usual"]}


def reviews(n: int, k: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts in which two of three content words come from the class's own list."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    filler = ["the", "film", "is", "a", "story", "<br />", "!"]
    texts = []
    for label in labels:
        words = [*rng.choice(WORDS[label], 2), rng.choice(WORDS[rng.integers(0, k)]), *rng.choice(filler, 4)]
        texts.append(" ".join(rng.permutation(words)))
    return texts, labels


@pytest.mark.parametrize("k", [2, 3])
def test_the_baseline_learns_from_words_and_returns_distributions(k: int) -> None:
    baseline = fit_text_baseline(*reviews(400, k), k, seed=0)
    texts, labels = reviews(200, k, seed=1)
    probabilities = baseline.probabilities(texts)
    assert probabilities.shape == (200, k)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.85
    assert baseline.note == ""


def test_the_order_of_words_counts() -> None:
    texts = ["not good", "good , not bad", "bad , not so", "not bad"] * 5 + ["good not", "bad not"] * 5
    baseline = fit_text_baseline(texts, np.array([0, 1, 0, 1] * 5 + [0, 1] * 5), 2, seed=0)
    assert "not good" in baseline.vocabulary
    assert baseline.probabilities(["not good", "good not"])[0, 0] > 0.5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2, 3]))
def test_the_order_of_rows_changes_nothing(seed: int, k: int) -> None:
    texts, labels = reviews(60, k)
    order = np.random.default_rng(seed).permutation(60)
    one = fit_text_baseline(texts, labels, k, seed=3)
    other = fit_text_baseline([texts[row] for row in order], labels[order], k, seed=3)
    assert one.vocabulary == other.vocabulary
    assert np.array_equal(one.probabilities(texts), other.probabilities(texts))


def test_ratio_is_the_smoothed_log_count_ratio() -> None:
    texts, labels = ["x y", "x x", "y", "y x"], np.array([1, 1, 0, 0])
    baseline = fit_text_baseline(texts, labels, 2, seed=0)
    assert baseline.vocabulary == ("x", "y")
    positive, negative = np.array([2, 1]) + 1, np.array([1, 2]) + 1
    assert baseline.ratio[0] == pytest.approx(np.log((positive / 5) / (negative / 5)))


@pytest.mark.parametrize("k", [2, 3])
def test_saved_and_loaded_it_predicts_the_same_without_pickle(tmp_path: Path, k: int, monkeypatch: object) -> None:
    texts, labels = reviews(80, k)
    texts = [*texts, "émouvant ’ 很好 \x85 \u2028 naïve"] * 2
    baseline = fit_text_baseline(texts, np.array([*labels, 0] * 2), k, seed=0)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads"):
        monkeypatch.setattr(pickle, name, refuse)  # type: ignore[attr-defined]
    baseline.save(tmp_path / "baseline")
    loaded = TextBaseline.load(tmp_path / "baseline")
    assert loaded.vocabulary == baseline.vocabulary
    assert np.array_equal(loaded.probabilities(texts), baseline.probabilities(texts))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline"]
    first = {path.name: path.read_bytes() for path in (tmp_path / "baseline").iterdir()}
    baseline.save(tmp_path / "baseline")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "baseline").iterdir()}


@pytest.mark.parametrize(
    ("texts", "labels", "k", "expected", "note"),
    [
        (["good film", "good one"], [1, 1], 2, [0.0, 1.0], "one class only"),
        (["good film", "good one"], [2, 2], 3, [0.0, 0.0, 1.0], "one class only"),
        (["red", "green", "blue", "white"], [0, 0, 0, 1], 2, [0.75, 0.25], "no term"),
        (["", " "], [0, 1], 2, [0.5, 0.5], "no term"),
    ],
)
def test_with_nothing_to_learn_it_is_the_class_frequencies_and_says_so(
    texts: list[str], labels: list[int], k: int, expected: list[float], note: str, tmp_path: Path
) -> None:
    baseline = fit_text_baseline(texts, np.array(labels), k, seed=0)
    baseline.save(tmp_path / "b")
    for one in (baseline, TextBaseline.load(tmp_path / "b")):
        assert one.probabilities(["anything", "good"]).tolist() == [expected, expected]
        assert note in one.note
        assert "class frequencies" in one.note


def test_a_class_without_rows_is_unlikely_everywhere_and_named() -> None:
    texts, labels = reviews(60, 2)
    baseline = fit_text_baseline(texts, labels, 3, seed=0)
    assert baseline.probabilities(texts)[:, 2].max() < 0.1
    assert baseline.note == "no training row has label 2"


def test_refuses_texts_without_labels_and_no_rows() -> None:
    with pytest.raises(ValueError, match="2 texts, but 1 labels"):
        fit_text_baseline(["a", "b"], np.array([0]), 2, seed=0)
    with pytest.raises(ValueError, match="n > 0"):
        fit_text_baseline([], np.array([], dtype=int), 2, seed=0)


def test_no_texts_give_no_rows() -> None:
    assert fit_text_baseline(*reviews(20, 2), 2, seed=0).probabilities([]).shape == (0, 2)


@pytest.mark.parametrize("damage", ["missing", "truncated", "shorter", "pickled", "format"])
def test_a_broken_folder_is_refused_with_a_next_step(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "baseline"
    fit_text_baseline(*reviews(40, 2), 2, seed=0).save(folder)
    if damage == "missing":
        (folder / "arrays.npz").unlink()
    elif damage == "truncated":
        (folder / "arrays.npz").write_bytes((folder / "arrays.npz").read_bytes()[:100])
    elif damage == "shorter":
        (folder / "vocabulary.txt").write_text("one\ntwo")
    elif damage == "pickled":
        np.savez(folder / "arrays.npz", **dict.fromkeys(("ratio", "coef"), np.array([{}], dtype=object)))
    else:
        (folder / "baseline.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="train again"):
        TextBaseline.load(folder)


def test_majority_takes_the_commonest_training_class() -> None:
    assert majority_baseline(np.array([1, 1, 0]), np.array([0, 0, 0, 1]), 2) == 0.25
    assert majority_baseline(np.array([0, 1]), np.array([0, 1, 1]), 2) == pytest.approx(1 / 3)
    with pytest.raises(ValueError):
        majority_baseline(np.array([], dtype=int), np.array([0]), 2)


def test_terms_are_those_that_scikit_learn_counts() -> None:
    """On real reviews, and on markup, quotes, emoticons, and letters outside ASCII."""
    from tenor.measures.text_baseline import _learn_vocabulary, _vectorizer

    real = read_source(Data()).train.texts[:300]
    texts = [*real, "Déjà vu <br /><br />I'm “SO” glad :-) 10/10 İ ß", "", "word", "!"]
    vocabulary, _ = _learn_vocabulary(texts)
    counted = _vectorizer(vocabulary=vocabulary).transform(texts).sorted_indices()
    fitted = fit_text_baseline(texts, np.arange(len(texts)) % 2, 2, seed=0)
    assert fitted.vocabulary == vocabulary
    for row, text in enumerate(texts):
        assert fitted._terms(text) == counted[row].indices.tolist()
