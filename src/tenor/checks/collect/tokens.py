"""Evidence from a tokenizer beside a model, and from the ids that reach the model."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tenor.checks.evidence import BatchEvidence, TokenEvidence
from tenor.checks.finding import CannotTell

CASE_SAMPLE = "The Film Was GOOD"


def token_evidence(model: Any, tokenizer: Any, batches: BatchEvidence) -> TokenEvidence:
    """The tokenizer beside the model's embedding, the ids of collated batches, and the tokenizer of the model's folder.

    Raises CannotTell for a model without an embedding of tokens.
    """
    table: Any = getattr(model, "get_input_embeddings", lambda: None)()
    if not hasattr(table, "num_embeddings"):
        raise CannotTell(f"a {type(model).__name__} has no embedding of tokens to compare the tokenizer with")
    own = _own_tokenizer(model)
    return TokenEvidence(
        vocabulary_size=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=table.num_embeddings,
        pad_id=tokenizer.pad_token_id,
        model_pad_id=getattr(model.config, "pad_token_id", None),
        unknown_id=tokenizer.unk_token_id,
        first_id=tokenizer.cls_token_id,
        last_id=tokenizer.sep_token_id,
        input_ids=_unpadded(batches, tokenizer.pad_token_id),
        tokenizer_lowercases=None if own is None else _lowercases(tokenizer),
        vocabulary_is_lowercase=None if own is None else _is_lowercase(own),
        digest=None if own is None else _vocabulary_digest(tokenizer),
        model_digest=None if own is None else _vocabulary_digest(own),
    )


def _own_tokenizer(model: Any) -> Any:
    """The tokenizer that lies beside the model's weights on this machine; None where there is none."""
    from transformers import AutoTokenizer

    name = getattr(model, "name_or_path", "")
    if not name:
        return None
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError):  # What `transformers` raises where a folder holds none.
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
