"""`findings.json`: the reports of a run's checks, one for each stage, each with its findings."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, TypeAdapter

from tenor.runs.files import Record, parse_record, read_json, write_json

FINDINGS = "findings.json"

Severity = Literal["error", "warning", "note"]
Stage = Literal["preflight", "training", "evaluation", "diagnosis"]

RULE_SEVERITY: Any = None
"""Placeholder for the severity of the rule, which `run_rules` fills in: no finding in a report has this value."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault that a rule reports. `run_rules` adds code, title, severity and stage."""

    code: str = ""
    title: str = ""
    severity: Severity = RULE_SEVERITY
    """That of the rule, unless the rule chooses another one."""
    stage: Stage = "preflight"
    observed: str
    expected: str
    n: int
    """Number of rows, parameters, steps, … that were measured."""
    cause: str
    """The reason, as far as the evidence shows it."""
    fix: str
    """The next step that fixes it."""
    caused_by: tuple[str, ...] = ()
    """Codes of the findings that explain this one: it is their symptom."""
    allowed: str = ""
    """The reason given under `checks.allow`; with a reason, the finding does not stop the run."""


def _require_complete(finding: Finding) -> Finding:
    if not finding.code or finding.severity is RULE_SEVERITY:
        raise ValueError("a finding without code or severity")
    return finding


CompleteFinding = Annotated[Finding, AfterValidator(_require_complete)]


@dataclass(frozen=True)
class NotApplicable:
    """A rule that was not checked because the evidence that it needs is missing, with the reason."""

    code: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The result of every rule at one stage."""

    stage: Stage
    checked: tuple[str, ...]
    """Codes of the rules that were checked."""
    not_applicable: tuple[NotApplicable, ...]
    """Rules whose evidence is missing at this stage or not sufficient."""
    findings: tuple[CompleteFinding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class _FindingsRecord(Record):
    stages: tuple[Report, ...]


_FINDINGS = TypeAdapter(tuple[CompleteFinding, ...])


def write_findings(path: Path, reports: Iterable[Report], unused_allowances: Sequence[str] = ()) -> None:
    """Write the reports of all stages so far, in order, and the codes under `checks.allow` that have no finding."""
    stages = [report.as_dict() for report in reports]
    write_json(path, {"stages": stages, "unused_allowances": list(unused_allowances)})


def read_findings(path: Path) -> tuple[Report, ...]:
    """The reports of all stages, in order; none if there is no such file.

    Raises:
        UserError: a file that is damaged or not a record of findings.
    """
    return parse_reports(read_json(path), path) if path.exists() else ()


def parse_reports(value: Any, path: Path) -> tuple[Report, ...]:
    """The reports in the content of a `findings.json`. Raises UserError as `read_findings` does."""
    record = parse_record(_FindingsRecord, value, path, "restore it, or move it away")
    return record.stages


def parse_findings(values: Any) -> tuple[Finding, ...]:
    """Findings from plain data, as `asdict` returns them.

    Raises:
        ValueError: other data, or a finding without code or severity.
    """
    return _FINDINGS.validate_python(values)
