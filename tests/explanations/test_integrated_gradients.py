"""Captum on the plain model is the oracle; the paths of other threads do not mix; the model stays as it was."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as Folder
from typing import Any

import numpy as np
import pytest
import torch

from tenor.config.schema import Model
from tenor.explanations.integrated_gradients import (
    EmbeddedModel,
    Path,
    attribute,
    integral,
    relative_gap,
)
from tenor.explanations.linear_terms import class_weights
from tenor.inference.engines import fast_model
from tenor.model.classifier import load_classifier
from tenor.model.speed import FirstTokenLayer
from tiny_models import KINDS, fresh_tiny_model

STEPS = 12


def embedded(model: Any) -> EmbeddedModel:
    return EmbeddedModel.of(fast_model(model.eval()), model.get_input_embeddings(), "cpu")


def path_of(model: EmbeddedModel, length: int, label: int = 1, pad_id: int = 0, seed: int = 1) -> Path:
    ids = np.random.default_rng(seed).integers(1000, 20_000, (1, length))
    fixed = np.zeros(length, dtype=bool)
    fixed[[0, -1]] = True
    return model.path({"input_ids": ids}, fixed, pad_id, class_weights(label, 2))


def captum_attributions(model: Any, path: Path, steps: int) -> np.ndarray:
    """By token, with the same steps, quadrature and baseline; through `inputs_embeds` of the whole model."""
    from captum.attr import IntegratedGradients

    def score(embeddings: torch.Tensor) -> torch.Tensor:
        return model(inputs_embeds=embeddings).logits @ path.weights

    values = IntegratedGradients(score).attribute(
        path.end[None], path.start[None], n_steps=steps, method="gausslegendre", internal_batch_size=4
    )
    return values[0].sum(dim=-1).detach().numpy()


@pytest.mark.parametrize("kind", ["distilbert", "bert", "electra", "deberta-v2"])
def test_attributions_are_those_of_captum(kind: str, tiny_models: dict[str, Folder]) -> None:
    model = fresh_tiny_model(tiny_models[kind]).eval()
    ours = embedded(model)
    path = path_of(ours, 17)
    expected = captum_attributions(model, path, STEPS)
    for tokens in (1, 64):
        values = integral(ours, path, STEPS, tokens)
        np.testing.assert_allclose(values, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())), rtol=0)


@pytest.mark.slow
def test_attributions_of_the_real_encoder_are_those_of_captum() -> None:
    classifier = load_classifier(Model(name="minilm"), ("negative", "positive"), 0, "cpu")
    model = classifier.model.eval()
    ours = embedded(model)
    ids = classifier.tokenizer(["A wonderful film, and not at all boring!"], return_tensors="np")["input_ids"]
    fixed = np.zeros(ids.shape[1], dtype=bool)
    fixed[[0, -1]] = True
    path = ours.path({"input_ids": ids}, fixed, 0, class_weights(1, 2))
    expected = captum_attributions(model, path, 20)
    np.testing.assert_allclose(integral(ours, path, 20, 2048), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_attributions_sum_to_is_the_change_of_the_score(kind: str, tiny_models: dict[str, Folder]) -> None:
    model = fresh_tiny_model(tiny_models[kind]).eval()
    ours = embedded(model)
    path = path_of(ours, 9)
    with torch.no_grad():
        logits = model(inputs_embeds=torch.stack([path.start, path.end])).logits
    change = float((logits[1] - logits[0]) @ path.weights)
    found = attribute(ours, path, 256, steps=64, most_steps=256)
    assert found.change == pytest.approx(change, abs=1e-4)
    assert found.gap == pytest.approx(relative_gap(float(found.values.sum()), change), abs=0.02)
    assert found.gap < 0.1
    assert found.values[0] == found.values[-1] == 0  # The special tokens are the same at both ends.


def test_nodes_are_added_until_the_gap_is_small(tiny_distilbert: Folder) -> None:
    ours = embedded(fresh_tiny_model(tiny_distilbert))
    path = path_of(ours, 20)
    few, many = (attribute(ours, path, 256, steps=2, most_steps=most) for most in (2, 512))
    assert few.steps == 2 < many.steps <= 512
    assert many.gap < few.gap


def test_the_model_is_not_changed_and_no_weight_gets_a_gradient(tiny_bert: Folder) -> None:
    model = fresh_tiny_model(tiny_bert).eval()
    before = {name: (type(module), id(module)) for name, module in model.named_modules()}
    ours = embedded(model)
    integral(ours, path_of(ours, 8), 4, 64)
    assert {name: (type(module), id(module)) for name, module in model.named_modules()} == before
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert sum(isinstance(one, FirstTokenLayer) for one in ours.model.modules()) == 1
    shared = {weight.data_ptr() for weight in model.parameters()}
    assert {weight.data_ptr() for weight in ours.model.parameters()} <= shared


def test_paths_of_several_threads_do_not_mix(tiny_distilbert: Folder) -> None:
    ours = embedded(fresh_tiny_model(tiny_distilbert))
    paths = [path_of(ours, 6 + number, seed=number) for number in range(8)]
    expected = [integral(ours, path, 6, 64) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: integral(ours, path, 6, 64), paths * 3))
    for values, alone in zip(found, expected * 3, strict=True):
        np.testing.assert_allclose(values, alone, atol=1e-5, rtol=0)
