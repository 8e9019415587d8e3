"""Parameters described by modules: exactly the chosen names, each once."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Model
from tenor.model.freezing import freeze, modules_of
from tiny_models import KINDS, fresh_tiny_model

STACK = [
    f"bert.encoder.layer.{layer}.{part}" for layer in range(12) for part in ("query.weight", "query.bias", "norm.w")
]
NAMES = [
    "bert.embeddings.word.weight",
    "bert.embeddings.norm.w",
    *STACK,
    "bert.pooler.weight",
    "classifier.weight",
    "w",
]


def names_in(module: str, names: list[str]) -> set[str]:
    """What a person finds under a module's name."""
    bounds = re.search(r"(?<=\.)(\d+)-(\d+)(?=\.|$)", module)
    numbers = range(int(bounds[1]), int(bounds[2]) + 1) if bounds else ()
    spelled = [module[: bounds.start()] + str(n) + module[bounds.end() :] for n in numbers] if bounds else [module]
    return {name for name in names for one in spelled if name == one or name.startswith(f"{one}.")}


@given(st.sets(st.sampled_from(NAMES)))
def test_modules_hold_each_chosen_name_once_and_no_other(chosen: set[str]) -> None:
    stored = [name for module in modules_of(chosen, NAMES) for name in names_in(module, NAMES)]
    assert sorted(stored) == sorted(chosen)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (NAMES, ["bert.embeddings", "bert.encoder.layer.0-11", "bert.pooler", "classifier", "w"]),
        (
            [*STACK[:6], *STACK[9:12], "classifier.weight"],
            ["bert.encoder.layer.0-1", "bert.encoder.layer.3", "classifier"],
        ),
        ([n for n in NAMES if "query" in n], ["bert.encoder.layer.0-11.query"]),
        ([n for n in NAMES if "bias" in n], ["bert.encoder.layer.0-11.query.bias"]),
        ([], []),
    ],
)
def test_modules_are_as_large_and_ranges_as_long_as_can_be(chosen: list[str], expected: list[str]) -> None:
    assert list(modules_of(chosen, NAMES)) == expected


@given(st.lists(st.text("a.0²٣", max_size=8)), st.lists(st.text("a.0²٣", max_size=8)))
def test_names_from_a_damaged_file_are_shown_without_an_error(chosen: list[str], others: list[str]) -> None:
    assert all(isinstance(module, str) for module in modules_of(chosen, [*chosen, *others]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", ["none", "base", 1])
def test_summary_names_trainable_and_frozen_modules(kind: str, setting: Any, tiny_models: dict[str, Path]) -> None:
    parameters = freeze(fresh_tiny_model(tiny_models[kind]), Model(freeze=setting))
    summary = parameters.summary()
    expected = {
        "none": "all parameters are trainable",
        "base": "only the head is trainable",
        1: f"{parameters.body_trainable_count:,} of the encoder's {parameters.body_count:,} weights are trainable",
    }
    assert summary.brief() == expected[setting]
    assert len(modules_of(summary.trainable, summary.trainable + summary.frozen)) <= 6
    assert (summary.describe_frozen() == "nothing") is (setting == "none")
    assert summary.trainable_weights + summary.frozen_weights == parameters.total_count
