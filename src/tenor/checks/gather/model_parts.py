"""A model's parts, whatever is wrapped around them: pretrained encoders, what was added to them, and the head."""

import copy
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tenor.checks.gather.batches import random_states_kept

WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule")
"""They pass calls on, and put a prefix before every name."""

ADAPTER_NAMES = ("lora_", "adapter", "prompt_", "prefix_", "ia3_")
"""Fragments of the names of added parameters, for a model whose class can't be built again to compare with."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ModelParts:
    """Names as `model.named_parameters()` has them; each is in one of the three sets."""

    encoder: frozenset[str]
    """Parameters that the encoder's own class builds, wherever an adapter has moved them."""
    added: frozenset[str]
    """Parameters put into the encoder or before it: LoRA and other adapters, prompts."""
    head: frozenset[str]
    """All others: classifier, pre-classifier, pooler; in a model without a `transformers` encoder its last layer."""
    source_names: Mapping[str, str]
    """Name → name in the model as its class builds it, which is the one that a checkpoint uses."""


def find_parts(
    model: nn.Module, used: frozenset[str] | None = None, output_layer: Collection[str] | None = None
) -> ModelParts:
    """The parts of any module; `used` and `output_layer` are those of a `Trace`, where there is one.

    Encoders are found as modules of `transformers`, in PEFT's wrappers and in modules of one's own. What they have
    more than the same class built from the same configuration was added.
    """
    names = {name for name, _ in model.named_parameters()}
    inside = hosts(model)
    encoder: set[str] = set()
    prompts = _prompt_prefixes(model)
    added = {name for name in names if name.startswith(prompts)}
    sources: dict[str, str] = {}
    for path, host in inside:
        own = _own_names(host, None if used is None else _below(path, used))
        body = {name for name, _ in host.named_parameters() if _is_below_encoder(name, host)}
        sources |= {path + name: source for name, source in own.items()}
        encoder |= {path + name for name in body & own.keys()}
        added |= {path + name for name in body - own.keys()}
    if not inside:
        added |= {name for name in names if is_named_as_added(name)}
    head = names - encoder - added
    if not encoder or not head:
        head = (set(output_layer or ()) or _last_linear(model)) - added
        encoder = names - head - added
    return ModelParts(frozenset(encoder), frozenset(added), frozenset(head), sources)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside data-parallel and compiled wrappers, whose prefixes change every name."""
    while type(model).__name__ in WRAPPERS:
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    return model


def hosts(model: nn.Module) -> list[tuple[str, Any]]:
    """The outermost `transformers` models in `model`, each with the prefix of its parameters' names."""
    library = sys.modules.get("transformers.modeling_utils")
    if library is None:  # Not imported, so there is no model of its classes; the import alone takes seconds.
        return []
    found: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        path = f"{name}." if name else ""
        if isinstance(module, library.PreTrainedModel) and not path.startswith(tuple(outer for outer, _ in found)):
            found.append((path, module))
            if not path:
                break
    return found


def classifier_config(model: nn.Module) -> Any:
    """The configuration that says what the outputs mean: of the model, else of the one classifier inside it; or None.

    That of a bare encoder within a module of one's own says nothing of the outputs.
    """
    model = unwrapped(model)
    own = getattr(model, "config", None)
    if own is not None:
        return own
    inside = [host for _, host in hosts(model)]
    return inside[0].config if len(inside) == 1 and inside[0].base_model is not inside[0] else None


def is_bare_encoder(model: nn.Module) -> bool:
    """Whether a module is an encoder of `transformers` without a head, which the program may keep elsewhere."""
    inside = hosts(model)
    return [path for path, _ in inside] == [""] and inside[0][1].base_model is inside[0][1]


def token_embedding(model: nn.Module) -> Any:
    """The layer that token ids go into, of the model or of the one `transformers` model inside it; None: not known."""
    for candidate in (unwrapped(model), *(host for _, host in hosts(model)[:1])):
        try:
            table = getattr(candidate, "get_input_embeddings", lambda: None)()
        except NotImplementedError:  # As `transformers` does where it can't tell.
            continue
        if table is not None:
            return table
    return None


def embedding_rows(model: nn.Module) -> int | None:
    """Rows of the model's embedding of tokens; None: not known."""
    weight = getattr(token_embedding(model), "weight", None)
    return int(weight.shape[0]) if isinstance(weight, torch.Tensor) and weight.ndim == 2 else None


def is_named_as_added(name: str) -> bool:
    """Whether a name is one that PEFT or AdapterHub gives to what they add."""
    return any(fragment in name.lower() for fragment in ADAPTER_NAMES)


def _is_below_encoder(name: str, host: Any) -> bool:
    """Whether a parameter of `host` is in its encoder. A pooler serves classification alone, and counts as head."""
    prefix = "" if host.base_model is host else f"{host.base_model_prefix}."
    inside = name.removeprefix(prefix)
    return name.startswith(prefix) and "pooler" not in inside.split(".")


def _prompt_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Where PEFT keeps prompts and prefixes, which the encoder reads along with the text."""
    return tuple(
        f"{name}.prompt_encoder." if name else "prompt_encoder."
        for name, module in model.named_modules()
        if hasattr(module, "peft_config") and "prompt_encoder" in module._modules
    )


def _built_shapes(host: Any) -> Shapes | None:
    """Names and shapes of the parameters of the same class with the same configuration; None: it can't be built."""
    try:
        with torch.device("meta"), random_states_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = type(host)(copy.deepcopy(host.config))
    except Exception:  # Any class of anyone's may stand here; its names have to do then.
        return None
    return {name: tuple(p.shape) for name, p in built.named_parameters()}


def _own_names(host: nn.Module, used: Collection[str] | None) -> dict[str, str]:
    """Name → source name, of the parameters of `host` that its class builds."""
    parameters, built = dict(host.named_parameters()), _built_shapes(host)
    if built is None:
        return {name: name for name in parameters if not is_named_as_added(name)}
    own = {name: name for name in parameters if name in built}
    candidates: dict[str, list[str]] = {}
    by_layer = _by_layer(built)
    for name in (name for name in parameters if name not in own):
        source = _longest_inside(name, by_layer)
        if source is not None and source not in own:
            candidates.setdefault(source, []).append(name)
    for source, names in candidates.items():
        alike = {name: parameters[name] for name in names if tuple(parameters[name].shape) == built[source]}
        # Quantized weights have a shape of their own.
        originals = _originals(alike, used) if alike else [min(names, key=len)]
        own |= dict.fromkeys(originals, source)
    return own


def _originals(alike: Mapping[str, nn.Parameter], used: Collection[str] | None) -> list[str]:
    """Which of several parameters of the right name and shape are the class's own.

    Those that are idle, such as the original under PEFT's `modules_to_save`, and one of those in use: beside it stand
    adapters that happen to have its shape.
    """
    if used is None:
        return [name for name in alike if not is_named_as_added(name)]
    frozen_first = sorted(alike, key=lambda name: (alike[name].requires_grad, name))
    return [name for name in alike if name not in used] + [name for name in frozen_first if name in used][:1]


def _below(path: str, names: Collection[str]) -> set[str]:
    return {name.removeprefix(path) for name in names if name.startswith(path)}


def _by_layer(names: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """Names by the numbers in them, which spares comparing each layer with all others."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(_numbers(name), []).append(name)
    return groups


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split(".") if part.isdigit())


def _longest_inside(name: str, by_layer: Mapping[tuple[str, ...], Sequence[str]]) -> str | None:
    """The longest name that is left of `name` when some of its parts are taken out: q.base_layer.weight → q.weight."""
    parts, numbers = name.split("."), _numbers(name)
    near = (source for key, group in by_layer.items() if _is_subsequence(key, numbers) for source in group)
    fitting = [source for source in near if _is_subsequence(source.split("."), parts)]
    return max(fitting, key=lambda source: source.count("."), default=None)


def _is_subsequence(few: Sequence[str], many: Sequence[str]) -> bool:
    remaining = iter(many)
    return all(part in remaining for part in few)


def _last_linear(model: nn.Module) -> set[str]:
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not is_named_as_added(f"{name}.")
    ]
    path = f"{linear[-1]}." if linear and linear[-1] else ""
    return {name for name, _ in model.named_parameters() if linear and name.startswith(path)}
