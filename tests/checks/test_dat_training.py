"""The training rows as the steps showed them."""

from dataclasses import replace

import numpy as np
import pytest

from tenor.checks.evidence.training_evidence import LoopEvidence, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rules.dat_training import every_worker_reads_all_rows, steps_sorted_by_label
from tenor.runs.findings import Finding


def steps(labels: np.ndarray, rows: int = 64, classes: int = 2) -> StepEvidence:
    """Records of `rows` training rows each, in the order of `labels`."""
    records = labels[: len(labels) // rows * rows].reshape(-1, rows)
    counts = np.stack([np.bincount(record, minlength=classes) for record in records])
    numbers = np.arange(len(counts)) + 1
    return StepEvidence(numbers, np.ones(len(counts)), classes, label_counts=counts)


def severity(found: Finding | None) -> str | None:
    return None if found is None else found.severity


SHUFFLED = np.random.default_rng(0).integers(0, 2, 2000)


def buffered(buffer: int) -> np.ndarray:
    """Sorted labels after a shuffle with a buffer, as streams do it."""
    rng, held, out = np.random.default_rng(1), [], []
    for label in np.sort(SHUFFLED):
        held.append(label)
        if len(held) >= buffer:
            out.append(held.pop(int(rng.integers(len(held)))))
    return np.array([*out, *rng.permutation(held)])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (SHUFFLED, None),
        (np.sort(SHUFFLED), "error"),
        (np.tile(np.sort(SHUFFLED), 2), "error"),  # Two sorted epochs.
        (buffered(100), "error"),
        (buffered(500), "warning"),
        (buffered(2000), None),
        (np.random.default_rng(2).choice(2, 2000, p=(0.9, 0.1)), None),  # Imbalanced, and shuffled.
        (np.arange(2000) % 2, None),  # Every batch balanced.
    ],
)
def test_sorted_rows_are_found_in_the_steps(labels: np.ndarray, expected: str | None) -> None:
    assert severity(steps_sorted_by_label(steps(labels))) == expected


def test_small_batches_of_many_classes_are_no_order() -> None:
    labels = np.random.default_rng(3).integers(0, 5, 1600)
    assert steps_sorted_by_label(steps(labels, rows=16, classes=5)) is None
    assert severity(steps_sorted_by_label(steps(np.sort(labels), rows=16, classes=5))) == "error"


def test_too_few_records_are_not_judged() -> None:
    with pytest.raises(CannotTell):
        steps_sorted_by_label(steps(np.sort(SHUFFLED)[:500]))


def test_rows_that_every_worker_reads_are_found() -> None:
    twice = LoopEvidence(100, workers=2, rows_in_epoch=4000, different_rows=1990)
    assert every_worker_reads_all_rows(twice) is not None
    for sound in ({"rows_in_epoch": 2000}, {"workers": 0}, {"rows_in_epoch": 3000}):
        assert every_worker_reads_all_rows(replace(twice, **sound)) is None
    with pytest.raises(CannotTell):
        every_worker_reads_all_rows(replace(twice, rows_in_epoch=None))
