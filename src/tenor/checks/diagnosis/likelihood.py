"""How well a suspected cause explains the figures: a small whole number, by a few plain rules.

3: the cause forces just these figures. 2: it usually ends in them. 1: it may. 0: something speaks against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from tenor.checks.diagnosis.material import Material
from tenor.checks.evidence import EvaluationEvidence, StepEvidence
from tenor.checks.finding import CannotTell
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
