"""`metrics.jsonl`: one line of JSON per event of the training, in order: a logged step, a validation, a finding."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from tenor.errors import UserError
from tenor.runs.files import Record, append_line, faults_of, write_text

LARGEST_INTEGER = 10**300
"""float64 cannot represent larger ones."""


class StepRecord(Record):
    """The two keys that every line has; its other keys depend on `kind`."""

    model_config = ConfigDict(extra="allow")

    kind: Annotated[str, Field(strict=True)]
    """`train`, `validation` or `finding`."""
    step: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
    """Optimizer steps done."""


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line."""
    append_line(path, json.dumps(record))


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace the file, atomically."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a `metrics.jsonl`, none where there is no such file. A last line without a line end is
    left out: a killed process did not finish it.

    Raises:
        UserError: names the line that is not a record.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore the file.") from error
    return [_parse_line(line, number, path) for number, line in enumerate(lines[:-1], start=1) if line]


def _parse_line(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line, parse_int=_parse_integer)
        StepRecord.model_validate(record)
    except ValidationError as error:
        raise _not_a_record(path, number, faults_of(error)) from error
    except (ValueError, RecursionError) as error:
        raise _not_a_record(path, number, f"{type(error).__name__}: {error}") from error
    return record


def _not_a_record(path: Path, number: int, fault: str) -> UserError:
    return UserError(
        f"{path}, line {number}: is not a record ({fault}). Restore the file, or remove the line: only what it records "
        "is lost then"
    )


def _parse_integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > LARGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return value
