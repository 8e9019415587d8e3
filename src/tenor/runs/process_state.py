"""State that all threads of a process share: changed for a block without undoing, or being undone by, another block.

A block that saves such a state, changes it and puts it back is right only as long as no other thread is in one: the
second saves what the first made, and puts that back last.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

State = TypeVar("State")

SETTINGS = threading.RLock()
"""Held by blocks that change what is warned of, logged or shown, or that seed the process's generator, so that they
follow each other."""


class OverlappingChange(Generic[State]):
    """A change that several blocks may make at a time: the first reads the state, the last to end writes it back."""

    def __init__(self, read: Callable[[], State], write: Callable[[State], object]) -> None:
        self._read, self._write, self._lock = read, write, threading.Lock()
        self._before: list[State] = []
        """Before the first block, once for each block that has not ended."""

    @contextmanager
    def made(self, change: Callable[[], object]) -> Iterator[None]:
        """`change` is made, and holds at least until the block ends."""
        with self._lock:
            self._before.append(self._before[0] if self._before else self._read())
            change()
        try:
            yield
        finally:
            with self._lock:
                before = self._before.pop()
                if not self._before:
                    self._write(before)


@contextmanager
def warnings_ignored(category: type[Warning] = Warning) -> Iterator[None]:
    """Warnings of a category are not shown within the block, one block at a time: Python's list of them is no thread's
    own."""
    with SETTINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
