"""Every row once per epoch, batches of near-equal length, and padding that changes nothing but the shape."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tenor.data.batching import (
    TokenExamples,
    epoch_batches,
    least_padding,
    micro_batches,
    padded_length,
    sequential_batches,
)
from tiny_rows import token_rows

row_lengths = hnp.arrays(np.int32, st.integers(0, 300), elements=st.integers(2, 256))
batch_sizes = st.integers(1, 40)
seeds, epochs = st.integers(0, 2**32 - 1), st.integers(0, 1000)


def flat(batches: list[np.ndarray]) -> list[int]:
    return np.concatenate([*batches, np.zeros(0, int)]).astype(int).tolist()


def padding_share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    padded = sum(lengths[rows].max() * len(rows) for rows in batches)
    return 1 - lengths.sum() / padded


def review_lengths(count: int) -> np.ndarray:
    """Lengths spread as those of reviews are: the median near 230 tokens, cut at 256."""
    drawn = np.random.default_rng(0).lognormal(np.log(230), 0.6, count)
    return np.clip(drawn, 10, 256).astype(np.int32)


@given(row_lengths, batch_sizes, seeds, epochs)
def test_an_epoch_holds_each_row_once_in_full_batches_but_one(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, batch_size, seed, epoch)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    short = [len(rows) for rows in batches if len(rows) != batch_size]
    assert short == ([len(lengths) % batch_size] if len(lengths) % batch_size else [])


@given(row_lengths, batch_sizes, seeds, epochs)
def test_an_epochs_order_is_a_function_of_its_arguments(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> None:
    first = epoch_batches(lengths, batch_size, seed, epoch)
    np.random.default_rng().random()
    np.random.seed(epoch)
    assert [rows.tolist() for rows in first] == [
        rows.tolist() for rows in epoch_batches(lengths.copy(), batch_size, seed, epoch)
    ]


def test_other_epochs_and_seeds_have_other_orders_and_other_company() -> None:
    lengths = review_lengths(2000)
    drawn = [epoch_batches(lengths, 16, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (1, 2), (2, 0), (0, 1))]
    orders = {tuple(flat(batches)) for batches in drawn}
    assert len(orders) == len(drawn)
    company = [{frozenset(rows.tolist()) for rows in batches} for batches in drawn]
    assert all(not company[0] & other for other in company[1:])


def test_the_order_of_batches_does_not_follow_their_length() -> None:
    lengths = review_lengths(64 * 16)  # One window, which is ordered by length before its batches are shuffled.
    means = [lengths[rows].mean() for rows in epoch_batches(lengths, 16, 5, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


@pytest.mark.parametrize("batch_size", [8, 16, 32])
def test_batches_pad_little(batch_size: int) -> None:
    lengths = review_lengths(8000)
    unsorted = np.array_split(np.random.default_rng(1).permutation(8000), 8000 // batch_size)
    assert padding_share(unsorted, lengths) > 0.1  # Else there would be nothing to save.
    assert padding_share(epoch_batches(lengths, batch_size, 7, 0), lengths) < 0.02


@given(row_lengths, st.integers(1, 3000), st.data())
def test_micro_batches_partition_within_the_token_budget(lengths: np.ndarray, budget: int, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.permutations(range(len(lengths)))), dtype=int)[: len(lengths) // 2]
    parts = micro_batches(rows, lengths, budget)
    assert sorted(flat(parts)) == sorted(rows.tolist())
    for part in parts:
        assert len(part) == 1 or lengths[part].max() * len(part) <= budget
    # Greedy: no part could have taken the next row in.
    for part, following in pairwise(parts):
        assert lengths[following[0]] * (len(part) + 1) > budget
    ordered = lengths[flat(parts)]
    assert (np.diff(ordered) >= 0).all()


@given(row_lengths, st.integers(1, 3000))
def test_prediction_takes_every_row_once_the_longest_first(lengths: np.ndarray, budget: int) -> None:
    parts = sequential_batches(lengths, budget)
    assert sorted(flat(parts)) == list(range(len(lengths)))
    longest = [lengths[part].max() for part in parts]
    assert longest == sorted(longest, reverse=True)


@given(
    st.lists(st.lists(st.integers(5, 30_000), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(0, 4),
    st.booleans(),
    st.data(),
)
def test_collation_pads_on_the_right_and_the_mask_tells_what_is_real(
    ids: list[list[int]], pad_id: int, rounded: bool, data: st.DataObject
) -> None:
    lengths = np.array([len(row) for row in ids])
    labels = np.arange(len(ids)) % 3
    rows = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=12)))
    batch = TokenExamples(token_rows(ids, labels.tolist()), pad_id).collate(rows, rounded)
    input_ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    longest, padded = lengths[rows].max(), input_ids.shape[1]
    assert input_ids.shape == mask.shape == (len(rows), padded)
    assert longest <= padded <= (longest * 9 // 8 if rounded else longest)
    assert padded <= lengths.max(), "longer than any text, so perhaps longer than the model accepts"
    for position, row in enumerate(rows):
        assert input_ids[position, : lengths[row]].tolist() == ids[row]
        assert (input_ids[position, lengths[row] :] == pad_id).all()
        assert mask[position].tolist() == [1] * lengths[row] + [0] * (mask.shape[1] - lengths[row])
    assert batch.labels.tolist() == labels[rows].tolist()
    assert batch.tokens == lengths[rows].sum() == mask.sum()


def test_few_rounded_lengths_occur() -> None:
    lengths = np.arange(1, 513)
    rounded = {padded_length(lengths, np.array([row]), rounded=True) for row in range(512)}
    assert {*range(1, 17), 18, 60, 64, 128, 144, 256, 288, 512} <= rounded
    for half in (16, 32, 64, 128, 256):
        assert len([length for length in rounded if half < length <= 2 * half]) == 8


def work(batches: list[np.ndarray], lengths: np.ndarray, pass_cost: int) -> int:
    return sum(int(lengths[rows].max()) * len(rows) + pass_cost for rows in batches)


@given(row_lengths, st.integers(1, 4096), st.integers(0, 64))
def test_the_least_padding_holds_each_row_once_within_the_budget(
    lengths: np.ndarray, budget: int, pass_cost: int
) -> None:
    batches = least_padding(lengths, budget, pass_cost)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    assert all(len(rows) == 1 or lengths[rows].max() * len(rows) <= budget for rows in batches)
    assert work(batches, lengths, pass_cost) <= work(sequential_batches(lengths, budget), lengths, pass_cost)
    longest = [lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 120), st.integers(0, 30))
def test_no_other_cut_of_the_rows_in_order_is_less_work(drawn: list[int], budget: int, pass_cost: int) -> None:
    lengths = np.array(drawn)
    order = np.argsort(lengths, kind="stable")
    every_cut = (
        np.split(order, [at + 1 for at in range(len(order) - 1) if cuts >> at & 1])
        for cuts in range(2 ** (len(order) - 1))
    )
    allowed = [
        parts
        for parts in every_cut
        if all(len(part) == 1 or lengths[part].max() * len(part) <= budget for part in parts)
    ]
    least = min(work(parts, lengths, pass_cost) for parts in allowed)
    assert work(least_padding(lengths, budget, pass_cost), lengths, pass_cost) == least
