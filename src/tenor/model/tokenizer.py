"""Loads a model's tokenizer from a folder or the hub; missing files are an error, never replaced by a default."""

from pathlib import Path
from typing import Any

from tenor.errors import UserError

SPACES = "▁Ġ "
"""How SentencePiece and byte-level vocabularies write a space: a token of only these is not a word."""

MODEL_FILES = (".model", ".tiktoken")
"""Suffixes of SentencePiece's and tiktoken's files, whose names vary."""


def load_tokenizer(location: str | Path, *, local: bool) -> Any:
    """The tokenizer of a folder or hub id; with `local` the hub is not contacted.

    For a folder without tokenizer files, `transformers` 5 returns a tokenizer that has only special tokens and
    recognizes no word (findings/transformers_tokenizer_without_files.sh).

    Raises:
        UserError: no tokenizer files, or a vocabulary without words.
        Exception: whatever `transformers` raises about existing tokenizer files.
    """
    from transformers import AutoTokenizer

    folder = Path(location)
    bare = folder.is_dir() and not any(map(_may_hold_a_vocabulary, folder.iterdir()))
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=local, trust_remote_code=False)
    except Exception as error:  # For some models `transformers` raises errors of many kinds instead.
        if bare:
            raise _no_tokenizer(location) from error
        raise
    # A tokenizer of bytes or characters (CANINE, Perceiver) needs no files.
    if bare and tokenizer.vocab_files_names:
        raise _no_tokenizer(location)
    if not knows_words(tokenizer):
        raise UserError(
            f"the tokenizer in {location} has only special tokens and no words, so all texts would look the same. "
            "Copy the tokenizer files (tokenizer.json, vocab.txt or the like) from the original model"
        )
    return tokenizer


def knows_words(tokenizer: Any) -> bool:
    """Whether a vocabulary contains anything but special tokens and spaces."""
    special = set(tokenizer.all_special_tokens)
    return any(token not in special and token.strip(SPACES) for token in tokenizer.get_vocab())


def refuse_other_vocabulary(name: str, tokenizer: Any, model: Any, pads: bool = False) -> None:
    """Raises UserError for words of the tokenizer without an embedding in the model, and with `pads` also for its
    padding token."""
    rows = embedding_count(model)
    if rows is None:
        return
    special = set(tokenizer.all_special_tokens)
    beyond = [token for token, index in tokenizer.get_vocab().items() if index >= rows and token not in special]
    if beyond:
        raise UserError(
            f"{name}: the tokenizer gives token ids that the model has no embedding for: {len(beyond):,} of its words "
            f"have an id of {rows:,} or more, the number of the model's token embeddings. Use tokenizer and weights "
            "from the same model"
        )
    if pads and (tokenizer.pad_token_id or 0) >= rows:
        raise UserError(
            f"{name}: the tokenizer's padding token {tokenizer.pad_token!r} has the id {tokenizer.pad_token_id:,}, "
            f"expected less than {rows:,}, the number of the model's token embeddings. Add an embedding for it: "
            "model.resize_token_embeddings(len(tokenizer)), and save the model again"
        )


def embedding_count(model: Any) -> int | None:
    """The number of token embeddings; None if the model has no such table (CANINE hashes characters)."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return None if getattr(table, "weight", None) is None else int(table.weight.shape[0])


def _no_tokenizer(location: str | Path) -> UserError:
    return UserError(
        f"no tokenizer in {location}: expected its files (tokenizer.json, vocab.txt or the like) next to config.json. "
        f"Copy them from the original model, or save it there: tokenizer.save_pretrained({str(location)!r})"
    )


def _may_hold_a_vocabulary(file: Path) -> bool:
    """Whether a file name is one that tokenizers use."""
    name = file.name
    return name.startswith("tokenizer.") or "vocab" in name or name == "tekken.json" or file.suffix in MODEL_FILES
