"""Blocks of two threads that overlap in a known order."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")
SECONDS = 60


def in_turns(
    first: Callable[[], AbstractContextManager[Any]],
    second: Callable[[], AbstractContextManager[Any]],
    look: Callable[[], T],
    first_ends_first: bool,
) -> list[T]:
    """What `look` sees in the first block, in both, after the one that ends first, and after both."""
    seen: list[T] = []
    entered, leave, left = ([threading.Event(), threading.Event()] for _ in range(3))

    def run(which: int, block: Callable[[], AbstractContextManager[Any]]) -> None:
        with block():
            entered[which].set()
            assert leave[which].wait(SECONDS)
        left[which].set()

    with ThreadPoolExecutor(2) as pool:
        futures = []
        for which, block in enumerate((first, second)):
            futures.append(pool.submit(run, which, block))
            assert entered[which].wait(SECONDS)
            seen.append(look())
        for which in (0, 1) if first_ends_first else (1, 0):
            leave[which].set()
            assert left[which].wait(SECONDS)
            seen.append(look())
        for future in futures:
            future.result(SECONDS)
    return seen


def in_a_new_thread(work: Callable[[], T]) -> T:
    """What `work` gives in a thread that has done nothing before."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(SECONDS)
