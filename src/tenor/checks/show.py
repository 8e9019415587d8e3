"""Findings for people: what is wrong, why, and what to do, the most important first."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.checks.finding import Finding, Report

COLORS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """One paragraph per finding; symptoms stand below their cause."""
    return Group(*(_paragraph(finding) for finding in findings))


def summary_line(report: Report) -> str:
    """How many rules ran, were skipped, and what they found."""
    counts = {severity: sum(f.severity == severity for f in report.findings) for severity in COLORS}
    found = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n) or "nothing"
    return f"{report.stage}: {len(report.ran)} rules ran, {len(report.skipped)} could not; found {found}"


def _paragraph(finding: Finding) -> RenderableType:
    color = COLORS[finding.severity]
    title = Text.assemble((f"{finding.severity} {finding.code}", color), f"  {finding.title}")
    lines = {"found": finding.observed, "expected": finding.expected, "cause": finding.cause, "mend": finding.fix}
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
