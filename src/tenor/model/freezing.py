"""Freezes parameters by module, never by parts of their names, and describes which are trainable."""

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
"""A dotted name, split: `("classifier", "weight")`."""


@dataclass(frozen=True)
class TrainableSummary:
    """Counts and names of a model's trainable and frozen parameters, as the manifest stores them.

    The encoder's parameters are all but the head's.
    """

    trainable_weights: int
    frozen_weights: int
    encoder_trainable_weights: int
    encoder_frozen_weights: int
    trainable: tuple[str, ...]
    """Names as in `named_parameters()`, in the model's order."""
    frozen: tuple[str, ...]

    def brief(self) -> str:
        """In a few words."""
        if not self.frozen_weights:
            return "all parameters are trainable"
        if not self.encoder_trainable_weights:
            return "only the head is trainable"
        encoder = self.encoder_trainable_weights + self.encoder_frozen_weights
        return f"{self.encoder_trainable_weights:,} of the encoder's {encoder:,} weights are trainable"

    def describe_trainable(self) -> str:
        """How many weights are trainable, and in which modules."""
        total = self.trainable_weights + self.frozen_weights
        share = self.trainable_weights / max(total, 1)
        return (
            f"{self.trainable_weights:,} of {total:,} weights ({share:.1%}), in {len(self.trainable)} tensors: "
            f"{self._modules(self.trainable)}"
        )

    def describe_frozen(self) -> str:
        """How many tensors are frozen, and in which modules."""
        return f"{len(self.frozen)} tensors: {self._modules(self.frozen)}" if self.frozen else "nothing"

    def _modules(self, chosen: tuple[str, ...]) -> str:
        return ", ".join(modules_of(chosen, (*self.trainable, *self.frozen)))


def modules_of(chosen: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The largest modules whose parameters among `names` are all `chosen`, with ranges of layers.

    A stack of layers is always listed separately from the module that contains it: all of BERT is `bert.embeddings`,
    `bert.encoder.layer.0-11`, `bert.pooler` and `classifier`.
    """
    paths = [tuple(name.split(".")) for name in chosen]
    others = {tuple(name.split(".")) for name in names}.difference(paths)
    around_stacks = {path[:depth] for path in paths for depth in range(1, _last_number(path) + 1)}
    in_part = {path[:depth] for path in others for depth in range(1, len(path) + 1)}
    return tuple(".".join(module) for module in _join_layers(_shortest(paths, around_stacks | in_part)))


def _last_number(path: Parts) -> int:
    """Index of the last part that is a number; 0 if there is none."""
    return max((at for at, part in enumerate(path) if LAYER.fullmatch(part)), default=0)


def _shortest(paths: Iterable[Parts], too_large: Collection[Parts]) -> list[Parts]:
    """The shortest prefix of each path that is not too large, without repetitions."""
    prefixes = ((path[:depth] for depth in range(1, len(path) + 1)) for path in paths)
    shortest = (next((one for one in of_path if one not in too_large), None) for of_path in prefixes)
    return list(dict.fromkeys(one for one in shortest if one is not None))


def _join_layers(modules: Iterable[Parts]) -> Iterator[Parts]:
    """Joins modules that differ only in the layer number: one entry per range of consecutive numbers."""
    alike: dict[tuple[Parts, Parts], list[int]] = {}
    for path in modules:
        at = next((at for at, part in enumerate(path) if LAYER.fullmatch(part)), len(path))
        alike.setdefault((path[:at], path[at + 1 :]), []).extend(map(int, path[at : at + 1]))
    for (before, after), numbers in alike.items():
        yield from ((*before, layers, *after) for layers in _ranges(sorted(numbers)))
        if not numbers:
            yield before


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """The ranges of consecutive numbers: `0-5`, or `7`."""
    # Within a range, number minus position is constant.
    for _, run in groupby(enumerate(numbers), lambda one: one[1] - one[0]):
        first, *more = [number for _, number in run]
        yield f"{first}-{more[-1]}" if more else str(first)


@dataclass(frozen=True)
class Anatomy:
    """The parts of a classifier: the encoder from the bottom up, and the head."""

    embeddings: tuple[nn.Module, ...]
    """The modules whose output the lowest layer reads: embeddings, in ELECTRA also their projection, in DeBERTa also
    the relative positions."""
    layers: tuple[nn.Module, ...]
    body: frozenset[str]
    """Names of the encoder's parameters."""
    head: frozenset[str]
    """Names of all other parameters, including BERT's pooler and DistilBERT's pre-classifier, which are used only for
    classification."""


@dataclass(frozen=True)
class TrainableParameters:
    """Which parameters are trainable and which are frozen."""

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    trainable_count: int
    """Count of trainable weights (single numbers)."""
    total_count: int
    body_trainable_count: int
    """The same for the encoder's body only."""
    body_count: int
    frozen_modules: tuple[nn.Module, ...]
    """Modules below the head without a trainable parameter: they stay in evaluation mode, without dropout."""

    def summary(self) -> TrainableSummary:
        """What the manifest and the report say about it."""
        return TrainableSummary(
            trainable_weights=self.trainable_count,
            frozen_weights=self.total_count - self.trainable_count,
            encoder_trainable_weights=self.body_trainable_count,
            encoder_frozen_weights=self.body_count - self.body_trainable_count,
            trainable=self.trainable,
            frozen=self.frozen,
        )


def anatomy(model: Any) -> Anatomy:
    """The parts of a `transformers` sequence classifier.

    Raises:
        UserError: the stack of layers or the embeddings cannot be identified.
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


def freeze(model: nn.Module, settings: Model) -> TrainableParameters:
    """Set `requires_grad` on every parameter as `settings.freeze` and `settings.keep_trainable` say.

    Raises:
        UserError: more layers to freeze than the encoder has, or a `keep_trainable` that matches no parameter.
    """
    parts = anatomy(model)
    covered = _covered_modules(parts, settings.freeze)
    frozen_ids = {id(p) for module in covered for p in module.parameters()}
    if settings.freeze == "base":
        # The rest of the body (an encoder-wide norm, relative positions) is frozen with it.
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
    return _trainable_parameters(model, parts, covered)


def set_training_mode(model: nn.Module, parameters: TrainableParameters) -> None:
    """Set training mode, except for frozen modules: their dropout would only add noise."""
    model.train()
    for module in parameters.frozen_modules:
        module.eval()


def _below(base: nn.Module, stack: nn.ModuleList) -> tuple[nn.Module, ...]:
    """What the lowest layer reads: the children of `base` before the one that contains the stack of layers, and the
    siblings of the stack, such as DeBERTa's relative positions, which enter every layer."""
    before = takewhile(lambda child: all(module is not stack for module in child.modules()), base.children())
    holder = next(module for module in base.modules() if any(child is stack for child in module.children()))
    siblings = () if holder is base else (child for child in holder.children() if child is not stack)
    return (*before, *siblings)


def _covered_modules(parts: Anatomy, setting: str | int) -> tuple[nn.Module, ...]:
    if setting == "none":
        return ()
    depth = len(parts.layers) if setting == "base" else int(setting)
    if depth > len(parts.layers):
        raise UserError(
            f"model.freeze: {depth} layers, but the encoder has {len(parts.layers)}; use `base` to freeze all"
        )
    return (*parts.embeddings, *parts.layers[:depth])


def _trainable_parameters(model: nn.Module, parts: Anatomy, covered: tuple[nn.Module, ...]) -> TrainableParameters:
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    trainable = tuple(name for name, p in model.named_parameters() if p.requires_grad)
    return TrainableParameters(
        trainable=trainable,
        frozen=tuple(name for name, p in model.named_parameters() if not p.requires_grad),
        trainable_count=sum(sizes[name] for name in trainable),
        total_count=sum(sizes.values()),
        body_trainable_count=sum(sizes[name] for name in trainable if name in parts.body),
        body_count=sum(sizes[name] for name in parts.body),
        frozen_modules=tuple(m for m in covered if not any(p.requires_grad for p in m.parameters())),
    )
