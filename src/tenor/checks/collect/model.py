"""Evidence from a live model and its optimizer."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from tenor.checks.evidence import GroupRow, ModelEvidence, OptimizerEvidence, ParameterRow
from tenor.errors import UserError
from tenor.model.freezing import Anatomy, anatomy

WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")


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
) -> ModelEvidence:
    """What can be read off a model: a `transformers` classifier, an encoder in a module of one's own, any module.

    `pretrained` counts as true where `new_weights` (what `from_pretrained` reports as missing) are given.
    """
    model = unwrapped(model)
    config = getattr(model, "config", None)
    id2label = getattr(config, "id2label", None)
    head = head_names(model)
    return ModelEvidence(
        parameters=tuple(
            ParameterRow(name, tuple(p.shape), p.requires_grad, name in head) for name, p in model.named_parameters()
        ),
        n_classes=n_classes,
        n_outputs=_outputs(model, head),
        class_names=None if class_names is None else tuple(class_names),
        id2label=dict(id2label) if isinstance(id2label, Mapping) else None,
        new_weights=None if new_weights is None else tuple(new_weights),
        unused_weights=None if unused_weights is None else tuple(unused_weights),
        pretrained=True if pretrained is None and new_weights is not None else pretrained,
        declared_freeze=declared_freeze,
        declared_frozen=_declared_frozen(model, head, declared_freeze),
        keep_trainable=tuple(keep_trainable),
        problem_type=getattr(config, "problem_type", None),
    )


def optimizer_evidence(model: nn.Module, optimizer: Any) -> OptimizerEvidence:
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
    return OptimizerEvidence(
        groups=tuple(groups),
        learning=frozenset(name for name, p in model.named_parameters() if p.requires_grad),
        head=frozenset(head_names(model)),
        one_dimensional=frozenset(name for name, p in model.named_parameters() if p.ndim < 2),
        kind=type(inner).__name__,
        fresh_body=is_fresh(model),
    )


def is_fresh(model: nn.Module) -> bool | None:
    """Whether the encoder's biases and norms are those of a model that was never trained; None without an encoder."""
    head = head_names(model)
    vectors = [p.detach() for name, p in model.named_parameters() if p.ndim == 1 and name not in head]
    if not vectors:
        return None
    # One step of training moves every one of them.
    return all(bool((one == one[0]).all()) and float(one[0]) in (0.0, 1.0) for one in vectors)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside data-parallel and compiled wrappers, whose prefixes change every name."""
    while type(model).__name__ in WRAPPERS:
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    return model


def head_names(model: nn.Module) -> frozenset[str]:
    """Names of the parameters outside the encoder; where none is known, those of the last linear layer."""
    parts = _anatomy(model)
    if parts is not None:
        return parts.head
    names = [name for name, _ in model.named_parameters()]
    body = [f"{prefix}." for prefix, module in model.named_modules() if prefix and _is_encoder(module)]
    if body:
        outside = {name for name in names if not name.startswith(tuple(body)) or ".pooler." in name}
        if outside:
            return frozenset(outside)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return frozenset(n for n in names if linear and (n.startswith(f"{linear[-1]}.") or not linear[-1]))


def _anatomy(model: nn.Module) -> Anatomy | None:
    """The parts of a `transformers` classifier; None for any other module."""
    if not hasattr(model, "base_model_prefix") or not hasattr(getattr(model, "config", None), "num_hidden_layers"):
        return None
    try:
        parts = anatomy(model)
    except UserError:
        return None
    return parts if parts.body else None


def _is_encoder(module: nn.Module) -> bool:
    """A `transformers` model that is its own base: no head around it."""
    return hasattr(module, "base_model_prefix") and getattr(module, "base_model", None) is module


def _outputs(model: nn.Module, head: frozenset[str]) -> int | None:
    """Outputs of the head's last linear layer, else what the configuration says."""
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (f"{name}.weight".lstrip(".") in head)
    ]
    declared = getattr(getattr(model, "config", None), "num_labels", None)
    return linear[-1].out_features if linear else declared


def _declared_frozen(model: nn.Module, head: frozenset[str], declared: str | int | None) -> frozenset[str] | None:
    if declared is None:
        return None
    if declared == "none":
        return frozenset()
    if declared == "base":
        return frozenset(name for name, _ in model.named_parameters() if name not in head)
    parts = _anatomy(model)
    if parts is None:
        return None
    frozen = {id(p) for m in (*parts.embeddings, *parts.layers[: int(declared)]) for p in m.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in frozen)


def peak_rate(group: Mapping[str, Any]) -> float:
    return float(next(group[key] for key in ("peak_lr", "max_lr", "initial_lr", "lr") if group.get(key) is not None))
