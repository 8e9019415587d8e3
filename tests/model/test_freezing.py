"""Parameters are frozen by module, exactly the head or the lowest layers, regardless of their names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tenor.config.schema import Model
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.errors import UserError
from tenor.model.freezing import TrainableParameters, anatomy, freeze, set_training_mode
from tiny_models import KINDS, LAYERS, fresh_tiny_model

HEADS = {
    "distilbert": {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"},
    "bert": {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"},
    "roberta": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
    "electra": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
    "deberta-v2": {"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"},
}
LAYER_OF = {"distilbert": "distilbert.transformer.layer.{}.", "bert": "bert.encoder.layer.{}."}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(kind: str, tiny_models: dict[str, Path]) -> Any:
    return fresh_tiny_model(tiny_models[kind])


@pytest.fixture
def distilbert(tiny_distilbert: Path) -> Any:
    return fresh_tiny_model(tiny_distilbert)


@pytest.fixture
def bert(tiny_bert: Path) -> Any:
    return fresh_tiny_model(tiny_bert)


def as_tensor(output: Any) -> torch.Tensor:
    """A layer's hidden states, which some kinds of models wrap in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def trainable_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def describes(parameters: TrainableParameters, model: nn.Module) -> bool:
    """Whether the record agrees with the parameters themselves."""
    body = anatomy(model).body
    named = dict(model.named_parameters())
    numel = {name: parameter.numel() for name, parameter in named.items()}
    return (
        set(parameters.trainable) == trainable_names(model)
        and {*parameters.trainable, *parameters.frozen} == set(named)
        and len(parameters.trainable) + len(parameters.frozen) == len(named)
        and parameters.trainable_count == sum(numel[name] for name in parameters.trainable)
        and parameters.total_count == sum(numel.values())
        and parameters.body_trainable_count == sum(numel[name] for name in body & set(parameters.trainable))
        and parameters.body_count == sum(numel[name] for name in body)
    )


def test_body_and_head_part_the_parameters(model: Any, kind: str) -> None:
    parts = anatomy(model)
    assert parts.head == HEADS[kind]
    assert not parts.body & parts.head
    assert parts.body | parts.head == {name for name, _ in model.named_parameters()}
    assert len(parts.layers) == LAYERS


def test_base_leaves_exactly_the_head(model: Any, kind: str) -> None:
    parameters = freeze(model, Model(freeze="base"))
    assert trainable_names(model) == HEADS[kind]
    assert describes(parameters, model)


def test_base_leaves_exactly_the_head_of_the_embedded_encoder() -> None:
    model = fresh_tiny_model(embedded_encoder_folder())
    assert type(model).__name__ == "BertForSequenceClassification"
    parameters = freeze(model, Model(freeze="base"))
    assert trainable_names(model) == HEADS["bert"]
    assert parameters.trainable_count == 384 * 384 + 384 + 384 * 2 + 2


def test_freeze_none_makes_all_parameters_trainable(model: Any) -> None:
    freeze(model, Model(freeze="base"))
    parameters = freeze(model, Model(freeze="none"))
    assert trainable_names(model) == {name for name, _ in model.named_parameters()}
    assert parameters.frozen == ()
    assert parameters.frozen_modules == ()
    assert describes(parameters, model)


@pytest.mark.parametrize("kind", LAYER_OF)
@pytest.mark.parametrize("depth", range(1, LAYERS + 1))
def test_a_number_fixes_the_embeddings_and_that_many_lowest_layers(model: Any, kind: str, depth: int) -> None:
    parameters = freeze(model, Model(freeze=depth))
    fixed = (f"{kind}.embeddings.", *(LAYER_OF[kind].format(index) for index in range(depth)))
    assert set(parameters.frozen) == {name for name, _ in model.named_parameters() if name.startswith(fixed)}
    assert describes(parameters, model)


@pytest.mark.parametrize("depth", range(1, LAYERS + 1))
def test_no_gradient_is_computed_below_the_boundary(model: Any, depth: int) -> None:
    freeze(model, Model(freeze=depth))
    needs_gradient: list[bool] = []
    for layer in anatomy(model).layers:
        layer.register_forward_hook(lambda _, __, output: needs_gradient.append(as_tensor(output).requires_grad))
    model(input_ids=torch.arange(8)[None])
    assert needs_gradient == [False] * depth + [True] * (LAYERS - depth)


def test_electras_projection_is_below_its_lowest_layer(tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models["electra"])
    parameters = freeze(model, Model(freeze=1))
    fixed = ("electra.embeddings.", "electra.embeddings_project.", "electra.encoder.layer.0.")
    assert set(parameters.frozen) == {name for name, _ in model.named_parameters() if name.startswith(fixed)}


def test_more_layers_than_there_are_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match=rf"{LAYERS + 1} layers, but the encoder has {LAYERS}.*`base`"):
        freeze(model, Model(freeze=LAYERS + 1))


def test_a_fragment_that_names_nothing_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match=r"no parameter's name contains \['adapter'\]"):
        freeze(model, Model(freeze="base", keep_trainable=("bias", "adapter")))


def test_bitfit_lets_the_biases_and_the_head_learn(model: Any, kind: str) -> None:
    parameters = freeze(model, Model(freeze="base", keep_trainable=("bias",)))
    biases = {name for name, _ in model.named_parameters() if "bias" in name}
    assert trainable_names(model) == biases | HEADS[kind]
    assert describes(parameters, model)


def test_the_trap_of_the_case_makes_the_encoder_learn_and_says_so(distilbert: Any) -> None:
    honest = freeze(distilbert, Model(freeze="base"))
    trapped = freeze(distilbert, Model(freeze="base", keep_trainable=("classifier", "lin")))
    inner = {name for name in trapped.trainable if name.startswith("distilbert.transformer.")}
    assert {name.split(".")[-2] for name in inner} == {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}
    assert set(trapped.trainable) - set(honest.trainable) == inner
    assert describes(trapped, distilbert)
    assert trapped.trainable_count > 5 * honest.trainable_count
    assert honest.summary().brief() == "only the head is trainable"
    summary = trapped.summary()
    assert summary.brief() == (
        f"{trapped.body_trainable_count:,} of the encoder's {trapped.body_count:,} weights are trainable"
    )
    assert summary.describe_trainable() == (
        f"{trapped.trainable_count:,} of {trapped.total_count:,} weights "
        f"({trapped.trainable_count / trapped.total_count:.1%}), in {len(trapped.trainable)} tensors: "
        "distilbert.transformer.layer.0-1.attention, distilbert.transformer.layer.0-1.ffn, pre_classifier, classifier"
    )
    assert summary.describe_frozen() == (
        f"{len(trapped.frozen)} tensors: distilbert.embeddings, distilbert.transformer.layer.0-1.sa_layer_norm, "
        "distilbert.transformer.layer.0-1.output_layer_norm"
    )


def test_only_trainable_parameters_receive_gradients(model: Any) -> None:
    parameters = freeze(model, Model(freeze=1))
    model(input_ids=torch.tensor([[101, 2204, 3185, 102]]), attention_mask=torch.ones(1, 4)).logits.sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == set(parameters.trainable)


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def test_frozen_modules_stay_in_evaluation_mode(bert: Any) -> None:
    parameters = freeze(bert, Model(freeze=1))
    set_training_mode(bert, parameters)
    for name, training in modes(bert).items():
        fixed = name.startswith("bert.embeddings") or name.startswith("bert.encoder.layer.0")
        assert training != fixed, name


def test_below_a_frozen_base_only_the_head_trains(distilbert: Any) -> None:
    set_training_mode(distilbert, freeze(distilbert, Model(freeze="base")))
    states = modes(distilbert)
    for name in ("pre_classifier", "classifier", "dropout"):
        assert states[name]
    layers = (distilbert.distilbert.embeddings, *distilbert.distilbert.transformer.layer)
    assert not any(module.training for layer in layers for module in layer.modules())
    assert not any(module.training for module in distilbert.distilbert.modules() if isinstance(module, nn.Dropout))


@pytest.mark.parametrize("settings", [Model(), Model(freeze="base", keep_trainable=("bias",))])
def test_modules_in_which_something_learns_are_in_training_mode(bert: Any, settings: Model) -> None:
    parameters = freeze(bert, settings)
    set_training_mode(bert.eval(), parameters)
    assert parameters.frozen_modules == ()
    assert all(modes(bert).values())


def test_a_frozen_base_gives_the_same_features_in_training_mode(bert: Any) -> None:
    inputs = {"input_ids": torch.tensor([[101, 2204, 3185, 102]]), "attention_mask": torch.ones(1, 4)}
    parameters = freeze(bert, Model(freeze="base"))
    set_training_mode(bert, parameters)
    with torch.no_grad():
        first, second = (bert.base_model(**inputs)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_model_without_a_stack_of_layers_is_refused() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    shared = AlbertForSequenceClassification(
        AlbertConfig(vocab_size=50, embedding_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=8)
    )
    with pytest.raises(UserError, match="albert model has no stack of 12 encoder layers"):
        freeze(shared, Model())
