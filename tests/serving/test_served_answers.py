"""Served answers are those of `Predictor.predict`, whatever shares their batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from served import Answer, Running
from tenor.data.dataset import LabelledText
from tenor.inference.predictor import Predictor, UnlikeTextsWarning

EQUAL = 1e-6


def probabilities(answer: Answer) -> np.ndarray:
    assert answer.status == 200, answer
    return np.array([list(one["probabilities"].values()) for one in answer.body["predictions"]])


def test_answers_equal_offline_predictions(server: Running, predictor: Predictor, real_reviews: LabelledText) -> None:
    texts = list(real_reviews.texts[:64])
    expected = predictor.predict(texts)
    with ThreadPoolExecutor(16) as clients:
        alone = list(clients.map(lambda text: server.post("/v1/predict", {"texts": text}), texts))
    together = server.post("/v1/predict", {"texts": texts})
    offline = np.array([list(one.probabilities.values()) for one in expected])
    assert np.abs(np.concatenate([probabilities(one) for one in alone]) - offline).max() <= EQUAL
    assert np.abs(probabilities(together) - offline).max() <= EQUAL
    for one, prediction in zip(together.body["predictions"], expected, strict=True):
        assert (one["label"], one["truncated"], one["windows"]) == (prediction.label, prediction.truncated, 1)
        assert one["abstained"] is False
    assert together.body["digest"] == predictor.source.digest


def test_windows_and_abstention_are_those_of_the_predictor(
    server: Running, predictor: Predictor, real_reviews: LabelledText
) -> None:
    texts = list(real_reviews.texts[:8])
    expected = predictor.predict(texts, "windows", abstain_below=0.52)
    wanted = {"texts": texts, "long_text": "windows", "abstain_below": 0.52}
    answer = server.post("/v1/predict", wanted)
    assert [one["label"] for one in answer.body["predictions"]] == [one.label for one in expected]
    assert [one["windows"] for one in answer.body["predictions"]] == [one.windows for one in expected]
    assert [one["abstained"] for one in answer.body["predictions"]] == [not one.label for one in expected]
    assert (answer.body["long_text"], answer.body["abstain_below"]) == ("windows", 0.52)
    assert max(one.windows for one in expected) > 1


def test_a_caution_is_said(server: Running, predictor: Predictor) -> None:
    text = "ⲁⲃⲅ ⲇⲉⲍ ⲏⲑⲓ"
    with pytest.warns(UnlikeTextsWarning):
        (expected,) = predictor.predict([text])
    (one,) = server.post("/v1/predict", {"texts": text}).body["predictions"]
    assert expected.caution
    assert one["caution"] == expected.caution


def test_tei_clients_get_scores_with_the_predicted_class_first(server: Running, predictor: Predictor) -> None:
    texts = ["a good film", "a bad plot and a good film"]
    expected = predictor.predict(texts)
    batch = server.post("/predict", {"inputs": [[text] for text in texts], "raw_scores": False, "truncate": True})
    assert batch.status == 200
    for scores, one in zip(batch.body, expected, strict=True):
        assert scores[0]["label"] == one.label
        assert {score["label"]: score["score"] for score in scores} == pytest.approx(one.probabilities, abs=EQUAL)
    single = server.post("/predict", {"inputs": texts[0]})
    assert [score["label"] for score in single.body] == [score["label"] for score in batch.body[0]]
    raw = server.post("/predict", {"inputs": texts[0], "raw_scores": True}).body
    powers = np.exp([score["score"] for score in raw])
    assert powers / powers.sum() == pytest.approx([score["score"] for score in batch.body[0]], abs=EQUAL)
    assert batch.headers["tenor-truncated"] == "0"


def test_vllm_clients_get_probabilities_in_the_models_order(server: Running, predictor: Predictor) -> None:
    texts = ["a good film", "good " * 200]
    expected = predictor.predict(texts)
    answer = server.post("/classify", {"model": predictor.source.origin, "input": texts, "priority": 0})
    assert answer.status == 200
    assert answer.body["object"] == "list"
    for index, (item, one) in enumerate(zip(answer.body["data"], expected, strict=True)):
        assert (item["index"], item["label"], item["num_classes"]) == (index, one.label, 2)
        assert item["probs"] == pytest.approx(list(one.probabilities.values()), abs=EQUAL)
    assert [item["truncated"] for item in answer.body["data"]] == [False, True]
    assert answer.body["usage"]["total_tokens"] == 5 + 64


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/predict", {"inputs": ["one", "another"]}, "pair"),
        ("/predict", {"inputs": "good " * 200, "truncate": False}, "64 tokens"),
        ("/predict", {"inputs": "good", "truncation_direction": "left"}, "expected right"),
        ("/classify", {"input": "good", "truncate_prompt_tokens": 8}, "expected 64"),
        ("/classify", {"input": "good", "model": "another"}, "not served here"),
        ("/classify", {"input": "good", "use_activation": False}, "use_activation: false"),
        ("/classify", {"input": "good", "softmax": False}, "softmax: false"),
        ("/classify", {"input": "good", "add_special_tokens": False}, "add_special_tokens: false"),
    ],
)
def test_what_another_server_would_do_differently_is_refused(
    server: Running, path: str, body: dict[str, object], words: str
) -> None:
    answer = server.post(path, body)
    assert answer.status in (404, 422)
    error = answer.body["error"]
    assert words in (error if isinstance(error, str) else error["message"])
