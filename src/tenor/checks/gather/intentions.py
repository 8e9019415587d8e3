"""What a program set up without effect: freezing by attribute, trained parameters that are not saved, class names."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from tenor.checks.evidence import AttributeSetting, ClassNamesEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.model_parts import ModelParts, classifier_config, hosts, token_embedding, unwrapped

FREEZES = "requires_grad"
KERAS = "trainable"
MISSPELLED = re.compile(r"_?requires?_?(grads?|gradients?)_?", re.IGNORECASE)
"""Names such as require_grad and requiresGrad. Any name can be set on a module or a tensor, without an error."""


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
