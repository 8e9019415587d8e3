"""`--engine auto`: the fastest that agrees, chosen once per machine, model and length. No real clock runs here."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenor.inference import engine_choice
from tenor.inference.engine_choice import Compared, choose_engine
from tenor.inference.engines import Engine, EngineName
from tenor.inference.predictor import Predictor
from tenor.inference.texts import Framing, token_rows

TEXTS = [" ".join(["film"] * (1 + number % 9)) for number in range(80)]
SECONDS: dict[EngineName, float] = {"torch": 3.0, "torch-bf16": 1.5, "onnx": 2.0, "onnx-int8": 1.0}


class Clock:
    """A time that only engines move on."""

    def __init__(self) -> None:
        self.now, self.timed = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def engine(self, name: EngineName, error: float) -> Engine:
        """Logits from the number of tokens alone, the first of them off by `error`."""

        def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
            self.now += SECONDS[name]
            self.timed += 1
            lengths = inputs.get("attention_mask", np.ones_like(inputs["input_ids"])).sum(axis=1)
            return np.stack([lengths / 5 + error, np.ones(len(lengths))], axis=1).astype(np.float32)

        return Engine(name, run)


Choose = Callable[..., tuple[Engine, engine_choice.Choice]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(engine_choice, "time", found)
    return found


@pytest.fixture
def choose(clock: Clock, small_predictor: Predictor, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Chooses among engines of which some are wrong by a given amount; `digest` makes another model of it."""
    monkeypatch.setattr(engine_choice, "onnx_installed", lambda: True)

    monkeypatch.setattr(engine_choice, "native_bf16", lambda: True)

    def run(
        wrong: dict[str, float], digest: str = "a", texts: list[str] = TEXTS, compared: Compared = "auto"
    ) -> tuple[Engine, engine_choice.Choice]:
        def build(source: object, name: EngineName, plan: object, framing: Framing) -> Engine:
            return clock.engine(name, wrong.get(name, 0.0))

        monkeypatch.setattr(engine_choice, "build_engine", build)
        source = replace(small_predictor.source, digest=digest)
        rows = token_rows(texts, source.tokenizer, small_predictor.framing, source.truncation, "truncate").rows
        return choose_engine(source, small_predictor.plan, small_predictor.framing, rows, compared)

    return run


def test_the_fastest_that_agrees_is_chosen_and_told(choose: Choose) -> None:
    engine, chosen = choose({})
    assert engine.name == chosen.engine == "onnx"
    assert "fastest on 64 of these texts" in chosen.why
    assert "torch" in chosen.why


def test_auto_never_chooses_16_or_8_bits_however_fast(choose: Choose) -> None:
    """Their probabilities are not those that the run reports."""
    _, chosen = choose({})
    assert SECONDS["onnx-int8"] < SECONDS["torch-bf16"] < SECONDS[chosen.engine]
    assert "int8" not in chosen.why
    assert "bf16" not in chosen.why


def test_fastest_accepts_them_where_they_agree_to_a_hundredth(choose: Choose) -> None:
    _, chosen = choose({"torch-bf16": 0.01, "onnx-int8": 0.01}, compared="fastest")
    assert chosen.engine == "onnx-int8"
    assert "equal labels)" in chosen.why
    _, chosen = choose({"torch-bf16": 0.01, "onnx-int8": 0.2}, digest="b", compared="fastest")
    assert chosen.engine == "torch-bf16"
    assert re.search(r"onnx-int8 \S+/s \(probabilities differ by", chosen.why)
    assert "too far from float32" in chosen.why
    _, chosen = choose({"torch-bf16": 0.2, "onnx-int8": 0.2}, digest="c", compared="fastest")
    assert chosen.engine == "onnx"


def test_a_type_that_the_processor_emulates_is_not_timed(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "native_bf16", lambda: False)
    _, chosen = choose({}, compared="fastest")
    assert "torch-bf16 failed (this processor only emulates it)" in chosen.why
    assert "torch-bf16 4" not in chosen.why


def test_auto_and_fastest_are_remembered_apart(choose: Choose, clock: Clock) -> None:
    assert choose({})[1].engine == "onnx"
    assert choose({}, compared="fastest")[1].engine == "onnx-int8"
    timed = clock.timed
    assert choose({})[1].engine == "onnx"
    assert clock.timed == timed


def test_one_that_does_not_agree_is_not_taken_however_fast(choose: Choose) -> None:
    _, chosen = choose({"onnx": 0.1})
    assert chosen.engine == "torch"
    assert "probabilities differ by" in chosen.why


def test_the_choice_is_remembered_for_this_model_and_length(choose: Choose, clock: Clock) -> None:
    choose({})
    timed = clock.timed
    _, again = choose({"onnx": 0.1})
    assert (again.engine, clock.timed) == ("onnx", timed)
    assert "cached for this machine and model" in again.why
    _, other = choose({"onnx": 0.1}, digest="b")
    assert other.engine == "torch"
    _, longer = choose({"onnx": 0.1}, texts=[" ".join(["film"] * 15)] * 80)
    assert longer.engine == "torch", "texts of another length"


def test_a_remembered_choice_that_was_changed_is_made_again(choose: Choose, clock: Clock, own_cache: Path) -> None:
    choose({})
    timed = clock.timed
    (file,) = (own_cache / "engines").glob("*.json")
    file.write_text(file.read_text().replace("onnx", "\x1b]0;owned\x07"))
    _, again = choose({"onnx": 0.1})
    assert (again.engine, clock.timed > timed) == ("torch", True)
    assert "\x1b" not in again.why


def test_few_texts_are_not_worth_a_comparison(choose: Choose, clock: Clock) -> None:
    engine, chosen = choose({}, texts=TEXTS[:63])
    assert (engine.name, clock.timed) == ("torch", 0)
    assert "too few texts" in chosen.why


def test_without_texts_the_reason_names_no_number_of_texts(choose: Choose) -> None:
    _, chosen = choose({}, texts=[])
    assert chosen.why == "without a comparison of engines, which pays off from 1,000 texts on"
