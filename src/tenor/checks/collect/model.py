"""Evidence from a live model and its optimizer."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from tenor.checks.collect.model_parts import (
    ModelParts,
    classifier_config,
    find_parts,
    hosts,
    is_bare_encoder,
    is_named_as_added,
    unwrapped,
)
from tenor.checks.evidence import GroupRow, ModelEvidence, OptimizerEvidence, ParameterRow
from tenor.checks.probes.trace import Trace
from tenor.errors import UserError
from tenor.model.freezing import anatomy

UNIFORM = 0.9
"""Share of a uniform distribution's standard deviation that a layer of some hundred weights has at least."""


def model_evidence(
    model: nn.Module,
    n_classes: int,
    class_names: Sequence[str] | None = None,
    declared_freeze: Literal["none", "base"] | int | None = None,
    keep_trainable: Sequence[str] = (),
    new_weights: Sequence[str] | None = None,
    *,
    unused_weights: Sequence[str] | None = None,
    pretrained: bool | None = None,
    trace: Trace | None = None,
) -> ModelEvidence:
    """What can be read off a model: a `transformers` classifier, PEFT around one, an encoder in a module of one's own,
    any module.

    `trace` is what a forward pass of the unwrapped model showed; without it the number of outputs is read from the
    head's layers. `pretrained` counts as true where `new_weights` (what `from_pretrained` reports as missing) are
    given.
    """
    model = unwrapped(model)
    config = classifier_config(model)
    id2label = getattr(config, "id2label", None)
    parts = _parts(model, trace)
    return ModelEvidence(
        parameters=tuple(_row(name, p, parts, trace) for name, p in model.named_parameters()),
        n_classes=n_classes,
        n_outputs=_outputs(model, parts, config) if trace is None else trace.n_outputs,
        output_layer=(trace.output_layer or None) if trace is not None else None,
        output_layer_is_new=None if trace is None else _looks_new(model, trace.output_layer),
        class_names=None if class_names is None else tuple(class_names),
        id2label=dict(id2label) if isinstance(id2label, Mapping) else None,
        new_weights=None if new_weights is None else _present_names(new_weights, parts),
        unused_weights=None if unused_weights is None else tuple(unused_weights),
        pretrained=True if pretrained is None and new_weights is not None else pretrained,
        declared_freeze=declared_freeze,
        declared_frozen=_declared_frozen(model, parts, declared_freeze),
        keep_trainable=tuple(keep_trainable),
        problem_type=getattr(config, "problem_type", None),
    )


def optimizer_evidence(model: nn.Module, optimizer: Any, *, trace: Trace | None = None) -> OptimizerEvidence:
    """The optimizer's groups, with the peak rate where there is one (`peak_lr`, `max_lr`, `initial_lr`), else `lr`."""
    model = unwrapped(model)
    inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [
        GroupRow(
            names=tuple(names[id(p)] for p in group["params"] if id(p) in names),
            foreign=sum(id(p) not in names for p in group["params"]),
            learning_rate=peak_rate(group),
            weight_decay=float(group.get("weight_decay") or 0.0),
        )
        for group in inner.param_groups
    ]
    parts = _parts(model, trace)
    return OptimizerEvidence(
        groups=tuple(groups),
        learning=frozenset(name for name, p in model.named_parameters() if p.requires_grad),
        head=parts.head,
        one_dimensional=frozenset(name for name, p in model.named_parameters() if p.ndim < 2),
        kind=type(inner).__name__,
        fresh_body=is_fresh(model, parts),
        added=parts.added,
    )


def is_fresh(model: nn.Module, parts: ModelParts) -> bool | None:
    """Whether the encoder's biases and norms are those of a model that was never trained; None without an encoder."""
    vectors = [p.detach() for name, p in model.named_parameters() if p.ndim == 1 and name in parts.encoder]
    if not vectors:
        return None
    # One step of training moves every one of them.
    return all(bool((one == one[0]).all()) and float(one[0]) in (0.0, 1.0) for one in vectors)


def peak_rate(group: Mapping[str, Any]) -> float:
    return float(next(group[key] for key in ("peak_lr", "max_lr", "initial_lr", "lr") if group.get(key) is not None))


def _parts(model: nn.Module, trace: Trace | None) -> ModelParts:
    return find_parts(model) if trace is None else find_parts(model, trace.used, trace.output_layer)


def _row(name: str, parameter: nn.Parameter, parts: ModelParts, trace: Trace | None) -> ParameterRow:
    return ParameterRow(
        name,
        tuple(parameter.shape),
        parameter.requires_grad,
        in_head=name in parts.head,
        added=name in parts.added,
        idle=trace is not None and name not in trace.used,
        source_name=parts.source_names.get(name),
    )


def _present_names(given: Sequence[str], parts: ModelParts) -> tuple[str, ...]:
    """The names, and those that an adapter or a wrapper has given to the same parameters since."""
    wanted = set(given)
    moved = [name for name, source in parts.source_names.items() if source in wanted and name not in wanted]
    return (*given, *moved)


def _outputs(model: nn.Module, parts: ModelParts, config: Any) -> int | None:
    """What the configuration says, where a linear layer of the head has that many outputs; else those of the last.

    None for a bare encoder.
    """
    if is_bare_encoder(model):
        return None
    sizes = [
        module.out_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not is_named_as_added(name) and _holds(name, parts.head)
    ]
    declared = getattr(config, "num_labels", None)
    return sizes[-1] if sizes and declared not in sizes else declared


def _holds(module: str, names: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.".lstrip(".")) for name in names)


def _looks_new(model: nn.Module, layer: Collection[str]) -> bool | None:
    """Whether the frozen weights of a layer look as `transformers` or PyTorch initializes them; None: not known."""
    frozen = [p.detach().float() for name, p in model.named_parameters() if name in layer and not p.requires_grad]
    matrices, vectors = [p for p in frozen if p.ndim > 1], [p for p in frozen if p.ndim == 1]
    if not matrices or not vectors:
        return None
    return not any(bool(one.any()) for one in vectors) or all(_is_uniform(one) for one in matrices)


def _is_uniform(matrix: torch.Tensor) -> bool:
    """Whether a matrix (outputs, inputs) is spread as `nn.Linear` draws it: evenly up to 1/sqrt(inputs)."""
    bound = 1 / math.sqrt(matrix.shape[-1])
    return float(matrix.abs().max()) <= 1.0001 * bound and float(matrix.std()) >= UNIFORM * bound / math.sqrt(3)


def _declared_frozen(model: nn.Module, parts: ModelParts, declared: str | int | None) -> frozenset[str] | None:
    by_peft = _frozen_by_peft(model, parts)
    if declared is None:
        return by_peft
    if declared == "none":
        return frozenset()
    body = parts.encoder if by_peft is None else by_peft
    if declared == "base":
        return body
    inside = hosts(model)
    try:
        layers = anatomy(inside[0][1]) if len(inside) == 1 else None
    except UserError:
        layers = None
    if layers is None:
        return None
    frozen = {id(p) for m in (*layers.embeddings, *layers.layers[: int(declared)]) for p in m.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in frozen and name in body)


def _frozen_by_peft(model: nn.Module, parts: ModelParts) -> frozenset[str] | None:
    """The encoder's matrices that PEFT froze when it added its parameters; None for a model without PEFT.

    Not the copies that it makes for `modules_to_save` to learn, and no biases or norms, which some settings train.
    """
    modules = dict(model.named_modules())
    if not any(hasattr(module, "peft_config") for module in modules.values()):
        return None
    copies = tuple(f"{name}." for name, module in modules.items() if "modules_to_save" in module._modules)
    return frozenset(
        name
        for name, p in model.named_parameters()
        if name in parts.encoder and p.ndim > 1 and not name.startswith(copies)
    )
