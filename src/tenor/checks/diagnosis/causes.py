"""From findings to causes: what is shown, what is suspected, in which order to look."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tenor.checks.catalogue import BY_CODE
from tenor.checks.diagnosis.likelihood import Facts, likelihood, why_suspected
from tenor.checks.finding import Finding

# Ties are broken in this order: data, loss and logits, optimizer and freezing, checkpoint choice, thresholds.
FAMILY_ORDER = {
    **dict.fromkeys(("DAT", "TOK"), 0),
    **dict.fromkeys(("LOS", "MOD"), 1),
    **dict.fromkeys(("OPT", "FRZ", "PRC"), 2),
    **dict.fromkeys(("CKP", "DST"), 3),
    "EVL": 4,
}
# These say that training went wrong, not why: they are followed further, and never suspected.
TRAINING_SYMPTOMS = frozenset({"LOS006", "LOS009", "LOS010", "LOS012"})
SETTLED_BY: Mapping[str, str] = {
    "DAT001": "the training rows with their labels: label counts of the rows that trained",
    "DAT002": "the training rows with their labels: where they stood in the source, and the order of its labels",
    "DAT004": "the training loader: labels in the order of one epoch",
    "MOD005": "the model: its logits for two different texts",
    "OPT007": "the learning rate and the training losses",
    "CKP001": "the log of validations, and the step that was chosen",
    "CKP002": "digests of the chosen and of the evaluated checkpoint",
    "EVL002": "labels and probabilities of the evaluated rows",
    "EVL004": "predicted labels and probabilities of the evaluated rows",
}


@dataclass(frozen=True)
class Cause:
    """Why the result is as it is."""

    code: str
    title: str
    standing: Literal["shown", "suspected"]
    evidence: str
    """What shows it, or why it is suspected."""
    fix: str
    settled_by: str
    """What would prove or refute it; empty where it is shown."""
    symptoms: tuple[str, ...]
    """Codes of the findings that it explains."""
    allowed: str = ""
    """The reason for which its finding was accepted in the run, if it was."""


# The first does harm only through the second, which was looked for and not found.
ONLY_THROUGH = {"DAT002": "DAT001"}


def is_symptom(finding: Finding) -> bool:
    """Whether a finding says that something went wrong, but not why."""
    return _is_symptom(finding.code)


def roots_of(finding: Finding, by_code: Mapping[str, Finding]) -> set[str]:
    """The codes at the end of its chain of causes; its own where nothing explains it."""
    seen, pending, ends = set(), [finding.code], set()
    while pending:
        code = pending.pop()
        if code in seen:
            continue
        seen.add(code)
        above = [one for one in by_code[code].caused_by if one in by_code]
        pending += above
        if not above:
            ends.add(code)
    return ends


def ranked_causes(findings: Sequence[Finding], skipped: Sequence[str], facts: Facts) -> tuple[Cause, ...]:
    """Shown causes first, those that explain something before others; then suspected ones, the likeliest first."""
    by_code = {finding.code: finding for finding in findings}
    return (*_shown(by_code, set(skipped)), *_suspected(by_code, set(skipped), facts))


def _shown(by_code: Mapping[str, Finding], skipped: set[str]) -> list[Cause]:
    explains: dict[str, list[str]] = {code: [] for code in by_code}
    for code, finding in by_code.items():
        for root in roots_of(finding, by_code) - {code}:
            explains[root].append(code)
    weight = {"error": 0, "warning": 1, "note": 2}
    shown = [f for f in by_code.values() if not f.caused_by and (not is_symptom(f) or _stands_alone(f, skipped))]
    # A note is a heuristic: a cause only where it explains something, and never before what is certain.
    shown = [f for f in shown if f.severity != "note" or explains[f.code]]
    shown.sort(key=lambda f: (f.severity == "note", not explains[f.code], weight[f.severity], _order(f.code)))
    return [
        Cause(
            f.code,
            f.title,
            "shown",
            f"{f.observed}; expected {f.expected}",
            f.fix,
            "",
            tuple(explains[f.code]),
            f.allowed,
        )
        for f in shown
    ]


def _stands_alone(finding: Finding, skipped: set[str]) -> bool:
    """Whether all that could explain a certain finding was looked for, and not found."""
    return finding.severity == "error" and not skipped.intersection(BY_CODE[finding.code].explained_by)


def _suspected(by_code: Mapping[str, Finding], skipped: set[str], facts: Facts) -> list[Cause]:
    """For every finding that nothing explains: those of its possible causes whose rules could not run."""
    explains: dict[str, list[str]] = {}
    for finding in by_code.values():
        rule = BY_CODE.get(finding.code)
        if finding.caused_by and not all(is_symptom(by_code[root]) for root in roots_of(finding, by_code)):
            continue
        if rule is None or finding.severity == "note":
            continue
        for code in rule.explained_by:
            harmless = ONLY_THROUGH.get(code) in BY_CODE.keys() - skipped - by_code.keys()
            if code in skipped and code in BY_CODE and not _is_symptom(code) and not harmless:
                explains.setdefault(code, []).append(finding.code)
    causes = [(code, tuple(symptoms)) for code, symptoms in explains.items()]
    causes.sort(key=lambda one: (-likelihood(one[0], one[1], facts), _order(one[0]), -len(one[1])))
    return [_suspect(code, symptoms, facts) for code, symptoms in causes]


def _suspect(code: str, symptoms: tuple[str, ...], facts: Facts) -> Cause:
    rule = BY_CODE[code]
    return Cause(
        code=code,
        title=rule.title,
        standing="suspected",
        evidence=why_suspected(code, symptoms, facts),
        fix=_mend(rule.doc),
        settled_by=SETTLED_BY.get(code) or " and ".join(kind.held_by for kind in rule.needs),
        symptoms=symptoms,
    )


def _is_symptom(code: str) -> bool:
    rule = BY_CODE.get(code)
    about_result = code.startswith("EVL") or code in TRAINING_SYMPTOMS
    return about_result and rule is not None and bool(rule.explained_by)


def _order(code: str) -> tuple[int, str]:
    return FAMILY_ORDER.get(code[:3], len(FAMILY_ORDER)), code


def _mend(doc: str) -> str:
    """The section "Mend" of a rule's documentation, in one line."""
    found = re.search(r"^Mend:(.*?)(?=^\w[\w-]*:|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""
