"""Rows → batches of similar length: their order, the split into forward passes, the padding."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from tenor.data.tokenization import Shortened, TokenizedText

WINDOW = 64
"""Count of batches whose rows are sampled together and then sorted by length: enough for less than 2% padding, while
the composition of the batches still changes with every epoch."""


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass: keyword arguments of the model, and the class indices (rows,)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    tokens: int
    """Real tokens, without padding."""


class Examples(Protocol):
    """Rows that can be batched by length and collated."""

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        """One forward pass over `rows`, padded to their `padded_length`."""


@dataclass(frozen=True)
class TokenExamples:
    """Tokenized rows, padded on the right."""

    tokens: TokenizedText | Shortened
    pad_id: int | None
    """None: 0 is used; any id works, because padding is masked."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths

    @property
    def labels(self) -> np.ndarray:
        return self.tokens.labels

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        """`input_ids` and `attention_mask`, int64, shape (rows, padded length)."""
        lengths = self.lengths[rows]
        longest = padded_length(self.lengths, rows, rounded)
        input_ids = np.full((len(rows), longest), self.pad_id or 0, dtype=np.int64)
        for position, row in enumerate(rows):
            input_ids[position, : lengths[position]] = self.tokens.row(row)
        mask = np.arange(longest) < lengths[:, None]
        return Batch(
            {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))},
            torch.from_numpy(self.labels[rows]),
            int(lengths.sum()),
        )


def padded_length(lengths: np.ndarray, rows: np.ndarray, rounded: bool) -> int:
    """The length of the longest of `rows`; `rounded` up by at most an eighth, so that few lengths occur.

    It is never above that of the longest of all rows, which the model is known to accept.
    """
    longest = int(lengths[rows].max())
    return min(rounded_up(longest), int(lengths.max())) if rounded else longest


def rounded_up(size: int) -> int:
    """A size of at most an eighth more, of which few occur: oneDNN compiles a kernel for each."""
    multiple = 2 ** max(0, (size // 8).bit_length() - 1)  # The largest power of two that is at most an eighth.
    return -(-size // multiple) * multiple


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, each an array of row indices: a pure function of its arguments.

    Every row is in exactly one batch. Rows are shuffled, sorted by length within windows of `WINDOW` batches, split
    into batches of `batch_size` (the last may be smaller), and the batches are shuffled.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    return [batches[at] for at in random.permutation(len(batches))]


def deal(rows: np.ndarray, lengths: np.ndarray, count: int) -> list[np.ndarray]:
    """Split `rows` into `count` shares of similar size and length: sorted by length, then dealt in turn."""
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    return [ordered[start::count] for start in range(min(count, len(rows)))]


def micro_batches(rows: np.ndarray, lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Split `rows` into parts of at most `token_budget` padded tokens each, or a single row.

    Rows are sorted by length first, so that a part needs little padding.
    """
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    parts, start = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or lengths[rows[end]] * (end + 1 - start) > token_budget:
            parts.append(rows[start:end])
            start = end
    return parts


def sequential_batches(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """All rows, longest first, in parts of at most `token_budget` padded tokens, for prediction.

    Longest first, so that memory peaks at the beginning and an estimate of the remaining time errs on the high side.
    """
    return micro_batches(np.arange(len(lengths)), lengths, token_budget)[::-1]


def least_padding(lengths: np.ndarray, token_budget: int, pass_cost: int) -> list[np.ndarray]:
    """All rows, longest first, in parts of at most `token_budget` padded tokens, split to minimize the work.

    Work is the count of padded tokens plus `pass_cost` per part: the fixed cost of a forward pass, in tokens. The
    optimum is computed by dynamic programming over the rows sorted by length, so that small inputs need little padding
    too.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    work = np.zeros(len(order) + 1)
    starts = np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        longest = int(ordered[end - 1])
        first = max(0, end - max(1, token_budget // max(1, longest)))
        options = work[first:end] + (end - np.arange(first, end)) * longest + pass_cost
        starts[end] = first + options.argmin()
        work[end] = options.min()
    parts, end = [], len(order)
    while end > 0:
        parts.append(order[starts[end] : end])
        end = int(starts[end])
    return parts
