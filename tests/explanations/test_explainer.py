"""Explanations in words: their positions, their sum, what was truncated, and models that cannot be explained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tenor.data.tokenization import Truncation
from tenor.errors import TextError, UserError
from tenor.explanations.explainer import Explainer, Explanation
from tenor.explanations.linear_terms import class_weights
from tenor.inference.predictor import Predictor
from tenor.measures.hybrid import Hybrid, Stacker
from tenor.measures.text_baseline import fit_text_baseline
from tenor.workflows.train import RunResult
from tiny_models import fresh_tiny_model

TEXT = "A wonderful film!! I don't regret it. The plot, though, is unbelievably <br />muddled… and too loooong."
TRAINING = [
    "a wonderful film",
    "a muddled plot",
    "wonderful plot",
    "too muddled",
    "the film is too good",
    "plot is bad",
]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path) -> Predictor:
    """A tiny classifier with random weights."""
    folder = tmp_path_factory.mktemp("classifier")
    model = fresh_tiny_model(tiny_distilbert)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_distilbert / name).read_bytes())
    return Predictor.load(folder, threads=1)


@pytest.fixture(scope="module")
def hybrid(predictor: Predictor) -> Predictor:
    """The same with a text baseline."""
    baseline = fit_text_baseline(TRAINING, np.array([1, 0, 1, 0, 1, 0]), 2, seed=0)
    both = Hybrid(Stacker(0.7, 0.6, (0.1, -0.1)), baseline)
    return replace(predictor, source=replace(predictor.source, hybrid=both, temperature=1.5))


def exact(predictor: Predictor) -> Explainer:
    return replace(Explainer.of(predictor), steps=32, most_steps=128)


def score(predictor: Predictor, text: str, label: str) -> float:
    probabilities = predictor.probabilities([text])[0]
    return float(np.log(probabilities) @ class_weights(predictor.labels.index(label), len(predictor.labels)))


def total(explanation: Explanation) -> float:
    return sum(word.value for word in explanation.words)


@pytest.mark.parametrize("kind", ["predictor", "hybrid"])
def test_the_words_are_those_of_the_text_and_their_sum_is_the_change(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: Predictor = request.getfixturevalue(kind)
    explanation = exact(loaded).explain(TEXT)
    assert [TEXT[word.start : word.end] for word in explanation.words] == [word.word for word in explanation.words]
    assert "".join(word.word for word in explanation.words) == "".join(TEXT.replace("<br />", "<br/>").split()).replace(
        "<br/>", "<br />"
    )
    assert total(explanation) == pytest.approx(explanation.change, rel=0.05)
    assert explanation.gap == pytest.approx(abs(total(explanation) - explanation.change) / abs(explanation.change))
    assert explanation.label == loaded.predict([TEXT])[0].label
    assert (explanation.read_until, explanation.skipped) == (len(TEXT), ())


def test_the_change_is_that_of_the_predictions(hybrid: Predictor) -> None:
    """Between two texts of the same length, whose baseline is the same."""
    explainer = exact(hybrid)
    texts = ["a wonderful film", "a terrible plot"]
    label = hybrid.predict(texts[:1])[0].label
    one, other = (explainer.explain_class(text, hybrid.labels.index(label)) for text in texts)
    expected = score(hybrid, texts[0], label) - score(hybrid, texts[1], label)
    assert one.change - other.change == pytest.approx(expected, abs=1e-3)


def test_values_are_those_of_the_other_class_with_the_other_sign(hybrid: Predictor) -> None:
    explainer = exact(hybrid)
    first, second = (explainer.explain_class(TEXT, label) for label in (0, 1))
    assert [word.value for word in first.words] == pytest.approx([-word.value for word in second.words], abs=1e-4)


@pytest.mark.parametrize(
    ("strategy", "share"), [("head", 1.0), ("tail", 1.0), ("head_tail", 0.25)], ids=["head", "tail", "head_tail"]
)
def test_what_was_truncated(predictor: Predictor, strategy: str, share: float) -> None:
    words = [f"w{number}" for number in range(40)]
    text = " ".join(words)
    short = replace(predictor, source=replace(predictor.source, truncation=Truncation(22, strategy, share)))
    explanation = Explainer.of(short).explain(text)
    seen = [word.word for word in explanation.words]
    assert seen == [word for word in words if word in seen]
    assert 5 < len(seen) < 40
    left = "".join(text[start:end] for start, end in explanation.skipped)
    assert set(left.split()) | set(seen) >= set(words)
    if strategy == "head":
        assert explanation.read_until < len(text)
        ((start, end),) = explanation.skipped
        assert explanation.read_until <= start
        assert end == len(text)
    else:
        assert explanation.read_until == len(text)


def test_a_hybrid_reads_words_that_the_encoder_does_not(hybrid: Predictor) -> None:
    short = replace(hybrid, source=replace(hybrid.source, truncation=Truncation(6, "head", 1.0)))
    explanation = Explainer.of(short).explain("one two three four five six seven wonderful eight muddled")
    assert [word.word for word in explanation.words][-2:] == ["wonderful", "muddled"]
    assert explanation.read_until < len("one two three four five six seven")


def test_the_sentence_that_weighs_most(hybrid: Predictor) -> None:
    explanation = exact(hybrid).explain(TEXT)
    assert explanation.sentence is not None
    inside = [w.value for w in explanation.words if explanation.sentence.start <= w.start < explanation.sentence.end]
    assert explanation.sentence.value == pytest.approx(sum(inside))
    assert exact(hybrid).explain("only one sentence").sentence is None


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_a_text_without_a_prediction_has_no_explanation(predictor: Predictor, text: str) -> None:
    with pytest.raises(TextError):
        Explainer.of(predictor).explain(text)


def test_explaining_works_in_inference_mode_and_without_gradients(predictor: Predictor) -> None:
    expected = Explainer.of(predictor).explain(TEXT)
    with torch.inference_mode():
        assert total(Explainer.of(predictor).explain(TEXT)) == pytest.approx(total(expected), abs=1e-5)
    with torch.no_grad():
        assert total(Explainer.of(predictor).explain(TEXT)) == pytest.approx(total(expected), abs=1e-5)


def test_an_onnx_file_is_refused_with_the_fix(predictor: Predictor) -> None:
    exported = replace(predictor, source=replace(predictor.source, model=None))
    with pytest.raises(UserError, match=r"no gradients.*Explain the run or the model folder"):
        Explainer.of(exported)


def test_a_tokenizer_without_positions_is_refused(predictor: Predictor) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match=r"no positions of tokens.*tokenizer\.json"):
        Explainer.of(replace(predictor, source=replace(predictor.source, tokenizer=Slow())))


def test_words_of_a_trained_model_decide(completed: RunResult) -> None:
    predictor = Predictor.load(completed.run.path, threads=1)
    for text, decisive in (("film 3 was superb and scene 4", "superb"), ("film 3 was stale and scene 4", "stale")):
        explanation = Explainer.of(predictor).explain(text)
        assert max(explanation.words, key=lambda word: word.value).word == decisive
