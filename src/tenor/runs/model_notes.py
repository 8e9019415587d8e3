"""`model/tenor.json`: what Tenor needs to use a saved model as it was trained, and `transformers` has no place for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from tenor.config.schema import TruncationStrategy
from tenor.errors import UserError
from tenor.runs.files import PositiveFloat, PositiveInt, Record, Share, parse_record, read_json, sha256_file, write_json

WEIGHTS = "model.safetensors"
NOTES = "tenor.json"


@dataclass(frozen=True)
class Threshold:
    """A decision rule that replaces "the most probable class": `class_name` where its calibrated probability is
    `probability` or more, else the most probable of the other classes."""

    class_name: str
    probability: float
    wanted: str
    """The measure it was chosen for, `precision` or `recall` …"""
    value: float
    """… and its required value, 0 … 1."""

    def __str__(self) -> str:
        return f"{self.class_name} from probability {self.probability:.4f} (for a {self.wanted} of {self.value:g})"


class StoredThreshold(Record):
    """A threshold as `tenor.json` and `export.json` contain it."""

    class_name: str = Field(alias="class")
    threshold: Share
    wanted: dict[Literal["precision", "recall"], Share] = Field(min_length=1, max_length=1)

    def parsed(self) -> Threshold:
        """The threshold itself."""
        ((wanted, value),) = self.wanted.items()
        return Threshold(self.class_name, self.threshold, wanted, value)


def parse_threshold(stored: Any) -> Threshold | None:
    """The threshold as `tenor.json` and `export.json` contain it. Raises ValueError."""
    return None if stored is None else StoredThreshold.model_validate(stored).parsed()


def stored_threshold(threshold: Threshold) -> dict[str, Any]:
    """The same as plain data."""
    wanted = {threshold.wanted: threshold.value}
    return {"class": threshold.class_name, "threshold": threshold.probability, "wanted": wanted}


class FoldedTemperature(Record):
    """A temperature that the classifier was divided by, so that it is part of the weights."""

    temperature: PositiveFloat = 1.0
    into: tuple[str, ...] = ()
    """Names of the parameters."""
    at: str = ""
    """ISO 8601, UTC."""
    checkpoint_sha256: str = ""
    """Of the checkpoint's own weights, before the division; empty where an earlier version did not record it."""


class TrainingTexts(Record):
    """What the training texts are recognized by (`tenor.data.unlike_texts`)."""

    scripts: dict[str, Share]
    """Share of the letters, by the script's name in Unicode."""
    marked_letters: str
    """Letters outside the English alphabet that are not rare."""
    frequent_words: str
    """Separated by blanks; empty if they do not characterize the texts: too few texts, or a language of compounds."""
    lowest_share: Share
    """Share of the frequent words in a text, at or below which it seems to be in another language."""


class ModelNotes(Record):
    """The content of `model/tenor.json`."""

    max_length: PositiveInt
    """Tokens of a text, special tokens included."""
    truncation: TruncationStrategy
    head_share: Share
    temperature: PositiveFloat
    """To divide this model's logits by, before the softmax."""
    weights_sha256: str
    """Of model.safetensors in the same folder."""
    checkpoint_step: int
    """Optimizer step of the checkpoint."""
    folded: FoldedTemperature = FoldedTemperature()
    threshold: Threshold | None = None
    """The rule by which `tenor predict` decides, where `tenor calibrate` chose one."""
    training_texts: TrainingTexts | None = None
    """None: not recorded."""

    @field_validator("threshold", mode="before")
    @classmethod
    def _parse_threshold(cls, stored: Any) -> Threshold | None:
        return stored if isinstance(stored, Threshold) else parse_threshold(stored)

    @property
    def folded_temperature(self) -> float:
        """By which the checkpoint's classifier was divided already; 1 where it was not."""
        return self.folded.temperature

    @property
    def total_temperature(self) -> float:
        """Between the checkpoint's logits and the probabilities."""
        return self.temperature * self.folded_temperature


def write_model_notes(
    folder: Path,
    *,
    max_length: int,
    truncation: TruncationStrategy,
    head_share: float,
    temperature: float,
    weights_sha256: str,
    checkpoint_step: int,
) -> None:
    """Write `tenor.json` of a model that was just saved. Raises ValueError for values that no reader accepts."""
    notes = {
        "max_length": max_length,
        "truncation": truncation,
        "head_share": head_share,
        "temperature": temperature,
        "weights_sha256": weights_sha256,
        "checkpoint_step": checkpoint_step,
    }
    ModelNotes.model_validate(notes)
    write_json(folder / NOTES, notes)


def read_model_notes(folder: Path) -> ModelNotes:
    """Read `tenor.json` and verify the weights in the same folder.

    Raises:
        UserError: not a model that Tenor saved, or weights that are not those it was saved with.
    """
    notes = parse_record(ModelNotes, read_json(folder / NOTES), folder / NOTES, "take the run's own model folder")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS} is missing; restore it, or train again")
    if (observed := sha256_file(folder / WEIGHTS)) != notes.weights_sha256:
        raise UserError(
            f"{folder / WEIGHTS} is not what was saved: SHA-256 {observed[:12]}…, expected "
            f"{notes.weights_sha256[:12]}…. Restore the file; a model that changed after its evaluation has no known "
            "quality"
        )
    return notes


def update_model_notes(folder: Path, **changes: Any) -> None:
    """Rewrite `tenor.json` with the given keys changed, or removed where they are None, and all others as they are."""
    notes = {**read_json(folder / NOTES), **changes}
    write_json(folder / NOTES, {name: value for name, value in notes.items() if value is not None})
