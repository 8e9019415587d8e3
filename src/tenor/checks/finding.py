"""What a rule says: an observation; what becomes of it: a finding in a report."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
Stage = Literal["preflight", "training", "evaluation", "post-mortem"]


@dataclass(frozen=True)
class Observation:
    """What a rule measured where it is not as it should be."""

    observed: str
    expected: str
    n: int
    """How many things (rows, parameters, steps, …) the measurement rests on."""
    cause: str
    """Why it is so, as far as the evidence shows."""
    fix: str
    """The next step that mends it."""
    severity: Severity | None = None
    """Where it differs from the rule's own."""


@dataclass(frozen=True)
class Finding:
    """One rule's observation on one occasion."""

    code: str
    title: str
    severity: Severity
    stage: Stage
    observed: str
    expected: str
    n: int
    cause: str
    fix: str
    caused_by: tuple[str, ...] = ()
    """Codes of findings of the same report that explain this one: it is their symptom."""
    allowed: str = ""
    """The reason given under `checks.allow`, if any: the finding then stops nothing."""


@dataclass(frozen=True)
class Skipped:
    """A rule that could not run, and what it would have needed."""

    code: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Every rule of an occasion: ran, skipped, found."""

    stage: Stage
    ran: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `findings.json`."""
        return asdict(self)


def merge(reports: Iterable[Report]) -> dict[str, Any]:
    """The content of `findings.json`: what each occasion ran, skipped and found, in order."""
    return {"occasions": [report.as_dict() for report in reports]}


class CannotTell(Exception):
    """Raised by a rule whose evidence does not allow a judgement; the reason is reported."""
