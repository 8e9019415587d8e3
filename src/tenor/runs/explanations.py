"""`explanations.json`: how a model's explanations were tested, what decides over the held-out rows, and the words of
the most confident errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, NonNegativeFloat, model_validator

from tenor.runs.files import PositiveInt, Record, Share, parse_record, read_json, write_json
from tenor.runs.missing import MissingRecord

EXPLANATIONS = "explanations.json"
NEXT_STEP = "make it again: tenor explain RUN"


class StoredDeletion(Record):
    """How much deleting words lowers the probability of the predicted class, in −1 … 1, mean over the rows."""

    rows: PositiveInt
    deleted_words: FiniteFloat
    """Mean number of words that were deleted from a row."""
    important: FiniteFloat
    """The words that the explainer calls important …"""
    random: FiniteFloat
    """… and as many random words."""
    difference: FiniteFloat
    low: FiniteFloat
    """Of the difference, with its interval."""
    high: FiniteFloat
    confidence: Share


class StoredTerm(Record):
    """A word, or a pair of neighbouring words, that decides."""

    term: str
    label: str
    """The class that it speaks for …"""
    mean: FiniteFloat
    """… and by how much, in logits, mean over its occurrences."""
    count: PositiveInt
    """Occurrences …"""
    rows: PositiveInt
    """… and rows with it."""


class StoredShortcut(Record):
    """A word that may be a shortcut: it moves the model on texts that it does not belong to, and nearly all rows with
    it have one label."""

    term: str
    label: str
    """The class that it pulls to."""
    inserted: FiniteFloat
    """Mean change of the class's probability if the word is inserted into texts of other classes …"""
    inserted_texts: PositiveInt
    deleted: FiniteFloat | MissingRecord
    """… and if it is deleted from texts that have it."""
    deleted_texts: int
    rows: PositiveInt
    """Labelled rows with the word …"""
    of_label: int
    """… and how many of them have the class."""
    expected: Share
    """The share that the class has of all these labels."""
    surprise: NonNegativeFloat
    """−log10 of the probability of so many by chance."""


class StoredWords(Record):
    """A row's explanation, by positions in its text, in code points."""

    id: str
    label: str
    """The predicted class, for which the values speak."""
    characters: int
    """Of the text, so that another text with this id is recognized."""
    spans: tuple[tuple[int, int], ...]
    values: tuple[FiniteFloat, ...]
    """Logits, one per span."""

    @model_validator(mode="after")
    def _require_pairs(self) -> "StoredWords":
        if len(self.spans) != len(self.values):
            raise ValueError(f"{len(self.spans)} spans and {len(self.values)} values")
        return self


class ExplanationSettings(Record):
    """How the explanations were made."""

    method: str
    nodes: PositiveInt
    """Of the quadrature, at first …"""
    most_nodes: PositiveInt
    """… and at most."""
    share: Share
    """Of the words that the test deletes."""
    random_draws: PositiveInt
    seed: int


class StoredExplanations(Record):
    """The content of the file."""

    digest: str
    """Of the model, with the text baseline of a hybrid."""
    weights_sha256: str
    at: str
    """ISO 8601, UTC."""
    origin: str
    """The source of the held-out rows …"""
    split: str
    """… and their split."""
    rows_available: int
    """Held-out rows, of which some are used."""
    seconds: float
    settings: ExplanationSettings
    deletion: StoredDeletion | MissingRecord
    gap: FiniteFloat | MissingRecord
    """Median completeness gap."""
    words: tuple[StoredTerm, ...]
    pairs: tuple[StoredTerm, ...]
    shortcuts: tuple[StoredShortcut, ...] | MissingRecord
    labelled: str
    """The rows whose labels the shortcuts are judged by."""
    errors: Mapping[str, tuple[StoredWords, ...]] = {}
    """By split: the rows of the report's most confident errors."""


def write_explanations(path: Path, record: StoredExplanations) -> None:
    """Write the file, atomically."""
    write_json(path, record.model_dump(mode="json"))


def read_explanations(path: Path) -> StoredExplanations:
    """Read the file.

    Raises:
        UserError: it is missing, damaged or not as `write_explanations` writes it.
    """
    return parse_record(StoredExplanations, read_json(path), path, NEXT_STEP)


def as_record(values: Mapping[str, Any]) -> StoredExplanations:
    """Plain values as a record. Raises ValueError for what no reader accepts."""
    return StoredExplanations.model_validate(values)
