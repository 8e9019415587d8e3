"""Which parameters are trainable, decided by module and never by fragments of names, and how this is described."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

from torch import nn

from tenor.config.schema import Model
from tenor.errors import UserError

LAYER = re.compile(r"[0-9]{1,6}")

Parts = tuple[str, ...]
"""Those of a name: `("classifier", "weight")`."""


@dataclass(frozen=True)
class WhatLearns:
    """A model's weights, parted. The encoder's are all but the head's."""

    weights_learning: int
    weights_frozen: int
    encoder_weights_learning: int
    encoder_weights_frozen: int
    learning: tuple[str, ...]
    """Names as in `named_parameters()`, in the model's order."""
    frozen: tuple[str, ...]

    def brief(self) -> str:
        """In a few words."""
        if not self.weights_frozen:
            return "all of it learns"
        if not self.encoder_weights_learning:
            return "only the head learns"
        encoder = self.encoder_weights_learning + self.encoder_weights_frozen
        return f"{self.encoder_weights_learning:,} of the encoder's {encoder:,} weights learn"

    def learning_told(self) -> str:
        """How much learns, and the modules that do."""
        total = self.weights_learning + self.weights_frozen
        share = self.weights_learning / max(total, 1)
        return (
            f"{self.weights_learning:,} of {total:,} weights learn ({share:.1%}), in {len(self.learning)} tensors: "
            f"{self._modules(self.learning)}"
        )

    def frozen_told(self) -> str:
        """How much does not, and the modules."""
        return f"{len(self.frozen)} tensors: {self._modules(self.frozen)}" if self.frozen else "nothing"

    def _modules(self, chosen: tuple[str, ...]) -> str:
        return ", ".join(modules_of(chosen, (*self.learning, *self.frozen)))


def modules_of(chosen: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The largest modules whose parameters among `names` are all `chosen`, and layers by range.

    A stack of layers is never hidden in the module around it: the whole of BERT is `bert.embeddings`,
    `bert.encoder.layer.0-11`, `bert.pooler` and `classifier`.
    """
    paths = [tuple(name.split(".")) for name in chosen]
    others = {tuple(name.split(".")) for name in names}.difference(paths)
    around_stacks = {path[:depth] for path in paths for depth in range(1, _last_number(path) + 1)}
    in_part = {path[:depth] for path in others for depth in range(1, len(path) + 1)}
    return tuple(".".join(module) for module in _ranged(_shortest(paths, around_stacks | in_part)))


def _last_number(path: Parts) -> int:
    """Where the last number stands; 0 where there is none."""
    return max((at for at, part in enumerate(path) if LAYER.fullmatch(part)), default=0)


def _shortest(paths: Iterable[Parts], too_large: Collection[Parts]) -> list[Parts]:
    """Each path's shortest beginning that is not too large, once."""
    beginnings = ((path[:depth] for depth in range(1, len(path) + 1)) for path in paths)
    found = (next((one for one in of_path if one not in too_large), None) for of_path in beginnings)
    return list(dict.fromkeys(one for one in found if one is not None))


def _ranged(modules: Iterable[Parts]) -> Iterator[Parts]:
    """Modules that differ in a layer's number alone, as one for each range of numbers without a gap."""
    alike: dict[tuple[Parts, Parts], list[int]] = {}
    for path in modules:
        at = next((at for at, part in enumerate(path) if LAYER.fullmatch(part)), len(path))
        alike.setdefault((path[:at], path[at + 1 :]), []).extend(map(int, path[at : at + 1]))
    for (before, after), numbers in alike.items():
        yield from ((*before, stretch, *after) for stretch in _stretches(sorted(numbers)))
        if not numbers:
            yield before


def _stretches(numbers: Iterable[int]) -> Iterator[str]:
    """Each stretch of consecutive numbers: `0-5`, or `7`."""
    # Along a stretch, number and position grow alike.
    for _, stretch in groupby(enumerate(numbers), lambda one: one[1] - one[0]):
        first, *more = [number for _, number in stretch]
        yield f"{first}-{more[-1]}" if more else str(first)


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
