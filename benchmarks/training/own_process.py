"""Peers in processes of their own: what one sets for its own, such as what it keeps of freed memory, is no other's."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def in_own_process(threads: int, run: Callable[..., Result], *arguments: Any) -> Result:
    """What `run` returns, from a process that ends with it. Raises what `run` raises."""
    new = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=new, initializer=torch.set_num_threads, initargs=(threads,)) as process:
        return process.submit(run, *arguments).result()
