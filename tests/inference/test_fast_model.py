"""The shorter way gives the same logits, and leaves the model as it was."""

from pathlib import Path

import pytest
import torch

from tenor.inference.engines import fast_model
from tenor.model.speed import FirstTokenLayer
from tiny_models import KINDS, fresh_tiny_model

TOLERANCE = 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_the_same(kind: str, tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models[kind]).eval()
    before = {name: type(module) for name, module in model.named_modules()}
    fast = fast_model(model)
    assert fast is not model or kind == "deberta-v2"
    for rows, length in ((1, 1), (1, 7), (4, 33), (2, 200)):
        ids = torch.randint(1000, 20_000, (rows, length))
        mask = torch.ones_like(ids)
        mask[-1, length - length // 3 :] = 0
        with torch.inference_mode():
            for inputs in ({}, {"attention_mask": mask}):
                expected = model(input_ids=ids, **inputs).logits
                torch.testing.assert_close(fast(input_ids=ids, **inputs).logits, expected, atol=TOLERANCE, rtol=0)
    assert {name: type(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta", "electra"])
def test_the_last_layer_is_the_shorter_one(kind: str, tiny_models: dict[str, Path]) -> None:
    fast = fast_model(fresh_tiny_model(tiny_models[kind]).eval())
    assert sum(isinstance(one, FirstTokenLayer) for one in fast.modules()) == 1


def test_what_does_not_agree_is_left_out(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstTokenLayer, "_attend", lambda self, attention, hidden, mask: hidden[:, :1])
    model = fresh_tiny_model(tiny_bert).eval()
    assert fast_model(model) is model
