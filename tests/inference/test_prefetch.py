"""Prefetched items arrive in order, errors are raised in their place, and the thread stops with the consumer."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.inference.predictor import prefetch


@given(st.lists(st.one_of(st.none(), st.integers()), max_size=20), st.integers(1, 5))
def test_the_items_come_in_order(items: list[int | None], depth: int) -> None:
    assert list(prefetch((item for item in items), depth)) == items


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("the third")

    arriving = prefetch(items())
    assert [next(arriving), next(arriving)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(arriving)


def test_one_that_is_not_wanted_any_more_is_closed_in_its_own_thread() -> None:
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield (number := number + 1)
        finally:
            closed.append(threading.current_thread().name)

    wanted = prefetch(items())
    assert next(wanted) == 1
    wanted.close()
    assert [name.startswith("tenor-prefetch") for name in closed] == [True]
    assert not any(thread.name.startswith("tenor-prefetch") for thread in threading.enumerate())


def test_it_runs_while_the_caller_works() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    wanted = prefetch(items())
    next(wanted)
    assert made.wait(timeout=30)
    assert list(wanted) == [2]
