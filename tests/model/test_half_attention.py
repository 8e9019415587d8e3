"""Attention in bfloat16: the fused kernel's numbers to rounding, used in training alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tenor.config.schema import Model
from tenor.model import half_attention
from tenor.model.classifier import load_classifier
from tenor.model.half_attention import NAME, HalfAttention, use_half_attention

ROWS, HEADS, LENGTH, SIZE = 5, 3, 11, 8


def _tensors(count: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    stored = (torch.randn(ROWS, LENGTH, HEADS, SIZE, dtype=torch.bfloat16) for _ in range(count))
    return [tensor.transpose(1, 2) for tensor in stored]


def _mask(lengths: list[int]) -> torch.Tensor:
    seen = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    return seen[:, None, None, :].expand(ROWS, 1, LENGTH, LENGTH)


@pytest.mark.parametrize("groups", [1, 2, ROWS])
@pytest.mark.parametrize("lengths", [None, [11, 4, 1, 9, 11]])
def test_results_and_gradients_are_those_of_float32_to_rounding(
    groups: int, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_row = HEADS * LENGTH * LENGTH
    monkeypatch.setattr(half_attention, "SCORES_AT_ONCE", -(-ROWS // groups) * per_row)
    *inputs, gradient = _tensors(4)
    mask = None if lengths is None else _mask(lengths)
    halves = [tensor.clone().requires_grad_() for tensor in inputs]
    singles = [tensor.float().requires_grad_() for tensor in inputs]
    result = HalfAttention.apply(*halves, half_attention._added(mask, torch.bfloat16), 0.3)
    expected = scaled_dot_product_attention(*singles, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(result.float(), expected, atol=0.03, rtol=0.02)
    result.backward(gradient)
    expected.backward(gradient.float())
    for half, single in zip(halves, singles, strict=True):
        assert half.grad is not None
        assert single.grad is not None
        assert float((half.grad.float() - single.grad).norm() / single.grad.norm()) < 0.02


def test_a_row_in_which_nothing_is_seen_gives_numbers() -> None:
    query, key, value, gradient = _tensors(4)
    query.requires_grad_()
    mask = half_attention._added(_mask([0, 3, 11, 11, 11]), torch.bfloat16)
    result = HalfAttention.apply(query, key, value, mask, 0.3)
    result.backward(gradient)
    assert query.grad is not None
    assert torch.isfinite(result).all()
    assert torch.isfinite(query.grad).all()


def _pair(folder: Path, **settings: Any) -> tuple[Any, Any]:
    """A model with PyTorch's attention, and the same with Tenor's."""
    plain, changed = (load_classifier(Model(name=str(folder), **settings), ("a", "b"), 3, "cpu").model for _ in "12")
    assert use_half_attention(changed)
    return plain.eval(), changed.eval()


def _count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = half_attention._added
    monkeypatch.setattr(half_attention, "_added", lambda *given: calls.append(1) or real(*given))
    return calls


INPUTS = {
    "input_ids": torch.tensor([[2, 5, 9, 40, 3], [2, 77, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


@pytest.mark.parametrize("kind", ["small_model", "small_bert"])
def test_float32_and_prediction_are_bit_for_bit_as_before(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, changed = _pair(request.getfixturevalue(kind))
    calls = _count_calls(monkeypatch)
    for model in (plain, changed):
        model(**INPUTS).logits.sum().backward()
    assert torch.equal(plain(**INPUTS).logits, changed(**INPUTS).logits)
    for one, other in zip(plain.parameters(), changed.parameters(), strict=True):
        assert one.grad is None or torch.equal(one.grad, other.grad)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(**INPUTS).logits, changed(**INPUTS).logits)
    assert not calls


@pytest.mark.parametrize("kind", ["small_model", "small_bert"])
def test_training_in_bfloat16_uses_it_in_every_layer_and_agrees_with_float32(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, changed = _pair(request.getfixturevalue(kind))
    calls = _count_calls(monkeypatch)
    plain(**INPUTS).logits.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        logits = changed(**INPUTS).logits
    logits.float().sum().backward()
    assert len(calls) == 2
    distance = sum(float((a.grad - b.grad).norm()) ** 2 for a, b in _with_gradient(plain, changed)) ** 0.5
    norm = sum(float(a.grad.norm()) ** 2 for a, _ in _with_gradient(plain, changed)) ** 0.5
    assert distance < 0.05 * norm


def _with_gradient(one: Any, other: Any) -> list[tuple[Any, Any]]:
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    return [(a, b) for a, b in pairs if a.grad is not None]


def test_attention_dropout_stays_with_the_model_s_own_attention(
    small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, changed = _pair(small_bert, attention_dropout=0.1)
    calls = _count_calls(monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        changed.train()(**INPUTS).logits.float().sum().backward()
    assert not calls


def test_a_position_bias_is_left_to_the_fused_kernel() -> None:
    *inputs, gradient = _tensors(4)
    module = torch.nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    bias = torch.randn(1, 1, LENGTH, LENGTH, dtype=torch.bfloat16)
    inputs[0].requires_grad_()
    result, _ = half_attention.attention(module, *inputs, None, position_bias=bias)
    result.backward(gradient.transpose(1, 2))
    expected = scaled_dot_product_attention(*(tensor.detach() for tensor in inputs), attn_mask=bias)
    assert torch.equal(result.detach(), expected.transpose(1, 2))


def test_what_is_saved_does_not_name_it(small_bert: Path, tmp_path: Path) -> None:
    _, changed = _pair(small_bert)
    changed.save_pretrained(tmp_path)
    assert f'"{NAME}"' not in (tmp_path / "config.json").read_text()


def test_a_model_with_attention_of_its_own_keeps_it(small_bert: Path) -> None:
    model = load_classifier(Model(name=str(small_bert)), ("a", "b"), 3, "cpu").model
    model.set_attn_implementation("eager")
    assert not use_half_attention(model)
    assert model.config._attn_implementation == "eager"
