"""Forward passes without gradients: modules in evaluation mode, passes side by side on shares of the CPU's threads."""

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
"""Of every module in evaluation mode here: by how many blocks, and whether it was in training mode before the first."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model` is in evaluation mode within the block, and every module as before once all such blocks have ended.

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
"""Functions of C libraries that set how many threads compute what the calling thread asks for."""

_LIBRARIES = ctypes.CDLL(torch._C.__file__)
"""PyTorch's own, and those that it was linked with."""
_NUMBER_OF_PROCESS = threading.Lock()


def map_side_by_side(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Generator[Result]:
    """`work` of every item, in their order, at most `threads` of them at a time, which share so many CPU threads.

    Inference mode and autocast hold for the thread that sets them: `work` must set its own. Close the iterator where it
    is not read to its end; then what was not begun is not begun any more.
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
    """Let the calling thread compute with `count` CPU threads; no other thread, present or to come, is changed.

    `torch.set_num_threads` sets a number of the calling thread, and with it that of the process, from which every
    thread takes its own when it first computes. So the thread's number alone is set where it is kept: in OpenMP and,
    where PyTorch has it, in Intel's MKL.
    """
    torch.get_num_threads()  # The thread takes its number now, and not when it first computes.
    for name in OWN_NUMBERS:
        if hasattr(_LIBRARIES, name):
            getattr(_LIBRARIES, name)(count)
    if torch.get_num_threads() != count:
        _set_and_put_back(count)


def _set_and_put_back(count: int) -> None:
    """The same for a PyTorch without OpenMP: the process's number is another for a moment.

    One thread at a time, so that none takes the number of another one's moment for the process's.
    """
    with _NUMBER_OF_PROCESS, ThreadPoolExecutor(1) as other:
        before = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        other.submit(torch.set_num_threads, before).result()
