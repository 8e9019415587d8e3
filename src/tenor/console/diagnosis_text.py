"""The printed diagnosis: symptoms, causes, and what would settle the open ones; the most important first."""

from collections import Counter

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
REASONS_SHOWN = 3
NEEDS = "needs "
"""Before the evidence of a rule that the files do not contain at all."""
NOTES_SHOWN = 6
CODES_SHOWN = 10


def render(diagnosis: Diagnosis) -> RenderableType:
    """Lines that fit any width; long lists are shortened with a count, `as_dict` has all of them."""
    parts: list[RenderableType] = [Text.assemble((diagnosis.path, "bold"), f": {diagnosis.kind}")]
    parts += [Text(note, style="dim") for note in diagnosis.notes[:NOTES_SHOWN]]
    parts += _more(len(diagnosis.notes) - NOTES_SHOWN)
    if diagnosis.limits:
        parts.append(Text(diagnosis.limits, style="yellow"))
    sections = [_symptoms(diagnosis), _causes(diagnosis)]
    # What is certain comes first: a symptom of it reads like a cause of its own otherwise.
    parts += [part for section in (reversed(sections) if _is_certain(diagnosis) else sections) for part in section]
    if notes := _notes(diagnosis):
        parts += [_heading("Notes"), *map(_symptom, notes[:SYMPTOMS_SHOWN]), *_more(len(notes) - SYMPTOMS_SHOWN)]
    if diagnosis.ruled_out:
        parts += [_heading("Ruled out"), _indented(Text(_codes(diagnosis.ruled_out)))]
    if diagnosis.not_checked:
        parts.append(Text(f"\n{_not_checked(diagnosis)}", style="dim"))
    style = "bold" if diagnosis.findings or diagnosis.limits else "bold green"
    return Group(*parts, Text(f"\n{diagnosis.conclusion}", style=style))


def _is_certain(diagnosis: Diagnosis) -> bool:
    """Whether the first cause is a confirmed error that explains a symptom."""
    first = next(iter(diagnosis.causes), None)
    errors = {finding.code for finding in diagnosis.findings if finding.severity == "error" and not finding.allowed}
    return first is not None and first.status == "confirmed" and bool(first.symptoms) and first.code in errors


def _symptoms(diagnosis: Diagnosis) -> list[RenderableType]:
    if not diagnosis.symptoms:
        return []
    explained = {code for cause in diagnosis.causes for code in (cause.code, *cause.symptoms)}
    shown = [_symptom(one, one.code not in explained) for one in diagnosis.symptoms[:SYMPTOMS_SHOWN]]
    return [_heading("Symptoms"), *shown, *_more(len(diagnosis.symptoms) - SYMPTOMS_SHOWN)]


def _causes(diagnosis: Diagnosis) -> list[RenderableType]:
    if not diagnosis.causes:
        return []
    before = ("", *(cause.evidence for cause in diagnosis.causes))
    numbered = enumerate(zip(diagnosis.causes[:CAUSES_SHOWN], before, strict=False), start=1)
    shown = [_cause(number, cause, cause.evidence == last) for number, (cause, last) in numbered]
    return [_heading("Causes"), *shown, *_further(diagnosis.causes[CAUSES_SHOWN:])]


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
    evidence = "" if is_same_evidence else cause.evidence
    lines = {"evidence": evidence, "fix": cause.fix, **settled_by, "allowed": cause.allowed}
    if cause.status == "suspected" and number > CAUSES_IN_FULL:
        lines = settled_by
    elif cause.symptoms:
        lines["explains"] = _codes(cause.symptoms)
    for name, value in lines.items():
        if value:
            head.append(f"\n{name}: ", style="dim").append(value)
    return _indented(head)


def _not_checked(diagnosis: Diagnosis) -> str:
    """How many rules need which kind of evidence; those that lack something in what was read are counted together."""
    reasons = Counter(one.reason.removeprefix(NEEDS) for one in diagnosis.not_checked if one.reason.startswith(NEEDS))
    shown = reasons.most_common(REASONS_SHOWN)
    others = len(diagnosis.not_checked) - sum(count for _, count in shown)
    parts = [f"{reason}: {count}" for reason, count in shown] + ([f"other evidence: {others}"] if others else [])
    count = len(diagnosis.not_checked)
    return f"Not checked: {count} rule{'s' if count > 1 else ''}, which need {'; '.join(parts)}. --json lists them."


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
