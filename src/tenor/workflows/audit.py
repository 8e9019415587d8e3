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
from tenor.console.progress import progress_line
from tenor.console.run import show_notes
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
"""Margin between the two most probable classes below which a text is ambiguous: 0.45 to 0.55 for two classes."""

EXCLUDE_BELOW = 0.05
"""Rows whose label has a lower probability are excluded by default: with injected errors, four in five such rows were
wrong, and of all suspects two in five (`make bench-audit`)."""


@dataclass(frozen=True)
class Suspect:
    """One suspected training row."""

    rank: int
    """From 1: label errors, the least probable label first, then duplicates, then ambiguous rows."""
    id: str
    given: str
    suggested: str
    """The most probable class."""
    probability: float
    """Probability of the suggested class, from a classifier that did not see the row."""
    kind: Kind
    reason: str
    exclude: bool
    """Whether training is probably better without the row; a person should decide."""
    text: str


def suspects(rows: LabelledText, probabilities: np.ndarray, errors: np.ndarray) -> tuple[Suspect, ...]:
    """Every suspected row once, by rank; `probabilities` (n, K) are out of sample, `errors` are the rows whose label is
    suspected.

    In each group of equal or nearly equal texts the row with the most probable label is kept (the first in a tie). It
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
        earlier = seen.get(one.id)
        seen[one.id] = one if earlier is None else _merged(earlier, one)
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
    # Their classifiers were trained on the same text with the other label: all rows of a group may look wrong.
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
    """All rows of each group except the kept one."""
    labels, ids, texts = rows.labels, rows.ids, rows.texts
    for group in groups:
        kept = group.kept
        # Short texts such as "great film" are written by different people.
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
            rows, probabilities, int(row), "ambiguous", "two classes are about equally probable", exclude=False
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
    """One suspect with the reasons of both."""
    return replace(first, reason=f"{first.reason}; {second.reason}", exclude=first.exclude or second.exclude)


Features = Literal["both", "encoder", "words"]

PROBABILITY_BINS = 20


@dataclass(frozen=True)
class Audit:
    """The result of an audit of n training rows."""

    n: int
    features: Features
    accuracy: float
    """Accuracy of the classifier against the given labels, on rows that it did not see."""
    suspects: tuple[Suspect, ...]
    label_probabilities: tuple[int, ...]
    """Number of rows by the probability of their label, in bins of equal width from 0 to 1."""
    suspected_probabilities: tuple[int, ...]
    """The same for the suspected label errors only."""

    def of(self, kind: Kind) -> tuple[Suspect, ...]:
        """The suspects of one kind, by rank."""
        return tuple(one for one in self.suspects if one.kind == kind)


def audit(config: Config, features: Features = "both", console: Console | None = None) -> Audit:
    """Audit the rows that the configuration trains on.

    Every row gets class probabilities from classifiers fitted on other rows: on the mean states of the frozen encoder,
    on naive-Bayes-weighted bigrams, or (`both`) the mean of the two. Confident learning selects the labels that are
    probably wrong.

    Raises:
        UserError: data or model can't be read, ids are not unique, a class has a single row, or cleanlab is not
            installed.
    """
    console = console or Console(stderr=True, markup=False)
    rows = make_splits(read_source(config.data), config.data, config.seed).train
    show_notes(console, rows.notes)
    if repeated := repeated_ids(rows):
        name, count = next(iter(repeated.items()))
        raise UserError(
            f"{rows.origin}: {count:,} of the rows to audit have the id {name!r}, but ids must be unique; leave "
            "data.id_column out to use row numbers"
        )
    lonely = [name for name, count in zip(rows.class_names, rows.label_counts(), strict=True) if count == 1]
    if lonely or np.count_nonzero(rows.label_counts()) < 2:
        observed = f"{lonely[0]} has 1" if lonely else "there is only 1 class"
        raise UserError(f"an audit needs 2 or more classes, each with 2 or more training rows; {observed}")
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

    The mean over all tokens, because sentence encoders such as MiniLM were trained with it.
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
    """All suspects as CSV, atomically. `data.exclude` reads it: set its column `exclude` to yes or no."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["rank", "id", "given", "suggested", "probability", "reason", "exclude", "text"])
    for one in result.suspects:
        exclude = "yes" if one.exclude else "no"
        probability, beginning = f"{one.probability:.4f}", excerpt(one.text)
        writer.writerow([one.rank, one.id, one.given, one.suggested, probability, one.reason, exclude, beginning])
    write_text(path, lines.getvalue())


def _out_of_sample(rows: LabelledText, config: Config, features: Features, console: Console) -> np.ndarray:
    """Probabilities from classifiers that did not see the row, shape (n, K)."""
    probabilities = []
    labels, n_classes = rows.labels, len(rows.class_names)
    if features != "words":
        states = encoder_features(rows, config, console)
        probabilities.append(features_probabilities(states, labels, n_classes, config.seed))
    if features != "encoder":
        probabilities.append(words_probabilities(rows.texts, labels, n_classes, config.seed))
    return probabilities[0] if len(probabilities) == 1 else combined(*probabilities)
