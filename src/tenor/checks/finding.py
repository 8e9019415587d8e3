"""What a rule reports, what becomes of it in a report, and how findings are displayed."""

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
"""The rule's own severity, which `run_rules` fills in: no finding of a report has this value."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule measured where it is not as it should be. `run_rules` adds what it knows about the rule."""

    code: str = ""
    title: str = ""
    severity: Severity = OWN
    """The rule's own, unless the rule chose another one."""
    stage: Stage = "preflight"
    observed: str
    expected: str
    n: int
    """How many things (rows, parameters, steps, …) the measurement rests on."""
    cause: str
    """Why it is so, as far as the evidence shows."""
    fix: str
    """The next step that fixes it."""
    caused_by: tuple[str, ...] = ()
    """Codes of findings of the same report that explain this one: it is their symptom."""
    allowed: str = ""
    """The reason given under `checks.allow`, if any: the finding then stops nothing."""


@dataclass(frozen=True)
class NotApplicable:
    """A rule that judged nothing, and why: the evidence that it needs is missing."""

    code: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of every rule at one stage."""

    stage: Stage
    checked: tuple[str, ...]
    """Codes of the rules that judged."""
    not_applicable: tuple[NotApplicable, ...]
    """Rules whose evidence does not exist at this stage, or does not allow a judgement."""
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `findings.json`."""
        return asdict(self)


def read_findings(values: Any) -> tuple[Finding, ...]:
    """Findings from plain data, as `asdict` gives them.

    Raises:
        ValueError: something else, or a finding without code or severity.
    """
    return _complete(TypeAdapter(tuple[Finding, ...]).validate_python(values))


def read_reports(values: Any) -> tuple[Report, ...]:
    """Reports from plain data, as `Report.as_dict` gives them. Raises ValueError as `read_findings` does."""
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
    """Raised by a rule whose evidence does not allow a judgement; the reason is reported."""


COLORS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """One paragraph per finding; symptoms stand below their cause."""
    return Group(*(_paragraph(finding) for finding in findings))


def summary_line(report: Report) -> str:
    """How many rules judged, how many were not applicable, and the number of findings."""
    counts = {severity: sum(f.severity == severity for f in report.findings) for severity in COLORS}
    found = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n) or "no finding"
    return (
        f"{report.stage}: {len(report.checked)} rules checked, {len(report.not_applicable)} not applicable at this "
        f"stage; {found}"
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
