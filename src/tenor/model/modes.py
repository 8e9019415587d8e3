"""Modules in evaluation mode for as long as someone predicts with them, and afterwards as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
