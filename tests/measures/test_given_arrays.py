"""Every measure reads labels, scores and texts by position, from any kind of sequence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from sequences import NAMES, NUMBER_NAMES, made
from tenor.errors import UserError
from tenor.measures.calibration import (
    at_threshold,
    best_precision,
    choose_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    threshold_for_precision,
    threshold_for_recall,
    with_temperature,
)
from tenor.measures.intervals import compare_predictions, macro_f1_interval
from tenor.measures.label_noise import combined, features_probabilities, suspected_errors, words_probabilities
from tenor.measures.metrics import classification_report, measure
from tenor.measures.selective import accuracy_by_length, accuracy_by_truncation, answered_above, coverage_curve
from tenor.measures.text_baseline import fit_text_baseline, majority_baseline

N = 60
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, N)
POSITIVE = (0.4 * LABELS + 0.6 * RANDOM.random(N)).clip(0.01, 0.99)
PROBABILITIES = np.stack([1 - POSITIVE, POSITIVE], axis=1)
LOGITS = np.log(PROBABILITIES)
OTHER = RANDOM.integers(0, 2, N)
FEATURES = RANDOM.normal(size=(N, 3)) + LABELS[:, None]
TEXTS = [f"{'good fine film' if label else 'bad dull film'} number {row % 7}" for row, label in enumerate(LABELS)]
COUNTS = [*range(1, N + 1)]
BASELINE = fit_text_baseline(TEXTS, LABELS, 2, seed=0)

OF_NUMBERS: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
    "measure": (lambda given: measure(given, PROBABILITIES, ("a", "b")), LABELS.tolist()),
    "classification_report": (lambda given: classification_report(LABELS, given, 2), OTHER.tolist()),
    "reliability_bins": (lambda given: reliability_bins(PROBABILITIES, given), LABELS.tolist()),
    "expected_calibration_error": (lambda given: expected_calibration_error(PROBABILITIES, given), LABELS.tolist()),
    "fit_temperature": (lambda given: fit_temperature(LOGITS, given), LABELS.tolist()),
    "choose_temperature": (lambda given: choose_temperature(LOGITS, given), LABELS.tolist()),
    "compared labels": (lambda given: compare_predictions(given, LABELS, OTHER, 2), LABELS.tolist()),
    "compared predictions": (lambda given: compare_predictions(LABELS, given, OTHER, 2), OTHER.tolist()),
    "answered_above": (lambda given: answered_above(PROBABILITIES, given, 0.7), LABELS.tolist()),
    "coverage_curve": (lambda given: coverage_curve(PROBABILITIES, given), LABELS.tolist()),
    "threshold_for_precision": (lambda given: threshold_for_precision(POSITIVE, given, 0.8), LABELS.tolist()),
    "threshold_for_recall": (lambda given: threshold_for_recall(given, LABELS == 1, 0.8), POSITIVE.tolist()),
    "best_precision": (lambda given: best_precision(given, LABELS == 1), POSITIVE.tolist()),
    "scores at_threshold": (lambda given: at_threshold(given, LABELS == 1, 0.6), POSITIVE.tolist()),
    "members at_threshold": (lambda given: at_threshold(POSITIVE, given, 0.6), LABELS.tolist()),
    "right by length": (lambda given: accuracy_by_length(given, COUNTS), LABELS.tolist()),
    "tokens by length": (lambda given: accuracy_by_length(LABELS == 1, given), COUNTS),
    "right by cut": (lambda given: accuracy_by_truncation(given, np.full(N, N), COUNTS), LABELS.tolist()),
    "accuracy_by_truncation": (lambda given: accuracy_by_truncation(LABELS == 1, np.full(N, N), given), COUNTS),
    "majority_baseline": (lambda given: majority_baseline(given, OTHER, 2), LABELS.tolist()),
    "fit_text_baseline": (lambda given: fit_text_baseline(TEXTS, given, 2, 0).coef, LABELS.tolist()),
    "words_probabilities": (lambda given: words_probabilities(TEXTS, given, 2, 0), LABELS.tolist()),
    "features_probabilities": (lambda given: features_probabilities(FEATURES, given, 2, 0), LABELS.tolist()),
    "suspected_errors": (lambda given: suspected_errors(given, PROBABILITIES), LABELS.tolist()),
}

OF_TEXTS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "class names": (lambda given: measure(LABELS, PROBABILITIES, given), ["a", "b"]),
    "fit_text_baseline": (lambda given: fit_text_baseline(given, LABELS, 2, 0).coef, TEXTS),
    "baseline's probabilities": (lambda given: BASELINE.probabilities(given), TEXTS),
    "words_probabilities": (lambda given: words_probabilities(given, LABELS, 2, 0), TEXTS),
}

OF_MATRICES: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "measure": (lambda given: measure(LABELS, given, ("a", "b")), PROBABILITIES),
    "expected_calibration_error": (lambda given: expected_calibration_error(given, LABELS), PROBABILITIES),
    "fit_temperature": (lambda given: fit_temperature(given, LABELS), LOGITS),
    "choose_temperature": (lambda given: choose_temperature(given, LABELS), LOGITS),
    "with_temperature": (lambda given: with_temperature(given, 1.0, 2.0), PROBABILITIES),
    "the same temperature": (lambda given: with_temperature(given, 1.0, 1.0), PROBABILITIES),
    "combined": (lambda given: combined(given, PROBABILITIES), PROBABILITIES),
    "features_probabilities": (lambda given: features_probabilities(given, LABELS, 2, 0), FEATURES),
    "suspected_errors": (lambda given: suspected_errors(LABELS, given), PROBABILITIES),
    "macro_f1_interval": (lambda given: macro_f1_interval(given), np.array([[10, 2], [3, 20]])),
}


def matrices(values: np.ndarray) -> dict[str, Any]:
    turned = np.roll(np.arange(len(values)), 1)
    return {
        "DataFrame": pd.DataFrame(values, index=turned),
        "Arrow-backed DataFrame": pd.DataFrame(values, index=turned).astype(
            pd.ArrowDtype(pa.array(values[0].tolist()).type)
        ),
        "Series of lists": pd.Series(values.tolist(), index=turned),
        "lists": values.tolist(),
        "tensor": torch.tensor(values),
        "generator": (row for row in values.tolist()),
    }


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("kind", NUMBER_NAMES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_are_read_by_position(name: str, kind: str) -> None:
    call, values = OF_NUMBERS[name]
    same(call(made(values, kind)), call(values))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", OF_TEXTS)
def test_texts_are_read_by_position(name: str, kind: str) -> None:
    call, values = OF_TEXTS[name]
    same(call(made(values, kind)), call(values))


@pytest.mark.parametrize("kind", matrices(np.eye(2)))
@pytest.mark.parametrize("name", OF_MATRICES)
def test_matrices_are_read_by_position(name: str, kind: str) -> None:
    call, values = OF_MATRICES[name]
    same(call(matrices(values)[kind]), call(values))


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("given", ["0" * N, dict(enumerate(LABELS)), None], ids=["string", "dictionary", "nothing"])
def test_an_argument_that_is_not_a_sequence_of_numbers_is_named(name: str, given: Any) -> None:
    with pytest.raises(UserError, match=r"expected a list"):
        OF_NUMBERS[name][0](given)


@pytest.mark.parametrize("name", OF_TEXTS)
@pytest.mark.parametrize("given", ["ab", {"a": 0, "b": 1}], ids=["string", "dictionary"])
def test_an_argument_that_is_not_a_sequence_of_texts_is_named(name: str, given: Any) -> None:
    with pytest.raises(UserError, match=r"expected a list"):
        OF_TEXTS[name][0](given)
