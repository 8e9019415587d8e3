"""Every row is computed once, the oldest is always next, and nothing waits beyond the capacity."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.serving import row_queue
from tenor.serving.row_queue import Request, RowQueue, Throughput

LENGTHS = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=30)


def request(*lengths: int) -> Request:
    return Request([np.zeros(length, np.int32) for length in lengths], lambda: None)


def queue(capacity: int = 10**6, budget: int = 64, rows_alone: bool = False, workers: int = 1) -> RowQueue:
    return RowQueue(capacity, budget, rows_alone, workers)


@given(LENGTHS, st.integers(16, 200), st.booleans())
def test_every_row_is_taken_once_and_the_oldest_is_in_the_next_batch(
    requests: list[list[int]], budget: int, alone: bool
) -> None:
    waiting = queue(budget=budget, rows_alone=alone)
    given_rows = [request(*lengths) for lengths in requests]
    for one in given_rows:
        assert waiting.put(one)
    left = [(one, index) for one in given_rows for index in range(len(one.rows))]
    assert waiting.tokens == sum(map(sum, requests))
    while left:
        batch = waiting.take()
        assert batch is not None
        taken = [(row.request, row.index) for row in batch]
        assert left[0] in taken
        assert len(set(map(hash, taken))) == len(taken)
        longest = max(len(row.ids) for row in batch)
        assert len(batch) == 1 or (not alone and longest * len(batch) <= budget)
        left = [row for row in left if row not in taken]
        assert waiting.tokens == sum(len(one.rows[index]) for one, index in left)
        waiting.done()
    assert waiting.busy == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 100))
def test_what_waits_stays_within_the_capacity_unless_one_request_alone_exceeds_it(
    lengths: list[int], capacity: int
) -> None:
    waiting = queue(capacity)
    for length in lengths:
        before = waiting.tokens
        fits = waiting.put(request(length))
        assert fits == (before == 0 or before + length <= capacity)
        assert waiting.tokens <= max(capacity, lengths[0])


def test_rows_of_similar_length_share_a_batch() -> None:
    waiting = queue(budget=128)
    long, short, other = request(60), request(5), request(60)
    for one in (long, short, other):
        waiting.put(one)
    batch = waiting.take()
    assert batch is not None
    assert {row.request for row in batch} == {long, other}


def test_a_request_of_several_texts_is_shared_by_idle_workers() -> None:
    waiting = queue(budget=1024, workers=2)
    waiting.put(request(*[32] * 8))
    sizes = Counter(len(waiting.take() or []) for _ in range(2))
    assert sizes == {4: 2}


def test_dropped_rows_are_not_computed_and_free_their_place() -> None:
    waiting = queue(capacity=100)
    gone, stays = request(40, 40), request(20)
    assert waiting.put(gone)
    assert waiting.put(stays)
    assert not waiting.put(request(30))
    waiting.drop(gone)
    assert waiting.tokens == 20
    assert waiting.put(request(30))
    batch = waiting.take()
    assert batch is not None
    assert all(row.request is not gone for row in batch)


def test_a_closed_queue_gives_what_waits_and_then_ends() -> None:
    waiting = queue()
    waiting.put(request(10))
    waiting.close()
    assert waiting.take() is not None
    assert waiting.take() is None


def test_a_queue_that_is_closed_at_once_gives_nothing_more() -> None:
    waiting = queue()
    waiting.put(request(10))
    waiting.close(at_once=True)
    assert waiting.take() is None
    assert waiting.tokens == 0


def test_no_row_is_lost_if_the_choice_of_a_batch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    waiting = queue()
    waiting.put(request(10, 20))
    with monkeypatch.context() as patch:
        patch.setattr(row_queue, "least_padding", fail)
        with pytest.raises(MemoryError):
            waiting.take()
    assert waiting.tokens == 30
    assert sum(len(waiting.take() or []) for _ in range(waiting.workers)) >= 1
    assert waiting.tokens < 30


def test_many_small_batches_do_not_hide_how_fast_a_large_one_is() -> None:
    """A pass takes 1 ms, and 1 ms per 100 tokens."""
    throughput = Throughput(fixed=100)
    assert throughput.seconds(1_000) == 0
    for tokens in (*[3] * 500, 20_000, *[3] * 500):
        throughput.add(tokens, (1 + tokens / 100) / 1_000)
        assert throughput.seconds(50_000) == pytest.approx(0.5, rel=0.05)
    throughput.add(10**6, 2 * 10**6 / 10**5, side_by_side=2)
    assert throughput.seconds(50_000) == pytest.approx(0.5, rel=0.05)
