"""Padding and the company in a batch never change a logit, and prediction leaves the model as it was."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from overlapping import in_turns
from tenor.config.schema import Model
from tenor.data.batching import TokenExamples
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.tokenization import Truncation, tokenize
from tenor.inference.logits import predict, token_logits
from tenor.measures.objective import class_probabilities
from tenor.model.classifier import Classifier
from tenor.model.device import DevicePlan, plan_device
from tenor.model.freezing import freeze, set_training_mode
from tenor.model.speed import evaluation_mode, use_word_dropout
from tiny_models import KINDS, load_tiny
from tiny_rows import labelled, token_rows

TOLERANCE = 1e-4


def plan_with(tokens: int) -> DevicePlan:
    return plan_device("cpu", "fp32", threads=1, prediction_tokens=tokens)


def examples_of(rows: LabelledText, classifier: Classifier, max_length: int = 64) -> TokenExamples:
    tokens = tokenize(rows, classifier.tokenizer, Truncation(max_length, "head_tail", 0.5))
    return TokenExamples(tokens, classifier.tokenizer.pad_token_id)


@torch.inference_mode()
def alone(classifier: Classifier, examples: TokenExamples) -> np.ndarray:
    """Each row's logits by itself, without padding and without a mask."""
    model = classifier.model.eval()
    rows = (torch.tensor(examples.tokens.row(index).tolist())[None] for index in range(len(examples)))
    return np.concatenate([model(input_ids=ids).logits.numpy() for ids in rows])


@pytest.fixture(scope="module")
def tiny(tiny_models: dict[str, Path]) -> dict[str, Classifier]:
    return {kind: load_tiny(folder) for kind, folder in tiny_models.items()}


token_ids = st.lists(st.lists(st.integers(1000, 29_000), max_size=60), min_size=2, max_size=6)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_company_never_change_a_logit(tiny: dict[str, Classifier], kind: str) -> None:
    classifier = tiny[kind]

    @settings(max_examples=10)
    @given(token_ids, st.sampled_from([1, 100, 100_000]))
    def holds(contents: list[list[int]], budget: int) -> None:
        cls, sep = classifier.tokenizer.cls_token_id, classifier.tokenizer.sep_token_id
        tokens = token_rows([[cls, *content, sep] for content in contents], [0] * len(contents))
        examples = TokenExamples(tokens, classifier.tokenizer.pad_token_id)
        batched = predict(classifier.model, examples, plan_with(budget))
        np.testing.assert_allclose(batched, alone(classifier, examples), atol=TOLERANCE, rtol=0)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_another_text_changes_the_logits_by_far_more(tiny: dict[str, Classifier], kind: str) -> None:
    examples = examples_of(labelled(["good film", "never again a slow plot"], [0, 1]), tiny[kind])
    logits = predict(tiny[kind].model, examples, plan_with(1000))
    assert abs(logits[0] - logits[1]).max() > 100 * TOLERANCE


def test_padding_and_company_never_change_a_logit_of_the_embedded_encoder(real_reviews: LabelledText) -> None:
    classifier = load_tiny(embedded_encoder_folder())
    examples = examples_of(real_reviews.select(range(0, len(real_reviews), 4)), classifier, max_length=96)
    assert examples.lengths.max() == 96
    assert examples.lengths.min() < 48
    expected = alone(classifier, examples)
    found = predict(classifier.model, examples, plan_with(100_000))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    assert np.ptp(expected, axis=0).max() > 100 * TOLERANCE


def test_logits_come_in_the_order_of_the_examples(tiny: dict[str, Classifier]) -> None:
    classifier = tiny["bert"]
    rows = labelled(["good film " * n for n in (9, 1, 20, 4, 13)], [0] * 5)
    order = [3, 0, 4, 2, 1]
    logits = predict(classifier.model, examples_of(rows, classifier), plan_with(50))
    permuted = predict(classifier.model, examples_of(rows.select(order), classifier), plan_with(50))
    np.testing.assert_allclose(permuted, logits[order], atol=TOLERANCE, rtol=0)
    assert logits.shape == (5, 2)
    assert logits.dtype == np.float32


def modes(model: Any) -> list[bool]:
    return [module.training for module in model.modules()]


def test_prediction_is_without_dropout_and_leaves_every_modules_mode(tiny_bert: Path) -> None:
    classifier = load_tiny(tiny_bert, dropout=0.5)
    use_word_dropout(classifier.model)
    set_training_mode(classifier.model, freeze(classifier.model, Model(freeze=1)))
    before = modes(classifier.model)
    assert len(set(before)) == 2
    examples = examples_of(labelled(["good film", "bad plot " * 5], [0, 1]), classifier)
    first, second = (predict(classifier.model, examples, plan_with(1000)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert modes(classifier.model) == before


def test_a_failed_prediction_leaves_the_modes_too(tiny: dict[str, Classifier]) -> None:
    model = tiny["bert"].model.train()

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("a shape does not fit")

    with pytest.raises(RuntimeError, match="does not fit"):
        predict(model, examples_of(labelled(["good"], [0]), tiny["bert"]), plan_with(10), fail)
    assert all(modes(model))


@pytest.mark.parametrize("kind", KINDS)
def test_passes_side_by_side_change_no_logit(tiny: dict[str, Classifier], kind: str) -> None:
    rows = labelled(["good film " * (1 + n % 13) for n in range(60)], [0] * 60)
    examples, before = examples_of(rows, tiny[kind]), torch.get_num_threads()
    told: list[int] = []
    try:
        plan = plan_device("cpu", "fp32", threads=3, prediction_tokens=40)
        found = predict(tiny[kind].model, examples, plan, advance=told.append)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found, alone(tiny[kind], examples), atol=TOLERANCE, rtol=0)
    assert sum(told) == 60


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_every_row_is_told_once_and_no_batch_exceeds_the_budget(tiny: dict[str, Classifier], budget: int) -> None:
    told: list[int] = []
    shapes: list[torch.Size] = []

    def forward(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.append(inputs["input_ids"].shape)
        assert not torch.is_grad_enabled()
        return token_logits(model, inputs)

    rows = labelled(["good film " * n for n in (9, 1, 20, 4, 13, 2)], [0] * 6)
    advance: Callable[[int], None] = told.append
    predict(tiny["distilbert"].model, examples_of(rows, tiny["distilbert"]), plan_with(budget), forward, advance)
    assert sum(told) == 6
    assert all(shape.numel() <= budget or shape[0] == 1 for shape in shapes)
    assert [shape[0] for shape in shapes] == told


def test_nothing_to_predict_is_an_error(tiny: dict[str, Classifier]) -> None:
    with pytest.raises(ValueError, match="no examples"):
        predict(tiny["bert"].model, examples_of(labelled([], []), tiny["bert"]), plan_with(10))


finite = st.floats(-(2.0**100), 2.0**100, width=32)
logits = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite)


@given(logits, st.floats(0.05, 20))
def test_softmax_gives_probabilities_in_the_order_of_the_logits(logits: np.ndarray, temperature: float) -> None:
    probabilities = class_probabilities(logits, temperature)
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[np.arange(len(logits)), logits.argmax(axis=1)] == probabilities.max(axis=1)).all()


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)), st.floats(-50, 50), st.floats(0.1, 10))
def test_softmax_ignores_a_shift_and_takes_the_temperature_as_a_scale(
    logits: np.ndarray, shift: float, temperature: float
) -> None:
    np.testing.assert_allclose(
        class_probabilities(logits.astype(float) + shift), class_probabilities(logits), rtol=1e-9
    )
    np.testing.assert_allclose(
        class_probabilities(logits, temperature), class_probabilities(logits.astype(float) / temperature), rtol=1e-9
    )
    theirs = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    np.testing.assert_allclose(class_probabilities(logits), theirs, rtol=1e-9)


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_overlapping_predictions_are_without_dropout_and_leave_the_modes(
    tiny_bert: Path, first_ends_first: bool
) -> None:
    classifier = load_tiny(tiny_bert, dropout=0.5)
    model = classifier.model
    set_training_mode(model, freeze(model, Model(freeze=1)))
    before = modes(model)
    examples = examples_of(labelled(["good film " * (1 + n % 3) for n in range(4)], [0] * 4), classifier)
    expected = predict(model, examples, plan_with(1))
    found: list[np.ndarray] = []

    @contextmanager
    def underway() -> Iterator[None]:
        """Two of the four passes are made before the block, two after it."""
        half, go_on = threading.Barrier(2, timeout=60), threading.Event()
        passes: list[int] = []

        def forward(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            passes.append(1)
            if len(passes) == 3:
                half.wait()
                assert go_on.wait(60)
            return token_logits(model, inputs)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(predict, model, examples, plan_with(1), forward)
            half.wait()
            yield
            go_on.set()
            found.append(future.result())

    seen = in_turns(underway, underway, lambda: any(modes(model)), first_ends_first)
    assert seen == [False, False, False, True]
    assert modes(model) == before
    for logits in found:
        np.testing.assert_allclose(logits, expected, atol=1e-6, rtol=0)


def test_models_that_share_modules_may_be_predicted_with_at_a_time(tiny_bert: Path) -> None:
    model = load_tiny(tiny_bert).model.train()
    with evaluation_mode(model):
        with evaluation_mode(model.bert):
            assert not any(modes(model))
        assert not any(modes(model))
    assert all(modes(model))
