"""The printed diagnosis: symptoms, causes, and what would settle the open ones; the most important first."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tenor.checks.diagnosis.causes import Cause
from tenor.checks.diagnosis.diagnose import Diagnosis
from tenor.checks.finding import COLORS
from tenor.runs.findings import Finding

CAUSES_SHOWN = 5
CAUSES_IN_FULL = 3
SYMPTOMS_SHOWN = 4
REASONS_SHOWN = 4
NOTES_SHOWN = 6
CODES_SHOWN = 10


def render(diagnosis: Diagnosis) -> RenderableType:
    """Lines that fit any width; long lists are shortened with a count, `as_dict` has all of them."""
    parts: list[RenderableType] = [Text.assemble((diagnosis.path, "bold"), f": {diagnosis.kind}")]
    parts += [Text(note, style="dim") for note in diagnosis.notes[:NOTES_SHOWN]]
    parts += _more(len(diagnosis.notes) - NOTES_SHOWN)
    if diagnosis.limits:
        parts.append(Text(diagnosis.limits, style="yellow"))
    if diagnosis.symptoms:
        explained = {code for cause in diagnosis.causes for code in (cause.code, *cause.symptoms)}
        parts.append(_heading("Symptoms"))
        parts += [_symptom(one, one.code not in explained) for one in diagnosis.symptoms[:SYMPTOMS_SHOWN]]
        parts += _more(len(diagnosis.symptoms) - SYMPTOMS_SHOWN)
    if diagnosis.causes:
        parts.append(_heading("Causes"))
        before = ("", *(cause.evidence for cause in diagnosis.causes))
        shown = enumerate(zip(diagnosis.causes[:CAUSES_SHOWN], before, strict=False), start=1)
        parts += [_cause(number, cause, cause.evidence == last) for number, (cause, last) in shown]
        parts += _further(diagnosis.causes[CAUSES_SHOWN:])
    if notes := _notes(diagnosis):
        parts += [_heading("Notes"), *map(_symptom, notes[:SYMPTOMS_SHOWN]), *_more(len(notes) - SYMPTOMS_SHOWN)]
    if diagnosis.ruled_out:
        parts += [_heading("Ruled out"), _indented(Text(_codes(diagnosis.ruled_out)))]
    if diagnosis.not_checked:
        parts += [_heading(f"Not checked: {len(diagnosis.not_checked)} rules"), *_reasons(diagnosis)]
    style = "bold" if diagnosis.findings or diagnosis.limits else "bold green"
    return Group(*parts, Text(f"\n{diagnosis.conclusion}", style=style))


def _notes(diagnosis: Diagnosis) -> list[Finding]:
    """Findings that are neither a symptom nor a cause."""
    shown = {cause.code for cause in diagnosis.causes} | {finding.code for finding in diagnosis.symptoms}
    return [finding for finding in diagnosis.findings if finding.code not in shown]


def _heading(title: str) -> Text:
    return Text(f"\n{title}", style="bold underline")


def _symptom(finding: Finding, is_unexplained: bool = True) -> RenderableType:
    """A finding; with its own cause and fix if no cause is listed that has them."""
    head = Text.assemble((f"{finding.severity} {finding.code}", COLORS[finding.severity]), f"  {finding.title}")
    head.append(f"\n{finding.observed}", style="dim")
    if is_unexplained:
        head.append("\ncause: ", style="dim").append(finding.cause).append("\nfix: ", style="dim").append(finding.fix)
    return _indented(head.append(f"\nallowed: {finding.allowed}", style="dim") if finding.allowed else head)


def _cause(number: int, cause: Cause, is_same_evidence: bool = False) -> RenderableType:
    color = "bold red" if cause.status == "confirmed" else "yellow"
    head = Text.assemble(f"{number}. ", (cause.status, color), f" {cause.code}  {cause.title}")
    settled_by = {"would be settled by": cause.settled_by}
    evidence = "the same" if is_same_evidence else cause.evidence
    lines = {"evidence": evidence, "fix": cause.fix, **settled_by, "allowed": cause.allowed}
    if cause.status == "suspected" and number > CAUSES_IN_FULL:
        lines = settled_by
    elif cause.symptoms:
        lines["explains"] = _codes(cause.symptoms)
    for name, value in lines.items():
        if value:
            head.append(f"\n{name}: ", style="dim").append(value)
    return _indented(head)


def _reasons(diagnosis: Diagnosis) -> list[RenderableType]:
    """Why rules were not checked; the reason of most rules first."""
    by_reason: dict[str, list[str]] = {}
    for rule in diagnosis.not_checked:
        by_reason.setdefault(rule.reason, []).append(rule.code)
    reasons = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines: list[RenderableType] = [
        _indented(Text(f"{reason}: {_codes(codes)}")) for reason, codes in reasons[:REASONS_SHOWN]
    ]
    return lines + _more(len(reasons) - REASONS_SHOWN)


def _more(count: int) -> list[RenderableType]:
    return [_indented(Text(f"and {count} more", style="dim"))] if count > 0 else []


def _further(causes: tuple[Cause, ...]) -> list[RenderableType]:
    """The causes that are not shown: the confirmed ones by code, the suspected ones by their number."""
    confirmed = [cause.code for cause in causes if cause.status == "confirmed"]
    suspected = len(causes) - len(confirmed)
    parts = [f"{len(confirmed)} more: {_codes(confirmed)}"] if confirmed else []
    parts += [f"{suspected} less likely suspect{'s' if suspected > 1 else ''}, listed by --json"] if suspected else []
    return [_indented(Text(f"and {'; '.join(parts)}", style="dim"))] if parts else []


def _codes(codes: tuple[str, ...] | list[str]) -> str:
    hidden = len(codes) - CODES_SHOWN
    return ", ".join(codes[:CODES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)
