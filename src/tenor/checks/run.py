"""Evidence in, report out: every rule that the evidence allows is run, and every other one is accounted for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tenor.checks.catalogue import RULES
from tenor.checks.finding import CannotTell, Finding, Report, Skipped, Stage
from tenor.checks.rule import Rule


def run_rules(
    evidence: Iterable[Any],
    stage: Stage,
    allow: Mapping[str, str] | None = None,
    rules: Iterable[Rule] = RULES,
    earlier: Iterable[Finding] = (),
    unreadable: Mapping[Any, str] | None = None,
) -> Report:
    """Run the rules on evidence of different kinds, at most one of each.

    `allow` maps codes to reasons: their findings stop nothing. `earlier` are findings of other occasions of the same
    run that may explain the new ones. `unreadable` says why a kind of evidence could not be gathered. Rules whose
    evidence is not there are skipped with a reason.
    """
    at_hand = {type(one): one for one in evidence}
    ran: list[str] = []
    skipped: list[Skipped] = []
    findings: list[Finding] = []
    for rule in rules:
        missing = [kind for kind in rule.needs if kind not in at_hand]
        if missing:
            reasons = [(unreadable or {}).get(kind, f"needs {kind.held_by}") for kind in missing]
            skipped.append(Skipped(rule.code, " and ".join(dict.fromkeys(reasons))))
            continue
        try:
            observation = rule(*(at_hand[kind] for kind in rule.needs))
        except CannotTell as reason:
            skipped.append(Skipped(rule.code, str(reason)))
            continue
        ran.append(rule.code)
        if observation is not None:
            findings.append(
                Finding(
                    code=rule.code,
                    title=rule.title,
                    severity=observation.severity or rule.severity,
                    stage=stage,
                    observed=observation.observed,
                    expected=observation.expected,
                    n=observation.n,
                    cause=observation.cause,
                    fix=observation.fix,
                    allowed=(allow or {}).get(rule.code, ""),
                )
            )
    return Report(stage, tuple(ran), tuple(skipped), fold(findings, earlier))


def fold(findings: Iterable[Finding], earlier: Iterable[Finding] = ()) -> tuple[Finding, ...]:
    """Link each finding to those that explain it; causes before symptoms, errors first, what was allowed last."""
    findings = list(findings)
    explained_by = {rule.code: rule.explained_by for rule in RULES}
    found = {finding.code for finding in (*findings, *earlier)}
    linked = [
        replace(finding, caused_by=tuple(code for code in explained_by.get(finding.code, ()) if code in found))
        for finding in findings
    ]
    weight = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(linked, key=lambda f: (bool(f.caused_by), bool(f.allowed), weight[f.severity])))
