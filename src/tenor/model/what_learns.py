"""What learns and what doesn't, in numbers, names and words: for the console, the manifest and all that reads it."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

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
