"""A model with one output, rewritten with two: a text's probability is the sigmoid of its own logit, in any batch."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from test_padding import SETTINGS, TEXTS

from tenor.inference.predictor import Predictor
from tenor.model.classifier import quiet_transformers
from tenor.model.foreign import FROM_ONE_OUTPUT

KINDS = ("bert", "distilbert", "roberta", "electra", "gpt2", "llama", "modernbert", "xlnet")


def save_one_output(kind: str, small_model: Path, folder: Path, side: str) -> Path:
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small_model, padding_side=side)
    tokenizer.model_max_length = 48
    architecture, settings = SETTINGS[kind]
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), initializer_range=0.3, num_labels=1, **settings
    )
    config.problem_type = "multi_label_classification"
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(2)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sigmoids(folder: Path) -> np.ndarray:
    """What the model itself gives every text by itself, shape (texts,)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits for text in TEXTS]
    return np.asarray(expit(torch.cat(logits)[:, 0].double().numpy()))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nothing(
    kind: str, side: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = save_one_output(kind, small_model, tmp_path / "one", side), tmp_path / "two"
    monkeypatch.setattr(sys, "argv", ["-c", str(one), str(two), "other", "toxic"])
    with quiet_transformers():
        exec(FROM_ONE_OUTPUT, {})
    predictor, expected = Predictor.load(two, engine="torch", device="cpu", threads=1), sigmoids(one)
    assert np.ptp(expected) > 1e-3
    for rows in (slice(None), slice(None, None, -2), slice(3, 4), slice(5, 11)):
        np.testing.assert_allclose(predictor.probabilities(TEXTS[rows])[:, 1], expected[rows], atol=1e-5, rtol=0)
    alone = np.concatenate([predictor.probabilities([text]) for text in TEXTS])
    np.testing.assert_allclose(alone[:, 1], expected, atol=1e-5, rtol=0)
