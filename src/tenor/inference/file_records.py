"""The result of a prediction job; and for one output of many, the record of what it was computed from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from tenor.runs.files import Record, parse_record, read_json

NEXT_STEP = "remove it, and its file is predicted again"


@dataclass(frozen=True)
class FileResult:
    """The result of a prediction job."""

    rows: int
    resumed: int
    """Count of rows that an earlier call had finished."""
    failed: int
    first_failures: tuple[str, ...]
    predicted: dict[str, int]
    """Count of rows per label."""
    unsure: int = 0
    """Count of rows without a label because the probability was below `abstain_below`."""
    unlike: dict[str, Any] = field(default_factory=dict)
    """Counts of the texts that are unlike the training texts, and notes about them."""


class Stamp(Record):
    """By which a file that did not change is recognized without reading it."""

    bytes: int = Field(strict=True, ge=0)
    mtime_ns: int = Field(strict=True)


class ShardRecord(Record):
    """Why an output is complete. It is written after the output, and names all that its content depends on."""

    job: dict[str, Any]
    """As in the description of an interrupted job: digests of the input and of the model, and the options."""
    input: Stamp
    """Of the input, before it was read."""
    output_bytes: int = Field(strict=True, ge=0)
    result: FileResult
    """All its rows are of an earlier call."""

    def output_fault(self, output: Path) -> str | None:
        """What happened to the output since; None if it is as it was written."""
        if not output.exists():
            return "was removed"
        size = output.stat().st_size
        return None if size == self.output_bytes else f"has {size:,} bytes, but was written with {self.output_bytes:,}"


def stamp_of(path: Path) -> Stamp:
    """Size and time of change of a file."""
    found = path.stat()
    return Stamp(bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def read_record(path: Path) -> ShardRecord | None:
    """The record in a file, or None if there is none. Raises UserError for a file that Tenor did not write."""
    return parse_record(ShardRecord, read_json(path), path, NEXT_STEP) if path.exists() else None
