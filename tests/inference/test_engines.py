"""Every engine gives PyTorch's probabilities, whatever the company of a text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenor.errors import UserError
from tenor.inference import engines, predictor
from tenor.inference.engine_choice import FLOAT_TOLERANCE, Agreement, agreement
from tenor.inference.engines import Engine
from tenor.inference.predictor import Predictor
from tenor.model.device import DevicePlan
from tenor.workflows.export import INT8_AGREEMENT

WORDS = ("film", "was", "superb", "dull", "and", "scene", "movie", "funny")


def texts_of(count: int) -> list[str]:
    """From one word to more than the model reads."""
    random = np.random.default_rng(3)
    return [" ".join(random.choice(WORDS, size=1 + number % 40)) for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch-bf16", "onnx", "onnx-int8"])
def test_an_engine_agrees_with_pytorch(name: str, small_predictor: Predictor, small_classifier: Path) -> None:
    texts = texts_of(300)
    expected = small_predictor.probabilities(texts)
    assert expected.std() > 0.05, "random weights that tell no text from another would prove nothing"
    predictor = Predictor.load(small_classifier, engine=name, threads=1)  # type: ignore[arg-type]
    assert predictor.engine.name == name
    found = predictor.probabilities(texts)
    if name == "onnx":
        assert agreement(expected, found, FLOAT_TOLERANCE).agrees
    else:
        assert (expected.argmax(axis=1) == found.argmax(axis=1)).mean() >= INT8_AGREEMENT
        assert not np.array_equal(expected, found)
    alone = np.concatenate([predictor.probabilities([text]) for text in texts])
    if name == "onnx-int8":
        np.testing.assert_array_equal(alone, found)
    else:
        np.testing.assert_allclose(alone, found, atol=1e-6 if name == "onnx" else 0.02)
    long = predictor.predict([" ".join(["film"] * 60)], long_text="windows")[0]
    assert long.windows > 1


def test_what_does_not_agree_is_told() -> None:
    expected = np.array([[0.9, 0.1]] * 99 + [[0.2, 0.8]])
    shift = np.array([1.0, -1.0])
    assert agreement(expected, expected + 5e-5 * shift, 1e-4) == Agreement(True)
    differing = "probabilities differ by 0.0005, 100.0% equal labels"
    assert agreement(expected, expected + 5e-4 * shift, 1e-4) == Agreement(
        False, f" ({differing}: too far from float32)"
    )
    assert agreement(expected, expected + 5e-4 * shift, 1e-2) == Agreement(True, f" ({differing})")
    assert not agreement(expected, expected + 1.01e-2 * shift, 1e-2).agrees
    assert agreement(expected, expected * np.nan, 1e-2) == Agreement(False, " (not all probabilities are finite)")


def test_small_differences_that_change_labels_do_not_agree() -> None:
    even = np.array([[0.501, 0.499]] * 100)
    swapped = even.copy()
    swapped[0] = even[0, ::-1]
    assert not agreement(even, swapped, 1e-2).agrees


def test_without_onnx_runtime_the_extra_is_named(small_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"not installed: onnx, onnxscript, onnxruntime\. Install them: pip install .*tenor\[onnx\]"
    ):
        Predictor.load(small_classifier, engine="onnx")


def test_onnx_runtime_gets_the_passes_of_the_processor_where_there_is_a_gpu(
    small_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = predictor.plan_device

    def with_a_gpu(device: str, precision: str, threads: int | None) -> DevicePlan:
        plan = planned("cpu", precision, threads)
        return replace(plan, device="cuda", prediction_tokens=65536) if device == "auto" else plan

    monkeypatch.setattr(predictor, "plan_device", with_a_gpu)
    monkeypatch.setattr(
        predictor, "build_engine", lambda source, name, *rest: Engine(name, lambda inputs: np.zeros((1, 2)))
    )
    for name, device in (("onnx", "cpu"), ("onnx-int8", "cpu"), ("torch", "cuda")):
        plan = Predictor.load(small_classifier, engine=name, threads=1).plan  # type: ignore[arg-type]
        assert plan.device == device
        assert plan.prediction_tokens == (1024 if device == "cpu" else 65536)


def test_the_order_of_rows_survives_their_batches(small_predictor: Predictor) -> None:
    texts = texts_of(40)
    back = small_predictor.probabilities(texts[::-1])[::-1]
    np.testing.assert_allclose(back, small_predictor.probabilities(texts), atol=1e-6)
