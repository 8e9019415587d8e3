"""Rows and a tokenizer small enough for tests, without PyTorch: processes that start with them start quickly."""

from typing import Any

import numpy as np
import pyarrow as pa

from tenor.data.dataset import LabelledText
from tenor.data.tokenization import TokenizedText

WORDS = ("good", "bad", "film", "plot", "actor", "scene", "never", "again", "slow", "bright")


def labelled(
    texts: list[str],
    labels: list[int],
    class_names: tuple[str, ...] = ("negative", "positive"),
    groups: list[str] | None = None,
) -> LabelledText:
    """Rows in memory, as a source hands them over."""
    columns = {
        "id": pa.array([str(number) for number in range(1, len(texts) + 1)], pa.string()),
        "text": pa.array(texts, pa.large_string()),
        "label": pa.array(labels, pa.int64()),
    }
    if groups is not None:
        columns["group"] = pa.array(groups, pa.string())
    return LabelledText(pa.table(columns), class_names, "a test")


def token_rows(ids: list[list[int]], labels: list[int]) -> TokenizedText:
    """Tokenized rows in memory, as if nothing had been truncated."""
    lengths = np.array([len(row) for row in ids])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return TokenizedText(((np.concatenate(ids).astype(np.int32), starts),), lengths, lengths, np.array(labels))


def words(count: int) -> str:
    """A text of `count` words."""
    return " ".join(WORDS[number % len(WORDS)] for number in range(count))


class WordCounter:
    """A tokenizer written in Python: a word's id is its number in `vocabulary`; counts its calls."""

    def __init__(self, vocabulary: tuple[str, ...] = WORDS) -> None:
        self.vocabulary = {word: 3 + number for number, word in enumerate(vocabulary)}
        self.texts = 0

    def __repr__(self) -> str:
        return "WordCounter"

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary

    def __call__(self, text: str | list[str], return_special_tokens_mask: bool = False, **_: Any) -> dict[str, Any]:
        if return_special_tokens_mask:
            return {"special_tokens_mask": [1, 0, 1]}
        self.texts += len(text)
        return {"input_ids": [[1, *(self.vocabulary.get(w, 0) for w in row.split()), 2] for row in text]}
