"""A recorded forward pass gives outputs, parameters in use and the last layer; parts are found by structure."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from adapted_models import LowRank, Own, Tied, adapted, by_hand, encoder, load
from tenor.checks.finding import CannotTell
from tenor.checks.gather.model import model_evidence
from tenor.checks.gather.model_parts import find_parts
from tenor.checks.probes.trace import trace
from tenor.checks.rules.mod import outputs_differ_from_classes

BATCH = {"input_ids": torch.arange(4, 20).reshape(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
FEATURES = {"features": torch.ones(2, 8)}


def test_the_last_layer_computes_the_logits(small_bert: Path) -> None:
    model, _ = load(small_bert)
    traced = trace(model, BATCH)
    assert traced.n_outputs == 2
    assert traced.output_layer == {"classifier.weight", "classifier.bias"}
    assert traced.used == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (LowRank(nn.Linear(16, 3)), {"1.base.weight", "1.base.bias", "1.down.weight", "1.up.weight"}),
        (parametrizations.weight_norm(nn.Linear(16, 3)), {f"1.parametrizations.weight.original{k}" for k in (0, 1)}),
        (nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3), nn.Dropout()), {"1.2.weight", "1.2.bias"}),
        (nn.Sequential(nn.Linear(16, 3), nn.Flatten()), {"1.0.weight", "1.0.bias"}),
    ],
)
def test_adapters_and_parametrizations_belong_to_the_last_layer(layer: nn.Module, expected: set[str]) -> None:
    traced = trace(nn.Sequential(nn.Linear(8, 16), layer), FEATURES)
    assert traced.output_layer - {"1.bias"} == expected
    assert traced.n_outputs == 3


def test_parallel_branches_are_one_layer() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.left, self.right = nn.Linear(8, 4), nn.Linear(4, 2), nn.Linear(4, 2, bias=False)
            self.scale, self.idle = nn.Parameter(torch.ones(())), nn.Linear(4, 2)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            hidden = self.body(features).relu()
            return self.scale * (self.left(hidden) + self.right(hidden))

    traced = trace(Sum(), FEATURES)
    assert traced.output_layer == {"left.weight", "left.bias", "right.weight", "scale"}
    assert traced.used == {"body.weight", "body.bias", *traced.output_layer}


def test_frozen_and_detached_parts_count_as_used(small_bert: Path) -> None:
    model = Own(encoder(small_bert).requires_grad_(False), detached=True)
    traced = trace(model, BATCH)
    assert traced.output_layer == {"fc.weight", "fc.bias"}
    assert {name for name, _ in model.named_parameters()} == traced.used, "the pooler is called"


def test_a_tied_head_is_the_embedding(small_bert: Path) -> None:
    assert trace(Tied(encoder(small_bert)), BATCH).output_layer == {"backbone.embeddings.word_embeddings.weight"}


def test_the_original_layer_that_peft_keeps_is_not_used(small_bert: Path) -> None:
    model, _ = adapted(small_bert)
    traced = trace(model, BATCH)
    path = "base_model.model.classifier"
    assert traced.output_layer == {f"{path}.modules_to_save.default.{name}" for name in ("weight", "bias")}
    idle = {name for name, _ in model.named_parameters()} - traced.used
    assert idle == {f"{path}.original_module.{name}" for name in ("weight", "bias")}


@pytest.mark.parametrize("method", ["LoRA", "p-tuning"])
def test_a_trace_changes_nothing(small_bert: Path, method: str) -> None:
    model, _ = adapted(small_bert, method)
    model.train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)

    def state() -> tuple[Any, ...]:
        return (
            [(name, p.requires_grad, None if p.grad is None else p.grad.sum()) for name, p in model.named_parameters()],
            [module.training for module in model.modules()],
            torch.get_rng_state().tolist(),
        )

    before, values = state(), copy.deepcopy(model.state_dict())
    trace(model, BATCH)
    assert state() == before
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    broken = {"input_ids": torch.full((2, 8), 10**6), "attention_mask": BATCH["attention_mask"]}
    with pytest.raises(CannotTell, match=r"token ids are 1000000 … 1000000, not 0 …"):
        trace(model, broken)
    assert state() == before


def test_without_a_trace_outputs_are_read_from_the_layers_of_the_head(small_bert: Path) -> None:
    for model in (adapted(small_bert)[0], adapted(small_bert, "p-tuning")[0], by_hand(load(small_bert)[0])):
        evidence = model_evidence(model, 2)
        assert (evidence.n_outputs, evidence.output_layer) == (2, None)
    head, _ = load(small_bert)
    head.classifier = LowRank(head.classifier, 64, "lora_a", "lora_b")
    assert model_evidence(head, 2).n_outputs == 2


def test_an_encoder_without_a_head_has_no_number_of_outputs(small_bert: Path, small_model: Path) -> None:
    """The program may have the head elsewhere."""
    for folder in (small_bert, small_model):
        evidence = model_evidence(encoder(folder), 2)
        assert evidence.n_outputs is None
        with pytest.raises(CannotTell):
            outputs_differ_from_classes(evidence)


def test_parts_are_found_by_structure_and_not_by_names(small_bert: Path) -> None:
    plain = find_parts(load(small_bert)[0])
    model = by_hand(load(small_bert)[0], rank=32, down="base_of_it", up="a")  # As wide as the layer.
    parts = find_parts(model, trace(model, BATCH).used)
    assert parts.added == {n for n, _ in model.named_parameters() if ".base_of_it." in n or ".a." in n}
    assert parts.head == plain.head
    assert {parts.source_names[name] for name in parts.encoder} == plain.encoder
    assert parts.encoder | parts.added | parts.head == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("method", ["LoRA", "DoRA", "IA3", "OFT", "VeRA", "LoHa", "LoRA as wide as the layer"])
def test_parameters_added_by_peft_are_not_the_encoder(small_bert: Path, method: str) -> None:
    plain = find_parts(load(small_bert)[0])
    model, _ = adapted(small_bert, method)
    parts = find_parts(model, trace(model, BATCH).used)
    assert {parts.source_names[name] for name in parts.encoder} == plain.encoder
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == parts.added | {name for name in parts.head if "modules_to_save" in name}


def test_prompts_are_added_parameters_and_not_the_head(small_bert: Path) -> None:
    model, _ = adapted(small_bert, "p-tuning")
    parts = find_parts(model)
    assert all(name.startswith("prompt_encoder.") for name in parts.added)
    assert not any(name.startswith("prompt_encoder.") for name in parts.head)


def test_added_parameters_of_a_class_that_cannot_be_built_are_found_by_name(small_bert: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tenor.checks.gather.model_parts._built_shapes", lambda host: None)
    model, _ = adapted(small_bert)
    assert find_parts(model).added == {n for n, _ in model.named_parameters() if "lora_" in n}
