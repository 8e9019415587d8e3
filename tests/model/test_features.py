"""Cached features are exact: the head on them gives the model's own logits, and nothing stale is ever read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.config.schema import Model
from tenor.data.batching import TokenExamples
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.tokenization import TokenizedText
from tenor.inference.logits import predict
from tenor.model.device import DevicePlan, plan_device
from tenor.model.features import FeatureExamples, cached_features, can_cache_features, first_token_state, head_logits
from tenor.model.freezing import freeze
from tiny_models import fresh_tiny_model, load_tiny
from tiny_rows import token_rows

CLS, SEP = 101, 102
IDS = [
    [CLS, *range(2000 + 40 * row, 2000 + 40 * row + count), SEP] for row, count in enumerate((1, 22, 7, 0, 12, 3, 18))
]
LABELS = [0, 1, 0, 1, 1, 0, 1]


def chosen(rows: list[int]) -> TokenizedText:
    return token_rows([IDS[row] for row in rows], [LABELS[row] for row in rows])


@pytest.fixture
def plan() -> DevicePlan:
    return plan_device(device="cpu", precision="fp32", threads=1, prediction_tokens=64)


@pytest.fixture(params=["distilbert", "bert"])
def model(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Any:
    return fresh_tiny_model(tiny_models[request.param])


@pytest.fixture
def tokens() -> TokenizedText:
    return chosen(list(range(len(IDS))))


class Encoder:
    """Counts its passes over the rows."""

    def __init__(self, model: Any, tokens: TokenizedText, plan: DevicePlan) -> None:
        self.model, self.examples, self.plan, self.passes = model, TokenExamples(tokens, 0), plan, 0

    def __call__(self) -> np.ndarray:
        self.passes += 1
        return predict(self.model, self.examples, self.plan, first_token_state)


@pytest.mark.parametrize("name", ["distilbert", "bert", "minilm"])
def test_the_head_on_the_features_gives_the_models_own_logits(
    name: str, tiny_models: dict[str, Path], tokens: TokenizedText, plan: DevicePlan
) -> None:
    model = fresh_tiny_model(tiny_models.get(name) or embedded_encoder_folder())
    assert can_cache_features(model, freeze(model, Model(freeze="base")))
    features = cached_features(model, tokens, Encoder(model, tokens, plan))
    own = predict(model, TokenExamples(tokens, 0), plan)
    np.testing.assert_allclose(predict(model, features, plan, head_logits), own, atol=1e-5)
    assert np.ptp(own, axis=0).min() > 1e-2  # Else equality would show little.


def test_the_heads_gradient_on_the_features_is_the_models_own(
    model: Any, tokens: TokenizedText, plan: DevicePlan
) -> None:
    rows = np.arange(len(tokens))
    model.eval()
    parameters = freeze(model, Model(freeze="base"))
    features = cached_features(model, tokens, Encoder(model, tokens, plan))
    gradients = []
    for logits in (
        model(**TokenExamples(tokens, 0).collate(rows).inputs).logits,
        head_logits(model, features.collate(rows).inputs),
    ):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
        named = dict(model.named_parameters())
        gradients.append(torch.cat([named[name].grad.flatten() for name in parameters.trainable]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_features_keep_the_lengths_and_labels_of_the_tokens(
    model: Any, tokens: TokenizedText, plan: DevicePlan, own_cache: Path
) -> None:
    features = cached_features(model, tokens, Encoder(model, tokens, plan))
    assert isinstance(features, FeatureExamples)
    np.testing.assert_array_equal(features.lengths, tokens.lengths)
    np.testing.assert_array_equal(features.labels, tokens.labels)
    rows = np.array([4, 0, 4])
    batch = features.collate(rows)
    np.testing.assert_array_equal(batch.inputs["features"].numpy(), features.features[rows])
    assert batch.labels.tolist() == tokens.labels[rows].tolist()
    assert batch.tokens == tokens.lengths[rows].sum()


def test_a_second_call_does_not_run_the_encoder(
    model: Any, tokens: TokenizedText, plan: DevicePlan, own_cache: Path
) -> None:
    encoder = Encoder(model, tokens, plan)
    first, second = (cached_features(model, tokens, encoder) for _ in range(2))
    assert encoder.passes == 1
    np.testing.assert_array_equal(first.features, second.features)


def test_another_head_reads_the_same_features(
    tiny_bert: Path, tokens: TokenizedText, plan: DevicePlan, own_cache: Path
) -> None:
    encoders = []
    for seed, dropout in ((1, None), (2, 0.3)):
        model = load_tiny(tiny_bert, seed=seed, dropout=dropout).model
        encoders.append(Encoder(model, tokens, plan))
        cached_features(model, tokens, encoders[-1])
    assert [encoder.passes for encoder in encoders] == [1, 0]


def change_weight(model: Any) -> None:
    with torch.no_grad():
        next(model.base_model.parameters())[5, 0] += 1e-3


def change_activation(model: Any) -> None:
    model.config.update({"activation": "relu"} if model.config.model_type == "distilbert" else {"hidden_act": "relu"})


@pytest.mark.parametrize("change", [change_weight, change_activation])
def test_another_encoder_does_not_use_the_cached_features(
    model: Any,
    tokens: TokenizedText,
    plan: DevicePlan,
    own_cache: Path,
    change: Callable[[Any], None],
) -> None:
    encoder = Encoder(model, tokens, plan)
    cached_features(model, tokens, encoder)
    change(model)
    cached_features(model, tokens, encoder)
    assert encoder.passes == 2


def test_other_tokens_run_again(model: Any, tokens: TokenizedText, plan: DevicePlan, own_cache: Path) -> None:
    cached_features(model, tokens, Encoder(model, tokens, plan))
    first, second = IDS[1], IDS[2]
    cut_elsewhere = [[*first, second[0]], second[1:], *IDS[3:], IDS[0]]  # The same ids end to end as the next.
    for other in (
        chosen([1, 0, 2, 3, 4, 5, 6]),
        chosen([0, 1]),
        chosen([1, 2, 3, 4, 5, 6, 0]),
        token_rows(cut_elsewhere, LABELS),
    ):
        encoder = Encoder(model, other, plan)
        assert len(cached_features(model, other, encoder).features) == len(other)
        assert encoder.passes == 1


@pytest.mark.parametrize(
    ("settings", "possible"),
    [
        (Model(freeze="base"), True),
        (Model(freeze="base", keep_trainable=("classifier",)), True),
        (Model(), False),
        (Model(freeze=1), False),
        (Model(freeze=2), True),
        (Model(freeze="base", keep_trainable=("bias",)), False),
    ],
)
def test_features_are_cached_only_if_nothing_below_the_head_is_trainable(
    model: Any, settings: Model, possible: bool
) -> None:
    assert can_cache_features(model, freeze(model, settings)) == possible


def test_a_head_that_is_not_known_is_not_cached(tiny_models: dict[str, Path]) -> None:
    model = fresh_tiny_model(tiny_models["roberta"])
    assert not can_cache_features(model, freeze(model, Model(freeze="base")))
