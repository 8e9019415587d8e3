"""A folded temperature: the same class, the probabilities of the divided logits, for every architecture."""

from pathlib import Path

import pytest
import torch

from tenor.errors import UserError
from tenor.workflows.outcome import fold_temperature
from tiny_models import KINDS, load_tiny


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_divided(kind: str, tiny_models: dict[str, Path]) -> None:
    model, temperature = load_tiny(tiny_models[kind]).model.eval(), 3.7
    ids = torch.randint(5, 1000, (3, 12))
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        names = fold_temperature(model, temperature)
        after = model(input_ids=ids).logits
    torch.testing.assert_close(after * temperature, before)
    assert len(names) == 2
    assert all(name in dict(model.named_parameters()) for name in names)


def test_a_head_that_does_not_end_in_the_layer_is_refused_and_unchanged(tiny_distilbert: Path) -> None:
    model = load_tiny(tiny_distilbert).model
    weight = model.classifier.weight.clone()
    model.classifier.register_forward_hook(lambda module, inputs, output: output.tanh())
    with pytest.raises(UserError, match="don't scale with classifier"):
        fold_temperature(model, 2.0)
    torch.testing.assert_close(model.classifier.weight, weight)


def test_two_layers_that_could_be_the_last_are_refused(tiny_distilbert: Path) -> None:
    model = load_tiny(tiny_distilbert).model
    model.another = torch.nn.Linear(32, 2)
    with pytest.raises(UserError, match="2 linear layers"):
        fold_temperature(model, 2.0)
