"""Tokens: whether the tokenizer fits the model's vocabulary, what is left of the texts, and padding."""

from collections.abc import Iterator

import numpy as np

from tenor.checks.evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule

SMALLER = 0.9  # Embeddings are filled up by less than a tenth (128,000 tokens in 128,100 rows for DeBERTa-v3).
UNKNOWN_WARNING = 0.05  # English reviews are below 0.1% with their own vocabulary; emoji-rich tweets at 1–2%.
UNKNOWN_ERROR = 0.3  # A third of a text unread: another language or script (Rust et al. 2021).
UNKNOWN_TOKENS = 200
CUT_NOTE, CUT_WARNING = 0.05, 0.5  # Of all tokens.
MOST = 0.5


def sequences(tokens: TokenEvidence) -> tuple[np.ndarray, ...]:
    """Token ids of the texts looked at."""
    if not tokens.input_ids:
        raise CannotTell("no tokenized text is at hand")
    return tuple(np.asarray(ids) for ids in tokens.input_ids)


def unknown_rate(tokens: TokenEvidence) -> tuple[float, int] | None:
    """Share of unknown tokens, and how many tokens there are; None where it is not known."""
    if tokens.unknown_id is None or not tokens.input_ids:
        return None
    ids = np.concatenate(sequences(tokens))
    return (float(np.mean(ids == tokens.unknown_id)), len(ids)) if len(ids) else None


@rule("TOK001", "error", explains=("bad result", "foreign tokens"))
def another_vocabulary(tokens: TokenEvidence) -> Finding | None:
    """The tokenizer's vocabulary is not the model's

    Measures: the digests of both vocabularies; where the model's is not known, as where no tokenizer was saved with
    its weights, the tokenizer's size and the embedding's.

    Threshold: equal digests, and a tokenizer that has words; exact invariants. By size alone: a tokenizer that uses
    less than 90% of the embedding is a warning.

    Why: id 2000 is one word to the tokenizer and another to the model: the texts arrive in cipher. Training lowers the
    loss even so, to the level of a bag of words from scratch.

    Look-alikes: tokens added on purpose, with `resize_token_embeddings`; embeddings filled up to a multiple of 64.

    Fix: load both from the same name: `AutoTokenizer.from_pretrained(name)` and `AutoModel.from_pretrained(name)`.
    From a folder into which only the model was saved, `transformers` 5 loads a stand-in without words.

    Reference: transformers, docs of `AutoTokenizer`.
    """
    if not tokens.has_words:
        return Finding(
            observed=f"{tokens.vocabulary_size:,} special tokens and no word",
            expected="the vocabulary that the model was trained with",
            n=tokens.vocabulary_size,
            cause="it was loaded from a folder without tokenizer files, for which transformers makes a stand-in",
            fix="load the tokenizer of the original model, and save it next to the weights: tokenizer.save_pretrained",
        )
    if tokens.digest and tokens.model_digest:
        if tokens.digest == tokens.model_digest:
            return None
        observed = f"vocabulary {tokens.digest[:12]} ({tokens.vocabulary_size:,} tokens)"
        expected, certain = f"vocabulary {tokens.model_digest[:12]}, with which the model was trained", True
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
    """The tokenizer keeps capitals that the vocabulary does not have

    Measures: whether the tokenizer lowercases, and whether the vocabulary holds a capital letter.

    Threshold: a tokenizer that keeps capitals on a vocabulary without any is a warning, and an error where 5% of the
    tokens are unknown. The other way round, capitals are lost: a note.

    Why: "Great" becomes [UNK] or letters, and the first word of every sentence with it.

    Look-alikes: texts that are lowercase already; scripts without case.

    Fix: `do_lower_case=True`, or the tokenizer of the model's own checkpoint.

    Reference: Devlin et al. 2019, BERT, on cased and uncased models.
    """
    if tokens.tokenizer_lowercases is None or tokens.vocabulary_is_lowercase is None:
        raise CannotTell("it is not known whether the tokenizer lowercases or the vocabulary holds capitals")
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
        cause="the tokenizer was set up by hand, or belongs to another checkpoint",
        fix=f"set do_lower_case={keeps}, or load the tokenizer from the model's own checkpoint",
        severity="error" if lost else "warning" if keeps else "note",
    )


@rule("TOK003", "warning", symptoms=("foreign tokens", "unknown tokens"), explains=("bad result", "odd probabilities"))
def many_unknown(tokens: TokenEvidence) -> Finding | None:
    """Many tokens are unknown to the model

    Measures: the share of the unknown token among the tokens of some training texts.

    Threshold: 5% a warning, 30% an error, on 200 tokens or more.

    Why: every unknown token looks the same, so what it said is gone.

    Look-alikes: emoji and rare scripts in a few texts; vocabularies of bytes have no unknown token.

    Fix: a model of the texts' language (`xlm-roberta-base` covers a hundred), or clean the texts as its authors did.

    Reference: Rust et al. 2021, How good is your tokenizer?
    """
    rate = unknown_rate(tokens)
    if rate is None:
        raise CannotTell("no tokenized text is at hand, or the vocabulary has no unknown token")
    if rate[1] < UNKNOWN_TOKENS:
        raise CannotTell(f"{rate[1]} tokens are too few")
    if rate[0] < UNKNOWN_WARNING:
        return None
    return Finding(
        observed=f"{rate[0]:.1%} of {rate[1]:,} tokens are unknown",
        expected=f"below {UNKNOWN_WARNING:.0%}",
        n=rate[1],
        cause="the texts are in another language, script or case than the vocabulary",
        fix="take a model of the texts' language, or normalise the texts as its tokenizer expects",
        severity="error" if rate[0] >= UNKNOWN_ERROR else "warning",
    )


@rule("TOK004", "error", symptoms=("foreign tokens",))
def special_tokens_missing(tokens: TokenEvidence) -> Finding | None:
    """Sequences lack the special token at the start or the end

    Measures: sequences that do not begin with the model's first token ([CLS], <s>) or end with its last ([SEP], </s>).

    Threshold: none; an exact invariant.

    Why: the classifier reads the first position, and the model was pretrained with these marks. Truncation by hand
    (`ids[:512]`) cuts the last one off.

    Look-alikes: models that have none declare none.

    Fix: `add_special_tokens=True`, and truncate inside the tokenizer or before the marks are added.

    Reference: Devlin et al. 2019, BERT.
    """
    if tokens.first_id is None and tokens.last_id is None:
        raise CannotTell("the model declares no first or last token")
    ids = sequences(tokens)
    start = sum(tokens.first_id is not None and (len(one) == 0 or one[0] != tokens.first_id) for one in ids)
    end = sum(tokens.last_id is not None and (len(one) == 0 or one[-1] != tokens.last_id) for one in ids)
    if not start and not end:
        return None
    return Finding(
        observed=f"of {len(ids):,} sequences {start:,} lack the first token and {end:,} the last",
        expected=f"{tokens.first_id} at the start and {tokens.last_id} at the end of each",
        n=len(ids),
        cause="special tokens were not added, or were cut off by truncation",
        fix="tokenize with add_special_tokens=True and truncate inside the tokenizer",
    )


@rule("TOK005", "error")
def special_tokens_doubled(tokens: TokenEvidence) -> Finding | None:
    """Sequences have the special token twice at the start or the end

    Measures: sequences that begin with two first tokens or end with two last ones.

    Threshold: half of them an error, fewer a note.

    Why: "[CLS] [CLS] …": the text was wrapped by hand and again by the tokenizer, which the model never met.

    Look-alikes: a few texts that quote "[SEP]" themselves; pairs of texts have two marks in the middle.

    Fix: give the tokenizer bare text, or `add_special_tokens=False` where the marks are in it already.

    Reference: transformers, docs of `build_inputs_with_special_tokens`.
    """
    if tokens.first_id is None and tokens.last_id is None:
        raise CannotTell("the model declares no first or last token")
    ids = [one for one in sequences(tokens) if len(one) > 2]
    start = sum(tokens.first_id is not None and (one[:2] == tokens.first_id).all() for one in ids)
    end = sum(tokens.last_id is not None and (one[-2:] == tokens.last_id).all() for one in ids)
    if not start and not end:
        return None
    return Finding(
        observed=f"of {len(ids):,} sequences {start:,} have the first token twice and {end:,} the last",
        expected="each once",
        n=len(ids),
        cause="the marks were added by hand and by the tokenizer",
        fix="give the tokenizer bare text, or add_special_tokens=False",
        severity="error" if max(start, end) >= MOST * len(ids) else "note",
    )


@rule("TOK006", "error", symptoms=("foreign tokens",), explains=("bad result",))
def id_beyond_embedding(tokens: TokenEvidence) -> Finding | None:
    """Token ids have no row in the embedding

    Measures: the largest id among some training texts, and the largest that the tokenizer can give, beside the rows of
    the embedding.

    Threshold: an id that occurs must have a row: an error, an exact invariant. One that could occur is a warning.

    Why: the lookup stops with "index out of range", on a GPU with an assertion far from the cause.

    Look-alikes: a larger embedding than vocabulary is filled up for speed.

    Fix: `model.resize_token_embeddings(len(tokenizer))` after adding tokens, or the model's own tokenizer.

    Reference: transformers, docs of `resize_token_embeddings`.
    """
    seen = [one for one in tokens.input_ids or () if len(one)]
    largest = max((int(np.max(one)) for one in seen), default=-1)
    smallest = min((int(np.min(one)) for one in seen), default=0)
    if max(largest, tokens.vocabulary_size - 1) < tokens.embedding_rows and smallest >= 0:
        return None
    occurs = largest >= tokens.embedding_rows or smallest < 0
    return Finding(
        observed=f"ids {smallest} to {largest} occur, and the tokenizer has {tokens.vocabulary_size:,}",
        expected=f"ids 0 … {tokens.embedding_rows - 1}",
        n=sum(len(one) for one in seen) or tokens.vocabulary_size,
        cause="tokens were added without enlarging the embedding, or the tokenizer is another model's",
        fix="model.resize_token_embeddings(len(tokenizer)), or load the model's own tokenizer",
        severity="error" if occurs else "warning",
    )


@rule("TOK009", "note", setting={"data.truncation": "head_tail"})
def text_cut_off(tokens: TokenEvidence) -> Finding | None:
    """Much of the text is cut off

    Measures: tokens lost to truncation over all tokens, and the texts that lose any.

    Threshold: 5% is noted; half is a warning where only the beginning is kept.

    Why: reviews often give their verdict at the end.

    Look-alikes: long documents whose first paragraph says it all (news); budgets that force it.

    Fix: a larger `data.max_length`, or `data.truncation=head_tail`, which keeps both ends at the same cost.

    Reference: Sun et al. 2019, How to fine-tune BERT for text classification.
    """
    if tokens.full_lengths is None or tokens.kept_lengths is None or np.sum(tokens.full_lengths) == 0:
        raise CannotTell("the lengths before and after truncation are not known")
    full, kept = np.asarray(tokens.full_lengths), np.asarray(tokens.kept_lengths)
    lost = 1 - kept.sum() / full.sum()
    if lost < CUT_NOTE:
        return None
    keeps_both_ends = tokens.truncation == "head_tail"
    return Finding(
        observed=f"{lost:.0%} of the tokens are cut off, from {np.mean(kept < full):.0%} of the texts",
        expected=f"below {CUT_NOTE:.0%}",
        n=len(full),
        cause=f"the longest sequence kept has {kept.max():,} tokens; the median text has {np.median(full):,.0f}",
        fix="raise data.max_length" + ("" if keeps_both_ends else ", or keep both ends with data.truncation=head_tail"),
        severity="warning" if lost > CUT_WARNING and tokens.truncation == "head" else "note",
    )


WASTE = 0.5  # Of all positions; sorting by length keeps it below 5%.


@rule("TOK007", "error")
def padding_attended(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """Padding is not masked

    Measures: positions of padding (the pad id in a row at either end of a sequence) whose attention mask is missing
    or 1.

    Threshold: none; an exact invariant.

    Why: the model reads padding as text: a row's result depends on the longest row of its batch.

    Look-alikes: where the pad id is the end mark as well, the mark itself is attended rightly: one is let pass.

    Fix: pass `attention_mask` on from the tokenizer to the model; `DataCollatorWithPadding` makes it.

    Reference: transformers, docs of `attention_mask`.
    """
    attended, total = 0, 0
    for row, mask, padded in padded_rows(batches, tokens):
        at_padding = padded if mask is None else padded & (mask[: len(row)] != 0)
        attended, total = attended + int(at_padding.sum()), total + int(padded.sum())
    if attended == 0:
        return None
    return Finding(
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


@rule("TOK008", "warning", symptoms=("foreign tokens",))
def wrong_pad_id(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """Batches are padded with another id than the model's

    Measures: ids at masked positions of the batches, or without a mask the tokenizer's pad id at the end of sequences,
    beside the model's pad id.

    Threshold: they are equal. A warning where a mask hides them, an error where none does.

    Why: RoBERTa counts positions from the pad id, and models that read the last token look for it: with another id they
    read the wrong place in silence.

    Look-alikes: in BERT a masked position changes nothing, whatever its id.

    Fix: `model.config.pad_token_id = tokenizer.pad_token_id`, or pad with `tokenizer.pad`.

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
    return Finding(
        observed=f"{len(wrong):,} of {len(ids):,} positions of padding hold id {int(np.bincount(wrong).argmax())}",
        expected=f"the model's pad id {tokens.model_pad_id}",
        n=len(ids),
        cause="the collator pads with a constant or another tokenizer's id",
        fix="pad with tokenizer.pad, and set model.config.pad_token_id to the same id",
        severity="error" if batches.attention_mask is None else "warning",
    )


@rule("TOK010", "note")
def padded_to_maximum(batches: BatchEvidence, tokens: TokenEvidence) -> Finding | None:
    """Every batch is padded to the same length

    Measures: whether all batches have one width that no row fills, and the share of padding.

    Threshold: one width in two batches or more, and half of the positions padding: a note.

    Why: padding costs as much as text: `padding="max_length"` on short texts doubles the time and more.

    Look-alikes: compiled programs and TPUs want one shape.

    Fix: pad each batch to its own longest row, and group rows by length.

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
    return Finding(
        observed=f"all batches are {width} wide, and {share:.0%} of the positions are padding",
        expected=f"below {WASTE:.0%}",
        n=len(paddings),
        cause="the texts were padded to the maximum when they were tokenized",
        fix="pad each batch to its longest row (DataCollatorWithPadding), and group rows by length",
    )
