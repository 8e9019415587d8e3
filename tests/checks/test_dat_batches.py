"""The data loader: missing classes, sorted rows and skipped rows are reported; unusual but correct loaders pass."""

import numpy as np
import pytest

from tenor.checks.evidence import BatchEvidence, DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rules import dat_batches as rules


def batches(labels: np.ndarray, size: int = 8, n_classes: int = 2, shown: int = 4, **more: object) -> BatchEvidence:
    parts = tuple(labels[start : start + size] for start in range(0, size * shown, size))
    return BatchEvidence(parts, n_classes, epoch_labels=labels, **more)  # type: ignore[arg-type]


def data(counts: tuple[int, ...]) -> DataEvidence:
    return DataEvidence(Rows(np.repeat(np.arange(len(counts)), counts)), len(counts))


def test_a_common_class_missing_from_the_first_batches_is_an_error() -> None:
    assert rules.class_missing_from_batches(batches(np.zeros(64, int)), data((500, 500)))


@pytest.mark.parametrize("counts", [(950, 50), (1000, 0), (990, 10)])
def test_a_rare_class_may_be_missing_from_a_few_batches(counts: tuple[int, int]) -> None:
    assert rules.class_missing_from_batches(batches(np.zeros(64, int)), data(counts)) is None


def test_one_of_twenty_classes_may_be_missing_from_a_few_batches() -> None:
    labels = np.random.default_rng(0).integers(0, 19, 64)
    assert rules.class_missing_from_batches(batches(labels, n_classes=20), data((50,) * 20)) is None


@pytest.mark.parametrize(
    ("labels", "severity"),
    [
        (np.repeat([0, 1], 100), "error"),
        (np.repeat(np.arange(20), 20), "error"),
        (np.tile(np.repeat([0, 1], 6), 30), "warning"),
        (np.tile([0, 1], 100), None),
    ],
    ids=["sorted", "twenty classes sorted", "short blocks", "balanced by a sampler"],
)
def test_rows_sorted_by_label_are_reported(labels: np.ndarray, severity: str | None) -> None:
    found = rules.unshuffled(batches(labels, n_classes=20))
    assert (found and (found.severity or "error")) == severity


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_random_orders_pass_whatever_the_seed(share: float) -> None:
    for seed in range(200):
        labels = (np.random.default_rng(seed).random(40) < share).astype(int)
        if 0 < labels.sum() < 40:
            assert rules.unshuffled(batches(labels)) is None


@pytest.mark.parametrize("labels", [np.zeros(100, int), np.repeat([0, 1], 5), np.zeros(0, int)])
def test_order_is_not_judged_with_one_class_or_few_rows(labels: np.ndarray) -> None:
    with pytest.raises(CannotTell):
        rules.unshuffled(batches(labels))


@pytest.mark.parametrize(
    ("given", "severity"), [(1000, None), (996, "note"), (1003, "note"), (500, "error"), (2000, "error"), (0, "error")]
)
def test_every_row_must_be_loaded_once(given: int, severity: str | None) -> None:
    found = rules.rows_lost_or_repeated(batches(np.zeros(64, int), rows_per_epoch=given, rows_in_split=1000))
    assert (found and found.severity) == severity


def test_collated_labels_must_be_integer_vectors() -> None:
    assert rules.collated_label_form(batches(np.array([0, 1] * 32))) is None
    for wrong in (np.array([0.0, 1.0] * 32), np.array([[0], [1]] * 32), np.eye(2)[[0, 1] * 32]):
        assert rules.collated_label_form(batches(wrong))
        with pytest.raises(CannotTell):
            rules.unshuffled(batches(wrong))
