"""A text's probabilities are the same alone and among others, for every kind of model, tokenizer and engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tenor.data.batching import TokenExamples
from tenor.inference.logits import predict
from tenor.inference.predictor import Predictor
from tenor.model.classifier import quiet_transformers
from tenor.model.device import plan_device
from tiny_rows import token_rows

WORDS = ("film", "was", "superb", "dull", "and", "scene", "movie", "funny")
TEXTS = [" ".join(np.random.default_rng(n).choice(WORDS, size=1 + 5 * n % 27)) for n in range(24)]

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 3}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", BERT),
    "distilbert": ("distilbert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "roberta": ("roberta", BERT | {"pad_token_id": 0, "max_position_embeddings": 66}),
    "electra": ("electra", BERT | {"embedding_size": 16}),
    "gpt2": ("gpt2", GPT | {"pad_token_id": 0}),
    "gpt2 that knows no padding": ("gpt2", GPT),
    "gpt2 that pads with its last token": ("gpt2", GPT | {"pad_token_id": 3}),
    "llama": ("llama", BERT | {"num_key_value_heads": 4, "pad_token_id": 0}),
    "albert": ("albert", BERT | {"embedding_size": 16, "pad_token_id": 0}),
    "xlm-roberta": ("xlm-roberta", BERT | {"pad_token_id": 1, "max_position_embeddings": 66}),
    "deberta-v2": ("deberta-v2", BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "mpnet": ("mpnet", BERT | {"pad_token_id": 1, "max_position_embeddings": 66}),
    # Attention to the nearest tokens only.
    "modernbert": ("modernbert", BERT | {"pad_token_id": 0, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "mistral": ("mistral", BERT | {"num_key_value_heads": 4, "pad_token_id": 0, "sliding_window": 8}),
    "qwen3": ("qwen3", BERT | {"num_key_value_heads": 4, "head_dim": 8, "pad_token_id": 0}),
    "gemma": ("gemma", BERT | {"num_key_value_heads": 4, "head_dim": 8, "pad_token_id": 0}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}),
    # These compute something else where a row is padded on the right.
    "nystromformer": ("nystromformer", BERT | {"pad_token_id": 0}),
    "yoso": ("yoso", BERT | {"pad_token_id": 0, "max_position_embeddings": 66}),
    "xlnet": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "pad_token_id": 0}),
    "convbert": ("convbert", BERT | {"embedding_size": 32, "pad_token_id": 0}),
    "fnet": ("fnet", BERT | {"pad_token_id": 0}),
    "funnel": ("funnel", {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [2, 2]}),
}
ALONE = ("nystromformer", "yoso", "gpt2 that knows no padding", "xlnet", "convbert", "fnet", "funnel")


def save(kind: str, small_model: Path, folder: Path, side: str = "left", **head: Any) -> Path:
    """Save a model with random weights; `head` are settings of its outputs, by default two classes."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small_model, padding_side=side)
    tokenizer.model_max_length = 48
    architecture, settings = SETTINGS[kind]
    given = {"num_labels": 2, **settings, **head}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), initializer_range=0.3, **given)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(2)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def unpadded(folder: Path) -> np.ndarray:
    """Probabilities of the classes, as the model itself gives them for every text by itself."""
    return softmax(logits_alone(folder), axis=1)


def logits_alone(folder: Path) -> np.ndarray:
    """What the model itself gives every text by itself, shape (texts, outputs)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits for text in TEXTS]
    return np.asarray(torch.cat(rows).double().numpy())


def holds(predictor: Predictor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Alone, among all others, among some, in another order."""
    assert np.ptp(expected[:, 0]) > 100 * tolerance
    alone = np.concatenate([predictor.probabilities([text]) for text in TEXTS])
    together = predictor.probabilities(TEXTS)
    np.testing.assert_allclose(alone, expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose(together, expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose(predictor.probabilities(TEXTS[::-2]), expected[::-2], atol=tolerance, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_company_changes_nothing(kind: str, side: str, small_model: Path, tmp_path: Path) -> None:
    folder = save(kind, small_model, tmp_path / "model", side)
    predictor = Predictor.load(folder, engine="torch", device="cpu", threads=1)
    holds(predictor, unpadded(folder))
    assert ("rows are computed one by one" in predictor.why) == (kind in ALONE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra", "gpt2", "llama", "convbert"])
def test_company_changes_nothing_in_onnx_runtime(kind: str, small_model: Path, tmp_path: Path) -> None:
    folder = save(kind, small_model, tmp_path / "model")
    holds(Predictor.load(folder, engine="onnx", threads=1), unpadded(folder))


@pytest.mark.slow
def test_company_changes_nothing_in_int8(small_model: Path, tmp_path: Path) -> None:
    """8-bit numbers share a scale over the whole batch, so that every row has to be a batch."""
    folder = save("bert", small_model, tmp_path / "model")
    predictor = Predictor.load(folder, engine="onnx-int8", threads=1)
    expected = np.concatenate([predictor.probabilities([text]) for text in TEXTS])
    holds(predictor, expected)
    np.testing.assert_allclose(expected, unpadded(folder), atol=0.1, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "convbert", "fnet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_company_changes_nothing_in_an_evaluation(kind: str, precision: str, small_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = save(kind, small_model, tmp_path / "model")
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = [[2, *range(10, 10 + n), 3] for n in (1, 30, 2, 17, 5)]
    plan = plan_device("cpu", precision, threads=1, prediction_tokens=400)
    together = predict(model, TokenExamples(token_rows(rows, [0] * 5), 0), plan)
    alone = np.concatenate([predict(model, TokenExamples(token_rows([row], [0]), 0), plan) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-5 if precision == "fp32" else 0.05, rtol=0)


def test_examples_without_a_padding_token_are_masked(small_model: Path, tmp_path: Path) -> None:
    batch = TokenExamples(token_rows([[2, 9, 3], [2, 3]], [0, 1]), None).collate(np.arange(2))
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_sparse_attention_does_not_depend_on_what_came_before(small_model: Path, tmp_path: Path) -> None:
    """BigBird gives up its sparse attention at the first short text, for all that follow."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder, tokenizer = tmp_path / "big_bird", AutoTokenizer.from_pretrained(small_model)
    sparse = {"block_size": 4, "num_random_blocks": 1, "initializer_range": 0.3}
    config = AutoConfig.for_model("big_bird", vocab_size=len(tokenizer), **sparse, **BERT)
    with quiet_transformers():
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    long = "film was superb " * 40
    first, second = (Predictor.load(folder, engine="torch", device="cpu", threads=1) for _ in range(2))
    expected = first.probabilities([long])
    second.probabilities(["film"])
    np.testing.assert_allclose(second.probabilities([long]), expected, atol=1e-6, rtol=0)
