"""Padding: masked, of the model's own id, and no more than there needs to be."""

from collections.abc import Iterator

import numpy as np

from tenor.checks.evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.rule import rule

WASTE = 0.5  # Of all positions; sorting by length keeps it below 5%.


@rule("TOK007", "error")
def padding_attended(batches: BatchEvidence, tokens: TokenEvidence) -> Observation | None:
    """Padding is not masked

    Measures: positions of padding (the pad id in a row at either end of a sequence) whose attention mask is missing
    or 1.

    Threshold: none; an exact invariant.

    Why: the model reads padding as text: a row's result depends on the longest row of its batch.

    Look-alikes: where the pad id is the end mark as well, the mark itself is attended rightly: one is let pass.

    Mend: pass `attention_mask` on from the tokenizer to the model; `DataCollatorWithPadding` makes it.

    Reference: transformers, docs of `attention_mask`.
    """
    attended, total = 0, 0
    for row, mask, padded in padded_rows(batches, tokens):
        at_padding = padded if mask is None else padded & (mask[: len(row)] != 0)
        attended, total = attended + int(at_padding.sum()), total + int(padded.sum())
    if attended == 0:
        return None
    return Observation(
        observed=f"{attended:,} of {total:,} positions of padding are attended to"
        + (": there is no attention mask" if batches.attention_mask is None else ""),
        expected="attention mask 0 at every position of padding",
        n=total,
        cause="the mask was not passed on, or was made of ones",
        fix="pass attention_mask from the tokenizer to the model",
    )


def padded_rows(
    batches: BatchEvidence, tokens: TokenEvidence
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """Each row's ids, its mask, and which positions are padding: the pad id in a row at the end or the beginning."""
    if batches.input_ids is None:
        raise CannotTell("the batches' token ids are not at hand")
    pads = {pad for pad in (tokens.pad_id, tokens.model_pad_id) if pad is not None}
    if not pads:
        raise CannotTell("neither the tokenizer nor the model has a pad id")
    masks = batches.attention_mask or (None,) * len(batches.input_ids)
    for ids, mask in zip(batches.input_ids, masks, strict=False):
        for number, row in enumerate(np.atleast_2d(ids)):
            of_row = None if mask is None else np.atleast_2d(mask)[number]
            is_pad = np.isin(row, list(pads))
            right = np.logical_and.accumulate(is_pad[::-1])[::-1]
            left = np.logical_and.accumulate(is_pad)
            if {tokens.first_id, tokens.last_id} & pads:
                right[np.flatnonzero(right)[:1]] = False
                left[np.flatnonzero(left)[-1:]] = False
            yield row, of_row, right | left


@rule("TOK008", "warning", explained_by=("TOK001",))
def wrong_pad_id(batches: BatchEvidence, tokens: TokenEvidence) -> Observation | None:
    """Batches are padded with another id than the model's

    Measures: ids at masked positions of the batches, or without a mask the tokenizer's pad id at the end of sequences,
    beside the model's pad id.

    Threshold: they are equal. A warning where a mask hides them, an error where none does.

    Why: RoBERTa counts positions from the pad id, and models that read the last token look for it: with another id they
    read the wrong place in silence.

    Look-alikes: in BERT a masked position changes nothing, whatever its id.

    Mend: `model.config.pad_token_id = tokenizer.pad_token_id`, or pad with `tokenizer.pad`.

    Reference: transformers, `create_position_ids_from_input_ids` of RoBERTa.
    """
    if tokens.model_pad_id is None:
        raise CannotTell("the model declares no pad id")
    found: list[np.ndarray] = []
    for row, mask, padded in padded_rows(batches, tokens):
        found.append(row[padded] if mask is None else row[mask[: len(row)] == 0])
    ids = np.concatenate(found) if found else np.zeros(0, np.int64)
    wrong = ids[ids != tokens.model_pad_id]
    if len(wrong) == 0:
        return None
    return Observation(
        observed=f"{len(wrong):,} of {len(ids):,} positions of padding hold id {int(np.bincount(wrong).argmax())}",
        expected=f"the model's pad id {tokens.model_pad_id}",
        n=len(ids),
        cause="the collator pads with a constant or another tokenizer's id",
        fix="pad with tokenizer.pad, and set model.config.pad_token_id to the same id",
        severity="error" if batches.attention_mask is None else "warning",
    )


@rule("TOK010", "note")
def padded_to_maximum(batches: BatchEvidence, tokens: TokenEvidence) -> Observation | None:
    """Every batch is padded to the same length

    Measures: whether all batches have one width that no row fills, and the share of padding.

    Threshold: one width in two batches or more, and half of the positions padding: a note.

    Why: padding costs as much as text: `padding="max_length"` on short texts doubles the time and more.

    Look-alikes: compiled programs and TPUs want one shape.

    Mend: pad each batch to its own longest row, and group rows by length.

    Reference: transformers, `DataCollatorWithPadding`.
    """
    if batches.input_ids is None or len(batches.input_ids) < 2:
        raise CannotTell("fewer than two batches of token ids are at hand")
    widths = {np.atleast_2d(ids).shape[1] for ids in batches.input_ids}
    paddings = [int(padded.sum()) for _, _, padded in padded_rows(batches, tokens)]
    if len(widths) > 1 or not paddings or min(paddings) == 0:
        return None
    width = widths.pop()
    share = sum(paddings) / (width * len(paddings))
    if share < WASTE:
        return None
    return Observation(
        observed=f"all batches are {width} wide, and {share:.0%} of the positions are padding",
        expected=f"below {WASTE:.0%}",
        n=len(paddings),
        cause="the texts were padded to the maximum when they were tokenized",
        fix="pad each batch to its longest row (DataCollatorWithPadding), and group rows by length",
    )
