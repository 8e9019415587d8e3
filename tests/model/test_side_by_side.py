"""Work side by side: every item once and in order, within the given threads, and none is started in vain."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch

from overlapping import in_a_new_thread, in_turns
from tenor.model import speed
from tenor.model.speed import map_side_by_side, use_threads


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
def test_an_error_is_raised_and_waiting_items_are_not_started(threads: int) -> None:
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


def test_no_item_runs_after_the_caller_stops_reading() -> None:
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


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_overlapping_calls_do_not_change_new_threads(first_ends_first: bool) -> None:
    """Each restores the state that it observed at its start, which must not be that of the other."""

    @contextmanager
    def underway() -> Iterator[None]:
        own = torch.get_num_threads()
        with closing(map_side_by_side(lambda item: torch.get_num_threads(), range(8), 4)) as results:
            assert [next(results), next(results)] == [1, 1]
            yield
            assert list(results) == [1] * 6
        assert torch.get_num_threads() == own

    seen = in_turns(underway, underway, lambda: in_a_new_thread(torch.get_num_threads), first_ends_first)
    assert seen == [4] * 4
    assert torch.get_num_threads() == 4


def test_many_calls_in_many_threads_do_not_change_new_threads() -> None:
    def call(_: int) -> list[int]:
        return list(map_side_by_side(lambda item: torch.get_num_threads(), range(6), 3))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(call, range(30))) == [[1] * 6] * 30
    assert in_a_new_thread(torch.get_num_threads) == 4


def test_settings_that_the_program_changes_meanwhile_are_kept() -> None:
    with closing(map_side_by_side(lambda item: item, range(50), 2)) as results:
        next(results)
        torch.set_num_threads(3)
    assert torch.get_num_threads() == in_a_new_thread(torch.get_num_threads) == 3


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system doesn't say which threads there are")
def test_an_operation_uses_at_most_its_threads() -> None:
    def tasks() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def grown(threads: int) -> int:
        use_threads(threads)
        before, matrix = tasks(), torch.full((700, 700), 0.5)
        (matrix @ matrix).tanh()
        return tasks() - before

    # Those of an earlier thread may end meanwhile.
    assert in_a_new_thread(lambda: grown(1)) <= 0
    assert in_a_new_thread(lambda: grown(3)) > 0


def test_without_openmp_the_number_of_the_process_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "OWN_NUMBERS", ())

    def call(_: int) -> list[int]:
        return list(map_side_by_side(lambda item: torch.get_num_threads(), range(6), 3))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(10))) == [[1] * 6] * 10
    assert torch.get_num_threads() == in_a_new_thread(torch.get_num_threads) == 4
