"""Texts → rows of token ids: one row per text, truncated as in training, or one per window of a long text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tenor.data.sources.rows import encodable
from tenor.data.tokenization import Truncation, cut, special_tokens_around, whole_ids

LongText = Literal["truncate", "windows"]
WINDOW_OVERLAP = 0.25
"""Minimum share of a window that the next one repeats, so that sentences are rarely split between windows."""

CHARACTERS_PER_CALL = 1_000_000
"""Characters per call of the tokenizer, whose intermediate results take about a hundred times the memory of the ids."""


@dataclass(frozen=True)
class Framing:
    """How a tokenizer frames a text, and how rows are padded."""

    around: tuple[int, int]
    """Counts of special tokens before and after a text."""
    pad_id: int | None
    """Id for padding shorter rows on the right; None: rows cannot be padded, so each row is a batch."""
    token_types: tuple[tuple[int, ...], int, tuple[int, ...]] | None
    """Token types before, within and after a text; None if they are all zero."""

    @classmethod
    def of(cls, tokenizer: Any, model_pad_id: int | None = None) -> "Framing":
        """`model_pad_id`: the padding id of the model's configuration, with which some models locate the last token of
        a row."""
        around = special_tokens_around(tokenizer)
        types = tokenizer("a", truncation=False).get("token_type_ids") or [0]
        before, after = around
        framed = (tuple(types[:before]), types[before], tuple(types[len(types) - after :])) if any(types) else None
        return cls(around, tokenizer.pad_token_id if model_pad_id is None else model_pad_id, framed)

    def types_of(self, length: int) -> list[int]:
        """The token types of a row of `length` tokens."""
        if self.token_types is None:
            return [0] * length
        before, within, after = self.token_types
        return [*before, *[within] * (length - len(before) - len(after)), *after]


@dataclass(frozen=True)
class TextTokens:
    """Rows of ids, and the text of each."""

    rows: list[np.ndarray]
    """Ids with special tokens, int32, shape (length,)."""
    owner: np.ndarray
    """Position of each row's text, ascending, int64, shape (rows,)."""
    truncated: np.ndarray
    """Whether a text was truncated, bool, shape (texts,)."""
    faults: dict[int, str]
    """Faults of texts without a row, by position."""
    lengths: np.ndarray
    """Tokens of each text in its rows, without special tokens, int64, shape (texts,) …"""
    unknown: np.ndarray
    """… and how many of them the model does not know."""


def text_fault(text: object) -> str | None:
    """Why a value cannot be predicted, or None."""
    if not isinstance(text, str):
        return "is missing" if text is None else f"is {type(text).__name__} {str(text)[:40]!r}, expected a string"
    if not text or text.isspace():
        return "is empty" if not text else "contains only white space"
    if "\0" in text:
        return "contains NUL"
    if not encodable(text):
        return "contains bytes that are not UTF-8, or a lone surrogate"
    return None


def token_rows(
    texts: Sequence[object], tokenizer: Any, framing: Framing, truncation: Truncation, long_text: LongText
) -> TextTokens:
    """The rows of every text that can be predicted."""
    faults = {position: fault for position, text in enumerate(texts) if (fault := text_fault(text)) is not None}
    rows: list[np.ndarray] = []
    owner: list[int] = []
    truncated = np.zeros(len(texts), dtype=bool)
    for positions in _portions([position for position in range(len(texts)) if position not in faults], texts):
        for position, ids in zip(positions, whole_ids([str(texts[at]) for at in positions], tokenizer), strict=True):
            if len(ids) <= sum(framing.around):
                faults[position] = "contains no character that the tokenizer knows"
                continue
            if long_text == "windows":
                of_text = windows(ids, truncation.max_length, framing.around)
            else:
                of_text = [cut(ids, truncation, framing.around)]
                truncated[position] = len(of_text[0]) < len(ids)
            rows += of_text
            owner += [position] * len(of_text)
    owners = np.array(owner, dtype=np.int64)
    lengths, unknown = content_counts(rows, framing.around, tokenizer.unk_token_id)
    of_texts = (np.bincount(owners, counts, len(texts)).astype(np.int64) for counts in (lengths, unknown))
    return TextTokens(rows, owners, truncated, dict(sorted(faults.items())), *of_texts)


def content_counts(
    rows: Iterable[np.ndarray], around: tuple[int, int], unknown_id: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Per row of ids, the count of its tokens without those `around` a text, and of the unknown ones, (rows,) each."""
    contents = [ids[around[0] : len(ids) - around[1]] for ids in rows]
    unknown = (0 if unknown_id is None else int(np.count_nonzero(ids == unknown_id)) for ids in contents)
    return np.array([len(ids) for ids in contents], dtype=np.int64), np.fromiter(unknown, np.int64, len(contents))


def windows(ids: np.ndarray, max_length: int, around: tuple[int, int]) -> list[np.ndarray]:
    """A text's ids in rows of at most `max_length`, evenly spread, each with the special tokens `around` it.

    Every row but that of a short text is full, and two neighbours share at least `WINDOW_OVERLAP` of their content.
    """
    before, after = around
    content, room = ids[before : len(ids) - after], max_length - before - after
    if len(content) <= room:
        return [ids]
    step = max(1, int(room * (1 - WINDOW_OVERLAP)))
    count = 1 + -(-(len(content) - room) // step)
    starts = np.linspace(0, len(content) - room, count).round().astype(int)
    frame = ids[:before], ids[len(ids) - after :]
    return [np.concatenate([frame[0], content[start : start + room], frame[1]]) for start in starts]


def _portions(positions: list[int], texts: Sequence[object]) -> Iterator[list[int]]:
    portion: list[int] = []
    characters = 0
    for position in positions:
        portion.append(position)
        characters += len(str(texts[position]))
        if characters >= CHARACTERS_PER_CALL:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion
