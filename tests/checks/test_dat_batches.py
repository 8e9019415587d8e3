"""The data loader: missing classes, sorted rows and skipped rows are reported; unusual but correct loaders pass."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from tenor.checks import preflight
from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import batch_evidence
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


@pytest.mark.parametrize(("size", "block", "severity"), [(8, 13, "warning"), (24, 3, "note")])
def test_lengths_that_tell_the_class_are_the_cause_where_batches_are_grouped_by_length(
    size: int, block: int, severity: str
) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(10, 60, 480)
    labels = lengths // block % 2  # Blocks of lengths have a class each.
    found = rules.unshuffled(_grouped(lengths, labels, size))
    assert found is not None
    assert (found.severity, "similar length" in found.cause) == (severity, True)
    # The same lengths with unrelated labels, and sorted rows whose lengths are in no order, are told as before.
    assert rules.unshuffled(_grouped(lengths, random.permutation(labels), size)) is None
    in_order = np.argsort(labels, kind="stable")
    masks = tuple(np.arange(60) < lengths[in_order][at : at + size, None] for at in range(0, 8 * size, size))
    by_label = batches(labels[in_order], size, shown=8, attention_mask=masks)
    found = rules.unshuffled(by_label)
    assert found is not None
    assert "sorted by label" in found.cause


def _grouped(lengths: np.ndarray, labels: np.ndarray, size: int) -> BatchEvidence:
    """Batches of similar length, in random order."""
    order = np.argsort(lengths, kind="stable").reshape(-1, size)
    order = np.random.default_rng(1).permutation(order)
    masks = tuple(np.arange(60) < lengths[rows][:, None] for rows in order[:8])
    return batches(labels[order].ravel(), size, shown=8, attention_mask=masks)


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


def loaded(sampler: Any = None, rows: int = 1000, share: float = 0.5, **more: Any) -> BatchEvidence:
    labels = (torch.arange(rows) >= (1 - share) * rows).long()
    dataset = TensorDataset(torch.zeros(rows, 3).long(), labels)
    return batch_evidence(DataLoader(dataset, 8, sampler=sampler, **more), 2)


def drawn(rows: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, rows, rows).tolist()


def test_weights_of_classes_instead_of_rows_are_an_error() -> None:
    found = rules.few_rows_again_and_again(loaded(WeightedRandomSampler([0.5, 0.5], 1000)))
    assert found
    assert "2 different rows, with 2 weights for 1,000 rows" in found.observed
    assert "weights of the classes" in found.cause
    assert rules.few_rows_again_and_again(loaded([3, 4, 5] * 300))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_weights_of_rows_pass_however_rare_a_class_is(share: float) -> None:
    labels = np.arange(1000) >= (1 - share) * 1000
    evidence = loaded(WeightedRandomSampler(np.where(labels, 1 / share, 1 / (1 - share)).tolist(), 1000), share=share)
    assert rules.few_rows_again_and_again(evidence) is None
    assert rules.rows_repeated_within_an_epoch(evidence) is None
    assert rules.rows_lost_or_repeated(evidence) is None


@pytest.mark.parametrize(
    ("sampler", "severity"),
    [
        (None, None),
        (drawn(1000), "warning"),
        (np.random.default_rng(0).permutation(500).tolist() * 2, "warning"),
        (WeightedRandomSampler([1.0] * 800, 1000), "warning"),
        (RandomSampler(range(1000), replacement=True), None),
        (SubsetRandomSampler(range(500)), None),
        ([*range(1000), 0, 1, 2], None),
    ],
    ids=["shuffled", "drawn with replacement", "twice", "too few weights", "declared", "subset", "padded"],
)
@pytest.mark.parametrize("with_labels", [True, False])
def test_rows_repeated_within_an_epoch_are_reported(sampler: Any, severity: str | None, with_labels: bool) -> None:
    evidence = loaded(sampler, shuffle=sampler is None)
    found = rules.rows_repeated_within_an_epoch(evidence if with_labels else replace(evidence, split_labels=None))
    assert (found and "warning") == severity
    assert rules.few_rows_again_and_again(evidence) is None


@pytest.mark.parametrize("with_labels", [True, False])
def test_a_sampler_of_ones_own_that_balances_classes_passes(with_labels: bool) -> None:
    order = [(900 + k % 100) if k % 2 else k // 2 for k in range(1000)]
    evidence = loaded(order, share=0.1)
    evidence = evidence if with_labels else replace(evidence, split_labels=None)
    assert rules.rows_repeated_within_an_epoch(evidence) is None


def test_reading_a_sampler_changes_nothing() -> None:
    class Counting(RandomSampler):
        epoch = 0

        def __iter__(self) -> Iterator[int]:
            self.epoch += 1
            yield from super().__iter__()
            self.epoch += 100

    rows, generator = TensorDataset(torch.arange(40)[:, None], torch.arange(40) % 2), torch.Generator().manual_seed(3)
    loader = DataLoader(rows, 4, sampler=Counting(rows, generator=generator))
    before = (generator.get_state(), torch.get_rng_state(), dict(vars(loader)))
    order = batch_evidence(loader, 2).row_order
    assert sorted(order.tolist()) == list(range(40))
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert dict(vars(loader)) == before[2]
    assert loader.sampler.epoch == 0
    assert [int(x) for batch in loader for x in batch[0][:, 0]] == order.tolist()


def test_reading_a_loader_of_accelerate_leaves_no_trace() -> None:
    from accelerate import Accelerator
    from accelerate.state import GradientState

    rows = TensorDataset(torch.zeros(64, 3).long(), torch.arange(64) % 2)
    loader = Accelerator(cpu=True).prepare(DataLoader(rows, 4, shuffle=True))
    before = list(GradientState().dataloader_references)  # Other tests may have left a loader in the middle.
    evidence = batch_evidence(loader, 2)
    assert (evidence.rows_in_split, len(evidence.row_order)) == (64, 64)
    assert list(GradientState().dataloader_references) == before
    assert loader.iteration == 0


@pytest.mark.parametrize(
    ("done", "skipped", "expected"), [(30, 0, True), (30, 10, True), (30, 30, False), (0, 0, False), (30, 64, False)]
)
def test_a_resume_within_an_epoch_continues_after_the_batches_that_were_read(done, skipped, expected) -> None:
    given = replace(batches(np.array([0, 1] * 32)), batches_done=done, batches_skipped=skipped)
    assert bool(rules.epoch_begins_again(given)) == expected
    with pytest.raises(CannotTell):
        rules.epoch_begins_again(batches(np.array([0, 1] * 32)))


@pytest.mark.parametrize("skip", [0, 5])
def test_a_loader_that_skips_batches_is_recognized(skip: int) -> None:
    from accelerate import skip_first_batches

    rows = TensorDataset(torch.randn(128, 4), torch.arange(128) % 2)
    loader = DataLoader(rows, 8, shuffle=True)
    given = {"n_classes": 2, "total_steps": 32, "steps_per_epoch": 16, "seconds": 0}
    resumed = skip_first_batches(loader, skip) if skip else loader
    report = preflight(model=torch.nn.Linear(4, 2), train_loader=resumed, done=21, batches_read=0, **given)
    assert ("DAT030" in {finding.code for finding in report.findings}) == (skip == 0)
    assert "DAT030" in report.checked
