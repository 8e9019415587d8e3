"""A classifier stores the class names, starts with a head that depends only on the seed, or reports what is missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tenor.config.schema import Model
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.errors import UserError
from tenor.model.classifier import (
    load_classifier,
    load_saved_classifier,
    locate,
    position_count,
    quiet_transformers,
    weights_digest,
)
from tiny_models import KINDS, fresh_tiny_model, load_tiny

NAMES = ("bad", "so-so", "good")


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def saved(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two classes, head included, as `transformers` saves one."""
    folder = tmp_path_factory.mktemp("saved")
    trained = load_tiny(tiny_bert, seed=1)
    with quiet_transformers():
        trained.model.save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_local_folder_gives_its_weights_and_a_head_for_the_classes(kind: str, tiny_models: dict[str, Path]) -> None:
    found = load_classifier(Model(name=str(tiny_models[kind])), NAMES, 3, "cpu")
    config = found.model.config
    assert config.id2label == dict(enumerate(NAMES))
    assert config.label2id == {name: index for index, name in enumerate(NAMES)}
    assert config.num_labels == 3
    assert config.problem_type == "single_label_classification"
    assert found.model(input_ids=torch.tensor([[101, 102]])).logits.shape == (1, 3)
    stored = load_file(tiny_models[kind] / "model.safetensors")
    loaded = found.model.base_model.state_dict()
    for name in loaded:
        torch.testing.assert_close(loaded[name], stored[name], rtol=0, atol=0)
    # RoBERTa's classifier has no use for the encoder's pooler.
    assert {name for name in stored if name not in loaded} <= {"pooler.dense.weight", "pooler.dense.bias"}
    own = {name.removeprefix(f"{found.model.base_model_prefix}.") for name in state(found.model)}
    assert own - set(stored) == set(found.new_weights)
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}


def test_the_embedded_encoder_needs_only_its_name() -> None:
    assert locate("minilm") == str(embedded_encoder_folder())
    found = load_classifier(Model(), NAMES, 3, "cpu")
    assert found.origin == "minilm"
    assert found.new_weights == ("classifier.bias", "classifier.weight")
    assert found.model.config.num_hidden_layers == 6
    assert found.tokenizer("good")["input_ids"] == [101, 2204, 102]


def test_the_seed_decides_the_head_and_nothing_else_does(tiny_distilbert: Path) -> None:
    first = state(load_tiny(tiny_distilbert, seed=5).model)
    torch.rand(17)
    second = state(load_tiny(tiny_distilbert, seed=5, dropout=0.3).model)
    other = state(load_tiny(tiny_distilbert, seed=6).model)
    assert weights_digest(first) == weights_digest(second)
    differs = {name for name in first if not torch.equal(first[name], other[name])}
    assert differs == {"classifier.weight", "pre_classifier.weight"}


def test_a_head_of_another_size_is_newly_initialized(tiny_bert: Path, saved: Path) -> None:
    same = load_tiny(saved, seed=2)
    assert same.new_weights == ()
    assert weights_digest(state(same.model)) == weights_digest(state(load_tiny(tiny_bert, seed=1).model))
    wider = load_classifier(Model(name=str(saved)), NAMES, 2, "cpu")
    assert wider.new_weights == ("classifier.bias", "classifier.weight")
    assert wider.model.classifier.out_features == 3


def test_a_random_encoder_is_wholly_the_seeds() -> None:
    found = load_classifier(Model(name="random-distilbert"), NAMES, 5, "cpu")
    assert set(found.new_weights) == set(state(found.model))
    torch.rand(17)
    again, other = (load_classifier(Model(name="random-distilbert"), NAMES, seed, "cpu") for seed in (5, 6))
    assert weights_digest(state(again.model)) == weights_digest(state(found.model))
    assert weights_digest(state(other.model)) != weights_digest(state(found.model))
    assert found.model.config.id2label == dict(enumerate(NAMES))


def attention_dropouts(model: nn.Module) -> set[float]:
    return {
        module.p
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and name.endswith(("attention.self.dropout", "attention.dropout"))
    }


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta", "electra"])
@pytest.mark.parametrize(
    ("device", "requested", "expected"),
    [("cpu", "auto", 0.0), ("cuda", "auto", 0.1), ("cpu", "model", 0.1), ("cpu", 0.25, 0.25), ("cuda", 0.0, 0.0)],
)
def test_attention_dropout(
    kind: str, device: str, requested: str | float, expected: float, tiny_models: dict[str, Path]
) -> None:
    settings = Model(name=str(tiny_models[kind]), attention_dropout=requested)
    found = load_classifier(settings, NAMES, 0, device)
    assert found.attention_dropout == expected
    assert attention_dropouts(found.model) == {expected}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dropout_override_reaches_every_layer_but_attention(kind: str, tiny_models: dict[str, Path]) -> None:
    found = load_tiny(tiny_models[kind], dropout=0.37, attention_dropout=0.0)
    rates = {module.p for module in found.model.modules() if hasattr(module, "p") and module.p != 0.0}
    assert rates == {0.37}
    off = load_tiny(tiny_models[kind], dropout=0.0)
    assert {module.p for module in off.model.modules() if hasattr(module, "p")} == {0.0}


def test_the_fused_attention_is_used_where_the_model_has_it(tiny_models: dict[str, Path]) -> None:
    chosen = {kind: load_tiny(folder).model.config._attn_implementation for kind, folder in tiny_models.items()}
    assert chosen == {**dict.fromkeys(("distilbert", "bert", "roberta", "electra"), "sdpa"), "deberta-v2": "eager"}


@pytest.mark.parametrize("name", ["distilbert/distilbert-base-uncased", "no-such-model", "a/b/c", "../nowhere"])
def test_a_model_that_is_not_here_is_refused_and_the_embedded_one_offered(name: str) -> None:
    with pytest.raises(UserError, match=r"model\.name=minilm") as caught:
        load_classifier(Model(name=name), NAMES, 0, "cpu")
    assert repr(name) in str(caught.value)


def cut_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


BROKEN: dict[str, Callable[[Path], Any]] = {
    "weights cut short": cut_weights,
    "weights empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "configuration cut short": lambda folder: (folder / "config.json").write_text('{"model_type": "be'),
    "a configuration of nothing": lambda folder: (folder / "config.json").write_text("{}"),
    "tokenizer cut short": lambda folder: (folder / "tokenizer.json").write_text('{"version"'),
    "no tokenizer": no_tokenizer,
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("load", [load_tiny, load_saved_classifier])
def test_a_damaged_folder_is_refused_by_name(copy: Path, damage: str, load: Callable[[Path], Any]) -> None:
    BROKEN[damage](copy)
    with pytest.raises(UserError, match="copy"):
        load(copy)


def test_a_saved_classifier_is_loaded_complete(tiny_bert: Path, saved: Path) -> None:
    trained = load_tiny(tiny_bert, seed=1)
    model, tokenizer = load_saved_classifier(saved)
    assert not model.training
    assert weights_digest(state(model)) == weights_digest(state(trained.model))
    assert tokenizer("good plot")["input_ids"] == trained.tokenizer("good plot")["input_ids"]


def test_saved_weights_that_do_not_fit_are_refused(tiny_bert: Path, copy: Path) -> None:
    with pytest.raises(UserError, match=r"missing_keys.*classifier\.weight"):
        load_saved_classifier(tiny_bert)  # An encoder without a head.
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(UserError, match=r"unexpected_keys.*layer\.1"):
        load_saved_classifier(copy)
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match="copy"):
        load_saved_classifier(copy)


def test_the_digest_changes_with_any_weight_name_shape_or_type(tiny_bert: Path) -> None:
    weights = state(fresh_tiny_model(tiny_bert))
    digest = weights_digest(weights)
    assert weights_digest(dict(reversed(weights.items()))) == digest
    random = np.random.default_rng(0)
    for name, tensor in weights.items():
        changed = tensor.clone()
        changed.view(-1)[random.integers(changed.numel())] += 0.5
        assert weights_digest({**weights, name: changed}) != digest, name
    name, tensor = next(iter(weights.items()))
    others = [
        {**weights, name: tensor.T.contiguous()},
        {**weights, name: tensor.reshape(-1)},
        {**weights, name: tensor.to(torch.bfloat16)},
        {**{k: v for k, v in weights.items() if k != name}, "renamed": tensor},
        {k: v for k, v in weights.items() if k != name},
    ]
    assert len({digest, *map(weights_digest, others)}) == len(others) + 1


def test_the_digest_sees_values_and_not_memory() -> None:
    square = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"w": square.T}) == weights_digest({"w": square.T.contiguous()})
    assert weights_digest({"scalar": torch.tensor(1.0)}) != weights_digest({"scalar": torch.tensor(2.0)})


def test_quiet_is_over_when_the_block_ends() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        *dict.fromkeys(("bert", "distilbert", "electra", "albert", "deberta"), 0).items(),
        *dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"), 2).items(),
        *dict.fromkeys(("luke", "ibert", "esm", "roberta-prelayernorm"), 2).items(),
    ],
)
def test_a_text_may_have_as_many_tokens_as_a_model_has_positions(kind: str, unused: int) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = {"hidden_size": 8, "embedding_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    if kind == "distilbert":
        shape = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
    kept = {"num_attention_heads": 2, "attention_window": [4], "mask_token_id": 3}
    config = AutoConfig.for_model(
        kind, vocab_size=10, pad_token_id=1, max_position_embeddings=20, **shape, **kept, num_labels=2
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert position_count(model) == 20 - unused
    ids = torch.full((1, 20 - unused), 5)
    with torch.inference_mode():
        assert model(ids).logits.shape == (1, 2)
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.cat([ids, ids[:, :1]], dim=1))
