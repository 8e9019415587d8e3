"""Attention in bfloat16 for training on a CPU: one batched product for the scores, one for the result.

PyTorch's fused kernel computes its backward pass by one small product per head and block. In bfloat16 each of them goes
through oneDNN, which creates and frees a dozen objects for it: the pass takes up to three times as long as in float32,
and replicas on several threads wait for one another in the memory allocator.
"""

from typing import Any

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "tenor"
"""The attention implementation in the registry of `transformers`; a model's config.json does not contain it."""

SCORES_AT_ONCE = 800_000
"""Scores computed together. They are read and written several times, so they should fit a core's cache."""


def use_half_attention(model: Any) -> bool:
    """Make `model` compute attention as described above, wherever it trains in bfloat16 on a CPU.

    Everything else still uses PyTorch's fused kernel. Returns whether the model has a choice of implementations.
    """
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return False
    model.set_attn_implementation(NAME)
    return True


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as `transformers` calls it.

    `query`, `key` and `value` have shape (rows, heads, length, size). `attention_mask` is true where a token is seen,
    or is added to the scores. Returns the weighted values, shape (rows, length, heads, size).
    """
    # Options such as a position bias may be tensors, which have no truth value.
    is_plain = all(value is None or value is False for value in options.values())
    is_usual = is_plain and key.shape == query.shape and not getattr(module, "is_causal", True)
    if not (trains_in_half(query) and is_usual and not dropout):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    result = HalfAttention.apply(query, key, value, _added(attention_mask, query.dtype), scale)
    return result.transpose(1, 2), None


def trains_in_half(tensor: torch.Tensor) -> bool:
    """Whether `tensor` belongs to a forward pass in bfloat16 on a CPU that a backward pass will follow."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and tensor.requires_grad


def _added(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A mask that is added to the scores. The lowest number, not -inf: a row in which nothing is seen has no NaN."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


class HalfAttention(torch.autograd.Function):
    """softmax(query · keyᵀ · scale + mask) · value, shape (rows, heads, length, size), in groups of rows.

    Products sum in float32 and round to bfloat16; the softmax computes in float32. The probabilities are kept for the
    backward pass.
    """

    @staticmethod
    def forward(
        context: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """See the class."""
        rows, heads, length, _ = query.shape
        result = _empty_like(value)
        probabilities = query.new_empty(rows, heads, length, length)
        with torch.autocast("cpu", enabled=False):
            for part in _groups(query):
                scores = (query[part] @ key[part].transpose(-1, -2)).mul_(scale)
                if mask is not None:
                    scores.add_(mask[part])
                torch.softmax(scores, -1, out=probabilities[part])
                result[part] = probabilities[part] @ value[part]
        context.save_for_backward(query, key, value, probabilities)
        context.scale = scale
        return result

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of query, key and value."""
        query, key, value, probabilities = context.saved_tensors
        of_query, of_key, of_value = (_empty_like(tensor) for tensor in (query, key, value))
        for part in _groups(query):
            gradient, weights = gradients[0][part], probabilities[part]
            of_value[part] = weights.transpose(-1, -2) @ gradient
            of_weights = gradient @ value[part].transpose(-1, -2)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_scores.mul_(context.scale)
            of_query[part] = of_scores @ key[part]
            of_key[part] = of_scores.transpose(-1, -2) @ query[part]
        return of_query, of_key, of_value, None, None


def _groups(query: torch.Tensor) -> list[slice]:
    """Rows whose scores are computed together."""
    rows, heads, length, _ = query.shape
    size = max(1, SCORES_AT_ONCE // (heads * length * length))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """An empty tensor (rows, heads, length, size), stored as (rows, length, heads, size) as `transformers` reads it."""
    rows, heads, length, size = tensor.shape
    return tensor.new_empty(rows, length, heads, size).transpose(1, 2)


ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
