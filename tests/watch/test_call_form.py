"""How a program's model is called again: in the program's own form, with other tensors."""

from collections import UserDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tenor.watch.call_form import call_form

IDS, MASK = torch.arange(12).reshape(3, 4), torch.ones(3, 4, dtype=torch.long)
SEGMENTS = torch.zeros(3, 4, dtype=torch.long)


class Net(nn.Module):
    """Returns what it was called with."""

    def forward(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, **other: Any) -> Any:
        return input_ids, attention_mask, token_type_ids, other


class Own(nn.Module):
    def forward(self, b: Any, key_mask: Any = None) -> Any:
        return b, key_mask


def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return SimpleNamespace(module=module, args=args, kwargs=kwargs)


def test_positional_inputs_have_the_names_of_the_models_parameters() -> None:
    form = call_form(called(Net(), IDS, SEGMENTS, MASK))
    assert form.inputs["attention_mask"] is not MASK
    assert torch.equal(form.inputs["attention_mask"], SEGMENTS)
    assert torch.equal(form.inputs["token_type_ids"], MASK)


def test_ids_and_mask_of_own_names_get_the_usual_ones() -> None:
    form = call_form(called(Own(), IDS, MASK))
    assert set(form.inputs) == {"input_ids", "attention_mask"}
    again = form.forward(Own(), {"input_ids": IDS + 1, "attention_mask": MASK * 0})
    assert torch.equal(again[0], IDS + 1)
    assert torch.equal(again[1], MASK * 0)


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_a_mapping_stays_one_of_its_type_and_loses_its_labels(kind: type) -> None:
    batch = kind(input_ids=IDS, attention_mask=MASK, labels=torch.tensor([0, 1, 0]))
    form = call_form(called(Own(), batch))
    again, _ = form.forward(Own(), {"input_ids": IDS[:2], "attention_mask": MASK[:2]})
    assert type(again) is kind
    assert dict(again).keys() == {"input_ids", "attention_mask"}
    assert len(again["input_ids"]) == 2


def test_other_arguments_are_repeated_and_labels_left_out() -> None:
    form = call_form(called(Net(), input_ids=IDS, attention_mask=MASK, labels=torch.tensor([0, 1, 0]), mode="pool"))
    *_, segments, other = form.forward(Net(), {"input_ids": IDS, "attention_mask": MASK})
    assert other == {"mode": "pool"}
    assert segments is None


def test_tensors_in_lists_keep_their_places() -> None:
    form = call_form(called(Own(), [IDS, MASK]))
    again, _ = form.forward(Own(), {name: value + 1 for name, value in form.inputs.items()})
    assert torch.equal(again[0], IDS + 1)
    assert torch.equal(again[1], MASK + 1)
