"""`tenor audit`: training rows that are probably mislabelled, duplicated, or ambiguous."""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from tenor.checks.rules.dat_splits import SAME_WORDS
from tenor.checks.rules.near_duplicates import groups_within
from tenor.config.schema import Config
from tenor.console.run import progress_line, show_notes
from tenor.data.batching import TokenExamples
from tenor.data.dataset import LabelledText, excerpt, repeated_ids
from tenor.data.sources import read_source
from tenor.data.splits import make_splits
from tenor.data.tokenization import Truncation, tokenize
from tenor.errors import UserError
from tenor.inference.logits import predict
from tenor.measures.calibration import fit_temperature, log_probabilities, with_temperature
from tenor.measures.label_noise import combined, features_probabilities, suspected_errors, words_probabilities
from tenor.model.classifier import load_classifier
from tenor.model.features import cached_features, mean_state
from tenor.runs.files import write_text
from tenor.workflows.prepare import check_length, device_plan

Kind = Literal["label", "duplicate", "ambiguous"]

AMBIGUOUS = 0.1
"""Difference of the two highest probabilities below which a text is ambiguous: 0.45 to 0.55 for two classes."""

EXCLUDE_BELOW = 0.05
"""Probability of a label below which its row is excluded by default: with injected errors, four in five such rows were
mislabelled, and two in five of all suspects (`make bench-audit`)."""


@dataclass(frozen=True)
class Suspect:
    """One training row to examine."""

    rank: int
    """From 1: label errors by how improbable the label is, then duplicates, then ambiguous rows."""
    id: str
    given: str
    suggested: str
    """The most probable class."""
    probability: float
    """Of the suggested class, from a classifier that was not trained on the row."""
    kind: Kind
    reason: str
    exclude: bool
    """Whether training is probably better without it; the default of a decision for the user."""
    text: str


def suspects(rows: LabelledText, probabilities: np.ndarray, errors: np.ndarray) -> tuple[Suspect, ...]:
    """The rows to examine, each once, by rank; `probabilities` (n, K) are out of sample, `errors` are the rows with
    suspected labels.

    Of each group of equal or nearly equal texts the row whose label is most probable is kept, the first on a tie. It
    is excluded for its own label only if all labels of the group agree.
    """
    groups = _duplicate_groups(rows, probabilities)
    candidates = (
        *_label_errors(rows, probabilities, errors, groups),
        *_duplicates(rows, probabilities, groups),
        *_ambiguous(rows, probabilities),
    )
    seen: dict[str, Suspect] = {}
    for one in candidates:
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
    # The classifier was trained on the same text with the other label, so a whole group may look wrong and not be.
    spared = {group.kept for group in groups if group.disputed}
    labels = rows.labels
    for row in errors.tolist():
        given = probabilities[row, labels[row]]
        kept = ", the highest of its duplicates" if row in spared else ""
        out = bool(given < EXCLUDE_BELOW) and row not in spared
        yield _suspect(rows, probabilities, row, "label", f"label has probability {given:.4f}{kept}", exclude=out)


def _duplicate_groups(rows: LabelledText, probabilities: np.ndarray) -> tuple[_Group, ...]:
    """Groups of equal or nearly equal texts, those with two labels first."""
    labels = rows.labels
    of_label = probabilities[np.arange(len(labels)), labels]
    groups = []
    for alike in groups_within(rows.texts):
        kept = max(alike, key=lambda row: of_label[row])
        others = tuple(row for row in alike if row != kept)
        groups.append(_Group(kept, others, disputed=any(labels[row] != labels[kept] for row in others)))
    return tuple(sorted(groups, key=lambda group: not group.disputed))


def _duplicates(rows: LabelledText, probabilities: np.ndarray, groups: tuple[_Group, ...]) -> Iterator[Suspect]:
    """All rows of each group except the one that is kept."""
    labels, ids, texts = rows.labels, rows.ids, rows.texts
    for group in groups:
        kept = group.kept
        # Short texts such as "great film" are often written independently.
        long = any(len(texts[row].split()) >= SAME_WORDS for row in (kept, *group.others))
        for row in group.others:
            what = "same text as" if texts[row].strip() == texts[kept].strip() else "nearly the same text as"
            label = "" if labels[row] == labels[kept] else f", which has label {rows.class_names[labels[kept]]}"
            yield _suspect(rows, probabilities, row, "duplicate", f"{what} {ids[kept]}{label}", exclude=long)


def _ambiguous(rows: LabelledText, probabilities: np.ndarray) -> Iterator[Suspect]:
    top = np.sort(probabilities, axis=1)[:, -2:]
    margin = top[:, 1] - top[:, 0]
    for row in np.argsort(margin, kind="stable")[: np.count_nonzero(margin < AMBIGUOUS)]:
        yield _suspect(
            rows, probabilities, int(row), "ambiguous", "two classes are almost equally probable", exclude=False
        )


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
    """One row with two reasons."""
    return replace(first, reason=f"{first.reason}; {second.reason}", exclude=first.exclude or second.exclude)


Features = Literal["both", "encoder", "words"]

PROBABILITY_BINS = 20


@dataclass(frozen=True)
class Audit:
    """The result for n training rows."""

    n: int
    features: Features
    accuracy: float
    """Of the cross-validated classifier against the given labels."""
    suspects: tuple[Suspect, ...]
    label_probabilities: tuple[int, ...]
    """Of all n rows by the probability of their label, in bins of equal width from 0 to 1 …"""
    suspected_probabilities: tuple[int, ...]
    """… and of the suspected label errors alone."""

    def of(self, kind: Kind) -> tuple[Suspect, ...]:
        """Those of one kind, by rank."""
        return tuple(one for one in self.suspects if one.kind == kind)


def audit(config: Config, features: Features = "both", console: Console | None = None) -> Audit:
    """Examine the rows that the configuration trains on.

    Every row gets class probabilities from classifiers that were fitted on other rows: on the mean states of the frozen
    encoder, on naive-Bayes-weighted bigrams, or (`both`) the mean of the two. Confident learning picks the labels
    that are probably wrong.

    Raises:
        UserError: data or model cannot be read, ids repeat, a class has a single row, or cleanlab is not installed.
    """
    console = console or Console(stderr=True, markup=False)
    rows = make_splits(read_source(config.data), config.data, config.seed).train
    show_notes(console, rows.notes)
    if repeated := repeated_ids(rows):
        name, count = next(iter(repeated.items()))
        raise UserError(
            f"{count:,} rows of {rows.origin} have the id {name!r}; ids must be unique. Leave data.id_column out, "
            "so that ids are row numbers"
        )
    single = [name for name, count in zip(rows.class_names, rows.label_counts(), strict=True) if count == 1]
    if single or np.count_nonzero(rows.label_counts()) < 2:
        observed = f"{single[0]} has one" if single else "there is only one class"
        raise UserError(f"an audit compares classes, each with 2 training rows or more; {observed}")
    raw = _out_of_sample(rows, config, features, console)
    temperature = fit_temperature(log_probabilities(raw), rows.labels)
    probabilities = with_temperature(raw, 1.0, temperature)
    accuracy = float((probabilities.argmax(axis=1) == rows.labels).mean())
    errors = suspected_errors(rows.labels, raw)
    of_label = probabilities[np.arange(len(rows)), rows.labels]
    ranked = suspects(rows, probabilities, errors)
    return Audit(len(rows), features, accuracy, ranked, _binned(of_label), _binned(of_label[errors]))


def _binned(probabilities: np.ndarray) -> tuple[int, ...]:
    return tuple(np.histogram(probabilities, bins=PROBABILITY_BINS, range=(0.0, 1.0))[0].tolist())


def encoder_features(rows: LabelledText, config: Config, console: Console) -> np.ndarray:
    """The mean of the frozen encoder's states for every row, shape (n, width): read from the cache, or computed.

    The mean over all tokens, since sentence encoders such as MiniLM were trained with it.
    """
    plan = device_plan(config)
    classifier = load_classifier(config.model, rows.class_names, config.seed, plan.device)
    check_length(classifier, config.data.max_length)
    tokens = tokenize(rows, classifier.tokenizer, Truncation.of(config.data))
    classifier.model.to(plan.device)

    def run_encoder() -> np.ndarray:
        with progress_line(console, "encoding the training rows once", len(rows)) as line:
            examples = TokenExamples(tokens, classifier.tokenizer.pad_token_id)
            return predict(classifier.model, examples, plan, mean_state, line.advance)

    return cached_features(classifier.model, tokens, run_encoder, "mean").features


def audit_record(result: Audit) -> dict[str, Any]:
    """The audit as plain data."""
    counts = {kind: len(result.of(kind)) for kind in ("label", "duplicate", "ambiguous")}
    return {
        "n": result.n,
        "features": result.features,
        "accuracy": result.accuracy,
        "counts": counts,
        "suspects": [{**asdict(one), "text": excerpt(one.text)} for one in result.suspects],
    }


def write_audit(result: Audit, path: Path) -> None:
    """Write all suspects as CSV, atomically. `data.exclude` reads the file and its column `exclude`, yes or no."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["rank", "id", "given", "suggested", "probability", "reason", "exclude", "text"])
    for one in result.suspects:
        exclude = "yes" if one.exclude else "no"
        probability, beginning = f"{one.probability:.4f}", excerpt(one.text)
        writer.writerow([one.rank, one.id, one.given, one.suggested, probability, one.reason, exclude, beginning])
    write_text(path, lines.getvalue())


def _out_of_sample(rows: LabelledText, config: Config, features: Features, console: Console) -> np.ndarray:
    """Probabilities from classifiers that were not trained on the row, shape (n, K)."""
    estimates = []
    labels, n_classes = rows.labels, len(rows.class_names)
    if features != "words":
        states = encoder_features(rows, config, console)
        estimates.append(features_probabilities(states, labels, n_classes, config.seed))
    if features != "encoder":
        estimates.append(words_probabilities(rows.texts, labels, n_classes, config.seed))
    return estimates[0] if len(estimates) == 1 else combined(*estimates)
