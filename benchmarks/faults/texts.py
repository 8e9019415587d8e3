"""Short real sentences for small programs: embedded Rotten Tomatoes reviews, written with a capital at the start."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from tenor.data.sources.embedded import rotten_tomatoes

WORDS = range(4, 17)
"""Sentences of so many words: 8 to 24 tokens."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled sentences."""

    texts: tuple[str, ...]
    labels: np.ndarray
    """Of shape (n,); an injector may give them any type and shape."""
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, which: np.ndarray) -> "Split":
        return Split(tuple(self.texts[i] for i in which), self.labels[which], tuple(self.ids[i] for i in which))


@cache
def sentences() -> Split:
    """All sentences of that length, the positive ones first, as such sources are sorted; no two are the same."""
    return _sentences(short=True)


def longer_sentences() -> Split:
    """All others, which no program sees."""
    return _sentences(short=False)


def _sentences(short: bool) -> Split:
    source = rotten_tomatoes().test
    chosen = [i for i, text in enumerate(source.texts) if (len(text.split()) in WORDS) == short]
    order = np.array(chosen)[np.argsort(-source.labels[chosen], kind="stable")]
    texts, ids = source.texts, source.ids
    return Split(tuple(texts[i].capitalize() for i in order), source.labels[order], tuple(ids[i] for i in order))


def drawn(counts: tuple[int, ...], seed: int) -> tuple[Split, ...]:
    """Disjoint balanced splits of these sizes, each in random order."""
    source, rng = sentences(), np.random.default_rng(seed)
    of_class = [rng.permutation(np.flatnonzero(source.labels == k)) for k in (0, 1)]
    splits, start = [], 0
    for count in counts:
        rows = np.concatenate([order[start : start + count // 2] for order in of_class])
        splits.append(source.rows(rng.permutation(rows)))
        start += count // 2
    return tuple(splits)
