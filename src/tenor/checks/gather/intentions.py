"""What a program set up without effect: freezing by attribute, trained parameters that are not saved, class names,
layers of a list that are one layer."""

import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenor.checks.evidence.model_evidence import AttributeSetting, ClassNamesEvidence, RepeatedModule
from tenor.checks.finding import CannotTell
from tenor.checks.gather.model_parts import ModelParts, classifier_config, hosts, token_embedding, unwrapped

FREEZES = "requires_grad"
KERAS = "trainable"
MISSPELLED = re.compile(r"_?requires?_?(grads?|gradients?)_?", re.IGNORECASE)
"""Names such as require_grad and requiresGrad. Any name can be set on a module or a tensor, without an error."""

CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages; Debian has its own name."""
DOWNLOADED = "transformers_modules"
"""The package in which `transformers` keeps the code of models that is loaded with `trust_remote_code`."""


def attribute_settings(model: nn.Module, added: Collection[str]) -> tuple[AttributeSetting, ...]:
    """Attributes similar to `requires_grad` that were set on a module, where the name has no effect, or misspelled on a
    parameter, and that contradict the parameters below. `added` are the names of adapters, which train on purpose."""
    settings = list(_attributes(model))
    found = []
    for path, name, value in settings:
        nested = tuple(f"{other}." for other, _, opposite in settings if opposite != value and _is_below(other, path))
        below = {
            other: p.requires_grad
            for other, p in model.named_parameters()
            if (other == path or _is_below(other, path)) and not f"{other}.".startswith(nested) and other not in added
        }
        # False means all of them; True may be meant for some, so that only a module without any is a contradiction.
        contradicting = tuple(other for other, trainable in below.items() if trainable != value)
        if contradicting and (not value or len(contradicting) == len(below)):
            is_misspelled = name not in (FREEZES, KERAS)
            found.append(AttributeSetting(f"{path}.{name}".lstrip("."), value, contradicting, is_misspelled))
    return tuple(found)


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, bool]]:
    """Path, name and value of each such attribute."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, bool) and (name in (FREEZES, KERAS) or MISSPELLED.fullmatch(name)):
                yield path, name, value
    for path, parameter in model.named_parameters():
        for name, value in vars(parameter).items():
            if isinstance(value, bool) and name != FREEZES and MISSPELLED.fullmatch(name):
                yield path, name, value


def _is_below(name: str, path: str) -> bool:
    return name.startswith(f"{path}." if path else "") and name != path


def not_saved(
    model: nn.Module, parts: ModelParts, new: Collection[str], used: Collection[str] | None
) -> tuple[str, ...] | None:
    """Parameters whose values are lost when the model is saved: trainable ones that a forward pass uses, and those of
    `new` (newly initialized, frozen and used), that `save_pretrained` leaves out. None if that is not known.

    A model with PEFT saves its adapters, `modules_to_save` and nothing else. Adapters are taken as saved, and so are
    token embeddings, which PEFT adds where the vocabulary was resized, and what is outside of the model with PEFT.
    """
    owners = [(path, module) for path, module in model.named_modules() if hasattr(module, "peft_config")]
    if not owners:
        ignored = {path + name for path, host in hosts(model) for name in host._keys_to_ignore_on_save or ()}
        return tuple(name for name, p in model.named_parameters() if p.requires_grad and name in ignored)
    if "peft" not in sys.modules:
        return None
    from peft import get_peft_model_state_dict

    path: str
    owner: Any
    path, owner = owners[0]
    configured: Mapping[str, Any] = owner.peft_config
    saved = {
        _memory(tensor)
        for adapter in configured
        for tensor in get_peft_model_state_dict(owner, adapter_name=adapter, save_embedding_layers=False).values()
    }
    table = token_embedding(model)
    kept = saved | ({_memory(p) for p in table.parameters()} if isinstance(table, nn.Module) else set())
    inside = {name: p for name, p in model.named_parameters() if _is_below(name, path) and name not in parts.added}
    trained = {name for name, p in inside.items() if p.requires_grad and (used is None or name in used)}
    return tuple(name for name, p in inside.items() if name in trained | set(new) and _memory(p) not in kept)


def _memory(tensor: torch.Tensor) -> tuple[int, int]:
    """Equal for views of the same memory, such as a parameter and its entry in a state dict."""
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())


def saved_under_other_names(model: nn.Module) -> tuple[str, ...] | None:
    """Names in the state dict that `save_pretrained` changes back to those of the checkpoint from which the model was
    loaded, such as LayerNorm.weight to LayerNorm.gamma; None where the version of `transformers` has no such change.

    Adapters of PEFT, and modules that are no model of `transformers`, are saved under the names that they have.
    """
    library = sys.modules.get("transformers.core_model_loading")
    revert = getattr(library, "revert_weight_conversion", None)
    if revert is None:
        return None
    inside = hosts(unwrapped(model))
    if [path for path, _ in inside] != [""] or hasattr(inside[0][1], "peft_config"):
        return ()
    names = {name: torch.empty(tensor.shape, device="meta") for name, tensor in inside[0][1].state_dict().items()}
    return tuple(sorted(names.keys() - revert(inside[0][1], dict(names)).keys()))


def repeated_modules(model: nn.Module) -> tuple[RepeatedModule, ...]:
    """Modules with parameters that are several times in one `nn.ModuleList` or `nn.Sequential`, as in
    `nn.ModuleList([layer] * 4)`, where the program's own code made the list."""
    modules, found = dict(model.named_modules()), []
    for path, module in modules.items():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        positions: dict[nn.Module, list[int]] = {}
        for position, entry in enumerate(module._modules.values()):
            if entry is not None:
                positions.setdefault(entry, []).append(position)
        repeated = {
            one: where for one, where in positions.items() if len(where) > 1 and any(True for _ in one.parameters())
        }
        if repeated and not _is_made_by_library(modules, path):
            found += [
                RepeatedModule(path, type(one).__name__, tuple(where), sum(p.numel() for p in one.parameters()))
                for one, where in repeated.items()
            ]
    return tuple(found)


def _is_made_by_library(modules: Mapping[str, nn.Module], path: str) -> bool:
    """Whether the class that contains a list, or the one of its bases that sets the list's attribute, is installed."""
    attribute = ""
    while type(modules[path]) in CONTAINERS:
        if not path:
            return False
        path, _, attribute = path.rpartition(".")
    classes = [one for one in type(modules[path]).__mro__ if issubclass(one, nn.Module) and one is not nn.Module]
    return _is_installed(classes[0]) or any(_is_installed(one) and attribute in _names_in_init(one) for one in classes)


def _names_in_init(kind: type) -> Collection[str]:
    """The names that a class's own `__init__` uses, which contain those of the attributes that it sets."""
    init = inspect.unwrap(vars(kind).get("__init__", object.__init__))
    code = getattr(init, "__code__", None)
    return () if code is None else code.co_names


def _is_installed(kind: type) -> bool:
    """Whether a class comes from an installed package, not from the program; a notebook's classes have no file."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    is_downloaded = kind.__module__.partition(".")[0] == DOWNLOADED
    return is_downloaded or (file is not None and not INSTALLED.isdisjoint(Path(file).parts))


def class_names_evidence(model: nn.Module) -> ClassNamesEvidence:
    """The class names in the model's configuration. Raises CannotTell if it has none."""
    config = classifier_config(model)
    return class_names_of(getattr(config, "id2label", None), getattr(config, "label2id", None))


def class_names_of(id2label: Any, label2id: Any) -> ClassNamesEvidence:
    """From the two mappings of a configuration; JSON has the indices as text. Raises CannotTell for anything else."""
    if not isinstance(id2label, Mapping) or not isinstance(label2id, Mapping):
        raise CannotTell("the configuration does not have both id2label and label2id")
    try:
        return ClassNamesEvidence(
            {int(key): str(name) for key, name in id2label.items()},
            {str(name): int(index) for name, index in label2id.items()},
        )
    except (TypeError, ValueError) as error:
        raise CannotTell(f"id2label and label2id do not map numbers to names and back: {error}") from error
