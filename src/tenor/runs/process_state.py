"""Temporary changes to state that all threads of a process share, such as warning filters.

Saving, changing and restoring such state is correct only in one thread at a time. If two threads overlap, the second
saves the value that the first has set, and restores that value last.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

State = TypeVar("State")

SETTINGS = threading.RLock()
"""Lock for blocks that change warnings, logging or progress output, or that seed the process's random generator: they
run one after another."""


class OverlappingChange(Generic[State]):
    """A change that blocks may make concurrently: the first to start saves the state, the last to end restores it."""

    def __init__(self, read: Callable[[], State], write: Callable[[State], object]) -> None:
        self._read, self._write, self._lock = read, write, threading.Lock()
        self._before: list[State] = []
        """The state before the first block, once for each block that has not ended."""

    @contextmanager
    def made(self, change: Callable[[], object]) -> Iterator[None]:
        """Apply `change`; it stays in effect at least until the block ends."""
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
    """Suppress warnings of a category in the block. One block runs at a time, since threads share Python's warning
    filters."""
    with SETTINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
