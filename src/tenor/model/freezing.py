"""Which parameters learn, decided by module and never by fragments of names."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import nn

from tenor.config.schema import Model
from tenor.errors import UserError
from tenor.model.what_learns import WhatLearns


@dataclass(frozen=True)
class Anatomy:
    """An encoder's parts, from the bottom up."""

    embeddings: tuple[nn.Module, ...]
    """Whatever the lowest layer reads: embeddings, in ELECTRA their projection, in DeBERTa the relative positions."""
    layers: tuple[nn.Module, ...]
    body: frozenset[str]
    """Names of the encoder's parameters."""
    head: frozenset[str]
    """Names of all others. BERT's pooler belongs here: it serves classification alone, and so does DistilBERT's
    pre-classifier."""


@dataclass(frozen=True)
class Learning:
    """What learns and what doesn't."""

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    trainable_count: int
    """Numbers that learn."""
    total_count: int
    body_trainable_count: int
    """The same of the encoder's body alone."""
    body_count: int
    frozen_modules: tuple[nn.Module, ...]
    """Modules without any learning parameter below the head: they stay in evaluation mode, without dropout."""

    def what_learns(self) -> WhatLearns:
        """What of it can be written down and told."""
        return WhatLearns(
            weights_learning=self.trainable_count,
            weights_frozen=self.total_count - self.trainable_count,
            encoder_weights_learning=self.body_trainable_count,
            encoder_weights_frozen=self.body_count - self.body_trainable_count,
            learning=self.trainable,
            frozen=self.frozen,
        )


def anatomy(model: Any) -> Anatomy:
    """The parts of a `transformers` sequence classifier.

    Raises:
        UserError: a model whose stack of layers or embeddings can't be told.
    """
    base = model.base_model
    prefix = model.base_model_prefix
    stacks = [
        module
        for module in base.modules()
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers
    ]
    if not stacks or not hasattr(base, "embeddings"):
        raise UserError(
            f"a {model.config.model_type} model has no stack of {model.config.num_hidden_layers} encoder layers over "
            f"embeddings; Tenor fine-tunes encoders such as BERT, DistilBERT, RoBERTa, DeBERTa, ELECTRA or MiniLM"
        )
    in_head = f"{prefix}.pooler."
    body = {
        name for name, _ in model.named_parameters() if name.startswith(f"{prefix}.") and not name.startswith(in_head)
    }
    head = {name for name, _ in model.named_parameters()} - body
    return Anatomy(_below(base, stacks[0]), tuple(stacks[0]), frozenset(body), frozenset(head))


def freeze(model: nn.Module, settings: Model) -> Learning:
    """Set `requires_grad` on every parameter as `settings.freeze` and `settings.keep_trainable` say.

    Raises:
        UserError: more layers to freeze than there are, or a fragment that names no parameter.
    """
    parts = anatomy(model)
    covered = _covered_modules(parts, settings.freeze)
    frozen_ids = {id(p) for module in covered for p in module.parameters()}
    if settings.freeze == "base":
        # Whatever else the body holds (an encoder-wide norm, relative positions) is frozen with it.
        frozen_ids |= {id(p) for name, p in model.named_parameters() if name in parts.body}
    unused = set(settings.keep_trainable)
    for name, parameter in model.named_parameters():
        kept = {fragment for fragment in settings.keep_trainable if fragment in name}
        parameter.requires_grad = id(parameter) not in frozen_ids or bool(kept)
        unused -= kept
    if unused:
        raise UserError(
            f"model.keep_trainable: no parameter's name contains {sorted(unused)}; see `model.named_parameters()`"
        )
    return _learning(model, parts, covered)


def set_training_mode(model: nn.Module, learning: Learning) -> None:
    """Training mode, but evaluation mode for what is frozen: its dropout would only add noise."""
    model.train()
    for module in learning.frozen_modules:
        module.eval()


def _below(base: nn.Module, stack: nn.ModuleList) -> tuple[nn.Module, ...]:
    """What the lowest layer reads: the children of `base` that come before the one with the stack of layers, and what
    stands beside the stack there, such as DeBERTa's relative positions, which enter every layer."""
    before = takewhile(lambda child: all(module is not stack for module in child.modules()), base.children())
    holder = next(module for module in base.modules() if any(child is stack for child in module.children()))
    beside = () if holder is base else (child for child in holder.children() if child is not stack)
    return (*before, *beside)


def _covered_modules(parts: Anatomy, setting: str | int) -> tuple[nn.Module, ...]:
    if setting == "none":
        return ()
    depth = len(parts.layers) if setting == "base" else int(setting)
    if depth > len(parts.layers):
        raise UserError(
            f"model.freeze: {depth} layers, but the encoder has {len(parts.layers)}; use `base` to freeze all"
        )
    return (*parts.embeddings, *parts.layers[:depth])


def _learning(model: nn.Module, parts: Anatomy, covered: tuple[nn.Module, ...]) -> Learning:
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    trainable = tuple(name for name, p in model.named_parameters() if p.requires_grad)
    return Learning(
        trainable=trainable,
        frozen=tuple(name for name, p in model.named_parameters() if not p.requires_grad),
        trainable_count=sum(sizes[name] for name in trainable),
        total_count=sum(sizes.values()),
        body_trainable_count=sum(sizes[name] for name in trainable if name in parts.body),
        body_count=sum(sizes[name] for name in parts.body),
        frozen_modules=tuple(m for m in covered if not any(p.requires_grad for p in m.parameters())),
    )
