"""Dropout from random words drops as often as requested, keeps the mean, and is off in evaluation."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tenor.model.speed import WordDropout, use_word_dropout
from tiny_models import fresh_tiny_model

COUNT = 200_000


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_kept_share_and_the_mean_are_as_requested(p: float) -> None:
    torch.manual_seed(11)
    output = WordDropout(p)(torch.ones(COUNT))
    # Six standard deviations of a binomial share.
    slack = 6 * (p * (1 - p) / COUNT) ** 0.5
    assert (output != 0).float().mean().item() == pytest.approx(1 - p, abs=slack)
    assert output.double().mean().item() == pytest.approx(1.0, abs=slack / (1 - p) + 1e-4)
    assert output.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-3)


def test_dropping_is_independent_of_the_position() -> None:
    torch.manual_seed(3)
    dropped = WordDropout(0.5)(torch.ones(64, 4096)) == 0
    for axis in (0, 1):
        share = dropped.double().mean(axis)
        spread = (0.25 / dropped.shape[axis]) ** 0.5
        assert (share - 0.5).abs().max() < 6 * spread
    flat = dropped.flatten().double() - 0.5
    for distance in (1, 2, 3, 4, 8):  # Four neighbours share one random word.
        assert (flat[distance:] * flat[:-distance]).mean().abs() < 6 * 0.25 / len(flat) ** 0.5


@given(st.floats(1e-9, 1 - 1e-9), st.integers(0, 1000))
def test_any_probability_and_any_size_gives_finite_numbers_of_the_same_shape(p: float, size: int) -> None:
    hidden = torch.ones(size, 3)
    output = WordDropout(p)(hidden)
    assert output.shape == hidden.shape
    assert output.dtype == hidden.dtype
    assert output.isfinite().all()


def test_the_smallest_probability_drops_almost_no_value() -> None:
    torch.manual_seed(5)
    assert (WordDropout(1e-9)(torch.ones(COUNT)) == 0).float().mean() < 1e-3
    assert (WordDropout(1 - 1e-9)(torch.ones(COUNT)) != 0).float().mean() < 1e-3


def test_in_evaluation_the_input_is_returned_unchanged() -> None:
    hidden = torch.randn(5, 7)
    assert WordDropout(0.5).eval()(hidden) is hidden


def test_a_seed_decides_the_mask() -> None:
    layer, hidden = WordDropout(0.3), torch.randn(50, 50)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(layer(hidden))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert not torch.equal(layer(hidden), layer(hidden))


def test_the_gradient_flows_through_what_was_kept_at_the_same_scale() -> None:
    hidden = torch.randn(100, 100, requires_grad=True)
    output = WordDropout(0.25)(hidden)
    output.sum().backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad * hidden, output)
    assert ((hidden.grad == 0) == (output == 0)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_views_and_types_are_kept(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    hidden = torch.rand(6, 10, 4).to(dtype).add(1).transpose(0, 1)
    output = WordDropout(0.5)(hidden)
    assert output.dtype == dtype
    kept = output != 0
    torch.testing.assert_close(output[kept], (hidden * 2)[kept], rtol=1e-2, atol=0)
    assert 0.2 < kept.float().mean() < 0.8


def test_every_active_dropout_is_replaced_and_no_other() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2), nn.Dropout(0.4)))
    assert use_word_dropout(model) == 2
    found = [(type(module), module.p) for module in model.modules() if hasattr(module, "p")]
    assert found == [(WordDropout, 0.1), (nn.Dropout, 0.0), (WordDropout, 0.4)]
    assert use_word_dropout(model) == 0


@pytest.mark.parametrize("training", [True, False])
def test_a_replacement_is_in_the_mode_of_what_it_replaces(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.5)).train(training)
    use_word_dropout(model)
    assert model[0].training == training


def test_a_model_computes_the_same_in_evaluation_and_still_drops_in_training(tiny_bert: Path) -> None:
    model = fresh_tiny_model(tiny_bert).eval()
    inputs = {"input_ids": torch.tensor([[101, 2204, 3185, 102]]), "attention_mask": torch.ones(1, 4)}
    with torch.no_grad():
        before = model(**inputs).logits
        assert use_word_dropout(model) > 0
        assert torch.equal(model(**inputs).logits, before)
        model.train()
        assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
    assert not any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
