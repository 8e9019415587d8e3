"""What a reader hands over: evidence of one run, and what was found about it before."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenor.checks.evidence import EvaluationEvidence, SplitClaims
from tenor.checks.finding import Report, read_reports
from tenor.errors import UserError

ACCEPTED = (
    "a Tenor run folder, a transformers.Trainer output folder, a folder of TensorBoard event files, a CSV or Parquet "
    "file of predictions, an experiments summary (JSON), or an evaluation (JSON with confusion_matrix or report)"
)
LARGEST_INTEGER = 10**300
"""Beyond it comes what float64 can't hold."""


@dataclass(frozen=True, eq=False)
class Artifacts:
    """One run, as far as it can be read."""

    kind: str
    """What it was read from, in words."""
    evidence: tuple[Any, ...]
    """At most one of each kind."""
    name: str = ""
    """Tells runs apart where there are several."""
    earlier: tuple[Report, ...] = ()
    """Of the occasions on which the run was checked before."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration as it was recorded, nested or flat."""
    allow: Mapping[str, str] = field(default_factory=dict)
    """Codes whose findings were accepted in the run → the reason given."""
    notes: tuple[str, ...] = ()
    """How it was read where that was a choice, and files that could not be read, a sentence each."""


def evaluation_evidence(
    splits: Mapping[str, SplitClaims],
    n_classes: int | None = None,
    not_numbers: Mapping[str, tuple[str, ...]] | None = None,
) -> EvaluationEvidence:
    """Splits with the number of classes that they show, if it is not known otherwise."""
    shown = [n_classes or 0]
    for claims in splits.values():
        shown += [] if claims.confusion is None else [len(claims.confusion)]
        shown += [] if claims.report is None else [sum(map(is_class_entry, claims.report.items()))]
        shown += [] if claims.probabilities is None else [claims.probabilities.shape[1]]
    return EvaluationEvidence(splits, max(shown) or 2, not_numbers)


def is_class_entry(item: tuple[str, object]) -> bool:
    """Whether an item of a classification report is that of a class, and not a mean."""
    key, value = item
    return isinstance(value, Mapping) and "support" in value and not key.endswith(" avg")


def read_any_json(path: Path) -> Any:
    """A JSON value, NaN and infinities allowed: other programs write them. Raises UserError for anything else."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a path that exists.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; expected JSON text. Accepted: {ACCEPTED}."
        ) from error
    if not text.strip():
        raise UserError(f"{path}: is empty. Accepted: {ACCEPTED}.")
    try:
        return json.loads(text, parse_int=whole_number)
    except json.JSONDecodeError as error:
        found = "ends too early" if error.pos >= len(text.rstrip()) else f"is not JSON ({error.msg})"
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: the file {found}. Restore it or write it anew."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON that can be read ({error}). Restore it or write it anew.") from error


def number(value: object) -> float | None:
    """A finite number that can be a step or a count, so within 64 bits, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        return None
    return float(value)


def whole_number(digits: str) -> int:
    """An integer in JSON. Raises ValueError for one that no calculation can use."""
    found = int(digits)
    if abs(found) > LARGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return found


FINDINGS = "findings.json"
"""What the checks said while the run went on, beside its other files."""


def earlier_reports(path: Path) -> tuple[Report, ...]:
    """The occasions in a `findings.json`; none where there is no such file."""
    if not path.exists():
        return ()
    return parse_reports(read_any_json(path), path)


def parse_reports(found: Any, path: Path) -> tuple[Report, ...]:
    """Reports from `{"stages": […]}`; raises UserError for anything else."""
    try:
        return read_reports(found["stages"])
    except (KeyError, TypeError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is no record of findings ({what}). Restore it, or move it away.") from error
