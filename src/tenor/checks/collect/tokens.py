"""Evidence from a tokenizer beside a model, and from the ids that reach the model."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tenor.checks.collect.model_parts import embedding_rows, hosts, unwrapped
from tenor.checks.evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell
from tenor.errors import UserError
from tenor.model.tokenizer import knows_words, load_tokenizer

CASE_SAMPLE = "The Film Was GOOD"


def token_evidence(model: Any, tokenizer: Any, batches: BatchEvidence) -> TokenEvidence:
    """The tokenizer, the model's embedding, the ids of collated batches, and the tokenizer of the model's folder.

    Raises CannotTell for a model without an embedding of tokens.
    """
    rows = embedding_rows(model)
    if rows is None:
        raise CannotTell(f"a {type(model).__name__} has no embedding of tokens to compare the tokenizer with")
    encoder = _encoder(model)
    own = _own_tokenizer(encoder)
    return TokenEvidence(
        vocabulary_size=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=rows,
        has_words=knows_words(tokenizer),
        pad_id=tokenizer.pad_token_id,
        model_pad_id=getattr(getattr(encoder, "config", None), "pad_token_id", None),
        unknown_id=tokenizer.unk_token_id,
        first_id=tokenizer.cls_token_id,
        last_id=tokenizer.sep_token_id,
        input_ids=_unpadded(batches, tokenizer.pad_token_id),
        tokenizer_lowercases=None if own is None else _lowercases(tokenizer),
        vocabulary_is_lowercase=None if own is None else _is_lowercase(own),
        digest=None if own is None else _vocabulary_digest(tokenizer),
        model_digest=None if own is None else _vocabulary_digest(own),
    )


def _encoder(model: Any) -> Any:
    """The one `transformers` model inside a module of any kind, else the module itself."""
    inside = hosts(model)
    return inside[0][1] if len(inside) == 1 else unwrapped(model)


def _own_tokenizer(model: Any) -> Any:
    """The tokenizer that was saved with the model's weights on this machine; None where there is none."""
    name = getattr(model, "name_or_path", "")
    if not name:
        return None
    try:
        return load_tokenizer(name, local=True)
    # `UserError` where there is none, the others from `transformers` for files that can't be read.
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def _vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of the tokens and their ids, without those that were added later."""
    added = tokenizer.get_added_vocab()
    vocabulary = {token: k for token, k in tokenizer.get_vocab().items() if token not in added}
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def _unpadded(batches: BatchEvidence, pad_id: int | None) -> tuple[np.ndarray, ...] | None:
    """Each row's ids, without padding at either end."""
    if batches.input_ids is None:
        return None
    rows: list[np.ndarray] = []
    for place, ids in enumerate(batches.input_ids):
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            return None
        text = np.ones_like(ids, dtype=bool) if pad_id is None else ids != pad_id
        if batches.attention_mask is not None:
            text &= batches.attention_mask[place] != 0
        rows += [_between_ends(row, kept) for row, kept in zip(ids, text, strict=True)]
    return tuple(rows)


def _between_ends(row: np.ndarray, kept: np.ndarray) -> np.ndarray:
    where: Sequence[int] = np.flatnonzero(kept).tolist()
    return row[where[0] : where[-1] + 1] if where else row[:0]


def _lowercases(tokenizer: Any) -> bool:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    return ids(CASE_SAMPLE) == ids(CASE_SAMPLE.lower())


def _is_lowercase(tokenizer: Any) -> bool:
    special = set(tokenizer.all_special_tokens)
    return all(token == token.lower() for token in tokenizer.get_vocab() if token not in special)
