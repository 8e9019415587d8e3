"""From findings to causes: which are confirmed, which are suspected, how likely each is, in which order to look."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np

from tenor.checks.catalogue import BY_CODE
from tenor.checks.diagnosis.artifacts import Material
from tenor.checks.evidence import EvaluationEvidence, StepEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rules.evl_collapse import collapse
from tenor.checks.rules.evl_measures import class_name

COLLAPSE = frozenset({"EVL001", "EVL003"})
# A loss that only ever sees one class is least for that class everywhere; equal logits have one argmax.
FORCES_ONE_CLASS = frozenset({"DAT001", "DAT002", "MOD005"})
# Sorted batches leave the last class; a head that does not move keeps its first, lopsided answer; too large a rate
# destroys the encoder, and only the bias is left.
USUALLY_ONE_CLASS = frozenset(
    {"DAT003", "DAT004", "DAT007", "FRZ003", "FRZ005", "OPT001", "OPT002", "OPT004", "OPT005", "OPT007"}
)
ONE_CLASS_TRAINED = frozenset({"DAT001", "DAT002"})
NOTHING_TRAINED = frozenset({"MOD005", "FRZ003", "OPT001", "OPT004", "OPT005"})
# Shares of ln K, the loss of knowing nothing: below the one training rows were fitted, above the other they were not.
FITTED, NOT_FITTED = 0.1, 0.5
# Training rows were told apart to some degree, so weights that say one class to all are not those that trained.
LEARNED = 0.9
OTHER_WEIGHTS = frozenset({"CKP002"})
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


def facts_of(material: Material) -> Facts:
    """Gather them from a run's evidence and settings."""
    evaluation = next((one for one in material.evidence if isinstance(one, EvaluationEvidence)), None)
    steps = next((one for one in material.evidence if isinstance(one, StepEvidence)), None)
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
        subset=_subset(material.settings),
    )


def likelihood(code: str, symptoms: tuple[str, ...], facts: Facts) -> int:
    """0 … 3, as the module says."""
    if not COLLAPSE & set(symptoms):
        return 1
    found = 3 if code in FORCES_ONE_CLASS else 2 if code in USUALLY_ONE_CLASS else 1
    # Of more than two classes, the others are left when one has no row.
    if found == 3 and (not facts.without_exception or (code == "DAT001" and facts.n_classes > 2)):
        found = 2
    fitted = facts.loss_share is not None and facts.loss_share < FITTED
    not_fitted = facts.loss_share is not None and facts.loss_share > NOT_FITTED
    if (code in ONE_CLASS_TRAINED and not_fitted) or (code in NOTHING_TRAINED and fitted):
        return 0
    if code in ONE_CLASS_TRAINED and fitted:
        return 3
    if code in OTHER_WEIGHTS and facts.loss_share is not None and facts.loss_share < LEARNED:
        return 3
    return found


def why_suspected(code: str, symptoms: tuple[str, ...], facts: Facts) -> str:
    """One sentence on how the cause fits the figures."""
    level = likelihood(code, symptoms, facts)
    if not COLLAPSE & set(symptoms):
        return "would explain it; what is here neither shows nor excludes it"
    said = ["", "may end so", "usually ends so", "would force just this"][level]
    if level == 3 and facts.without_exception:
        said += ", without one exception"
    if level == 0:
        said = "would explain it, but the training loss speaks against it"
    parts = [f"{said} ({facts.collapsed})" if facts.collapsed and level == 3 else said]
    if facts.last_loss is not None and (code in ONE_CLASS_TRAINED or level == 0):
        parts.append(f"the last training losses are {facts.last_loss:.3g}")
    if facts.subset and code in ONE_CLASS_TRAINED:
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
