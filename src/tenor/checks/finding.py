"""Findings of rules, reports of stages, and how findings are displayed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Severity = Literal["error", "warning", "note"]
Stage = Literal["preflight", "training", "evaluation", "diagnosis"]


OWN: Any = None
"""Placeholder for the rule's own severity, which `run_rules` fills in: no finding in a report has this value."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault that a rule reports. `run_rules` adds code, title, severity and stage."""

    code: str = ""
    title: str = ""
    severity: Severity = OWN
    """The rule's own severity, unless the rule chooses another one."""
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
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `findings.json`."""
        return asdict(self)


def read_findings(values: Any) -> tuple[Finding, ...]:
    """Findings from plain data, as `asdict` returns them.

    Raises:
        ValueError: other data, or a finding without code or severity.
    """
    return _complete(TypeAdapter(tuple[Finding, ...]).validate_python(values))


def read_reports(values: Any) -> tuple[Report, ...]:
    """Reports from plain data, as `Report.as_dict` returns them. Raises ValueError as `read_findings` does."""
    reports = TypeAdapter(tuple[Report, ...]).validate_python(values)
    for report in reports:
        _complete(report.findings)
    return reports


def _complete(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    for finding in findings:
        if not finding.code or finding.severity is OWN:
            raise ValueError("a finding without code or severity")
    return findings


def merge(reports: Iterable[Report]) -> dict[str, Any]:
    """The content of `findings.json`: the report of each stage, in order."""
    return {"stages": [report.as_dict() for report in reports]}


class CannotTell(Exception):
    """Raised by a rule whose evidence is not sufficient; the message is reported as the reason."""


COLORS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """One paragraph per finding, in the given order."""
    return Group(*(_paragraph(finding) for finding in findings))


def summary_line(report: Report) -> str:
    """The counts of rules checked, rules not applicable, and findings."""
    counts = {severity: sum(f.severity == severity for f in report.findings) for severity in COLORS}
    numbers = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    return (
        f"{report.stage}: {len(report.checked)} rules checked, {len(report.not_applicable)} not applicable at this "
        f"stage; {', '.join(numbers) or 'no findings'}"
    )


def _paragraph(finding: Finding) -> RenderableType:
    color = COLORS[finding.severity]
    title = Text.assemble((f"{finding.severity} {finding.code}", color), f"  {finding.title}")
    lines = {"observed": finding.observed, "expected": finding.expected, "cause": finding.cause, "fix": finding.fix}
    if finding.caused_by:
        lines["symptom of"] = ", ".join(finding.caused_by)
    if finding.allowed:
        lines["allowed"] = finding.allowed
    body = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    body.add_column(style="dim", no_wrap=True, width=10)
    body.add_column(overflow="fold")
    for name, value in lines.items():
        body.add_row(name, Text(value))
    return Group(title, body)
