"""Keeps freed memory for the next operations instead of returning it to the system.

A training step on a CPU allocates and frees hundreds of tensors of tens of megabytes. The C library returns each to the
system at once, which then clears every page of the next one: a tenth of the training time.

A thread that allocates while another thread does gets a separate heap ("arena"), which returns free memory regardless
of the thresholds. So all threads must share one heap; a thread that already has an arena keeps it.
"""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tenor.runs.process_state import OverlappingChange

# <malloc.h> of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST_KEPT = 2**30
"""Block size in bytes above which a block is still returned to the system as soon as it is freed."""
NO_LIMIT = 2**31 - 1
"""Free bytes at the end of the heap above which they are returned: the largest value that `mallopt` accepts."""
OWN_LARGEST, OWN_LIMIT = 2**25, 2**26
"""The thresholds that glibc itself reaches in a process that has freed large blocks."""
MOST_FREE = 2**31
"""Free bytes above which all are returned between two steps. Tensors whose sizes change with every batch leave gaps
that fit no later tensor, and these would add up without a limit."""
STEPS_BETWEEN = 100
"""Steps between two such returns. After each, the next step touches its memory for the first time, which may take as
long as the step itself: a training that needs more than `MOST_FREE` would otherwise do so in every step."""


NEW_OBJECTS = 50_000
"""Threshold of new container objects for Python's garbage collector; the default of Python 3.11 is 700."""


class _Counts(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def use_one_heap() -> None:
    """Let all threads of this process that have not allocated memory yet share one heap, permanently.

    Call it while there is only one thread. It has no effect unless the C library is glibc.
    """
    if (glibc := _glibc()) is not None:
        glibc.mallopt(M_ARENA_MAX, 1)


def collect_cycles_seldom() -> None:
    """Run Python's garbage collector after 50,000 new objects instead of a few hundred.

    Importing PyTorch and `transformers` creates a million objects, nearly all of which stay alive.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def freed_memory_kept() -> Iterator[Callable[[], None]]:
    """Keep freed memory within the block; no effect unless the C library is glibc.

    Yields a function to call between two steps: it returns all free memory to the system if there is more than
    `MOST_FREE`, at most once in `STEPS_BETWEEN` calls.
    """
    glibc = _glibc()
    if glibc is None:
        yield lambda: None
        return
    use_one_heap()
    try:
        with _THRESHOLDS.made(lambda: _set_thresholds((LARGEST_KEPT, NO_LIMIT))):
            yield _FreeMemoryBound(glibc)
    finally:
        glibc.malloc_trim(0)


def _set_thresholds(mmap_and_trim: tuple[int, int]) -> None:
    if (glibc := _glibc()) is not None:
        for kind, bytes_ in zip((M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), mmap_and_trim, strict=True):
            glibc.mallopt(kind, bytes_)


# glibc has no function to read the thresholds.
_THRESHOLDS = OverlappingChange(read=lambda: (OWN_LARGEST, OWN_LIMIT), write=_set_thresholds)


class _FreeMemoryBound:
    """Returns free memory beyond `MOST_FREE` to the system, seldom."""

    def __init__(self, glibc: ctypes.CDLL) -> None:
        self._glibc, self._calls_to_wait = glibc, 0

    def __call__(self) -> None:
        self._calls_to_wait -= 1
        if self._calls_to_wait < 0 and self._glibc.mallinfo2().fordblks > MOST_FREE:
            self._glibc.malloc_trim(0)
            self._calls_to_wait = STEPS_BETWEEN


def _glibc() -> ctypes.CDLL | None:
    """The C library if it is glibc 2.33 or newer, else None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "mallinfo2")):
        return None
    library.mallinfo2.restype = _Counts
    return library
