"""`export.json`: what `tenor export` wrote, where it came from, and the result of its check."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from tenor.config.schema import TruncationStrategy
from tenor.errors import UserError
from tenor.runs.files import PositiveFloat, PositiveInt, Record, Share, parse_record, read_json, sha256_file, write_json
from tenor.runs.model_notes import StoredHybrid, StoredThreshold, Threshold, TrainingTexts

EXPORT_NOTES = "export.json"
VERSION: Literal[1] = 1


def _require_file_name(name: str) -> str:
    if Path(name).name != name or name in ("", ".."):
        raise ValueError("expected the name of a file in this folder")
    return name


class ExportedTruncation(Record):
    """Which tokens of a longer text are kept, as in the settings under `data`."""

    max_length: PositiveInt
    strategy: TruncationStrategy
    head_share: Share


class ExportCheck(Record):
    """The comparison of the export with its source. Its other keys are for readers of the file."""

    model_config = ConfigDict(extra="allow")

    instruction_sets: tuple[str, ...] = ()
    """Of the processor that the export was checked on; empty before the check."""


class ExportNotes(Record):
    """The content of `export.json`."""

    version: Literal[1]
    file: Annotated[str, AfterValidator(_require_file_name)]
    """The file of weights, in the same folder."""
    sha256: str
    """Of that file."""
    quantize: Literal["none", "int8"]
    labels: tuple[str, ...] = Field(min_length=1)
    truncation: ExportedTruncation
    temperature: PositiveFloat
    source: str
    """The run, folder or hub id that was exported."""
    source_sha256: str
    """Of the source's weights."""
    stored_threshold: StoredThreshold | None = Field(default=None, alias="threshold")
    hybrid: StoredHybrid | None = None
    """How the text baseline in the folder is added to the logits; None if the source is an encoder alone."""
    training_texts: TrainingTexts | None = None
    """What the training texts are recognized by; None if the source has no record of it."""
    checked: ExportCheck = ExportCheck()

    @property
    def threshold(self) -> Threshold | None:
        """The decision threshold of `tenor predict`; None if the source has none."""
        return None if self.stored_threshold is None else self.stored_threshold.parsed()


def write_export_notes(folder: Path, notes: ExportNotes) -> None:
    """Write `export.json`."""
    write_json(folder / EXPORT_NOTES, notes.model_dump(mode="json", by_alias=True, exclude_none=True))


def read_export_notes(folder: Path) -> ExportNotes:
    """Read `export.json` and verify the file of weights.

    Raises:
        UserError: `export.json` is not as `tenor export` writes it, or the file of weights is missing or was changed.
    """
    path = folder / EXPORT_NOTES
    notes = parse_record(ExportNotes, read_json(path), path, "export again")
    if not (folder / notes.file).is_file():
        raise UserError(f"{folder / notes.file} is missing. Restore it, or export again")
    if (observed := sha256_file(folder / notes.file)) != notes.sha256:
        raise UserError(
            f"{folder / notes.file} was changed after the export: SHA-256 {observed[:12]}…, expected "
            f"{notes.sha256[:12]}…. Restore the file, or export again"
        )
    return notes
