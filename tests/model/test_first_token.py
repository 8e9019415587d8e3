"""The last layer for the first token alone: the same logits and gradients, under the same names."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from tenor.model.speed import FirstTokenLayer, read_first_token_only
from tiny_models import KINDS, fresh_tiny_model

SHORTENED = ["distilbert", "bert", "roberta", "electra"]


def loss_of(model: Any) -> torch.Tensor:
    ids = torch.randint(1000, 20_000, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    return model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 1])).loss


@pytest.mark.parametrize("kind", SHORTENED)
def test_every_gradient_is_the_same(kind: str, tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models[kind]).eval()  # Without dropout, whose draws would differ.
    shorter = deepcopy(model)
    assert read_first_token_only(shorter)
    for one in (model, shorter):
        loss_of(one).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    found = {name: p.grad for name, p in shorter.named_parameters()}
    assert list(found) == list(expected)
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", SHORTENED)
def test_dropout_changes_the_loss_only_in_training(kind: str, tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models[kind])
    assert read_first_token_only(model)
    model.eval()
    assert loss_of(model) == loss_of(model)
    for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
        dropout.p = 0.0
    layer = next(m for m in model.modules() if isinstance(m, FirstTokenLayer))
    attention = layer.attention if layer.distilbert else layer.attention.self
    attention.dropout.p = 0.5
    model.train()
    assert loss_of(model) != loss_of(model)


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_of_the_weights_stay(kind: str, tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models[kind])
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert read_first_token_only(model) == (kind in SHORTENED)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before


def test_a_second_call_changes_nothing(tiny_bert: Path) -> None:
    model = fresh_tiny_model(tiny_bert)
    assert read_first_token_only(model)
    assert not read_first_token_only(model)
