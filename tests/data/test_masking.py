"""Blocks and masks: every token is used once, the shares are BERT's, and a mask depends on nothing but its block."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.data.dataset import LabelledText
from tenor.data.masking import FIXED, NOT_COUNTED, Blocks, MaskedBlocks, Masking, make_blocks, token_counts
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.tokenization import whole_ids
from tenor.errors import UserError
from tenor.model.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(embedded_encoder_folder(), local=True)


def rows_of(texts: list[str]) -> LabelledText:
    ids = [str(number) for number in range(len(texts))]
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string()), "label": np.zeros(len(texts), np.int64)})
    return LabelledText(table, ("text",), "tests")


def masking(tokenizer: Any, seed: int = 5, share: float = 0.15) -> Masking:
    return Masking.of(tokenizer, seed, share, len(tokenizer))


def blocks_of(texts: list[str], tokenizer: Any, max_length: int = 64, **settings: Any) -> Blocks:
    return make_blocks(rows_of(texts), tokenizer, masking(tokenizer, **settings), max_length)


def many_blocks(tokenizer: Any) -> Blocks:
    words = list(tokenizer.get_vocab())[2000:3000]
    random = np.random.default_rng(0)
    return blocks_of([" ".join(random.choice(words, 300)) for _ in range(60)], tokenizer)


@given(lengths=st.lists(st.integers(0, 90), min_size=1, max_size=6), max_length=st.integers(8, 40))
def test_every_token_is_in_exactly_one_block(lengths: list[int], max_length: int, tokenizer: Any) -> None:
    texts = [" ".join(["film", "scene", "dull"][k % 3] for k in range(length)) or "" for length in lengths]
    blocks = blocks_of(texts, tokenizer, max_length)
    for text, ids in enumerate(whole_ids(texts, tokenizer)):
        own = np.flatnonzero(blocks.text == text)
        joined = np.concatenate([np.zeros(0, np.int32), *(blocks.content(block) for block in own)])
        assert joined.tolist() == ids[1:-1].tolist()
        sizes = blocks.sizes[own]
        assert not len(sizes) or sizes.max() - sizes.min() <= 1  # No fragment of a few tokens.
        assert (blocks.lengths[own] <= max_length).all()
        for block in own:
            row = blocks.row(block)
            assert (row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_the_shares_are_those_of_bert(tokenizer: Any) -> None:
    blocks = many_blocks(tokenizer)
    batch = MaskedBlocks(blocks, 0).collate(np.arange(len(blocks)))
    given_ids, targets = batch.inputs["input_ids"].flatten()[batch.inputs["selected"]], batch.labels
    assert len(targets) == blocks.selected.sum() == pytest.approx(0.15 * blocks.sizes.sum(), rel=0.01)
    is_mask, same = given_ids == tokenizer.mask_token_id, given_ids == targets
    n = len(targets)
    for share, expected in ((is_mask.double().mean(), 0.8), (same.double().mean(), 0.1)):
        assert abs(float(share) - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    other = given_ids[~is_mask & ~same]
    assert len(other.unique()) > 0.9 * len(other)  # Drawn from the whole vocabulary.


def test_only_selected_tokens_change_and_special_ones_never_do(tokenizer: Any) -> None:
    blocks = many_blocks(tokenizer)
    rows = np.array([3, 0, 7])
    batch = MaskedBlocks(blocks, 1).collate(rows)
    ids, selected = batch.inputs["input_ids"].flatten().clone(), batch.inputs["selected"]
    ids[selected] = batch.labels
    longest = batch.inputs["input_ids"].shape[1]
    for at, block in enumerate(rows):
        row = blocks.row(block)
        assert ids.view(3, longest)[at, : len(row)].tolist() == row.tolist()
        assert batch.inputs["attention_mask"][at].sum() == len(row)
    assert not np.isin(batch.labels.numpy(), tokenizer.all_special_ids).any()
    assert (selected.diff() > 0).all()


def test_passes_of_few_shapes_have_the_same_masks(tokenizer: Any) -> None:
    blocks = many_blocks(tokenizer)
    counts = set()
    for first in range(0, len(blocks) - 8, 8):
        rows = np.arange(first, first + 8)
        exact, rounded = (MaskedBlocks(blocks, 1).collate(rows, rounded=way) for way in (False, True))
        n = len(exact.labels)
        assert n <= len(rounded.labels) <= 1.125 * n
        assert rounded.labels[:n].tolist() == exact.labels.tolist()
        assert (rounded.labels[n:] == NOT_COUNTED).all()
        before, after = (one.inputs["input_ids"].flatten()[one.inputs["selected"][:n]] for one in (exact, rounded))
        assert before.tolist() == after.tolist()
        counts.add(len(rounded.labels))
    assert len(counts) < len(blocks) // 8


def test_a_mask_depends_on_seed_epoch_and_block_alone(tokenizer: Any) -> None:
    blocks = many_blocks(tokenizer)

    def of(block: int, *others: int, epoch: int = 0, from_blocks: Blocks = blocks) -> list[list[int]]:
        batch = MaskedBlocks(from_blocks, epoch).collate(np.array([*others, block]))
        longest = batch.inputs["input_ids"].shape[1]
        own = batch.inputs["selected"] // longest == len(others)
        length = int(from_blocks.lengths[block])
        places = (batch.inputs["selected"][own] % longest).tolist()
        return [batch.inputs["input_ids"][-1, :length].tolist(), places, batch.labels[own].tolist()]

    assert of(5) == of(5, 9, 2)
    assert of(5) != of(5, epoch=1)
    assert of(5, epoch=FIXED) == of(5, 1, epoch=FIXED)
    assert of(5) != of(5, from_blocks=Blocks(**{**vars(blocks), "masking": masking(tokenizer, seed=6)}))


def test_a_block_has_at_least_one_selected_token_and_unknown_text_has_no_block(tokenizer: Any) -> None:
    blocks = blocks_of(["film", "", "   ", "☃☃ ☃", "dull film"], tokenizer)
    assert blocks.text.tolist() == [0, 4]
    assert blocks.selected.tolist() == [1, 1]
    counts = token_counts(blocks)
    assert counts.sum() == 3
    assert counts[tokenizer.convert_tokens_to_ids("film")] == 2


def test_what_cannot_be_masked_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="leaves no room for text"):
        make_blocks(rows_of(["film"]), tokenizer, masking(tokenizer), 2)
    with pytest.raises(UserError, match="no mask token"):
        Masking.of(tokenizer, 0, 0.15, 100)  # Its mask token has no embedding.
