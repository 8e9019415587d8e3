"""Memory of finished operations is kept for the next ones.

A training step on a CPU makes and drops hundreds of tensors of tens of megabytes. The C library gives each back to the
system at once, and the system clears every page of the next one: a tenth of the time of training.

A thread that asks for memory while another does gets a heap of its own ("arena"), which gives back what is free
whatever it is told. So all threads must take from one heap; those that have one of their own already keep it.
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
"""Bytes of a block beyond which it still goes back to the system as soon as it is free."""
NO_LIMIT = 2**31 - 1
"""Bytes of free memory at the end of the heap beyond which they go back: as many as `mallopt` takes."""
OWN_LARGEST, OWN_LIMIT = 2**25, 2**26
"""What glibc itself arrives at in a process that has freed large blocks."""
MOST_FREE = 2**31
"""Free bytes beyond which all of them go back between two steps. Tensors whose sizes change with every
batch leave gaps that fit no later one, and without a bound these add up."""


NEW_OBJECTS = 50_000
"""Containers that Python makes beyond those that it drops, before it looks for cycles; Python 3.11's number is 700."""


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
    """Let all threads of this process that have not asked for memory yet take it from one heap, for good.

    To be called as early as there is only one thread; where the C library is not glibc, nothing changes.
    """
    if (glibc := _glibc()) is not None:
        glibc.mallopt(M_ARENA_MAX, 1)


def collect_cycles_seldom() -> None:
    """Let Python look for cycles of objects that no one holds at every 50,000th new object, not after a few hundred.

    PyTorch and `transformers` make a million objects while they are imported, and nearly all of them stay.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def freed_memory_kept() -> Iterator[Callable[[], None]]:
    """Within the block this process keeps the memory that it frees; where its C library is not glibc, nothing changes.

    Yields what is to be called between two steps: it gives everything back where more than `MOST_FREE` lies unused.
    """
    glibc = _glibc()
    if glibc is None:
        yield lambda: None
        return
    use_one_heap()
    try:
        with _THRESHOLDS.made(lambda: _set_thresholds((LARGEST_KEPT, NO_LIMIT))):
            yield lambda: _give_back_beyond(glibc, MOST_FREE)
    finally:
        glibc.malloc_trim(0)


def _set_thresholds(mmap_and_trim: tuple[int, int]) -> None:
    if (glibc := _glibc()) is not None:
        for kind, bytes_ in zip((M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), mmap_and_trim, strict=True):
            glibc.mallopt(kind, bytes_)


# What the thresholds are can't be asked.
_THRESHOLDS = OverlappingChange(read=lambda: (OWN_LARGEST, OWN_LIMIT), write=_set_thresholds)


def _give_back_beyond(glibc: ctypes.CDLL, most: int) -> None:
    if glibc.mallinfo2().fordblks > most:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc 2.33 or newer."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "mallinfo2")):
        return None
    library.mallinfo2.restype = _Counts
    return library
