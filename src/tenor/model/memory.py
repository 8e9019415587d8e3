"""Memory of finished operations is kept for the next ones.

A forward pass on a CPU makes and drops hundreds of tensors of tens of megabytes. The C library gives each back to the
system at once, and the system clears every page of the next one: a tenth of the time of training.
"""

import ctypes
import sys

# <malloc.h> of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 2**30
"""Bytes of a block beyond which it still goes back to the system as soon as it is free."""
MOST_KEPT = 2**31 - 1
"""Bytes of free memory that the process keeps, which is the most that `mallopt` takes; a step needs them again."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory instead of returning it; whether its C library knows how to (glibc does)."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(library.mallopt(M_TRIM_THRESHOLD, MOST_KEPT))
