"""All rules in order: run on evidence, and documented."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tenor.checks.finding import CannotTell, Finding, Report, Skipped, Stage
from tenor.checks.rule import Rule
from tenor.checks.rules import (
    ckp,
    dat_batches,
    dat_labels,
    dat_signal,
    dat_splits,
    dat_texts,
    dst,
    evl_claims,
    evl_collapse,
    evl_ranking,
    evl_rows,
    frz,
    los_function,
    los_training,
    mod,
    opt_groups,
    opt_schedule,
    opt_steps,
    prc,
    tok,
)
from tenor.errors import UserError
from tenor.runs.files import write_text

FAMILIES: tuple[ModuleType, ...] = (
    *(dat_labels, dat_splits, dat_batches, dat_signal, dat_texts, tok),
    *(mod, los_function, los_training, opt_groups, opt_schedule, opt_steps, frz, prc),
    *(ckp, dst, evl_rows, evl_collapse, evl_ranking, evl_claims),
)

RULES: tuple[Rule, ...] = tuple(
    value for family in FAMILIES for value in vars(family).values() if isinstance(value, Rule)
)

BY_CODE: dict[str, Rule] = {rule.code: rule for rule in RULES}


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


def find_rule(code: str) -> Rule:
    """The rule of a code, in capitals or not.

    Raises:
        UserError: no such rule; names the nearest ones.
    """
    if code.upper() in BY_CODE:
        return BY_CODE[code.upper()]
    from difflib import get_close_matches

    near = get_close_matches(code.upper(), BY_CODE, n=3, cutoff=0.4)
    raise UserError(f"there is no rule {code!r}; nearest: {', '.join(near) or 'none'}. `tenor rule` lists them all")


def page(rule: Rule) -> str:
    """A rule's documentation as Markdown."""
    title, _, body = rule.doc.partition("\n")
    needs = "; ".join(kind.held_by for kind in rule.needs)
    facts = [f"Severity: {rule.severity}.", f"Needs: {needs}."]
    if rule.explained_by:
        facts.append(f"A symptom of: {', '.join(rule.explained_by)}.")
    return f"# {rule.code}: {title}\n\n{' '.join(facts)}\n\n{body.strip()}\n"


def index() -> str:
    """The list of all rules as Markdown."""
    lines = [f"| [{rule.code}]({rule.code}.md) | {rule.severity} | {rule.title} |" for rule in RULES]
    return "\n".join(["# Rules", "", "| code | severity | what it finds |", "| --- | --- | --- |", *lines, ""])


def write_pages(folder: Path) -> None:
    """Write `docs/rules/` anew."""
    for old in folder.glob("*.md"):
        old.unlink()
    for rule in RULES:
        write_text(folder / f"{rule.code}.md", page(rule))
    write_text(folder / "README.md", index())


if __name__ == "__main__":
    import sys

    write_pages(Path(sys.argv[1]))
