"""How findings are displayed, and what a rule raises when its evidence is not sufficient."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenor.runs.findings import Finding, Report, Severity

if TYPE_CHECKING:  # Rules need no console.
    from rich.console import RenderableType


class CannotTell(Exception):
    """Raised by a rule whose evidence is not sufficient; the message is reported as the reason."""


COLORS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def findings_view(findings: Sequence[Finding]) -> "RenderableType":
    """One paragraph per finding, in the given order."""
    from rich.console import Group

    return Group(*(_paragraph(finding) for finding in findings))


def summary_line(report: Report) -> str:
    """The counts of rules checked, rules not applicable, and findings."""
    counts = {severity: sum(f.severity == severity for f in report.findings) for severity in COLORS}
    numbers = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    return (
        f"{report.stage}: {len(report.checked)} rules checked, {len(report.not_applicable)} not applicable at this "
        f"stage; {', '.join(numbers) or 'no findings'}"
    )


def _paragraph(finding: Finding) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

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
