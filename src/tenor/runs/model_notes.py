"""`model/tenor.json`: what Tenor needs to use a saved model as it was trained, and `transformers` has no place for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat

from tenor.config.schema import TruncationStrategy
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.files import PositiveFloat, PositiveInt, Record, Share, parse_record, read_json, sha256_file, write_json
from tenor.runs.missing import MissingRecord

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
        target = f"for a {self.wanted} of {self.value:g}"
        return f"{self.class_name} at a probability of {self.probability:.4f} or more ({target})"


class StoredShare(Record):
    """A share in 0 … 1, with its confidence interval."""

    value: float
    low: float
    high: float
    confidence: float


class StoredOperating(Record):
    """The results of a threshold on one split: counts of rows, and the shares that follow from them."""

    called: int
    """Rows that are predicted as the class."""
    right: int
    """Those of them that are of the class."""
    members: int
    """Rows of the class."""
    precision: StoredShare | MissingRecord
    recall: StoredShare | MissingRecord


class StoredThreshold(Record):
    """A threshold as `tenor.json` and `export.json` contain it."""

    class_name: str = Field(alias="class")
    threshold: Share
    wanted: dict[Literal["precision", "recall"], Share] = Field(min_length=1, max_length=1)
    validation: StoredOperating | None = None
    """On the rows that it was chosen on."""
    test: StoredOperating | None = None

    def parsed(self) -> Threshold:
        """The threshold itself."""
        ((wanted, value),) = self.wanted.items()
        return Threshold(self.class_name, self.threshold, wanted, value)


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


class StoredHybrid(Record):
    """The weights of a hybrid, `tenor.measures.hybrid.Stacker`, and the SHA-256 of its text baseline's folder."""

    encoder: NonNegativeFloat
    text: NonNegativeFloat
    bias: tuple[FiniteFloat, ...]
    baseline_sha256: str


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
    hybrid: StoredHybrid | None = None
    """For a hybrid: how the text baseline in the same folder is added to the logits; None for the encoder alone."""
    stored_threshold: StoredThreshold | None = Field(default=None, alias="threshold")
    training_texts: TrainingTexts | None = None
    """None: not recorded."""

    @property
    def threshold(self) -> Threshold | None:
        """The rule by which `tenor predict` decides, if `tenor calibrate` chose one."""
        return None if self.stored_threshold is None else self.stored_threshold.parsed()

    @property
    def folded_temperature(self) -> float:
        """By which the checkpoint's classifier was divided already; 1 where it was not."""
        return self.folded.temperature

    @property
    def total_temperature(self) -> float:
        """Between the checkpoint's logits and the probabilities."""
        return self.temperature * self.folded_temperature


def write_model_notes(folder: Path, notes: ModelNotes) -> None:
    """Write `tenor.json`. What has its default value is left out."""
    write_json(folder / NOTES, notes.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def read_model_notes(folder: Path) -> ModelNotes:
    """Read `tenor.json` and verify the weights in the same folder.

    Raises:
        UserError: not a model that Tenor saved, or weights that are not those it was saved with.
    """
    notes = read_notes_alone(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS} is missing; restore it, or train again")
    if (observed := sha256_file(folder / WEIGHTS)) != notes.weights_sha256:
        raise UserError(
            f"{folder / WEIGHTS} is not what was saved: SHA-256 {observed[:12]}…, expected "
            f"{notes.weights_sha256[:12]}…. Restore the file; a model that changed after its evaluation has no known "
            "quality"
        )
    return notes


def read_notes_alone(folder: Path) -> ModelNotes:
    """Read `tenor.json` and leave the weights aside. Raises UserError for a file that Tenor did not write, and for the
    encoder of an adaptation, which has none."""
    run = RunDirectory(folder.parent)
    if run.adaptation.is_file() and not (folder / NOTES).is_file():
        raise UserError(
            f"{run.reference} is a run of `tenor adapt`: an encoder without a classifier. Fine-tune it first: tenor "
            f"train CONFIG model.name={run.path}"
        )
    return parse_record(ModelNotes, read_json(folder / NOTES), folder / NOTES, "take the run's own model folder")


def update_model_notes(folder: Path, **changes: Any) -> None:
    """Rewrite `tenor.json` with the given keys changed; `threshold=None` removes the threshold.

    Raises:
        UserError: the file is damaged.
        ValueError: values that no reader accepts.
    """
    notes = read_notes_alone(folder).model_dump(by_alias=True)
    write_model_notes(folder, ModelNotes.model_validate({**notes, **changes}))
