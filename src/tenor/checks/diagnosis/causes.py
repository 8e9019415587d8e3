"""From findings to causes: which are confirmed, which are suspected, how likely each is, in which order to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np

from tenor.checks.catalogue import BY_CODE, causes_of
from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.evidence import EvaluationEvidence, StepEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import Rule
from tenor.checks.rules.evl_collapse import collapse
from tenor.checks.rules.evl_measures import class_name

Rules = Mapping[str, Rule]

COLLAPSE = frozenset({"EVL001", "EVL003"})
# Shares of ln K, the loss of knowing nothing: below the one training rows were fitted, above the other they were not.
FITTED, NOT_FITTED = 0.1, 0.5
# Training rows were told apart to some degree, so weights that say one class to all are not those that trained.
LEARNED = 0.9
RECORDS_FOR_LOSS = 5
SUBSET_WORDS = ("subset", "max_train", "n_train", "train_size", "num_train", "max_samples", "limit")


@dataclass(frozen=True)
class Facts:
    """What the figures say beyond the findings."""

    collapsed: str = ""
    """How many rows are predicted as which class, in words; empty where the predictions did not collapse."""
    without_exception: bool = False
    """Whether every row of every evaluated split is predicted as the same class."""
    loss_share: float | None = None
    """The last training loss over ln K, where enough was logged."""
    last_loss: float | None = None
    n_classes: int = 2
    subset: str = ""
    """The setting that cuts the training rows, as recorded."""


def facts_of(artifacts: Artifacts) -> Facts:
    """Gather them from a run's evidence and settings."""
    evaluation = next((one for one in artifacts.evidence if isinstance(one, EvaluationEvidence)), None)
    steps = next((one for one in artifacts.evidence if isinstance(one, StepEvidence)), None)
    collapsed = _collapses(evaluation) if evaluation else []
    n_classes = evaluation.n_classes if evaluation else 2
    losses = steps.loss[-RECORDS_FOR_LOSS:] if steps is not None and len(steps.loss) >= RECORDS_FOR_LOSS else None
    last = None if losses is None or not np.isfinite(losses).all() else float(losses.mean())
    whole = evaluation is not None and len(collapsed) == len(evaluation.splits)
    return Facts(
        collapsed=", ".join(f"{name} {hit:,} of {rows:,} as class {k}" for name, k, hit, rows in collapsed),
        without_exception=whole
        and len({k for _, k, _, _ in collapsed}) == 1
        and all(hit == rows for *_, hit, rows in collapsed),
        loss_share=None if last is None else last / log(max(n_classes, 2)),
        last_loss=last,
        n_classes=n_classes,
        subset=_subset(artifacts.settings),
    )


def likelihood(rule: Rule, symptoms: tuple[str, ...], facts: Facts) -> int:
    """0 … 3, as the module says."""
    if not COLLAPSE & set(symptoms):
        return 1
    found = {"": 1, "usually": 2, "always": 3}[rule.one_class]
    # Of more than two classes, the others are left when one has no row.
    if found == 3 and (not facts.without_exception or (rule.code == "DAT001" and facts.n_classes > 2)):
        found = 2
    fitted = facts.loss_share is not None and facts.loss_share < FITTED
    not_fitted = facts.loss_share is not None and facts.loss_share > NOT_FITTED
    if (rule.training_loss == "low" and not_fitted) or (rule.training_loss == "high" and fitted):
        return 0
    if rule.training_loss == "low" and fitted:
        return 3
    if rule.training_loss == "fell" and facts.loss_share is not None and facts.loss_share < LEARNED:
        return 3
    return found


def why_suspected(rule: Rule, symptoms: tuple[str, ...], facts: Facts) -> str:
    """One sentence on how the cause fits the figures."""
    level = likelihood(rule, symptoms, facts)
    if not COLLAPSE & set(symptoms):
        return "would explain it; what is here neither shows nor excludes it"
    said = ["", "may end so", "usually ends so", "would force just this"][level]
    if level == 3 and facts.without_exception:
        said += ", without one exception"
    if level == 0:
        said = "would explain it, but the training loss speaks against it"
    parts = [f"{said} ({facts.collapsed})" if facts.collapsed and level == 3 else said]
    if facts.last_loss is not None and (rule.training_loss == "low" or level == 0):
        parts.append(f"the last training losses are {facts.last_loss:.3g}")
    if facts.subset and rule.training_loss == "low":
        parts.append(f"the training rows were cut: {facts.subset}")
    return "; ".join(parts)


def _collapses(evaluation: EvaluationEvidence) -> list[tuple[str, str, int, int]]:
    found = []
    for name, claims in evaluation.splits.items():
        try:
            one = collapse(claims, evaluation.n_classes)
        except CannotTell:
            continue
        if one is not None:
            found.append((name, class_name(claims, one[0]), *one[1:3]))
    return found


def _subset(settings: Mapping[str, Any], prefix: str = "") -> str:
    """The first setting with a value whose name speaks of a part of the training rows."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found = _subset(value, f"{name}.")
            if found:
                return found
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0 and _speaks_of_subset(name):
            return f"{name} = {value:,}"
    return ""


def _speaks_of_subset(name: str) -> bool:
    return any(word in name.lower() for word in SUBSET_WORDS)


# Ties are broken in this order: data, loss and logits, optimizer and freezing, checkpoint choice, thresholds.
FAMILY_ORDER = {
    **dict.fromkeys(("DAT", "TOK"), 0),
    **dict.fromkeys(("LOS", "MOD"), 1),
    **dict.fromkeys(("OPT", "FRZ", "PRC"), 2),
    **dict.fromkeys(("CKP", "DST"), 3),
    "EVL": 4,
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


def is_symptom(finding: Finding, rules: Rules = BY_CODE) -> bool:
    """Whether a finding says that something went wrong, but not why."""
    return finding.code in rules and not rules[finding.code].says_why


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


def ranked_causes(
    findings: Sequence[Finding], skipped: Sequence[str], facts: Facts, rules: Rules = BY_CODE
) -> tuple[Cause, ...]:
    """Shown causes first, those that explain something before others; then suspected ones, the likeliest first."""
    by_code = {finding.code: finding for finding in findings}
    return (*_shown(by_code, set(skipped), rules), *_suspected(by_code, set(skipped), facts, rules))


def _shown(by_code: Mapping[str, Finding], skipped: set[str], rules: Rules) -> list[Cause]:
    explains: dict[str, list[str]] = {code: [] for code in by_code}
    for code, finding in by_code.items():
        for root in roots_of(finding, by_code) - {code}:
            explains[root].append(code)
    weight = {"error": 0, "warning": 1, "note": 2}
    shown = [
        f
        for f in by_code.values()
        if not f.caused_by and (not is_symptom(f, rules) or _stands_alone(f, skipped, rules))
    ]
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


def _stands_alone(finding: Finding, skipped: set[str], rules: Rules) -> bool:
    """Whether all that could explain a certain finding was looked for, and not found."""
    return finding.severity == "error" and not skipped.intersection(causes_of(rules[finding.code], rules.values()))


def _suspected(by_code: Mapping[str, Finding], skipped: set[str], facts: Facts, rules: Rules) -> list[Cause]:
    """For every finding that nothing explains: those of its possible causes whose rules could not run."""
    explains: dict[str, list[str]] = {}
    for finding in by_code.values():
        rule = rules.get(finding.code)
        if finding.caused_by and not all(is_symptom(by_code[root], rules) for root in roots_of(finding, by_code)):
            continue
        if rule is None or finding.severity == "note":
            continue
        for code in causes_of(rule, rules.values()):
            harmless = rules[code].only_through in rules.keys() - skipped - by_code.keys()
            if code in skipped and rules[code].says_why and not harmless:
                explains.setdefault(code, []).append(finding.code)
    causes = [(code, tuple(symptoms)) for code, symptoms in explains.items()]
    causes.sort(key=lambda one: (-likelihood(rules[one[0]], one[1], facts), _order(one[0]), -len(one[1])))
    return [_suspect(rules[code], symptoms, facts) for code, symptoms in causes]


def _suspect(rule: Rule, symptoms: tuple[str, ...], facts: Facts) -> Cause:
    return Cause(
        code=rule.code,
        title=rule.title,
        standing="suspected",
        evidence=why_suspected(rule, symptoms, facts),
        fix=rule.fix,
        settled_by=rule.settled_by or " and ".join(kind.description for kind in rule.needs),
        symptoms=symptoms,
    )


def _order(code: str) -> tuple[int, str]:
    return FAMILY_ORDER.get(code[:3], len(FAMILY_ORDER)), code
