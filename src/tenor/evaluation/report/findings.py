"""What the checks said, on all occasions together."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenor.checks.catalogue import BY_CODE
from tenor.checks.finding import Finding, Report


@dataclass(frozen=True)
class Checks:
    """What the checks said on all occasions together."""

    findings: tuple[Finding, ...]
    summary: str
    ran: int
    skipped: tuple[tuple[str, str, str], ...]
    """Code, title, and why the rule ran on no occasion."""


def checks_section(reports: Sequence[Report]) -> Checks:
    """Findings of every occasion, errors first, and rules that could run on none."""
    weight = {"error": 0, "warning": 1, "note": 2}
    found = sorted(
        (finding for report in reports for finding in report.findings),
        key=lambda one: (bool(one.allowed), weight.get(one.severity, 3), bool(one.caused_by)),
    )
    counts = [(severity, sum(one.severity == severity for one in found)) for severity in weight]
    told = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n) or "nothing found"
    ran = {code for report in reports for code in report.ran}
    reasons: dict[str, list[str]] = {}
    for report in reports:
        for one in report.skipped:
            reasons.setdefault(one.code, []).append(one.reason)
    skipped = tuple(
        (code, BY_CODE[code].title if code in BY_CODE else "", "; ".join(dict.fromkeys(why)))
        for code, why in sorted(reasons.items())
        if code not in ran
    )
    return Checks(tuple(found), told, len(ran), skipped)
