"""A temperature that every user of the weights gets: the classifier's last layer divided by it."""

from typing import Any

import torch
from torch import nn

from tenor.errors import UserError
from tenor.model.freezing import anatomy

_TOLERANCE = 1e-4  # Relative to the largest logit: float32 through one layer.


def fold_temperature(model: Any, temperature: float) -> tuple[str, ...]:
    """Divide weight and bias of the last linear layer by `temperature`; returns the parameters' names.

    softmax(logits) is afterwards what softmax(logits / temperature) was.

    Raises:
        UserError: no single linear layer of the head has one output per class, or the logits don't follow it, because
            something comes after it. The model is then as it was.
    """
    head = anatomy(model).head
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in head and module.out_features == model.config.num_labels
    }
    if len(layers) != 1:
        raise UserError(
            f"{type(model).__name__}: its head has {len(layers)} linear layers with one output per class, expected 1; "
            "leave the temperature in tenor.json, where Tenor applies it"
        )
    ((name, last),) = layers.items()
    before = _some_logits(model)
    _divide(last, temperature)
    if not torch.allclose(
        _some_logits(model) * temperature, before, rtol=0, atol=_TOLERANCE * float(before.abs().max())
    ):
        _divide(last, 1 / temperature)
        raise UserError(
            f"{type(model).__name__}: its logits don't follow {name}, so a temperature can't be folded into it; "
            "leave it in tenor.json, where Tenor applies it"
        )
    return tuple(f"{name}.{kind}" for kind, _ in last.named_parameters(recurse=False))


def _divide(layer: nn.Linear, temperature: float) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)


def _some_logits(model: Any) -> torch.Tensor:
    """Logits of one text of eight arbitrary tokens."""
    model.eval()
    ids = torch.arange(8).remainder(model.get_input_embeddings().num_embeddings)[None]
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
