"""Metrics equal scikit-learn's, whatever the labels and probabilities."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tenor.measures.metrics import classification_report, measure


@st.composite
def splits(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    k, n, seed = draw(st.integers(2, 6)), draw(st.integers(1, 60)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    # A low concentration leaves classes without any prediction; few labels leave classes without any row.
    labels = rng.integers(0, rng.integers(1, k + 1), size=n)
    return labels, rng.dirichlet(np.full(k, 0.3), size=n), [f"class {j}" for j in range(k)]


@settings(max_examples=60, deadline=None)
@given(splits())
def test_equals_scikit_learn(split: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    labels, probabilities, names = split
    classes, predicted = range(len(names)), probabilities.argmax(axis=1)
    ours = measure(labels, probabilities, names)
    assert ours.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    for average in ("macro", "weighted"):
        expected = sk.precision_recall_fscore_support(
            labels, predicted, labels=classes, average=average, zero_division=0
        )
        found = [getattr(ours, f"{average}_{name}") for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3])
    each = sk.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    assert [(c.precision, c.recall, c.f1, c.support) for c in ours.per_class] == [tuple(c) for c in np.stack(each).T]
    assert ours.loss == pytest.approx(sk.log_loss(labels, probabilities, labels=list(classes)))
    assert np.array_equal(ours.confusion, sk.confusion_matrix(labels, predicted, labels=classes))


@settings(max_examples=40, deadline=None)
@given(splits())
def test_report_has_the_keys_and_values_of_scikit_learn_and_is_json(
    split: tuple[np.ndarray, np.ndarray, list[str]],
) -> None:
    labels, probabilities, names = split
    predicted = probabilities.argmax(axis=1)
    report = classification_report(labels, predicted, len(names))
    assert report == sk.classification_report(
        labels, predicted, labels=range(len(names)), output_dict=True, zero_division=0
    )
    assert set(report) == {*map(str, range(len(names))), "accuracy", "macro avg", "weighted avg"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert type(report["0"]["support"]) is float


@settings(max_examples=30, deadline=None)
@given(splits(), st.randoms())
def test_the_order_of_rows_does_not_matter(split: tuple[np.ndarray, np.ndarray, list[str]], random: object) -> None:
    labels, probabilities, names = split
    order = np.random.default_rng(random.randint(0, 2**31)).permutation(len(labels))  # type: ignore[attr-defined]
    one, other = measure(labels, probabilities, names), measure(labels[order], probabilities[order], names)
    assert one.confusion == other.confusion
    assert one.loss == pytest.approx(other.loss)


def test_the_case_that_predicts_one_class_only() -> None:
    labels = np.array([0] * 1298 + [1] * 1202)
    ours = measure(labels, np.tile([0.9, 0.1], (2500, 1)), ["neg", "pos"])
    assert ours.confusion == ((1298, 0), (1202, 0))
    assert ours.per_class[1].f1 == 0
    assert ours.accuracy == 1298 / 2500


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    assert measure(np.array([1]), np.array([[1.0, 0.0]]), ["a", "b"]).loss == pytest.approx(36.04, abs=0.01)


def test_as_dict_survives_json() -> None:
    values = measure(np.array([0, 1]), np.array([[0.6, 0.4], [0.7, 0.3]]), ["a", "b"]).as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values


half = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([], dtype=int), np.zeros((0, 2)), "n > 0"),
        (np.array([0, 1, 1]), half, "3 labels"),
        (np.array([0, 2]), half, "0 … 1"),
        (np.array([0, -1]), half, "0 … 1"),
        (np.array([0.0, 1.0]), half, "integer"),
        (np.array([[0, 1]]), half, "shape"),
        (np.array([0, 1]), np.full((2, 3), 1 / 3), "shape"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), "1 of 2 rows"),
        (np.array([0, 1]), np.array([[3.0, -2.0], [0.5, 0.5]]), "logits"),
        (np.array([0, 1]), np.array([[3.0, 1.0], [0.5, 0.5]]), "logits"),
    ],
)
def test_an_invalid_split_is_refused(labels: np.ndarray, probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(labels, probabilities, ["a", "b"])
