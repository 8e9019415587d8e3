"""Forward passes without gradients: evaluation mode, and several passes at once that share the CPU's threads."""

import ctypes
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

_LOCK = threading.Lock()
_MODES: dict[nn.Module, tuple[int, bool]] = {}
"""For every module in evaluation mode: the count of blocks, and whether it was in training mode before the first."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; every module returns to its previous mode once all such blocks have ended.

    Blocks of several threads may overlap, on one model or on models that share modules.
    """
    modules = list(model.modules())
    with _LOCK:
        for module in modules:
            blocks, before = _MODES.get(module, (0, module.training))
            _MODES[module] = blocks + 1, before
        model.eval()
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                blocks, before = _MODES.pop(module)
                if blocks > 1:
                    _MODES[module] = blocks - 1, before
                else:
                    module.training = before


Item = TypeVar("Item")
Result = TypeVar("Result")

OWN_NUMBERS = ("omp_set_num_threads", "MKL_Set_Num_Threads_Local")
"""Functions of C libraries that set the count of threads for computations of the calling thread."""

_LIBRARIES = ctypes.CDLL(torch._C.__file__)
"""PyTorch's library, and those that it is linked with."""
_NUMBER_OF_PROCESS = threading.Lock()


def map_side_by_side(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Generator[Result]:
    """`work` of every item, in order, with at most `threads` items at a time, which share `threads` CPU threads.

    Inference mode and autocast are set per thread, so `work` must set them itself. Close the iterator if it is not
    consumed; pending items are then cancelled.
    """
    count = min(threads, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(count, "pass", use_threads, (threads // count,))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def use_threads(count: int) -> None:
    """Let the calling thread compute with `count` CPU threads, without affecting any other thread.

    `torch.set_num_threads` also changes the default of the process, which every thread takes over when it first
    computes. So only the thread's own setting is changed: in OpenMP and, if PyTorch uses it, in Intel's MKL.
    """
    torch.get_num_threads()  # Initializes the thread's setting now, not when it first computes.
    for name in OWN_NUMBERS:
        if hasattr(_LIBRARIES, name):
            getattr(_LIBRARIES, name)(count)
    if torch.get_num_threads() != count:
        _set_and_restore_default(count)


def _set_and_restore_default(count: int) -> None:
    """The same for a PyTorch without OpenMP: the default of the process is changed for a moment.

    One thread at a time, so that none takes the temporary value of another thread for the default.
    """
    with _NUMBER_OF_PROCESS, ThreadPoolExecutor(1) as other:
        before = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        other.submit(torch.set_num_threads, before).result()
