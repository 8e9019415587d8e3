"""The parts of a model in any wrapper: pretrained encoders, adapters and prompts, and the head."""

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
"""Wrappers that forward every call and put a prefix before every parameter's name."""

ADAPTER_NAMES = ("lora_", "adapter", "prompt_", "prefix_", "ia3_")
"""Fragments of the names of added parameters, for a model whose class cannot be built for comparison."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ModelParts:
    """Names from `model.named_parameters()`; each is in exactly one of the three sets."""

    encoder: frozenset[str]
    """Parameters that the encoder's class builds, including those that an adapter has renamed."""
    added: frozenset[str]
    """Parameters put into the encoder or before it: LoRA and other adapters, prompts."""
    head: frozenset[str]
    """All others: classifier, pre-classifier, pooler; in a model without a `transformers` encoder its last layer."""
    source_names: Mapping[str, str]
    """Name → name in the model as its class builds it, which checkpoints use."""


def find_parts(
    model: nn.Module, used: frozenset[str] | None = None, output_layer: Collection[str] | None = None
) -> ModelParts:
    """The parts of any module; `used` and `output_layer` come from a `Trace`, if there is one.

    Encoders are modules of `transformers`, also inside PEFT wrappers and custom modules. Parameters that the same class
    built from the same configuration does not have were added.
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
    """The model inside data-parallel and compiled wrappers, which put a prefix before every parameter's name."""
    while type(model).__name__ in WRAPPERS:
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    return model


def hosts(model: nn.Module) -> list[tuple[str, Any]]:
    """The outermost `transformers` models in `model`, each with the prefix of its parameters' names."""
    library = sys.modules.get("transformers.modeling_utils")
    if library is None:  # Without the import, which takes seconds, no model of its classes can exist.
        return []
    outermost: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        path = f"{name}." if name else ""
        is_inside = path.startswith(tuple(outer for outer, _ in outermost))
        if isinstance(module, library.PreTrainedModel) and not is_inside:
            outermost.append((path, module))
            if not path:
                break
    return outermost


def classifier_config(model: nn.Module) -> Any:
    """The configuration that describes the outputs: the model's, else that of the only classifier inside it; or None.

    The configuration of an encoder without a head, inside a custom module, does not describe the outputs.
    """
    model = unwrapped(model)
    own = getattr(model, "config", None)
    inside = [host for _, host in hosts(model)] if isinstance(model, nn.Module) else []
    # A `SentenceTransformer` gives the configuration of its encoder as its own.
    is_of_encoder = any(own is host.config and host is not model and host.base_model is host for host in inside)
    if own is not None and not is_of_encoder:
        return own
    return inside[0].config if len(inside) == 1 and inside[0].base_model is not inside[0] else None


def is_bare_encoder(model: nn.Module) -> bool:
    """Whether a module is an encoder of `transformers` without a head; the program may have the head elsewhere."""
    inside = hosts(model)
    return [path for path, _ in inside] == [""] and inside[0][1].base_model is inside[0][1]


def token_embedding(model: nn.Module) -> Any:
    """The token embedding of the model, or of the first `transformers` model inside it; None: not known."""
    for candidate in (unwrapped(model), *(host for _, host in hosts(model)[:1])):
        try:
            table = getattr(candidate, "get_input_embeddings", lambda: None)()
        except NotImplementedError:  # `transformers` raises it for a class whose embedding it does not know.
            continue
        if table is not None:
            return table
    return None


def embedding_rows(model: nn.Module) -> int | None:
    """Rows of the model's token embedding; None: not known."""
    weight = getattr(token_embedding(model), "weight", None)
    return int(weight.shape[0]) if isinstance(weight, torch.Tensor) and weight.ndim == 2 else None


def is_named_as_added(name: str) -> bool:
    """Whether PEFT or AdapterHub gives such a name to the parameters that they add."""
    return any(fragment in name.lower() for fragment in ADAPTER_NAMES)


def _is_below_encoder(name: str, host: Any) -> bool:
    """Whether a parameter of `host` is in its encoder. A pooler belongs to the head: only classification uses it."""
    prefix = "" if host.base_model is host else f"{host.base_model_prefix}."
    inside = name.removeprefix(prefix)
    return name.startswith(prefix) and "pooler" not in inside.split(".")


def _prompt_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules in which PEFT keeps prompts and prefixes, which the encoder reads along with the text."""
    return tuple(
        f"{name}.prompt_encoder." if name else "prompt_encoder."
        for name, module in model.named_modules()
        if hasattr(module, "peft_config") and "prompt_encoder" in module._modules
    )


def _built_shapes(host: Any) -> Shapes | None:
    """Parameter names and shapes of a new model of the same class and configuration; None: it cannot be built."""
    try:
        with torch.device("meta"), random_states_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = type(host)(copy.deepcopy(host.config))
    except Exception:  # A custom class can raise anything; callers then compare names only.
        return None
    return {name: tuple(p.shape) for name, p in built.named_parameters()}


def _own_names(host: nn.Module, used: Collection[str] | None) -> dict[str, str]:
    """Name → source name, for the parameters of `host` that its class builds."""
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
        fitting = {name: parameters[name] for name in names if tuple(parameters[name].shape) == built[source]}
        # Quantized weights have another shape than the class builds.
        originals = _originals(fitting, used) if fitting else [min(names, key=len)]
        own |= dict.fromkeys(originals, source)
    return own


def _originals(fitting: Mapping[str, nn.Parameter], used: Collection[str] | None) -> list[str]:
    """Which of several parameters with a fitting name and shape the class has built.

    All that are not used, such as the original next to a copy for PEFT's `modules_to_save`, and one of those in use:
    the others are adapters that happen to have the same shape.
    """
    if used is None:
        return [name for name in fitting if not is_named_as_added(name)]
    frozen_first = sorted(fitting, key=lambda name: (fitting[name].requires_grad, name))
    return [name for name in fitting if name not in used] + [name for name in frozen_first if name in used][:1]


def _below(path: str, names: Collection[str]) -> set[str]:
    return {name.removeprefix(path) for name in names if name.startswith(path)}


def _by_layer(names: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """Names grouped by the numbers in them, so that each layer is compared only with itself."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(_numbers(name), []).append(name)
    return groups


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split(".") if part.isdigit())


def _longest_inside(name: str, by_layer: Mapping[tuple[str, ...], Sequence[str]]) -> str | None:
    """The longest source name that is `name` without some of its parts: q.weight for q.base_layer.weight."""
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
