"""A model with one output, rewritten with two: a text's probability is the sigmoid of its own logit, in any batch."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from test_padding import TEXTS, logits_alone, save

from tenor.inference.predictor import Predictor
from tenor.model.classifier import quiet_transformers
from tenor.model.foreign import FROM_ONE_OUTPUT

KINDS = ("bert", "distilbert", "roberta", "electra", "gpt2", "llama", "modernbert", "xlnet")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nothing(
    kind: str, side: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"num_labels": 1, "problem_type": "multi_label_classification"}
    one, two = save(kind, small_model, tmp_path / "one", side, **head), tmp_path / "two"
    monkeypatch.setattr(sys, "argv", ["-c", str(one), str(two), "other", "toxic"])
    with quiet_transformers():
        exec(FROM_ONE_OUTPUT, {})
    predictor, expected = Predictor.load(two, engine="torch", device="cpu", threads=1), expit(logits_alone(one)[:, 0])
    assert np.ptp(expected) > 1e-3
    for rows in (slice(None), slice(None, None, -2), slice(3, 4), slice(5, 11)):
        np.testing.assert_allclose(predictor.probabilities(TEXTS[rows])[:, 1], expected[rows], atol=1e-5, rtol=0)
    alone = np.concatenate([predictor.probabilities([text]) for text in TEXTS])
    np.testing.assert_allclose(alone[:, 1], expected, atol=1e-5, rtol=0)
