"""How a program calls its model: where in the arguments each tensor stands, and how to call it with others."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from tenor.watch.observer import Call

IDS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class Slot:
    """The place of a tensor."""

    name: str


@dataclass(frozen=True)
class CallForm:
    """The arguments of a call with slots in the place of its tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: Mapping[str, torch.Tensor]
    """The tensors by the name of their slot: `input_ids` and `attention_mask` whatever the program calls them."""

    def forward(self, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Call a model in this form with other tensors; labels, for which there are none, are left out."""
        args = [_filled(value, inputs) for value in self.args]
        kwargs = {name: _filled(value, inputs) for name, value in self.kwargs.items()}
        return model(*args, **{name: value for name, value in kwargs.items() if not isinstance(value, Slot)})


def call_form(call: "Call") -> CallForm:
    """The form of a call that was seen."""
    found: dict[str, torch.Tensor] = {}
    args = tuple(
        _with_slots(value, name, found) for name, value in zip(_positional(call.module), call.args, strict=False)
    )
    kwargs = {name: _with_slots(value, name, found) for name, value in call.kwargs.items()}
    usual = _usual_names(found)
    return CallForm(
        tuple(_renamed(value, usual) for value in args),
        {name: _renamed(value, usual) for name, value in kwargs.items()},
        {usual.get(name, name): value.detach() for name, value in found.items()},
    )


def _positional(module: nn.Module) -> Iterator[str]:
    """Names of the parameters of `forward`, and further ones for what `*args` takes."""
    parameters = inspect.signature(module.forward).parameters.values()
    yield from (p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    number = 0
    while True:
        number += 1
        yield f"argument_{number}"


def _with_slots(value: Any, name: str, found: dict[str, torch.Tensor]) -> Any:
    """A value with slots in the place of its tensors, which are put into `found`."""
    if isinstance(value, torch.Tensor):
        name = name if name not in found else f"{name}_{len(found)}"
        found[name] = value
        return Slot(name)
    if isinstance(value, Mapping):
        return _like(value, {key: _with_slots(part, str(key), found) for key, part in value.items()})
    if type(value) in (tuple, list):
        return type(value)(_with_slots(part, f"{name}_{k}", found) for k, part in enumerate(value))
    return value


def _usual_names(found: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Other names of the token ids and of their mask → the usual ones."""
    usual: dict[str, str] = {}
    whole = {name: value for name, value in found.items() if value.ndim == 2 and not value.is_floating_point()}
    if IDS not in found:
        first = next((name for name in whole if "mask" not in name and name != "labels"), None)
        usual |= {first: IDS} if first is not None else {}
    ids = found.get(IDS, found.get(next(iter(usual), "")))
    if MASK not in found and ids is not None:
        masks = [name for name, value in found.items() if "mask" in name and value.shape == ids.shape]
        usual |= {masks[0]: MASK} if masks else {}
    return usual


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Slot):
        return Slot(names.get(value.name, value.name))
    if isinstance(value, Mapping):
        return _like(value, {key: _renamed(part, names) for key, part in value.items()})
    return type(value)(_renamed(part, names) for part in value) if type(value) in (tuple, list) else value


def _filled(value: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """A value with tensors in its slots; slots without a tensor are left out of mappings."""
    if isinstance(value, Slot):
        return inputs.get(value.name, value)
    if isinstance(value, Mapping):
        filled = {key: _filled(part, inputs) for key, part in value.items()}
        return _like(value, {key: part for key, part in filled.items() if not isinstance(part, Slot)})
    return type(value)(_filled(part, inputs) for part in value) if type(value) in (tuple, list) else value


def _like(original: Mapping[Any, Any], values: dict[Any, Any]) -> Mapping[Any, Any]:
    """A mapping of the same type where it can be made from a dictionary, as a tokenizer's `BatchEncoding`."""
    if type(original) is dict:
        return values
    try:
        return type(original)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
