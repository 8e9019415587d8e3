"""A model's tokenizer, from its folder or the hub; where the files are missing, an error and no stand-in."""

from pathlib import Path
from typing import Any

from tenor.errors import UserError

SPACES = "▁Ġ "
"""What SentencePiece and byte-level vocabularies write for a space: a token of these alone is no word."""

MODEL_FILES = (".model", ".tiktoken")
"""SentencePiece's and tiktoken's files, which go by many names."""


def load_tokenizer(location: str | Path, *, local: bool) -> Any:
    """The tokenizer of a folder or hub id; `local` asks no hub.

    `transformers` 5 also answers for a folder without tokenizer files, with a tokenizer of the special tokens alone
    that reads no word of any text (findings/transformers_tokenizer_without_files.sh).

    Raises:
        UserError: no tokenizer there, or one without words.
        Exception: whatever `transformers` raises about the tokenizer files that are there.
    """
    from transformers import AutoTokenizer

    folder = Path(location)
    bare = folder.is_dir() and not any(map(_may_hold_a_vocabulary, folder.iterdir()))
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=local, trust_remote_code=False)
    except Exception as error:  # Models for which there is no stand-in raise errors of many kinds.
        if bare:
            raise _no_tokenizer(location) from error
        raise
    # A tokenizer of bytes or characters (CANINE, Perceiver) needs no file.
    if bare and tokenizer.vocab_files_names:
        raise _no_tokenizer(location)
    if not knows_words(tokenizer):
        raise UserError(
            f"the tokenizer in {location} has special tokens and no words, so every text would look the same; "
            "copy the tokenizer files (tokenizer.json, vocab.txt or the like) from the original model"
        )
    return tokenizer


def knows_words(tokenizer: Any) -> bool:
    """Whether a vocabulary holds anything but special tokens and spaces."""
    special = set(tokenizer.all_special_tokens)
    return any(token not in special and token.strip(SPACES) for token in tokenizer.get_vocab())


def _no_tokenizer(location: str | Path) -> UserError:
    return UserError(
        f"no tokenizer in {location}: expected its files (tokenizer.json, vocab.txt or the like) next to config.json; "
        f"copy them from the original model, or save it there: tokenizer.save_pretrained({str(location)!r})"
    )


def _may_hold_a_vocabulary(file: Path) -> bool:
    """By any of the names that tokenizers give the file."""
    name = file.name
    return name.startswith("tokenizer.") or "vocab" in name or name == "tekken.json" or file.suffix in MODEL_FILES
