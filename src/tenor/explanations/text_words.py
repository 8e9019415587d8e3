"""A text's words and sentences with their positions, for explanations in words and not in word pieces.

Positions are code points. Every character that is not white space belongs to exactly one word.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Span = tuple[int, int]
"""Start and end of a part of a text; the end is excluded."""

APOSTROPHES = "'’"
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""First words of the Unicode names of letters in scripts that put no space between words."""
SKIN_TONES = range(0x1F3FB, 0x1F400)

TAG = re.compile(r"</?\w+ ?/?>")
"""An HTML tag is one word, as in the text baseline."""
_WORD = re.compile(
    # A tag; letters and digits with inner apostrophes; letters of an unspaced script; any other sign, such as an emoji
    # with its modifiers and the further emoji that a joiner connects.
    r"tT*|w[wmj]*(?:aw[wmj]*)*|u[umj]*|[oamj][mj]*(?:(?<=j)o[mj]*)*"
)
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s|$|<)|[。！？]++[」』”]*+|\n+|<br ?/?>", re.IGNORECASE)


def word_spans(text: str, pieces: Sequence[Span] = ()) -> list[Span]:
    """The words of `text`, in order.

    A word is a run of letters, digits and their marks, with apostrophes inside; an HTML tag; or any other sign, which
    is one word with its repetitions ("!!!"). Scripts without spaces between words are divided at the starts of
    `pieces`, the spans of the tokens.
    """
    kinds = _kinds(text)
    starts = {start for start, _ in pieces}
    words: list[Span] = []
    for match in _WORD.finditer(kinds):
        start, end = match.span()
        if kinds[start] == "u":
            words += _divided(start, end, starts)
        elif words and kinds[start] in "oa" and _repeats(text, words[-1], (start, end)):
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
    return words


def sentence_spans(text: str) -> list[Span]:
    """The sentences of `text`, in order and without white space around them; together they contain all words."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = [0, *ends, len(text)]
    parts = (_stripped(text, start, end) for start, end in itertools.pairwise(bounds) if start < end)
    return [(start, end) for start, end in parts if start < end]


def overlapping(span: Span, starts: np.ndarray, ends: np.ndarray) -> range:
    """Positions of the spans (`starts`, `ends`), ascending and disjoint, that overlap `span`."""
    first = int(np.searchsorted(ends, span[0], side="right"))
    return range(first, max(first, int(np.searchsorted(starts, span[1], side="left"))))


def spread(values: np.ndarray, spans: Sequence[Span], words: Sequence[Span]) -> np.ndarray:
    """The values of `spans`, shape (spans,), added to the words that they overlap, in equal parts; shape (words,).

    The value of a span without a word (white space alone) goes to the nearest word before it, else to the first: the
    sum is kept. Without words it is an empty array.
    """
    sums = np.zeros(len(words))
    if not len(words):
        return sums
    starts, ends = (np.array(bounds) for bounds in zip(*words, strict=True))
    for value, span in zip(values, spans, strict=True):
        places = overlapping(span, starts, ends)
        if len(places):
            sums[places.start : places.stop] += value / len(places)
        else:
            sums[max(0, int(np.searchsorted(starts, span[0], side="right")) - 1)] += value
    return sums


def _kinds(text: str) -> str:
    """The kind of every character, `_kind`; t and T are the first and the further characters of a tag."""
    kinds = list(map(_kind, text))
    for tag in TAG.finditer(text):
        kinds[tag.start() : tag.end()] = ["t", *"T" * (tag.end() - tag.start() - 1)]
    return "".join(kinds)


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    """w letter or digit, u letter of an unspaced script, m mark, j joiner, a apostrophe, s white space, o other."""
    if character.isspace():
        return "s"
    if character in APOSTROPHES:
        return "a"
    if character == "\u200d":
        return "j"
    if ord(character) in SKIN_TONES:
        return "m"
    category = unicodedata.category(character)
    if category[0] == "M" or character == "\u200c":
        return "m"
    if category[0] in "LN" or category == "Pc":
        return "u" if unicodedata.name(character, "").startswith(UNSPACED) else "w"
    return "o"


def _divided(start: int, end: int, starts: set[int]) -> list[Span]:
    bounds = [start, *(at for at in range(start + 1, end) if at in starts), end]
    return list(itertools.pairwise(bounds))


def _repeats(text: str, before: Span, span: Span) -> bool:
    """Whether `span` follows `before` directly and is the sign that `before` repeats."""
    return before[1] == span[0] and text.startswith(text[span[0] : span[1]], before[0], before[1])


def _stripped(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
