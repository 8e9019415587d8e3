"""Text → token ids, truncated as configured, and cached as Arrow files keyed by content, tokenizer and settings."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.errors import UserError
from tenor.runs.files import cached_file
from tenor.runs.model_notes import ModelNotes

CACHE_VERSION = 1
ROWS_PER_CHUNK = 4096
CHARACTERS_AT_ONCE = 2**23
"""Characters per call of the tokenizer, which needs more than a hundred bytes for each token."""


@dataclass(frozen=True)
class Truncation:
    """Which tokens of a longer text are kept; `head_share` is used only by `head_tail`."""

    max_length: int
    strategy: str
    head_share: float

    @classmethod
    def of(cls, settings: "Data | ModelNotes") -> "Truncation":
        return cls(settings.max_length, settings.truncation, settings.head_share)

    def keep(self, content: np.ndarray, special: int) -> np.ndarray:
        """The part of `content` (n,) that is kept, with room for `special` special tokens."""
        room = self.max_length - special
        if len(content) <= room:
            return content
        head = {"head": room, "tail": 0, "head_tail": round(room * self.head_share)}[self.strategy]
        return np.concatenate([content[:head], content[len(content) - (room - head) :]])


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of every row with special tokens, without padding; memory-mapped if read from the cache."""

    chunks: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Per chunk, the concatenated ids of its rows (int32) and the offset of each row (rows + 1)."""
    lengths: np.ndarray
    """Count of tokens kept per row, shape (rows,)."""
    full_lengths: np.ndarray
    """Count of tokens of the whole text per row, shape (rows,)."""
    labels: np.ndarray
    """Class indices, shape (rows,)."""

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> np.ndarray:
        """The token ids of one row, shape (lengths[index],)."""
        ids, starts = self.chunks[index // ROWS_PER_CHUNK]
        within = index % ROWS_PER_CHUNK
        return ids[starts[within] : starts[within + 1]]

    @property
    def truncated(self) -> np.ndarray:
        """Whether each row lost tokens, bool, shape (rows,)."""
        return self.full_lengths > self.lengths


@dataclass(frozen=True)
class Shortened:
    """Rows of a `TokenizedText`, truncated further on access.

    The result is that of tokenizing with `truncation`, whose strategy and share must be those of the first truncation.
    """

    tokens: TokenizedText
    truncation: Truncation
    around: tuple[int, int]
    """Count of special tokens before and after a text."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        return np.minimum(self.tokens.lengths, self.truncation.max_length)

    @property
    def labels(self) -> np.ndarray:
        return self.tokens.labels

    def row(self, index: int) -> np.ndarray:
        return cut(self.tokens.row(index), self.truncation, self.around)


def tokenize(rows: LabelledText, tokenizer: Any, truncation: Truncation) -> TokenizedText:
    """Tokenize every row, or read the cached result of an earlier call with the same texts, tokenizer and settings.

    Raises:
        UserError: `truncation.max_length` leaves no room for text.
    """
    name = f"{cache_key(rows, tokenizer, truncation)}.arrow"
    path = cached_file("tokens", name, lambda path: _write(path, _encode(rows, tokenizer, truncation)))
    return _read(path, rows.labels)


def cache_key(rows: LabelledText, tokenizer: Any, truncation: Truncation) -> str:
    """SHA-256 over the texts in their order, the tokenizer's whole definition, and the settings."""
    settings = {"version": CACHE_VERSION, "tokenizer": tokenizer_digest(tokenizer), **asdict(truncation)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for text in rows.texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of everything that determines the ids: the serialized backend, or the vocabulary of a Python
    tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        definition = json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), str(tokenizer)])
    else:
        content = json.loads(backend.to_str())
        # Both are set at every call, so the stored values have no effect.
        content["truncation"] = content["padding"] = None
        definition = json.dumps(content, sort_keys=True)
    return hashlib.sha256(definition.encode()).hexdigest()


def _encode(rows: LabelledText, tokenizer: Any, truncation: Truncation) -> Iterator[tuple[list[np.ndarray], list[int]]]:
    """Per chunk of rows: the kept ids of each, and the length of each before truncation."""
    around = special_tokens_around(tokenizer)
    refuse_no_room(truncation, around)
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        kept: list[np.ndarray] = []
        full: list[int] = []
        for texts in _parts(rows.texts[start : start + ROWS_PER_CHUNK]):
            ids = whole_ids(texts, tokenizer)
            kept += [cut(row, truncation, around) for row in ids]
            full += [len(row) for row in ids]
        yield kept, full


def _parts(texts: list[str]) -> Iterator[list[str]]:
    """Texts in order, in parts small enough that the tokenizer's output fits into memory."""
    characters = np.cumsum([len(text) for text in texts])
    part_of = characters // CHARACTERS_AT_ONCE
    for rows in np.split(np.arange(len(texts)), np.flatnonzero(np.diff(part_of)) + 1):
        yield texts[rows[0] : rows[-1] + 1]


def whole_ids(texts: list[str], tokenizer: Any) -> list[np.ndarray]:
    """The ids of whole texts with special tokens, int32."""
    # Explicitly without truncation: a tokenizer file may contain a truncation setting.
    encoded = tokenizer(texts, truncation=False, padding=False, return_attention_mask=False, verbose=False)
    return [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]


def cut(ids: np.ndarray, truncation: Truncation, around: tuple[int, int]) -> np.ndarray:
    """The ids of a truncated text with the special tokens `around` it."""
    before, after = around
    content = truncation.keep(ids[before : len(ids) - after], before + after)
    return np.concatenate([ids[:before], content, ids[len(ids) - after :]])


def special_tokens_around(tokenizer: Any) -> tuple[int, int]:
    """Counts of special tokens before and after a text.

    Raises:
        UserError: a tokenizer that gives no token for a letter.
    """
    mask = tokenizer("a", truncation=False, return_special_tokens_mask=True, verbose=False)["special_tokens_mask"]
    content = [position for position, special in enumerate(mask) if not special]
    if not content:
        raise UserError(
            f"{tokenizer.name_or_path}: the tokenizer gives no token for the text 'a', so it does not read its own "
            "vocabulary: its class in transformers may not fit tokenizer.json. Use the tokenizer files of the original "
            "model"
        )
    return content[0], len(mask) - 1 - content[-1]


def refuse_no_room(truncation: Truncation, around: tuple[int, int]) -> None:
    """Raises UserError if the special tokens alone fill a row."""
    if truncation.max_length <= sum(around):
        raise UserError(
            f"data.max_length={truncation.max_length} leaves no room for text, expected more than the {sum(around)} "
            "special tokens. Set a larger data.max_length"
        )


def _write(path: Path, chunks: Iterator[tuple[list[np.ndarray], list[int]]]) -> None:
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("full_length", pa.int32())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for kept, full in chunks:
            starts = np.concatenate([[0], np.cumsum([len(ids) for ids in kept])]).astype(np.int32)
            ids = pa.ListArray.from_arrays(pa.array(starts), pa.array(np.concatenate(kept)))
            writer.write_batch(pa.record_batch([ids, pa.array(full, pa.int32())], schema=schema))


def _read(path: Path, labels: np.ndarray) -> TokenizedText:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    chunks = tuple((chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in table["input_ids"].chunks)
    lengths = np.concatenate([np.diff(starts) for _, starts in chunks] or [np.zeros(0, np.int32)])
    return TokenizedText(chunks, lengths, table["full_length"].to_numpy(), labels)
