"""What keeps a program as it is while Tenor reads its data ahead and calls its model."""

import contextlib
import io
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

KINDS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)


@contextmanager
def unnoticed(model: nn.Module, loader: Any) -> Iterator[None]:
    """Nothing that the program's own dataset or model prints in the block appears twice in its output, none of its
    generators advances, and a backward pass that is still to come does not see that weights were changed and restored.
    """
    tensors = (*model.parameters(), *model.buffers())
    # Its values are restored bit by bit; only the counters would make the program's backward pass fail.
    versions_kept = torch.autograd._unsafe_preserve_version_counter(tensors)
    with contextlib.redirect_stdout(io.StringIO()), random_objects_kept(loader), versions_kept:
        yield


@contextmanager
def random_objects_kept(loader: Any) -> Iterator[None]:
    """Restore, after the block, the generators that dataset, samplers and collate function of `loader` hold, and those
    in the variables of the program's main module."""
    restore = [_saved(one) for one in _generators(loader)]
    try:
        yield
    finally:
        for undo in restore:
            undo()


def _generators(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    holders = [getattr(loader, name, None) for name in ("dataset", "sampler", "collate_fn")]
    holders += [loader, batch_sampler, getattr(batch_sampler, "sampler", None), sys.modules.get("__main__")]
    holders += [getattr(holder, "dataset", None) for holder in holders[:1]]
    values = [value for holder in holders for value in _values(holder)]
    found = {id(value): value for value in values if isinstance(value, KINDS)}
    return list(found.values())


def _values(holder: Any) -> list[Any]:
    """The attributes of an object; of a function, what it closes over."""
    cells = getattr(holder, "__closure__", None) or ()
    closed = []
    for cell in cells:
        try:
            closed.append(cell.cell_contents)
        except ValueError:  # A variable that has no value yet.
            continue
    return [*getattr(holder, "__dict__", {}).values(), *closed]


def _saved(generator: Any) -> Callable[[], None]:
    """What restores the present state of a generator."""
    if isinstance(generator, np.random.Generator):
        bits, state = generator.bit_generator, generator.bit_generator.state

        def restore() -> None:
            bits.state = state

        return restore
    if isinstance(generator, random.Random):
        kept = generator.getstate()
        return lambda: generator.setstate(kept)
    other = generator.get_state()
    return lambda: generator.set_state(other)
