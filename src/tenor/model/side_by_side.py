"""Passes without gradients side by side, each on its share of the CPU's threads.

Threads that work on one pass together wait for each other after every operation; one pass each keeps all of them busy.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_side_by_side(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Generator[Result]:
    """`work` of every item, in their order, at most `threads` of them at a time, which share so many CPU threads.

    Inference mode and autocast hold for the thread that sets them: `work` must set its own. Close the iterator where it
    is not read to its end; then what was not begun is not begun any more.
    """
    count = min(threads, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "pass", torch.set_num_threads, (threads // count,))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # What a thread sets for itself holds for threads to come as well.
