"""Tokens: every mismatch of tokenizer, model and batches at its severity, and its look-alikes."""

from dataclasses import replace

import numpy as np
import pytest

from tenor.checks.evidence.data_evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import tok as rules
from tenor.runs.findings import Finding

PAD, UNKNOWN, FIRST, LAST = 0, 100, 101, 102
IDS = tuple(np.array([FIRST, *range(1000, 1000 + n), LAST]) for n in range(10, 40))
SOUND = TokenEvidence(
    vocabulary_size=30_522,
    embedding_rows=30_522,
    pad_id=PAD,
    model_pad_id=PAD,
    unknown_id=UNKNOWN,
    first_id=FIRST,
    last_id=LAST,
    input_ids=IDS,
    full_lengths=np.array([len(ids) for ids in IDS]),
    kept_lengths=np.array([len(ids) for ids in IDS]),
    tokenizer_lowercases=True,
    vocabulary_is_lowercase=True,
    digest="a" * 64,
    model_digest="a" * 64,
)


def collated(width: int | None = None, pad: int = PAD, left: bool = False, mask: str = "right") -> BatchEvidence:
    """Batches of 5, padded to `width` or to the longest row of each, with a right mask, one of ones, or none."""
    ids, masks = [], []
    for start in range(0, len(IDS), 5):
        rows = IDS[start : start + 5]
        size = width or max(map(len, rows))
        fill = [(size - len(row), 0) if left else (0, size - len(row)) for row in rows]
        ids.append(np.stack([np.pad(row, by, constant_values=pad) for row, by in zip(rows, fill, strict=True)]))
        masks.append(np.stack([np.pad(np.ones(len(row)), by) for row, by in zip(rows, fill, strict=True)]))
    if mask == "ones":
        masks = [np.ones_like(one) for one in masks]
    labels = tuple(np.zeros(5, int) for _ in ids)
    return BatchEvidence(labels, 2, input_ids=tuple(ids), attention_mask=None if mask == "none" else tuple(masks))


def weight(found: Finding | None, rule: Rule) -> str | None:
    return found and (found.severity or rule.severity)


OF_TOKENS = [
    (rules.vocabulary_mismatch, {"model_digest": "b" * 64}, "error"),
    (rules.vocabulary_mismatch, {"digest": None, "vocabulary_size": 8_000}, "warning"),
    (rules.vocabulary_mismatch, {"digest": None, "embedding_rows": 30_592}, None),
    (rules.case_mismatch, {"tokenizer_lowercases": False}, "warning"),
    (rules.case_mismatch, {"tokenizer_lowercases": False, "input_ids": (np.full(300, UNKNOWN),)}, "error"),
    (rules.case_mismatch, {"vocabulary_is_lowercase": False}, "note"),
    (rules.many_unknown, {"input_ids": (*IDS, np.full(100, UNKNOWN))}, "warning"),
    (rules.many_unknown, {"input_ids": (*IDS, np.full(5, UNKNOWN))}, None),
    (rules.many_unknown, {"input_ids": (np.full(300, UNKNOWN),)}, "error"),
    (rules.special_tokens_missing, {"input_ids": tuple(ids[1:-1] for ids in IDS)}, "error"),
    (rules.special_tokens_missing, {"input_ids": (*IDS, IDS[-1][:20])}, "error"),
    (rules.special_tokens_missing, {"first_id": None, "input_ids": tuple(ids[1:] for ids in IDS)}, None),
    (rules.special_tokens_doubled, {"input_ids": tuple(np.array([FIRST, *ids, LAST]) for ids in IDS)}, "error"),
    (rules.special_tokens_doubled, {"input_ids": (*IDS, np.array([FIRST, 7, LAST, LAST]))}, "note"),
    (rules.special_tokens_doubled, {"input_ids": (np.array([FIRST, 7, LAST, LAST, 8, LAST]),)}, None),
    (rules.id_beyond_embedding, {"embedding_rows": 1_010}, "error"),
    (rules.id_beyond_embedding, {"vocabulary_size": 30_525}, "warning"),
    (rules.id_beyond_embedding, {"embedding_rows": 30_592}, None),
    (rules.text_truncated, {"full_lengths": np.full(30, 300), "truncation": "head"}, "warning"),
    (rules.text_truncated, {"full_lengths": np.full(30, 300), "truncation": "head_tail"}, "note"),
]


@pytest.mark.parametrize(("rule", "change", "severity"), OF_TOKENS)
def test_tokenizer_rules(rule: Rule, change: dict, severity: str | None) -> None:
    assert weight(rule(replace(SOUND, **change)), rule) == severity
    assert rule(SOUND) is None


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("width", [None, 64])
def test_padding_must_be_masked_on_either_side(left: bool, width: int | None) -> None:
    assert rules.padding_attended(collated(width, left=left), SOUND) is None
    for mask in ("ones", "none"):
        assert rules.padding_attended(collated(width, left=left, mask=mask), SOUND)


def test_unpadded_batches_need_no_mask_and_one_end_token_equal_to_the_pad_id_is_text() -> None:
    one = BatchEvidence((np.zeros(1, int),), 2, input_ids=(IDS[0][None],))
    assert rules.padding_attended(one, SOUND) is None
    assert rules.padding_attended(one, replace(SOUND, pad_id=LAST, model_pad_id=LAST)) is None


def test_the_pad_id_must_be_the_models() -> None:
    assert rules.wrong_pad_id(collated(), SOUND) is None
    assert weight(rules.wrong_pad_id(collated(pad=1), SOUND), rules.wrong_pad_id) == "warning"
    unmasked, other = collated(pad=1, mask="none"), replace(SOUND, pad_id=1)
    assert weight(rules.wrong_pad_id(unmasked, other), rules.wrong_pad_id) == "error"


def test_padding_to_the_maximum_is_a_note_if_half_is_wasted() -> None:
    assert weight(rules.padded_to_maximum(collated(128), SOUND), rules.padded_to_maximum) == "note"
    assert rules.padded_to_maximum(collated(), SOUND) is None
    assert rules.padded_to_maximum(collated(45), SOUND) is None


def test_unknown_evidence_is_not_judged() -> None:
    bare, batches = TokenEvidence(30_522, 30_522), BatchEvidence((), 2)
    for rule in (rules.case_mismatch, rules.many_unknown, rules.special_tokens_missing, rules.text_truncated):
        with pytest.raises(CannotTell):
            rule(bare)
    for rule in (rules.padding_attended, rules.wrong_pad_id, rules.padded_to_maximum):
        with pytest.raises(CannotTell):
            rule(batches, SOUND)


def test_a_mask_that_hides_the_text_is_found_and_one_that_hides_the_padding_is_not() -> None:
    sound = collated()
    assert rules.text_masked(sound, SOUND) is None
    assert sound.attention_mask is not None
    inverted = replace(sound, attention_mask=tuple(1 - mask for mask in sound.attention_mask))
    segments = replace(sound, attention_mask=tuple(0 * mask for mask in sound.attention_mask))
    for wrong in (inverted, segments):
        found = rules.text_masked(wrong, SOUND)
        assert found is not None
        with pytest.raises(CannotTell):  # It does not show which positions are padding.
            rules.wrong_pad_id(wrong, SOUND)
