"""All rules in order, how they run on evidence, and their documentation pages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import (
    call_order,
    ckp,
    ckp_files,
    dat_batches,
    dat_labels,
    dat_signal,
    dat_splits,
    dat_texts,
    dat_training,
    dst,
    dst_agreement,
    dst_gradients,
    evl_chance,
    evl_claims,
    evl_collapse,
    evl_courses,
    evl_objects,
    evl_order,
    evl_ranking,
    evl_rows,
    frz,
    los_curves,
    los_finite,
    los_function,
    los_training,
    mod,
    mod_intentions,
    opt_groups,
    opt_recorded,
    opt_schedule,
    opt_steps,
    prc,
    tok,
    trainer_rows,
)
from tenor.errors import UserError
from tenor.runs.files import write_text
from tenor.runs.findings import Finding, NotApplicable, Report, Stage

FAMILIES: tuple[ModuleType, ...] = (
    *(dat_labels, dat_splits, dat_batches, dat_signal, dat_texts, dat_training, tok),
    *(mod, mod_intentions, los_function, los_training, los_finite, los_curves, opt_groups, opt_schedule),
    *(opt_recorded, opt_steps),
    *(call_order, frz, prc, dst, dst_gradients, dst_agreement, trainer_rows, ckp, ckp_files),
    *(evl_rows, evl_order, evl_collapse, evl_courses, evl_ranking, evl_chance, evl_claims, evl_objects),
)

ENTRY_POINTS = "tenor.rules"
"""Installed packages register their rules under this group; each entry is a `Rule`, or a module or list of them."""


def _rules_in(source: Any) -> list[Rule]:
    """The rules of a module, in the order of their definition, of a list, or a single rule."""
    values = (
        vars(source).values() if isinstance(source, ModuleType) else [source] if isinstance(source, Rule) else source
    )
    return [value for value in values if isinstance(value, Rule)]


def _installed_rules() -> Iterator[Rule]:
    """The rules of other packages.

    Raises:
        UserError: the rules of a package cannot be loaded, or it registers none.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        package = f"{entry.dist.name if entry.dist else 'a package'} registers rules as {entry.value!r}"
        try:
            rules = _rules_in(entry.load())
        except Exception as error:
            raise UserError(f"{package}, which cannot be loaded: {error}. Fix or uninstall it") from error
        if not rules:
            raise UserError(f"{package}, which contains no rule. Fix or uninstall it")
        yield from rules


def by_code(rules: Iterable[Rule]) -> dict[str, Rule]:
    """Rules by code.

    Raises:
        UserError: two rules have the same code.
    """
    rules_by_code: dict[str, Rule] = {}
    for rule in rules:
        other = rules_by_code.setdefault(rule.code, rule)
        if other is not rule:
            places = f"{other.judge.__module__} and {rule.judge.__module__}"
            raise UserError(f"two rules have the code {rule.code}, in {places}; give one of them another code")
    return rules_by_code


RULES: tuple[Rule, ...] = (*(rule for family in FAMILIES for rule in _rules_in(family)), *_installed_rules())
BY_CODE: dict[str, Rule] = by_code(RULES)


def with_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The catalogue together with further `rules`.

    Raises:
        UserError: two rules have the same code.
    """
    return tuple(by_code((*RULES, *rules)).values())


def rules_for(kind: type) -> tuple[Rule, ...]:
    """The rules that need this kind of evidence only."""
    return tuple(rule for rule in RULES if rule.needs == (kind,))


def causes_of(rule: Rule, rules: Iterable[Rule] = RULES) -> tuple[str, ...]:
    """Codes of the rules that report possible causes of this rule's finding, in the order of `rules`."""
    symptoms = set(rule.symptoms)
    return tuple(other.code for other in rules if other is not rule and symptoms.intersection(other.explains))


def run_rules(
    evidence: Iterable[Any],
    stage: Stage,
    allow: Mapping[str, str] | None = None,
    rules: Sequence[Rule] = RULES,
    earlier: Iterable[Finding] = (),
    unreadable: Mapping[Any, str] | None = None,
) -> Report:
    """Run the rules on evidence of different kinds, at most one of each.

    `allow` maps codes to reasons: their findings do not stop the run. `earlier` are findings of earlier stages of the
    same run that may explain the new ones. `unreadable` maps a kind of evidence that could not be gathered to the
    reason. Rules whose evidence is missing are reported as not applicable, with a reason.
    """
    available = {type(item): item for item in evidence}
    checked: list[str] = []
    not_applicable: list[NotApplicable] = []
    findings: list[Finding] = []
    for rule in rules:
        missing = [kind for kind in rule.needs if kind not in available]
        if missing:
            reasons = [(unreadable or {}).get(kind, f"needs {kind.description}") for kind in missing]
            not_applicable.append(NotApplicable(rule.code, " and ".join(dict.fromkeys(reasons))))
            continue
        try:
            finding = rule(*(available[kind] for kind in rule.needs))
        except CannotTell as reason:
            not_applicable.append(NotApplicable(rule.code, str(reason)))
            continue
        checked.append(rule.code)
        if finding is not None:
            findings.append(
                replace(
                    finding,
                    code=rule.code,
                    title=rule.title,
                    severity=finding.severity or rule.severity,
                    stage=stage,
                    allowed=(allow or {}).get(rule.code, ""),
                )
            )
    return Report(stage, tuple(checked), tuple(not_applicable), link_causes(findings, earlier, with_rules(rules)))


def link_causes(
    findings: Iterable[Finding], earlier: Iterable[Finding] = (), rules: Iterable[Rule] = RULES
) -> tuple[Finding, ...]:
    """Link each finding to those that explain it; sort causes before symptoms, errors first, allowed findings last."""
    findings, rules = list(findings), tuple(rules)
    codes = {finding.code for finding in (*findings, *earlier)}
    explained_by = {rule.code: causes_of(rule, rules) for rule in rules if rule.code in codes}
    linked = [
        replace(finding, caused_by=tuple(code for code in explained_by.get(finding.code, ()) if code in codes))
        for finding in findings
    ]
    weight = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(linked, key=lambda f: (bool(f.caused_by), bool(f.allowed), weight[f.severity])))


def find_rule(code: str) -> Rule:
    """The rule with a code, upper or lower case.

    Raises:
        UserError: there is no such rule; names the nearest ones.
    """
    if code.upper() in BY_CODE:
        return BY_CODE[code.upper()]
    from difflib import get_close_matches

    near = get_close_matches(code.upper(), BY_CODE, n=3, cutoff=0.4)
    raise UserError(f"there is no rule {code!r}; nearest: {', '.join(near) or 'none'}. `tenor rule` lists all rules")


def page(rule: Rule) -> str:
    """A rule's documentation as Markdown."""
    title, _, body = rule.doc.partition("\n")
    needs = "; ".join(kind.description for kind in rule.needs)
    read = f" ({', '.join(f'`{name}`' for name in rule.reads)})" if rule.reads else ""
    facts = [f"Severity: {rule.severity}.", f"Needs: {needs}{read}."]
    if causes := causes_of(rule):
        facts.append(f"Possible causes: {', '.join(causes)}.")
    if rule.setting:
        facts.append(f"Setting that fixes it: {', '.join(f'`{key}={value}`' for key, value in rule.setting.items())}.")
    return f"# {rule.code}: {title}\n\n{' '.join(facts)}\n\n{body.strip()}\n"


def index() -> str:
    """The list of all rules as Markdown."""
    lines = [f"| [{rule.code}]({rule.code}.md) | {rule.severity} | {rule.title} |" for rule in RULES]
    return "\n".join(["# Rules", "", "| code | severity | what it finds |", "| --- | --- | --- |", *lines, ""])


def write_pages(folder: Path) -> None:
    """Replace all pages in `docs/rules/`."""
    for old in folder.glob("*.md"):
        old.unlink()
    for rule in RULES:
        write_text(folder / f"{rule.code}.md", page(rule))
    write_text(folder / "README.md", index())


if __name__ == "__main__":
    import sys

    write_pages(Path(sys.argv[1]))
