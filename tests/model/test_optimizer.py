"""Every trainable parameter is in exactly one group, with the configured rate and decay; no step has rate 0."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Model, Training
from tenor.model.freezing import anatomy, freeze
from tenor.model.optimizer import make_optimizer, parameter_groups, rate_factor, set_rates
from tiny_models import KINDS, LAYERS, fresh_tiny_model

FREEZES = (Model(), Model(freeze="base"), Model(freeze=1), Model(freeze="base", keep_trainable=("bias",)))
SETTINGS = (Training(), Training(layer_decay=0.8), Training(head_learning_rate=1e-3, layer_decay=0.5, weight_decay=0.0))


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Any:
    return fresh_tiny_model(tiny_models[request.param])


@pytest.fixture
def bert(tiny_bert: Path) -> Any:
    return fresh_tiny_model(tiny_bert)


def by_name(groups: list[dict], key: str) -> dict[str, float]:
    return {name: group[key] for group in groups for name in group["names"]}


def test_every_learning_parameter_is_in_exactly_one_group(model: Any) -> None:
    for freezing in FREEZES:
        parameters = freeze(model, freezing)
        for settings in SETTINGS:
            groups = parameter_groups(model, settings)
            grouped = [id(parameter) for group in groups for parameter in group["params"]]
            assert len(grouped) == len(set(grouped))
            assert set(grouped) == {id(p) for p in model.parameters() if p.requires_grad}
            assert sorted(name for group in groups for name in group["names"]) == sorted(parameters.trainable)
            for group in groups:
                named = dict(model.named_parameters())
                assert all(named[n] is p for n, p in zip(group["names"], group["params"], strict=True))


def test_biases_and_norms_never_decay_and_matrices_do(model: Any) -> None:
    decay = by_name(parameter_groups(model, Training(weight_decay=0.1)), "weight_decay")
    for name, value in decay.items():
        spared = name.endswith("bias") or "norm" in name.lower()
        assert value == (0.0 if spared else 0.1), name


def test_the_head_has_its_own_rate(model: Any) -> None:
    head = anatomy(model).head
    rates = by_name(parameter_groups(model, Training(learning_rate=1e-5, head_learning_rate=1e-3)), "peak_lr")
    assert {rate for name, rate in rates.items() if name in head} == {1e-3}
    assert {rate for name, rate in rates.items() if name not in head} == {1e-5}
    same = by_name(parameter_groups(model, Training(learning_rate=2e-5)), "peak_lr")
    assert set(same.values()) == {2e-5}
    still = by_name(parameter_groups(model, Training(head_learning_rate=0.0)), "peak_lr")
    assert {rate for name, rate in still.items() if name in head} == {0.0}


@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_layer_decay_falls_by_its_factor_from_each_layer_to_the_one_below(model: Any, decay: float) -> None:
    parts = anatomy(model)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = by_name(parameter_groups(model, Training(learning_rate=1e-4, layer_decay=decay)), "peak_lr")
    assert {rates[name] for name in parts.head} == {1e-4}
    for depth, layer in enumerate(reversed(parts.layers)):
        (rate,) = {rates[named[id(p)]] for p in layer.parameters()}
        assert rate == pytest.approx(1e-4 * decay**depth)
    below = {rates[named[id(p)]] for module in parts.embeddings for p in module.parameters()}
    assert below == {min(rates.values())}
    assert min(rates.values()) == pytest.approx(1e-4 * decay**LAYERS)


def test_one_step_moves_exactly_the_trainable_parameters(bert: Any) -> None:
    parameters = freeze(bert, Model(freeze=1))
    before = {name: parameter.detach().clone() for name, parameter in bert.named_parameters()}
    optimizer = make_optimizer(bert, Training(learning_rate=1e-3))
    ids = torch.tensor([[101, 2204, 3185, 102]])
    set_rates(optimizer, 1.0)
    bert(input_ids=ids).logits[:, 0].sum().backward()
    optimizer.step()
    moved = {name for name, parameter in bert.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= set(parameters.trainable)
    # Only the bias of the keys has no gradient: it shifts all scores of a query by the same amount.
    assert all("key.bias" in name for name in set(parameters.trainable) - moved)


def test_no_rate_before_the_first_is_set(bert: Any) -> None:
    optimizer = make_optimizer(bert, Training(head_learning_rate=1e-3))
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    set_rates(optimizer, 0.25)
    for group in optimizer.param_groups:
        assert group["lr"] == group["peak_lr"] * 0.25
    assert {group["peak_lr"] for group in optimizer.param_groups} == {8e-5, 1e-3}


schedules = st.sampled_from(["linear", "cosine", "constant"])


@given(st.integers(1, 3000), schedules, st.floats(0, 1))
def test_no_step_has_rate_zero_and_the_peak_is_reached(total: int, schedule: str, warmup: float) -> None:
    settings = Training(schedule=schedule, warmup=warmup)
    factors = [rate_factor(step, total, settings) for step in range(total)]
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert max(factors) == 1.0
    rising = round(warmup * total)
    climb, fall = factors[:rising], factors[rising:]
    assert all(first < second for first, second in pairwise(climb))
    if schedule == "constant":
        assert set(fall) <= {1.0}
    else:
        assert all(first > second for first, second in pairwise(fall))


@given(st.integers(1, 500), schedules, st.floats(0, 1))
def test_the_rate_is_a_pure_function_of_the_step(total: int, schedule: str, warmup: float) -> None:
    settings = Training(schedule=schedule, warmup=warmup)
    forwards = [rate_factor(step, total, settings) for step in range(total)]
    assert [rate_factor(step, total, settings) for step in reversed(range(total))] == forwards[::-1]


def test_linear_falls_by_equal_parts_and_cosine_slowly_first() -> None:
    linear, cosine = (
        [rate_factor(step, 100, Training(schedule=name, warmup=0.0)) for step in range(100)]
        for name in ("linear", "cosine")
    )
    assert linear == pytest.approx([1 - step / 100 for step in range(100)])
    assert cosine[25] > linear[25]
    assert cosine[75] < linear[75]
    assert cosine[50] == pytest.approx(0.5)
