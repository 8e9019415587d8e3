"""`eval_best_model.json` keeps its contract: scikit-learn's keys, intervals, baselines, and nothing null."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tenor.evaluation.results import Baselines, SplitResult, evaluation_json, split_result


def random_split(seed: int, k: int, n: int, text: float | str = 0.7) -> SplitResult:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, k, n), rng.dirichlet(np.full(k, 0.4), n)
    return split_result(labels, probabilities, [f"c{j}" for j in range(k)], Baselines(majority=1 / k, text=text))


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 50), st.booleans())
def test_contract(seed: int, k: int, n: int, has_test: bool) -> None:
    val = random_split(seed, k, n)
    test = (
        random_split(seed + 1, k, n, text="switched off by evaluation.text_baseline") if has_test else "no test split"
    )
    content = evaluation_json(val, test, "sha256:abc", 500, [f"c{j}" for j in range(k)])
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert all(type(leaf) in (str, int, float) for leaf in leaves(content))
    assert content["checkpoint"] == {"digest": "sha256:abc", "step": 500}
    classes = range(k)
    expected = sk.confusion_matrix(val.labels, val.predictions, labels=classes).tolist()
    assert content["val"]["confusion_matrix"] == expected
    assert content["val"]["report"] == sk.classification_report(
        val.labels, val.predictions, labels=classes, output_dict=True, zero_division=0
    )
    assert content["val"]["baselines"] == {
        "majority": 1 / k,
        "text": 0.7,
        "encoder": {"missing": "the model is the encoder alone"},
    }
    interval = content["val"]["accuracy_interval"]
    assert interval["low"] <= content["val"]["accuracy"] <= interval["high"]
    assert content["val"]["n"] == n
    if has_test:
        assert content["test"]["baselines"]["text"] == {"missing": "switched off by evaluation.text_baseline"}
    else:
        assert content["test"] == {"missing": "no test split"}


def test_confidence_and_seed_reach_the_intervals() -> None:
    split, names = random_split(0, 2, 400), ["c0", "c1"]
    one, same, other = (evaluation_json(split, "none", "d", 1, names, seed=seed)["val"] for seed in (1, 1, 2))
    assert one == same
    assert one["macro_f1_interval"] != other["macro_f1_interval"]
    wide = evaluation_json(split, "none", "d", 1, names, confidence=0.99)["val"]["accuracy_interval"]
    assert wide["low"] < one["accuracy_interval"]["low"]
    assert wide["confidence"] == 0.99


def test_refuses_what_cannot_be_traced() -> None:
    split = random_split(0, 2, 10)
    with pytest.raises(ValueError, match="digest"):
        evaluation_json(split, "none", "", 1, ["c0", "c1"])
    with pytest.raises(ValueError, match="reason"):
        evaluation_json(split, "", "d", 1, ["c0", "c1"])
    with pytest.raises(ValueError, match="do not belong"):
        evaluation_json(split, "none", "d", 1, ["c1", "c0"])
    mixed = SplitResult(split.labels[:5], split.probabilities[:5], split.metrics, split.baselines)
    with pytest.raises(ValueError, match="do not belong"):
        evaluation_json(mixed, "none", "d", 1, ["c0", "c1"])
