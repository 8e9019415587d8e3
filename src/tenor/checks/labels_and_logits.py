"""Where batches keep labels and outputs keep logits.

The hooks of `tenor watch` ask at every call, from the import of torch on: nothing but torch is imported here.
"""

from collections.abc import Mapping
from typing import Any

import torch

LABEL_NAMES = ("labels", "label", "targets", "target", "y")


def logits_of(output: Any) -> torch.Tensor:
    """The logits in a model's output: a tensor, `.logits`, `["logits"]`, or the first float matrix of a tuple.

    Raises:
        TypeError: any other output.
    """
    if isinstance(output, torch.Tensor):
        return output
    if getattr(output, "logits", None) is not None:
        return output.logits
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if isinstance(output, tuple | list):
        for part in output:
            if isinstance(part, torch.Tensor) and part.ndim == 2 and part.is_floating_point():
                return part
    raise TypeError(f"the model returned a {type(output).__name__} without logits; give a `forward` that returns them")
