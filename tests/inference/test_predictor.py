"""Predictions are those of `transformers`' own pipeline, in order, for whatever text there is."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tenor
from classifiers import save_classifier
from tenor.config.schema import Data, Model
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.errors import TextError, UserError
from tenor.inference.predictor import Predictor
from tenor.inference.texts import WINDOW_OVERLAP, windows
from tenor.model.classifier import load_classifier
from tiny_models import KINDS

TOLERANCE = 1e-4


def piped(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    """The pipeline's probabilities, one text at a time."""
    from transformers import pipeline

    found = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")(texts, truncation=True)
    return [{one["label"]: one["score"] for one in row} for row in found]


def same(predictions: list[Any], expected: list[dict[str, float]]) -> None:
    assert len(predictions) == len(expected)
    for one, other in zip(predictions, expected, strict=True):
        assert one.probabilities == pytest.approx(other, abs=TOLERANCE)
        assert one.label == max(other, key=other.__getitem__)
        assert one.probability == max(one.probabilities.values())


def test_real_reviews_get_what_the_pipeline_gives(
    tiny_predictor: Predictor, tiny_classifier: Path, real_reviews: LabelledText
) -> None:
    predictions = tiny_predictor.predict(list(real_reviews.texts))
    same(predictions, piped(tiny_classifier, list(real_reviews.texts)))
    assert np.ptp([one.probability for one in predictions]) > 100 * TOLERANCE


@pytest.mark.slow
def test_a_thousand_real_reviews_get_what_the_pipeline_gives(tiny_predictor: Predictor, tiny_classifier: Path) -> None:
    rows = read_source(Data()).train
    assert isinstance(rows, LabelledText)
    tokenizer = tiny_predictor.source.tokenizer
    drawn = rows.select(np.random.default_rng(0).permutation(len(rows))[:1400]).texts
    fitting = [text for text in drawn if len(tokenizer(text, verbose=False)["input_ids"]) <= 512][:1000]
    assert len(fitting) == 1000
    same(tiny_predictor.predict(fitting), piped(tiny_classifier, fitting))


@pytest.mark.slow
def test_the_embedded_encoder_gives_what_the_pipeline_gives(real_reviews: LabelledText, tmp_path: Path) -> None:
    folder = save_classifier(embedded_encoder_folder(), tmp_path / "minilm", length=256)
    same(Predictor.load(folder).predict(list(real_reviews.texts)), piped(folder, list(real_reviews.texts)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_encoder(kind: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = save_classifier(tiny_models[kind], tmp_path / kind)
    texts = ["a fine film", "never again a slow plot " * 9, "dull", "bright 😀 scene", "a fine film"]
    same(Predictor.load(folder, device="cpu", threads=1).predict(texts), piped(folder, texts))


# Whatever text there is.

ODD = [
    "film was superb",
    "😀😀 🎬",
    "Füße für Ærø, naïve façade; 映画は最高だった; فيلم رائع",
    "a\u0301\u200d\ufeff zero width",
    "film was dull",
    "film was superb",
    "word " * 3000,
    "\tfilm\r\n\x01 was <br /> superb\x07",
    "!",
]


def test_order_duplicates_unicode_and_emoji(tiny_predictor: Predictor) -> None:
    together = tiny_predictor.predict(ODD)
    for text, one in zip(ODD, together, strict=True):
        (alone,) = tiny_predictor.predict([text])
        assert one.probabilities == pytest.approx(alone.probabilities, abs=TOLERANCE)
    # Where a row lies in its batch decides the last bit.
    assert together[0].label == together[5].label
    assert together[0].probabilities == pytest.approx(together[5].probabilities, abs=1e-6)
    assert [one.truncated for one in together] == [len(text) > 10_000 for text in ODD]
    backwards = tiny_predictor.predict(ODD[::-1])[::-1]
    assert [one.label for one in backwards] == [one.label for one in together]


def test_a_text_of_a_megabyte(small_predictor: Predictor) -> None:
    text = "film was superb and " * 50_000
    one, other = small_predictor.predict([text, "film was dull"])
    assert one.truncated
    assert not other.truncated


def test_a_single_word_of_a_megabyte(small_predictor: Predictor) -> None:
    (one,) = small_predictor.predict(["x" * 1_000_000])
    assert one.label in small_predictor.labels


def test_no_texts_are_no_predictions(small_predictor: Predictor) -> None:
    assert small_predictor.predict([]) == []
    assert small_predictor.probabilities([]).shape == (0, 2)


words = st.lists(st.sampled_from(["film", "was", "superb", "dull", "and", "scene"]), min_size=1, max_size=40)


@settings(max_examples=15)
@given(st.lists(words.map(" ".join), min_size=1, max_size=8), st.randoms())
def test_the_company_never_changes_a_prediction(small_predictor: Predictor, texts: list[str], random: Any) -> None:
    order = random.sample(range(len(texts)), len(texts))
    expected = small_predictor.probabilities(texts)
    found = small_predictor.probabilities([texts[at] for at in order])
    np.testing.assert_allclose(found, expected[order], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n\t\u2003", "white space"),
        (None, "is missing"),
        (3, "int '3'"),
        (b"film", "bytes"),
        (float("nan"), "float"),
        (["film"], "list"),
        ("half \ud83d", "surrogate"),
        ("a\x00b", "contains NUL"),
        ("\x01\x02", "no character that the tokenizer knows"),
    ],
)
def test_a_text_that_is_none_is_named_by_its_position(tiny_predictor: Predictor, text: Any, words: str) -> None:
    with pytest.raises(TextError, match=words) as caught:
        tiny_predictor.predict(["film", "film", text, ""])
    assert caught.value.position == 2
    assert "texts[2]" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_position_counts_over_chunks(small_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenor.inference.predictor.CHUNK_TEXTS", 4)
    with pytest.raises(TextError) as caught:
        small_predictor.predict(["film"] * 10 + [""])
    assert caught.value.position == 10


def test_a_single_string_is_no_list(small_predictor: Predictor) -> None:
    with pytest.raises(UserError, match="expected a list"):
        small_predictor.predict("film was superb")


# Long texts.


def test_a_long_text_is_cut_and_flagged(small_predictor: Predictor) -> None:
    long = "film was superb and " * 10
    kept = " ".join(long.split()[:14])
    found, expected, short = small_predictor.predict([long, kept, "film was dull"])
    assert found.probabilities == pytest.approx(expected.probabilities, abs=TOLERANCE)
    assert [found.truncated, expected.truncated, short.truncated] == [True, False, False]


@given(st.integers(3, 400), st.integers(3, 40))
def test_windows_cover_everything_and_overlap(length: int, max_length: int) -> None:
    ids = np.arange(length, dtype=np.int32)
    rows = windows(ids, max_length, (1, 1))
    room = max_length - 2
    contents = [row[1:-1] for row in rows]
    assert all(row[0] == 0 and row[-1] == length - 1 and len(row) <= max_length for row in rows)
    assert set(np.concatenate(contents)) == set(range(1, length - 1))
    if length > max_length:
        assert all(len(content) == room for content in contents)
        overlaps = [room - (after[0] - before[0]) for before, after in pairwise(contents)]
        assert min(overlaps) >= int(room * WINDOW_OVERLAP)


def test_windows_are_averaged(small_predictor: Predictor) -> None:
    words = ("film was superb and scene " * 12).split()
    (one,) = small_predictor.predict([" ".join(words)], long_text="windows")
    ids = np.array(small_predictor.source.tokenizer(" ".join(words), truncation=False, verbose=False)["input_ids"])
    texts = [small_predictor.source.tokenizer.decode(row[1:-1]) for row in windows(ids, 16, (1, 1))]
    expected = small_predictor.probabilities(texts).mean(axis=0)
    assert one.windows == len(texts) > 2
    assert not one.truncated
    np.testing.assert_allclose(list(one.probabilities.values()), expected, atol=TOLERANCE)


def test_windows_leave_a_short_text_as_it_is(small_predictor: Predictor) -> None:
    texts = ["film was superb", "dull"]
    assert small_predictor.predict(texts, long_text="windows") == small_predictor.predict(texts)


# Kinds of classifiers.


def changed(folder: Path, target: Path, **settings: Any) -> Path:
    """A copy of a model folder with other settings in config.json."""
    import shutil

    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **settings}))
    return target


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"problem_type": "regression"}, "regression.*quantities.*tenor train"),
        ({"problem_type": "multi_label_classification"}, "any number of labels.*doesn't support.*top_k=None"),
    ],
)
def test_what_gives_a_text_no_single_class_is_refused(
    settings: dict[str, Any], words: str, small_classifier: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        Predictor.load(changed(small_classifier, tmp_path / "other", **settings))


@pytest.mark.parametrize("problem", [None, "regression", "multi_label_classification"])
def test_a_model_with_one_output_is_no_classifier(problem: str | None, small_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "one"
    model = AutoModelForSequenceClassification.from_pretrained(small_model, num_labels=1)
    model.config.problem_type = problem
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(small_model).save_pretrained(folder)
    with pytest.raises(UserError, match=r"expected a classifier|one for each|one output per class") as caught:
        Predictor.load(folder)
    assert str(folder) in str(caught.value)
    if problem is None:
        assert "1 output" in str(caught.value)
        assert "recorded nowhere" in str(caught.value)
    # It can be trained, with a head of its own.
    assert load_classifier(Model(name=str(folder)), ("negative", "positive"), 0, "cpu").model.config.num_labels == 2


def test_a_decoder_without_a_padding_token(small_classifier: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(small_classifier)
    tokenizer.pad_token = None
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3, **shape)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "gpt")
    tokenizer.save_pretrained(tmp_path / "gpt")
    texts = ["film was superb", "dull", "film and scene and film"]
    same(Predictor.load(tmp_path / "gpt", device="cpu").predict(texts), piped(tmp_path / "gpt", texts))


def test_an_encoder_without_a_trained_head_is_refused(tiny_distilbert: Path) -> None:
    with pytest.raises(UserError, match="not a trained classifier"):
        Predictor.load(tiny_distilbert)


@pytest.mark.parametrize("reference", ["nowhere/nothing", "latest", ""])
def test_what_is_not_there_is_named(reference: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run|folder"):
        Predictor.load(reference, root=tmp_path)


def test_the_root_gives_the_predictor(small_classifier: Path) -> None:
    assert tenor.Predictor.load(small_classifier).predict(["film was superb"])[0].label in ("negative", "positive")
