"""Tokens: whether the tokenizer matches the model's vocabulary, how much text is truncated, and padding."""

from collections.abc import Iterator

import numpy as np

from tenor.checks.evidence.data_evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.runs.findings import Finding

SMALLER = 0.9  # Embeddings are padded by less than a tenth (128,000 tokens in 128,100 rows for DeBERTa-v3).
UNKNOWN_WARNING = 0.05  # English reviews are below 0.1% with their own vocabulary; emoji-rich tweets at 1–2%.
UNKNOWN_ERROR = 0.3  # A third of the text is unknown: another language or script (Rust et al. 2021).
UNKNOWN_TOKENS = 200
TRUNCATED_NOTE, TRUNCATED_WARNING = 0.05, 0.5  # Of all tokens.
MAJORITY = 0.5


def sequences(tokens: TokenEvidence) -> tuple[np.ndarray, ...]:
    """Token ids of the examined texts."""
    if not tokens.input_ids:
        raise CannotTell("no tokenized text is available")
    return tuple(np.asarray(ids) for ids in tokens.input_ids)


def unknown_rate(tokens: TokenEvidence) -> tuple[float, int] | None:
    """(share of unknown tokens, number of tokens), or None if it is not known."""
    if tokens.unknown_id is None or not tokens.input_ids:
        return None
    ids = np.concatenate(sequences(tokens))
    return (float(np.mean(ids == tokens.unknown_id)), len(ids)) if len(ids) else None


@rule("TOK001", "error", explains=("bad result", "foreign tokens"))
def vocabulary_mismatch(tokens: TokenEvidence) -> Finding | None:
    """The tokenizer's vocabulary differs from the model's

    Measures: the digests of both vocabularies. If the model's is not known (no tokenizer was saved with its weights),
    the number of tokens and the rows of the embedding.

    Threshold: equal digests, and a tokenizer that contains words; exact invariants. By size alone, a tokenizer that
    uses less than 90% of the embedding is a warning.

    Why: id 2000 is one word for the tokenizer and another for the model, so the model reads random words. Training
    still lowers the loss, to the level of a bag of words trained from scratch.

    Look-alikes: tokens added on purpose, with `resize_token_embeddings`; embeddings padded to a multiple of 64.

    Fix: load both from the same name: `AutoTokenizer.from_pretrained(name)` and `AutoModel.from_pretrained(name)`. From
    a folder that contains only the model, `transformers` 5 loads a placeholder tokenizer without words.

    Reference: transformers, docs of `AutoTokenizer`.
    """
    if not tokens.has_words:
        return Finding(
            observed=f"{tokens.vocabulary_size:,} special tokens and no words",
            expected="the vocabulary that the model was trained with",
            n=tokens.vocabulary_size,
            cause="it was loaded from a folder without tokenizer files, for which transformers creates a placeholder",
            fix="load the tokenizer of the original model, and save it next to the weights: tokenizer.save_pretrained",
        )
    if tokens.digest and tokens.model_digest:
        if tokens.digest == tokens.model_digest:
            return None
        observed = f"vocabulary {tokens.digest[:12]} ({tokens.vocabulary_size:,} tokens)"
        expected, certain = f"vocabulary {tokens.model_digest[:12]}, which the model was trained with", True
    else:
        if tokens.embedding_rows <= 0:
            raise CannotTell("the size of the embedding is not known")
        if tokens.vocabulary_size >= SMALLER * tokens.embedding_rows:
            return None
        observed = f"{tokens.vocabulary_size:,} tokens for {tokens.embedding_rows:,} rows of the embedding"
        expected, certain = "about as many tokens as rows", False
    return Finding(
        observed=observed,
        expected=expected,
        n=tokens.vocabulary_size,
        cause="tokenizer and model come from different checkpoints",
        fix="load the tokenizer from the model's own name or folder",
        severity="error" if certain else "warning",
    )


@rule("TOK002", "warning", symptoms=("foreign tokens",), explains=("unknown tokens",))
def case_mismatch(tokens: TokenEvidence) -> Finding | None:
    """The tokenizer and the vocabulary differ in letter case

    Measures: whether the tokenizer lowercases, and whether the vocabulary contains a capital letter.

    Threshold: a tokenizer that keeps capitals with a vocabulary without any is a warning, and an error where 5% of the
    tokens are unknown. The reverse, in which capitals are lost, is a note.

    Why: "Great" becomes [UNK] or single letters, as does the first word of every sentence.

    Look-alikes: texts that are already lowercase; scripts without case.

    Fix: `do_lower_case=True`, or the tokenizer of the model's own checkpoint.

    Reference: Devlin et al. 2019, BERT, on cased and uncased models.
    """
    if tokens.tokenizer_lowercases is None or tokens.vocabulary_is_lowercase is None:
        raise CannotTell("it is not known whether the tokenizer lowercases or the vocabulary contains capitals")
    if tokens.tokenizer_lowercases == tokens.vocabulary_is_lowercase:
        return None
    rate = unknown_rate(tokens)
    share = f"; {rate[0]:.1%} of the tokens are unknown" if rate else ""
    keeps = not tokens.tokenizer_lowercases
    lost = keeps and rate is not None and rate[0] >= UNKNOWN_WARNING and rate[1] >= UNKNOWN_TOKENS
    return Finding(
        observed=(
            f"the tokenizer keeps capitals, the vocabulary has none{share}"
            if keeps
            else f"the tokenizer lowercases, the vocabulary has capitals{share}"
        ),
        expected="both cased or both uncased",
        n=rate[1] if rate else tokens.vocabulary_size,
        cause="the tokenizer was configured by hand, or belongs to another checkpoint",
        fix=f"set do_lower_case={keeps}, or load the tokenizer from the model's own checkpoint",
        severity="error" if lost else "warning" if keeps else "note",
    )


@rule("TOK003", "warning", symptoms=("foreign tokens", "unknown tokens"), explains=("bad result", "odd probabilities"))
def many_unknown(tokens: TokenEvidence) -> Finding | None:
    """Many tokens are unknown to the model

    Measures: the share of the unknown token among the tokens of some training texts.

    Threshold: 5% is a warning, 30% an error, on 200 tokens or more.

    Why: all unknown tokens look the same, so their content is lost.

    Look-alikes: emoji and rare scripts in a few texts; byte-level vocabularies have no unknown token.

    Fix: use a model for the language of the texts (`xlm-roberta-base` covers a hundred), or clean the texts in the same
    way as the model's authors.

    Reference: Rust et al. 2021, How good is your tokenizer?
    """
    rate = unknown_rate(tokens)
    if rate is None:
        raise CannotTell("no tokenized text is available, or the vocabulary has no unknown token")
    if rate[1] < UNKNOWN_TOKENS:
        raise CannotTell(f"{rate[1]} tokens; {UNKNOWN_TOKENS} are needed")
    if rate[0] < UNKNOWN_WARNING:
        return None
    return Finding(
        observed=f"{rate[0]:.1%} of {rate[1]:,} tokens are unknown",
        expected=f"below {UNKNOWN_WARNING:.0%}",
        n=rate[1],
        cause="the texts have another language, script or case than the vocabulary",
        fix="use a model for the language of the texts, or normalize the texts as its tokenizer expects",
        severity="error" if rate[0] >= UNKNOWN_ERROR else "warning",
    )


@rule("TOK004", "error", symptoms=("foreign tokens",))
def special_tokens_missing(tokens: TokenEvidence) -> Finding | None:
    """The special token at the start or end is missing

    Measures: sequences that do not begin with the model's first token ([CLS], <s>) or do not end with its last token
    ([SEP], </s>).

    Threshold: none; an exact invariant.

    Why: the classifier reads the first position, and the model was pretrained with these tokens. Manual truncation
    (`ids[:512]`) removes the last one.

    Look-alikes: models without such tokens declare none.

    Fix: set `add_special_tokens=True`, and truncate in the tokenizer or before the special tokens are added.

    Reference: Devlin et al. 2019, BERT.
    """
    if tokens.first_id is None and tokens.last_id is None:
        raise CannotTell("the model declares no first or last token")
    ids = sequences(tokens)
    start = sum(
        tokens.first_id is not None and (len(sequence) == 0 or sequence[0] != tokens.first_id) for sequence in ids
    )
    end = sum(tokens.last_id is not None and (len(sequence) == 0 or sequence[-1] != tokens.last_id) for sequence in ids)
    if not start and not end:
        return None
    return Finding(
        observed=f"of {len(ids):,} sequences, {start:,} lack the first token and {end:,} the last token",
        expected=f"{tokens.first_id} at the start and {tokens.last_id} at the end of each",
        n=len(ids),
        cause="special tokens were not added, or were removed by truncation",
        fix="tokenize with add_special_tokens=True, and truncate in the tokenizer",
    )


@rule("TOK005", "error")
def special_tokens_doubled(tokens: TokenEvidence) -> Finding | None:
    """The special token at the start or end is doubled

    Measures: sequences that begin with two first tokens or end with two last tokens.

    Threshold: half of them is an error, fewer a note.

    Why: the special tokens were added by hand and again by the tokenizer ("[CLS] [CLS] …"), which the model never saw
    in pretraining.

    Look-alikes: a few texts that contain "[SEP]" themselves; pairs of texts have two of them in the middle.

    Fix: pass plain text to the tokenizer, or set `add_special_tokens=False` if the text already contains them.

    Reference: transformers, docs of `build_inputs_with_special_tokens`.
    """
    if tokens.first_id is None and tokens.last_id is None:
        raise CannotTell("the model declares no first or last token")
    ids = [sequence for sequence in sequences(tokens) if len(sequence) > 2]
    start = sum(tokens.first_id is not None and (sequence[:2] == tokens.first_id).all() for sequence in ids)
    end = sum(tokens.last_id is not None and (sequence[-2:] == tokens.last_id).all() for sequence in ids)
    if not start and not end:
        return None
    return Finding(
        observed=f"of {len(ids):,} sequences, {start:,} have the first token twice and {end:,} the last token",
        expected="each of them once",
        n=len(ids),
        cause="the special tokens were added by hand and by the tokenizer",
        fix="pass plain text to the tokenizer, or set add_special_tokens=False",
        severity="error" if max(start, end) >= MAJORITY * len(ids) else "note",
    )


@rule("TOK006", "error", symptoms=("foreign tokens",), explains=("bad result",))
def id_beyond_embedding(tokens: TokenEvidence) -> Finding | None:
    """Token ids are outside the embedding

    Measures: the largest id in some training texts and the largest id of the tokenizer, compared with the rows of the
    embedding.

    Threshold: an id in the texts without a row is an error, an exact invariant. One that only the tokenizer could
    produce is a warning.

    Why: the lookup fails with "index out of range", on a GPU with an assertion far from the cause.

    Look-alikes: an embedding larger than the vocabulary is padded for speed.

    Fix: call `model.resize_token_embeddings(len(tokenizer))` after adding tokens, or use the model's own tokenizer.

    Reference: transformers, docs of `resize_token_embeddings`.
    """
    seen = [sequence for sequence in tokens.input_ids or () if len(sequence)]
    largest = max((int(np.max(sequence)) for sequence in seen), default=-1)
    smallest = min((int(np.min(sequence)) for sequence in seen), default=0)
    if max(largest, tokens.vocabulary_size - 1) < tokens.embedding_rows and smallest >= 0:
        return None
    occurs = largest >= tokens.embedding_rows or smallest < 0
    return Finding(
        observed=f"ids {smallest} to {largest} occur, and the tokenizer has {tokens.vocabulary_size:,} tokens",
        expected=f"ids 0 … {tokens.embedding_rows - 1}",
        n=sum(len(sequence) for sequence in seen) or tokens.vocabulary_size,
        cause="tokens were added without enlarging the embedding, or the tokenizer belongs to another model",
        fix="call model.resize_token_embeddings(len(tokenizer)), or load the model's own tokenizer",
        severity="error" if occurs else "warning",
    )


@rule("TOK009", "note", setting={"data.truncation": "head_tail"})
def text_truncated(tokens: TokenEvidence) -> Finding | None:
    """Much of the text is truncated

    Measures: the share of all tokens lost to truncation, and the share of texts that are truncated.

    Threshold: 5% is a note; half is a warning where only the beginning is kept.

    Why: reviews often state their verdict at the end.

    Look-alikes: long documents whose first paragraph is a summary (news); a compute budget that requires it.

    Fix: a larger `data.max_length`, or `data.truncation=head_tail`, which keeps both ends at the same cost.

    Reference: Sun et al. 2019, How to fine-tune BERT for text classification.
    """
    if tokens.full_lengths is None or tokens.kept_lengths is None or np.sum(tokens.full_lengths) == 0:
        raise CannotTell("the lengths before and after truncation are not known")
    full, kept = np.asarray(tokens.full_lengths), np.asarray(tokens.kept_lengths)
    lost = 1 - kept.sum() / full.sum()
    if lost < TRUNCATED_NOTE:
        return None
    keeps_both_ends = tokens.truncation == "head_tail"
    return Finding(
        observed=f"{lost:.0%} of the tokens are lost; {np.mean(kept < full):.0%} of the texts are truncated",
        expected=f"below {TRUNCATED_NOTE:.0%}",
        n=len(full),
        cause=f"at most {kept.max():,} tokens of a text are kept; the median text has {np.median(full):,.0f}",
        fix="raise data.max_length" + ("" if keeps_both_ends else ", or keep both ends with data.truncation=head_tail"),
        severity="warning" if lost > TRUNCATED_WARNING and tokens.truncation == "head" else "note",
    )


WASTE = 0.5  # Share of all positions; with batches sorted by length it is below 5%.


@rule("TOK007", "error")
def padding_attended(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """Padding is not masked

    Measures: padding positions (consecutive pad ids at either end of a sequence) whose attention mask is missing or 1.

    Threshold: none; an exact invariant.

    Why: the model reads padding as text, so a row's result depends on the longest row of its batch.

    Look-alikes: where the pad id is also the end token, one such token is attended to rightly and passes.

    Fix: pass `attention_mask` from the tokenizer to the model; `DataCollatorWithPadding` creates it.

    Reference: transformers, docs of `attention_mask`.
    """
    attended, total = 0, 0
    for row, mask, padded in padded_rows(batches, tokens):
        at_padding = padded if mask is None else padded & (mask[: len(row)] != 0)
        attended, total = attended + int(at_padding.sum()), total + int(padded.sum())
    if attended == 0:
        return None
    return Finding(
        observed=f"{attended:,} of {total:,} padding positions are attended to"
        + (": there is no attention mask" if batches.attention_mask is None else ""),
        expected="attention mask 0 at every padding position",
        n=total,
        cause="the mask was not passed on, or contains only ones",
        fix="pass attention_mask from the tokenizer to the model",
    )


def padded_rows(
    batches: BatchEvidence, tokens: TokenEvidence
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """(ids, mask, is padding) of each row; padding is a series of pad ids at the end or the beginning."""
    if batches.input_ids is None:
        raise CannotTell("the token ids of the batches are not available")
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


MASKED_TEXT = 0.5
"""Share of the tokens of a batch that are no padding; programs that mask words at random mask far fewer."""


def share_of_text_masked(batches: BatchEvidence, tokens: TokenEvidence) -> tuple[float, int]:
    """The share of the tokens outside the padding that the mask hides, and how many there are."""
    hidden, total = 0, 0
    for row, mask, padded in padded_rows(batches, tokens):
        if mask is not None:
            hidden, total = hidden + int((~padded & (mask[: len(row)] == 0)).sum()), total + int((~padded).sum())
    return hidden / max(1, total), total


@rule("TOK011", "error", explains=("bad result", "stalled loss", "no gradient", "odd probabilities"), is_exact=True)
def text_masked(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """The attention mask hides the text

    Measures: tokens outside the padding whose attention mask is 0, as the model is called.

    Threshold: half of them.

    Why: the model then attends to nothing, or to padding only. A usual cause is the order of arguments: in
    `transformers` the second one is `attention_mask` and the third `token_type_ids`; in `pytorch_pretrained_bert` it
    was the reverse.

    Look-alikes: programs that mask a part of the words on purpose mask fewer.

    Fix: pass the inputs by name: `model(input_ids=…, attention_mask=…, token_type_ids=…)`.

    Reference: transformers, `BertModel.forward`; "Migrating from pytorch-pretrained-bert".
    """
    if batches.attention_mask is None:
        raise CannotTell("the model is called without an attention mask")
    share, total = share_of_text_masked(batches, tokens)
    if share < MASKED_TEXT:
        return None
    return Finding(
        observed=f"the attention mask is 0 at {share:.0%} of {total:,} tokens that are no padding",
        expected="1 at every token of the text",
        n=total,
        cause="another input is passed as the attention mask, or the mask is inverted",
        fix="pass the inputs by name: model(input_ids=…, attention_mask=…, token_type_ids=…)",
    )


@rule("TOK008", "warning", symptoms=("foreign tokens",))
def wrong_pad_id(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """The pad id differs from the model's

    Measures: the ids at masked positions of the batches (without a mask, the tokenizer's pad id at the end of
    sequences), compared with the model's pad id.

    Threshold: equal. A warning where a mask hides them, an error where none does.

    Why: RoBERTa counts positions from the pad id, and models that read the last token search for it. With another id
    they silently read the wrong position.

    Look-alikes: in BERT the id of a masked position has no effect.

    Fix: `model.config.pad_token_id = tokenizer.pad_token_id`, or pad with `tokenizer.pad`.

    Reference: transformers, `create_position_ids_from_input_ids` of RoBERTa.
    """
    if tokens.model_pad_id is None:
        raise CannotTell("the model declares no pad id")
    if share_of_text_masked(batches, tokens)[0] >= MASKED_TEXT:
        raise CannotTell("the mask hides text, so it does not show the padding")
    at_padding: list[np.ndarray] = []
    for row, mask, padded in padded_rows(batches, tokens):
        at_padding.append(row[padded] if mask is None else row[mask[: len(row)] == 0])
    ids = np.concatenate(at_padding) if at_padding else np.zeros(0, np.int64)
    wrong = ids[ids != tokens.model_pad_id]
    if len(wrong) == 0:
        return None
    return Finding(
        observed=f"{len(wrong):,} of {len(ids):,} padding positions have id {int(np.bincount(wrong).argmax())}",
        expected=f"the model's pad id {tokens.model_pad_id}",
        n=len(ids),
        cause="the collator pads with a constant or with another tokenizer's pad id",
        fix="pad with tokenizer.pad, and set model.config.pad_token_id to the same id",
        severity="error" if batches.attention_mask is None else "warning",
    )


@rule("TOK010", "note")
def padded_to_maximum(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """All batches are padded to the same length

    Measures: whether all batches have one width that no row fills, and the share of padding.

    Threshold: one width in two batches or more, and padding in half of the positions: a note.

    Why: padding costs as much as text: `padding="max_length"` on short texts doubles the time or more.

    Look-alikes: compiled programs and TPUs need one shape.

    Fix: pad each batch to its own longest row, and group rows by length.

    Reference: transformers, `DataCollatorWithPadding`.
    """
    if batches.input_ids is None or len(batches.input_ids) < 2:
        raise CannotTell("fewer than two batches of token ids are available")
    widths = {np.atleast_2d(ids).shape[1] for ids in batches.input_ids}
    paddings = [int(padded.sum()) for _, _, padded in padded_rows(batches, tokens)]
    if len(widths) > 1 or not paddings or min(paddings) == 0:
        return None
    width = widths.pop()
    share = sum(paddings) / (width * len(paddings))
    if share < WASTE:
        return None
    return Finding(
        observed=f"all batches are {width} tokens wide, and {share:.0%} of the positions are padding",
        expected=f"below {WASTE:.0%}",
        n=len(paddings),
        cause="the texts were padded to the maximum length during tokenization",
        fix="pad each batch to its longest row (DataCollatorWithPadding), and group rows by length",
    )
