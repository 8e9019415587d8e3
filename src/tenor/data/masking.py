"""Texts → blocks of tokens → batches with masked tokens, as BERT is pretrained (Devlin et al. 2019, section 3.1).

A text longer than a block is split into blocks of similar length, so that every token is used and no block is a
fragment of a few. Masks are a pure function of seed, epoch and block: a resumed run draws the same, and how a batch is
spread over replicas doesn't matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tenor.data.batching import Batch, padded_length, rounded_up
from tenor.data.dataset import LabelledText
from tenor.data.tokenization import TokenizedText, Truncation, special_tokens_around, tokenize
from tenor.errors import UserError

NOT_COUNTED = -100
"""The target of a token that fills up a forward pass."""
TO_MASK, TO_RANDOM = 0.8, 0.1
"""Shares of the selected tokens that become the mask token and a random token; the rest stays as it is."""
WHOLE = Truncation(2**30, "head", 1.0)
"""No text is truncated."""
BLOCKS_AT_ONCE = 1024
FIXED = 2**32
"""In the place of the epoch: the masks of a validation, the same each time. No epoch has this number."""


@dataclass(frozen=True)
class Masking:
    """How tokens are selected and replaced."""

    seed: int
    share: float
    """Of a block's tokens, apart from special tokens, that are selected: rounded, at least one."""
    mask_id: int
    pad_id: int
    vocabulary: int
    """Random tokens are drawn from ids below it."""
    special_ids: tuple[int, ...]
    """Ids that are never selected."""
    around: tuple[int, int]
    """Counts of special tokens before and after a block."""

    @classmethod
    def of(cls, tokenizer: Any, seed: int, share: float, embeddings: int) -> "Masking":
        """The masking for a tokenizer, whose model has `embeddings` token embeddings.

        Raises:
            UserError: a tokenizer without a mask token.
        """
        if tokenizer.mask_token_id is None or tokenizer.mask_token_id >= embeddings:
            raise UserError(
                f"{tokenizer.name_or_path}: the tokenizer has no mask token, so this kind of model was not pretrained "
                "by predicting masked tokens, which `tenor adapt` continues. Choose a model such as BERT, DistilBERT, "
                "RoBERTa or MiniLM"
            )
        return cls(
            seed=seed,
            share=share,
            mask_id=tokenizer.mask_token_id,
            pad_id=tokenizer.pad_token_id or 0,
            vocabulary=min(max(tokenizer.get_vocab().values()) + 1, embeddings),
            special_ids=tuple(sorted(tokenizer.all_special_ids)),
            around=special_tokens_around(tokenizer),
        )


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of at most `max_length` tokens with the special tokens around each."""

    tokens: TokenizedText
    """The whole texts."""
    text: np.ndarray
    """The text of each block, int64, shape (blocks,)."""
    starts: np.ndarray
    """Its first token in the text, special tokens before included, int64, shape (blocks,)."""
    sizes: np.ndarray
    """Tokens of each block without special tokens, int64, shape (blocks,)."""
    selected: np.ndarray
    """Tokens of each block that are selected for prediction, int64, shape (blocks,)."""
    masking: Masking

    def __len__(self) -> int:
        return len(self.text)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each block with special tokens, shape (blocks,)."""
        return self.sizes + sum(self.masking.around)

    def content(self, block: int) -> np.ndarray:
        """The ids of a block without special tokens, int32, shape (sizes[block],)."""
        start = self.starts[block]
        return self.tokens.row(int(self.text[block]))[start : start + self.sizes[block]]

    def row(self, block: int) -> np.ndarray:
        """The ids of a block with special tokens, int32, shape (lengths[block],)."""
        ids = self.tokens.row(int(self.text[block]))
        before, after = self.masking.around
        return np.concatenate([ids[:before], self.content(block), ids[len(ids) - after :]])

    def select(self, blocks: np.ndarray) -> "Blocks":
        """Some of the blocks."""
        chosen = {name: getattr(self, name)[blocks] for name in ("text", "starts", "sizes", "selected")}
        return replace(self, **chosen)


def make_blocks(rows: LabelledText, tokenizer: Any, masking: Masking, max_length: int) -> Blocks:
    """The blocks of all texts, in their order; those in which no token can be selected are left out.

    Raises:
        UserError: `max_length` leaves no room for text.
    """
    room = max_length - sum(masking.around)
    if room < 1:
        raise UserError(f"a block of {max_length} tokens leaves no room for text. Set a larger adaptation.max_length")
    tokens = tokenize(rows, tokenizer, WHOLE)
    content = np.maximum(tokens.lengths.astype(np.int64) - sum(masking.around), 0)
    counts = -(-content // room)
    text = np.repeat(np.arange(len(content)), counts)
    place = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Block k of n covers the tokens from k/n to (k + 1)/n of the text.
    starts, ends = (at * content[text] // counts[text] for at in (place, place + 1))
    blocks = Blocks(tokens, text, starts + masking.around[0], ends - starts, np.zeros(len(text), np.int64), masking)
    special = np.array(masking.special_ids)
    counted = [np.add.reduceat(~np.isin(ids, special), offsets) for ids, offsets in _contents(blocks)]
    candidates = np.concatenate([np.zeros(0, np.int64), *counted])
    selected = np.where(candidates > 0, np.maximum(np.round(masking.share * candidates).astype(np.int64), 1), 0)
    return replace(blocks, selected=selected).select(np.flatnonzero(candidates))


@dataclass(frozen=True, eq=False)
class MaskedBlocks:
    """Blocks as one epoch sees them: `Examples` whose labels are the count of selected tokens per block."""

    blocks: Blocks
    epoch: int

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def lengths(self) -> np.ndarray:
        return self.blocks.lengths

    @property
    def labels(self) -> np.ndarray:
        return self.blocks.selected

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        """The masked blocks, padded on the right.

        `input_ids` and `attention_mask` have shape (rows, padded length). `selected` are the positions of the selected
        tokens in the flattened batch, ascending, and `targets` their original ids, int64, shape (selected,); the
        targets are the batch's labels too. `rounded`: the first token is repeated at the end of `selected`, with
        targets that no loss counts, so that few shapes occur.
        """
        lengths = self.lengths[rows]
        longest = padded_length(self.lengths, rows, rounded)
        input_ids = np.full((len(rows), longest), self.blocks.masking.pad_id, dtype=np.int64)
        selected, targets = [], []
        for at, block in enumerate(rows.tolist()):
            ids = self.blocks.row(block)
            positions, replaced = self._masked(block, ids)
            targets.append(ids[positions].astype(np.int64))
            selected.append(at * longest + positions)
            input_ids[at, : lengths[at]] = ids
            input_ids[at, positions] = replaced
        if rounded:
            count = sum(map(len, selected))
            more = rounded_up(count) - count
            selected.append(np.zeros(more, dtype=np.int64))
            targets.append(np.full(more, NOT_COUNTED, dtype=np.int64))
        mask = np.arange(longest) < lengths[:, None]
        labels = torch.from_numpy(np.concatenate(targets))
        return Batch(
            {
                "input_ids": torch.from_numpy(input_ids),
                "attention_mask": torch.from_numpy(mask.astype(np.int64)),
                "selected": torch.from_numpy(np.concatenate(selected)),
                "targets": labels,
            },
            labels,
            int(lengths.sum()),
        )

    def _masked(self, block: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The selected positions of a block, ascending, and the ids that replace them."""
        masking = self.blocks.masking
        random = np.random.default_rng([masking.seed, self.epoch, block])
        before, after = masking.around
        is_content = np.zeros(len(ids), dtype=bool)
        is_content[before : len(ids) - after] = True
        candidates = np.flatnonzero(is_content & ~np.isin(ids, masking.special_ids))
        positions = np.sort(random.permutation(candidates)[: self.blocks.selected[block]])
        kind, other = random.random(len(positions)), random.integers(masking.vocabulary, size=len(positions))
        kept_or_random = np.where(kind < TO_MASK + TO_RANDOM, other, ids[positions])
        return positions, np.where(kind < TO_MASK, masking.mask_id, kept_or_random)


def token_counts(blocks: Blocks) -> np.ndarray:
    """How often each token that can be selected occurs, int64, shape (vocabulary,)."""
    counts = np.zeros(blocks.masking.vocabulary, dtype=np.int64)
    for ids, _ in _contents(blocks):
        counts += np.bincount(ids, minlength=len(counts))
    counts[[one for one in blocks.masking.special_ids if one < len(counts)]] = 0
    return counts


def _contents(blocks: Blocks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids of some blocks at a time, joined, and where each begins; no block is empty."""
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        parts = [blocks.content(block) for block in range(start, min(start + BLOCKS_AT_ONCE, len(blocks)))]
        yield np.concatenate(parts), np.cumsum([0, *(len(part) for part in parts[:-1])])
