"""Linear layers whose weights oneDNN has laid out beforehand.

PyTorch's own linear layer calls the BLAS it was built with, which packs the weights anew at every call. oneDNN takes
them packed (what `torch.compile` does when it freezes a model for a CPU) and has kernels for processors of all makes.
"""

import os

import torch
from torch import nn

from tenor.model.shared_modules import with_children

ROWS_HINT = 1024
"""Tokens of a typical pass, by which oneDNN picks the layout; any number of them can be computed."""

PRIMITIVES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Kernels that oneDNN, and PyTorch's layer above it, keep: one per shape of a linear layer's input, about half a
megabyte each. By default each keeps 1,024, which is gigabytes over batches of ever new shapes, and no batch needs those
of another: a model has a handful of shapes of linear layers, and each is used by all its layers within the batch."""


class PackedLinear(nn.Module):
    """`nn.Linear` in float32 on a CPU, for inference."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        _keep_few_primitives()
        # Some models look at the weight's type.
        self.weight, self.bias = linear.weight, linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS_HINT)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(hidden, self.packed, self.bias, "none", [], "")


def can_pack() -> bool:
    """Whether this build of PyTorch has oneDNN and its packed linear layer."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _keep_few_primitives() -> None:
    # Read from the environment at the first use, and nowhere else to be set.
    for name, count in PRIMITIVES.items():
        os.environ.setdefault(name, count)


def with_packed_linears(module: nn.Module) -> nn.Module:
    """A module whose float32 linear layers are packed; all else is shared, and `module` stays as it was."""
    if type(module) is nn.Linear:
        return PackedLinear(module) if module.weight.dtype == torch.float32 else module
    children = {name: with_packed_linears(child) for name, child in module.named_children()}
    changed = {name: child for name, child in children.items() if child is not module._modules[name]}
    return with_children(module, changed) if changed else module
