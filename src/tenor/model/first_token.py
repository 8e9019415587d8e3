"""Computes the last layer for the first token only, if the head reads no other token."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import nn


def with_children(module: nn.Module, children: Mapping[str, nn.Module]) -> nn.Module:
    """A shallow copy of `module` with some of its children replaced."""
    copied = copy(module)
    copied._modules = {**module._modules, **children}
    return copied


BERT_LIKE = (
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "ElectraForSequenceClassification",
)
DISTILBERT = "DistilBertForSequenceClassification"


class FirstTokenLayer(nn.Module):
    """Replaces an encoder's last layer: hidden states (rows, length, d) → hidden states of the first token (rows, 1,
    d).

    It has the children of the original layer under the same names, so that the model's parameters keep their names.
    """

    def __init__(self, layer: Any, kind: str) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.train(layer.training)
        self.distilbert = kind == DISTILBERT
        attention = layer.attention if self.distilbert else layer.attention.self
        self.heads = attention.n_heads if self.distilbert else attention.num_attention_heads

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        own: Any = self
        first = hidden_states[:, :1]
        if self.distilbert:
            attended = self._attend(own.attention, hidden_states, attention_mask)
            normed = own.sa_layer_norm(own.attention.out_lin(attended) + first)
            return own.output_layer_norm(own.ffn(normed) + normed)
        attended = self._attend(own.attention.self, hidden_states, attention_mask)
        normed = own.attention.output(attended, first)
        return own.output(own.intermediate(normed), normed)

    def _attend(self, attention: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The attention output of the first token, shape (rows, 1, d)."""
        rows, _, width = hidden.shape
        size = width // self.heads
        to_query, to_key, to_value = (
            (attention.q_lin, attention.k_lin, attention.v_lin)
            if self.distilbert
            else (attention.query, attention.key, attention.value)
        )
        query = to_query(hidden[:, 0]).view(rows, self.heads, size)
        key, value = (linear.weight.view(self.heads, size, width) for linear in (to_key, to_value))
        scores = torch.einsum("bhe,hed->bhd", query, key) @ hidden.transpose(1, 2)
        # Shifts all scores of a head equally, which softmax ignores; kept so that this bias has its (zero) gradient.
        scores = (scores + (query * to_key.bias.view(self.heads, size)).sum(dim=-1, keepdim=True)) * size**-0.5
        if mask is not None:
            row = mask[:, 0, :1]
            scores = scores.masked_fill(~row, float("-inf")) if row.dtype == torch.bool else scores + row
        weights = attention.dropout(scores.softmax(dim=-1))
        mean = torch.einsum("bhd,hed->bhe", weights @ hidden, value)
        # Without dropout the weights' sum is 1.
        mean = mean + weights.sum(dim=-1, keepdim=True) * to_value.bias.view(self.heads, size)
        return mean.reshape(rows, 1, width)


def read_first_token_only(model: Any) -> bool:
    """Make `model` compute its last layer for the first token only. Returns whether its head allows that."""
    if not reads_first_token(model):
        return False
    layers = _encoder(model)[1].layer
    layers[-1] = FirstTokenLayer(layers[-1], type(model).__name__)
    return True


def with_first_token_layer(model: Any) -> Any:
    """A model that shares the weights of `model` and computes the last layer for the first token only.

    Returns `model` itself if its head is not known to read only the first token, or if this is already done.
    """
    if not reads_first_token(model):
        return model
    holder, encoder = _encoder(model)
    layers = nn.ModuleList([*list(encoder.layer)[:-1], FirstTokenLayer(encoder.layer[-1], type(model).__name__)])
    base = with_children(model.base_model, {holder: with_children(encoder, {"layer": layers})})
    return with_children(model, {model.base_model_prefix: base})


def reads_first_token(model: Any) -> bool:
    """Whether the head is known to read only the first token, and the last layer still computes all tokens."""
    if type(model).__name__ not in (*BERT_LIKE, DISTILBERT) or getattr(model.config, "is_decoder", False):
        return False
    return not isinstance(_encoder(model)[1].layer[-1], FirstTokenLayer)


def pads_exactly(model: Any) -> bool:
    """Whether padding on the right, masked, is known not to change the logits of `model`."""
    return type(model).__name__ in (*BERT_LIKE, DISTILBERT)


def _encoder(model: Any) -> tuple[str, Any]:
    name = "transformer" if type(model).__name__ == DISTILBERT else "encoder"
    return name, getattr(model.base_model, name)
