"""The words, and pairs of neighbouring words, that decide most over many explained texts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tenor.explanations.deletion import Explained
from tenor.explanations.explainer import Word

SHOWN = 20
"""Terms of each kind …"""
FEWEST_ROWS_WITH = 3
"""… that occur in this many rows or more: a term of fewer rows says something about these rows, not about the model."""
LEAST_SHARE = 0.2
"""Of a pair's value, which each of its words has: otherwise the word is listed, not the pair."""


@dataclass(frozen=True)
class Term:
    """A word or a pair of words in lower case, and what it adds to the score of `label`."""

    term: str
    label: int
    mean: float
    """Over its occurrences, in logits."""
    count: int
    """Occurrences."""
    rows: int
    """Rows with it."""


@dataclass
class _Sums:
    total: float = 0.0
    count: int = 0
    rows: set[int] = field(default_factory=set)


def deciding_words(explained: Sequence[Explained], classes: int) -> list[Term]:
    """The words with the largest |mean value · occurrences|, in descending order, without punctuation."""
    return _ranked(((number, row, word.word, word.value) for number, row, word in _words(explained)), classes)


def deciding_pairs(explained: Sequence[Explained], classes: int) -> list[Term]:
    """The same for pairs of neighbouring words whose two words both have a part of the value."""
    return _ranked(_pairs(explained), classes)


def _words(explained: Sequence[Explained]) -> Iterator[tuple[int, Explained, Word]]:
    for number, row in enumerate(explained):
        for word in row.explanation.words:
            if _is_word(word.word):
                yield number, row, word


def _pairs(explained: Sequence[Explained]) -> Iterator[tuple[int, Explained, str, float]]:
    for number, row in enumerate(explained):
        for first, second in pairwise(row.explanation.words):
            together = first.value + second.value
            is_pair = _is_word(first.word) and _is_word(second.word) and row.text[first.end : second.start].isspace()
            if is_pair and min(first.value / together, second.value / together) >= LEAST_SHARE if together else False:
                yield number, row, f"{first.word} {second.word}", together


def _ranked(values: Iterable[tuple[int, Explained, str, float]], classes: int) -> list[Term]:
    sums: dict[tuple[str, int], _Sums] = defaultdict(_Sums)
    for number, row, term, value in values:
        # With two classes, what speaks against one speaks for the other.
        label, signed = (1, value if row.label == 1 else -value) if classes == 2 else (row.label, value)
        one = sums[term.lower(), label]
        one.total += signed
        one.count += 1
        one.rows.add(number)
    terms = [_term(term, label, one, classes) for (term, label), one in sums.items()]
    frequent = [term for term in terms if term.rows >= FEWEST_ROWS_WITH and term.mean > 0]
    return sorted(frequent, key=lambda term: (-term.mean * term.count, term.term))[:SHOWN]


def _term(term: str, label: int, sums: _Sums, classes: int) -> Term:
    mean = sums.total / sums.count
    if classes == 2 and mean < 0:
        label, mean = 0, -mean
    return Term(term, label, mean, sums.count, len(sums.rows))


def _is_word(word: str) -> bool:
    return any(map(str.isalnum, word))
