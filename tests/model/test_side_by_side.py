"""Work side by side: every item once and in order, within the threads given, and nothing begun in vain."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from tenor.model.side_by_side import map_side_by_side


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_results_come_in_the_order_of_the_items(count: int, threads: int) -> None:
    def square(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item**2

    assert list(map_side_by_side(square, range(count), threads)) == [item**2 for item in range(count)]


@pytest.mark.parametrize(("count", "threads", "each"), [(8, 4, 1), (2, 4, 2), (3, 4, 1), (1, 4, 4), (8, 1, 4)])
def test_the_threads_are_shared_between_the_items(count: int, threads: int, each: int) -> None:
    found = list(map_side_by_side(lambda item: torch.get_num_threads(), range(count), threads))
    assert found == [each] * count
    assert torch.get_num_threads() == 4


def test_as_many_items_run_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=20)  # Fewer at a time would wait for the third in vain.
    assert len(list(map_side_by_side(lambda item: together.wait(), range(6), 3))) == 6


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_out_and_ends_what_was_not_begun(threads: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise ValueError("the third item")
        time.sleep(0.01)
        return item

    with pytest.raises(ValueError, match="the third item"):
        list(map_side_by_side(work, range(1000), threads))
    assert len(begun) < 1000
    assert torch.get_num_threads() == 4


def test_who_stops_reading_leaves_nothing_running() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    with closing(map_side_by_side(work, range(1000), 2)) as results:
        assert next(results) == 0
    seen = len(begun)
    time.sleep(0.05)
    assert len(begun) == seen < 1000
    assert torch.get_num_threads() == 4
