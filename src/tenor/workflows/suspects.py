"""The rows of an audit that are worth a look, from the probabilities of their labels and from their texts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tenor.checks.rules.dat_splits import SAME_WORDS
from tenor.checks.rules.near_duplicates import groups_within
from tenor.data.dataset import LabelledText

Kind = Literal["label", "duplicate", "ambiguous"]

AMBIGUOUS = 0.1
"""Distance of the two most probable classes below which a text is hard to tell: 0.45 to 0.55 for two classes."""

EXCLUDE_BELOW = 0.05
"""Probability of a label below which its row is left out unless a person says otherwise: of injected errors four in
five such rows were wrong, and of all suspects two in five (`make bench-audit`)."""


@dataclass(frozen=True)
class Suspect:
    """One training row worth a look."""

    rank: int
    """From 1: label errors by how improbable the label is, then duplicates, then ambiguous rows."""
    id: str
    given: str
    suggested: str
    """The most probable class."""
    probability: float
    """Of the suggested class, from a classifier that did not see the row."""
    kind: Kind
    reason: str
    exclude: bool
    """Whether training is probably better without it; a person should decide."""
    text: str


def suspects(rows: LabelledText, probabilities: np.ndarray, errors: np.ndarray) -> tuple[Suspect, ...]:
    """Every row worth a look once, by rank; `probabilities` (n, K) out of sample, `errors` the rows whose label is
    suspected.

    Of each group of equal or nearly equal texts the row whose label is most probable is kept, the first of equals. It
    is left out for its own label only where all labels of the group agree.
    """
    groups = _duplicate_groups(rows, probabilities)
    found = (
        *_label_errors(rows, probabilities, errors, groups),
        *_duplicates(rows, probabilities, groups),
        *_ambiguous(rows, probabilities),
    )
    seen: dict[str, Suspect] = {}
    for one in found:
        before = seen.get(one.id)
        seen[one.id] = one if before is None else _merged(before, one)
    return tuple(replace(one, rank=rank) for rank, one in enumerate(seen.values(), start=1))


@dataclass(frozen=True)
class _Group:
    """Rows with equal or nearly equal texts."""

    kept: int
    """The row whose label is most probable."""
    others: tuple[int, ...]
    disputed: bool
    """Whether their labels differ."""


def _label_errors(
    rows: LabelledText, probabilities: np.ndarray, errors: np.ndarray, groups: tuple[_Group, ...]
) -> Iterator[Suspect]:
    # What judged these had learned the same text with the other label: all of a group may look wrong, and none be.
    spared = {group.kept for group in groups if group.disputed}
    labels = rows.labels
    for row in errors.tolist():
        given = probabilities[row, labels[row]]
        kept = ", the highest of its duplicates" if row in spared else ""
        out = bool(given < EXCLUDE_BELOW) and row not in spared
        yield _suspect(rows, probabilities, row, "label", f"label has probability {given:.4f}{kept}", exclude=out)


def _duplicate_groups(rows: LabelledText, probabilities: np.ndarray) -> tuple[_Group, ...]:
    """Equal or nearly equal texts, those with two labels first."""
    labels = rows.labels
    of_label = probabilities[np.arange(len(labels)), labels]
    groups = []
    for alike in groups_within(rows.texts):
        kept = max(alike, key=lambda row: of_label[row])
        others = tuple(row for row in alike if row != kept)
        groups.append(_Group(kept, others, disputed=any(labels[row] != labels[kept] for row in others)))
    return tuple(sorted(groups, key=lambda group: not group.disputed))


def _duplicates(rows: LabelledText, probabilities: np.ndarray, groups: tuple[_Group, ...]) -> Iterator[Suspect]:
    """All rows of each group but the one that is kept."""
    labels, ids, texts = rows.labels, rows.ids, rows.texts
    for group in groups:
        kept = group.kept
        # Different people write "great film".
        long = any(len(texts[row].split()) >= SAME_WORDS for row in (kept, *group.others))
        for row in group.others:
            what = "same text as" if texts[row].strip() == texts[kept].strip() else "nearly the text of"
            label = "" if labels[row] == labels[kept] else f", which has label {rows.class_names[labels[kept]]}"
            yield _suspect(rows, probabilities, row, "duplicate", f"{what} {ids[kept]}{label}", exclude=long)


def _ambiguous(rows: LabelledText, probabilities: np.ndarray) -> Iterator[Suspect]:
    top = np.sort(probabilities, axis=1)[:, -2:]
    margin = top[:, 1] - top[:, 0]
    for row in np.argsort(margin, kind="stable")[: np.count_nonzero(margin < AMBIGUOUS)]:
        yield _suspect(rows, probabilities, int(row), "ambiguous", "two classes are as probable", exclude=False)


def _suspect(
    rows: LabelledText, probabilities: np.ndarray, row: int, kind: Kind, reason: str, exclude: bool
) -> Suspect:
    one = rows.select([row])
    best = int(probabilities[row].argmax())
    return Suspect(
        rank=0,
        id=one.ids[0],
        given=rows.class_names[one.labels[0]],
        suggested=rows.class_names[best],
        probability=float(probabilities[row, best]),
        kind=kind,
        reason=reason,
        exclude=exclude,
        text=one.texts[0],
    )


def _merged(first: Suspect, second: Suspect) -> Suspect:
    """One row for two reasons."""
    return replace(first, reason=f"{first.reason}; {second.reason}", exclude=first.exclude or second.exclude)
