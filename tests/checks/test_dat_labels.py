"""Labels: each fault is reported with its severity, and look-alikes pass."""

import numpy as np
import pytest

from tenor.checks.catalogue import causes_of
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rules import dat_labels as rules

SORTED = np.repeat([0, 1], 5_000)


def data(labels: object, n_classes: int = 2, **more: object) -> DataEvidence:
    return DataEvidence(Rows(np.asarray(labels)), n_classes, **more)  # type: ignore[arg-type]


def cut(source: np.ndarray, positions: np.ndarray) -> DataEvidence:
    return data(source[positions], source_labels=source, train_positions=positions)


def test_a_class_without_rows_and_a_single_class_are_errors() -> None:
    found = rules.class_without_rows(data(np.zeros(100, int), class_names=("negative", "positive")))
    assert found.observed == "1 of 2 classes have no training rows; rows by class: 0 (negative): 100"
    constant = rules.class_without_rows(data(np.zeros(100, int), 1, class_names=("5",)))
    assert constant.observed == "all 100 training rows have the same label: 0 (5)"
    assert rules.class_without_rows(data(np.zeros(0, int)))
    assert rules.class_without_rows(data([0] * 95 + [1] * 5)) is None


@pytest.mark.parametrize(
    ("source", "positions", "severity"),
    [
        pytest.param(SORTED, np.arange(2_000), "error", id="the case: head of a sorted source"),
        pytest.param(SORTED, np.random.default_rng(0).permutation(2_000)[:1_800], "error", id="then split at random"),
        pytest.param(SORTED, np.arange(8_000, 10_000), "error", id="tail"),
        pytest.param(SORTED, np.arange(9_000), "error", id="most of it, one class short"),
        pytest.param(SORTED, np.sort(np.random.default_rng(0).permutation(10_000)[:2_000]), None, id="drawn at random"),
        pytest.param(SORTED, np.arange(10_000), None, id="all of it"),
        pytest.param(SORTED, np.array([1, 5]), None, id="two rows"),
        pytest.param(np.random.default_rng(0).permutation(SORTED), np.arange(2_000), None, id="head of a shuffled one"),
        pytest.param(np.concatenate([SORTED, SORTED]), np.arange(10_000), None, id="training part of a joined source"),
        pytest.param(
            (np.random.default_rng(0).random(10_000) < np.linspace(0.3, 0.7, 10_000)).astype(int),
            np.arange(5_000),
            "warning",
            id="a split by time that drifts",
        ),
    ],
)
def test_a_contiguous_subset_of_a_sorted_source(
    source: np.ndarray, positions: np.ndarray, severity: str | None
) -> None:
    found = rules.subset_of_sorted_source(cut(source, positions))
    assert (found and (found.severity or "error")) == severity


@pytest.mark.parametrize(
    ("labels", "n_classes", "outside", "miscounted"),
    [
        ([0, 1, 1, 0], 2, False, False),
        ([0, 2], 3, False, False),
        ([1, 2, 1, 2], 2, True, True),
        ([-1, 1], 2, True, True),
        ([0, 4], 2, True, True),
        ([0, 1, 7], 2, True, False),
        ([0, 1, -100], 2, True, False),
        ([0, 1, 1, -1], 2, True, False),
    ],
)
def test_labels_are_zero_based_indices(labels: list[int], n_classes: int, outside: bool, miscounted: bool) -> None:
    assert bool(rules.label_out_of_range(data(labels, n_classes))) == outside
    assert bool(rules.labels_not_zero_based(data(labels, n_classes))) == miscounted
    assert causes_of(rules.label_out_of_range) == (rules.labels_not_zero_based.code,)


@pytest.mark.parametrize("form", [np.int64, np.uint8, np.int32])
def test_integers_of_any_width_are_labels(form: type) -> None:
    assert rules.label_form(data(np.array([0, 1], form))) is None


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.0, 1.0]),
        np.array([0.0, np.nan]),
        np.eye(2),
        np.array([[0], [1]]),
        np.array(["neg", "pos"]),
        np.array([None, 1], object),
        np.array([True, False]),
        np.array(1),
    ],
    ids=["float", "nan", "one-hot", "column", "names", "objects", "bool", "scalar"],
)
def test_other_label_forms_are_errors_and_no_other_rule_crashes(labels: np.ndarray) -> None:
    assert rules.label_form(data(labels))
    assert rules.label_form(DataEvidence(Rows(np.array([0, 1])), 2, test=Rows(labels)))
    for rule in (rules.class_without_rows, rules.label_out_of_range, rules.labels_not_zero_based):
        with pytest.raises(CannotTell):
            rule(data(labels))
    with pytest.raises(CannotTell):
        rules.imbalance(data(labels))


@pytest.mark.parametrize(
    ("counts", "severity"), [((50, 50), None), ((95, 5), "warning"), ((950, 50), "note"), ((20, 4), None)]
)
def test_imbalance_is_a_note_and_very_few_rows_a_warning(counts: tuple[int, int], severity: str | None) -> None:
    found = rules.imbalance(data(np.repeat([0, 1], counts)))
    assert (found and found.severity) == severity
