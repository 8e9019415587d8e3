"""The rows that a program really used, as token ids and labels: whatever its dataset is, its model was given these."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tenor.checks.labels_and_logits import LABEL_NAMES
from tenor.checks.one_output import zero_one

LARGEST = 12 * 2**20
"""Bytes of token ids that are kept of one training or evaluation."""


class SeenRows:
    """Token ids and labels of the calls of a model."""

    def __init__(self) -> None:
        self._calls: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]] = []
        """Token ids (rows, tokens), mask of the same shape or None, labels (rows,)."""
        self._numbers: list[np.ndarray | None] = []
        """Row numbers in the dataset, shape (rows,), of each call; None: not known."""
        self.bytes = 0

    def __len__(self) -> int:
        return sum(len(labels) for *_, labels in self._calls)

    def add(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], labels: torch.Tensor | None, numbers: Any = None
    ) -> None:
        """Add the rows of one call; calls without token ids, or without one class per row, are left out. `numbers` are
        the row numbers that the sampler drew."""
        ids = token_ids(args, kwargs)
        fits = ids is not None and labels is not None and labels.ndim == 1 and len(labels) == len(ids)
        if ids is None or labels is None or not fits or labels.is_floating_point() or self.bytes > LARGEST:
            return
        mask = kwargs.get("attention_mask")
        has_mask = isinstance(mask, torch.Tensor) and mask.shape == ids.shape
        kept = mask.cpu().numpy().astype(bool) if has_mask and mask is not None else None
        self._calls.append((ids.cpu().numpy().astype(np.int32), kept, labels.cpu().numpy().copy()))
        self._numbers.append(_row_numbers(numbers, len(ids)))
        self.bytes += self._calls[-1][0].nbytes * 5 // 4

    @property
    def ids(self) -> list[np.ndarray]:
        """The token ids of each row, without padding."""
        return [row if mask is None else row[mask[k]] for ids, mask, _ in self._calls for k, row in enumerate(ids)]

    @property
    def labels(self) -> np.ndarray:
        """Shape (rows,)."""
        return np.concatenate([labels for *_, labels in self._calls]) if self._calls else np.zeros(0, dtype=np.int64)

    def first(self, rows: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Ids and labels of the first rows, an epoch: in the order of the dataset if their row numbers are known."""
        ids, labels, numbers = self.ids[:rows], self.labels[:rows], self._row_numbers()
        if numbers is None:
            return ids, labels
        order = np.argsort(numbers[:rows], kind="stable")
        return [ids[row] for row in order], labels[order]

    def _row_numbers(self) -> np.ndarray | None:
        known = [one for one in self._numbers if one is not None]
        return np.concatenate(known) if known and len(known) == len(self._numbers) else None


def _row_numbers(numbers: Any, rows: int) -> np.ndarray | None:
    """Row numbers as an array of shape (rows,); None for what a sampler of another kind draws."""
    if not isinstance(numbers, list | tuple) or len(numbers) != rows:
        return None
    if not all(isinstance(one, int | np.integer) for one in numbers):
        return None
    return np.asarray(numbers, dtype=np.int64)


def token_ids(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """The token ids that a model was called with, shape (rows, tokens); None where there are none."""
    values = [kwargs.get("input_ids"), *args]
    values += [value["input_ids"] for value in args if isinstance(value, Mapping) and "input_ids" in value]
    for value in values:
        if isinstance(value, torch.Tensor) and value.ndim == 2 and not value.is_floating_point():
            return value.detach()
    return None


def labels_in_batch(batch: Any, rows: int | None = None, k: int | None = None) -> torch.Tensor | None:
    """The labels in a batch of a loader: under their usual names, else in a tuple the last integers of shape (rows,)
    below `k`; None if there are none."""
    named = [batch.get(name) for name in LABEL_NAMES] if isinstance(batch, Mapping) else []
    parts = list(reversed(batch)) if isinstance(batch, tuple | list) and len(batch) > 1 else []
    tensors = [value.detach() for value in (*named, *parts) if isinstance(value, torch.Tensor)]
    fitting = [one for one in tensors if rows is None or (len(one) == rows if one.ndim else False)]
    classes = [one for one in fitting if not one.is_floating_point() and one.ndim == 1 and one.numel()]
    likely = [one for one in classes if k is None or int(one.max()) < k]
    return next(iter((*likely, *(fitting if not parts or rows is None else []))), None)


def zero_one_in_batch(batch: Any, rows: int) -> torch.Tensor | None:
    """The last part of a batch that has one label per row and only labels 0 and 1, of any type, shape (rows,)."""
    if isinstance(batch, Mapping):
        parts = [batch.get(name) for name in reversed(LABEL_NAMES)]
    else:
        parts = list(batch) if isinstance(batch, tuple | list) else []
    fitting = [one for one in map(zero_one, parts) if one is not None and len(one) == rows]
    return fitting[-1] if fitting else None


class HeardTexts:
    """Texts as the program gave them to its tokenizer, by their token ids: the ids alone have lost capitals, accents
    and unknown characters."""

    def __init__(self) -> None:
        self._by_ids: dict[bytes, str] = {}
        self.characters = 0

    def add(self, text: Any, encoded: Any) -> None:
        """Remember the texts of one call of a tokenizer, up to a limit."""
        texts = [text] if isinstance(text, str) else list(text) if isinstance(text, list | tuple) else []
        ids, masks = encoded.get("input_ids"), encoded.get("attention_mask")
        if not texts or not all(isinstance(one, str) for one in texts) or ids is None or self.characters > LARGEST:
            return
        rows = [ids] if isinstance(text, str) and len(ids) and isinstance(ids[0], int) else list(ids)
        if len(rows) != len(texts):
            return
        kept = [None] * len(rows) if masks is None or len(masks) != len(rows) else list(masks)
        for row, mask, one in zip(rows, kept, texts, strict=True):
            array = np.asarray(row, dtype=np.int32)
            if mask is not None and len(mask) == len(array):
                array = array[np.asarray(mask, dtype=bool)]
            self._by_ids[array.tobytes()] = one
            self.characters += len(one)

    def text_of(self, ids: np.ndarray) -> str | None:
        """The text with these token ids, if it was heard."""
        return self._by_ids.get(ids.tobytes())
