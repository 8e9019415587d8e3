"""`tenor audit`: which training rows are probably labelled wrong, written twice, or hard to tell."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from tenor.config.schema import Config
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
from tenor.training.progress import progress_line
from tenor.workflows.prepare import check_length, device_plan
from tenor.workflows.show_notes import show_notes
from tenor.workflows.suspects import Kind, Suspect, suspects

Features = Literal["both", "encoder", "words"]

PROBABILITY_BINS = 20


@dataclass(frozen=True)
class Audit:
    """What was found among n training rows."""

    n: int
    features: Features
    accuracy: float
    """Of the classifier behind it against the given labels, on rows that it did not see."""
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
        UserError: what can't be read or loaded, ids that repeat, a class with a single row, or cleanlab that is not
            installed.
    """
    console = console or Console(stderr=True, markup=False)
    rows = make_splits(read_source(config.data), config.data, config.seed).train
    show_notes(console, rows.notes)
    if repeated := repeated_ids(rows):
        name, count = next(iter(repeated.items()))
        raise UserError(
            f"{name!r} stands on {count:,} of the rows of {rows.origin} to be examined, so they can't be told apart; "
            "leave data.id_column out, so that ids are row numbers"
        )
    lonely = [name for name, count in zip(rows.class_names, rows.label_counts(), strict=True) if count == 1]
    if lonely or np.count_nonzero(rows.label_counts()) < 2:
        wrong = f"{lonely[0]} has one" if lonely else "there is one class only"
        raise UserError(f"an audit compares classes, each with 2 training rows or more; {wrong}")
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

    The mean over all tokens, because that is what a sentence encoder such as MiniLM was trained to be read by.
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


def audit_record(found: Audit) -> dict[str, Any]:
    """As plain data."""
    counts = {kind: len(found.of(kind)) for kind in ("label", "duplicate", "ambiguous")}
    return {
        "n": found.n,
        "features": found.features,
        "accuracy": found.accuracy,
        "counts": counts,
        "suspects": [{**asdict(one), "text": excerpt(one.text)} for one in found.suspects],
    }


def write_audit(found: Audit, path: Path) -> None:
    """All suspects as CSV, atomically. `data.exclude` reads it: set its column `exclude` to yes or no."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["rank", "id", "given", "suggested", "probability", "reason", "exclude", "text"])
    for one in found.suspects:
        exclude = "yes" if one.exclude else "no"
        probability, beginning = f"{one.probability:.4f}", excerpt(one.text)
        writer.writerow([one.rank, one.id, one.given, one.suggested, probability, one.reason, exclude, beginning])
    write_text(path, lines.getvalue())


def _out_of_sample(rows: LabelledText, config: Config, features: Features, console: Console) -> np.ndarray:
    """Probabilities from classifiers that did not see the row, shape (n, K)."""
    found = []
    labels, n_classes = rows.labels, len(rows.class_names)
    if features != "words":
        states = encoder_features(rows, config, console)
        found.append(features_probabilities(states, labels, n_classes, config.seed))
    if features != "encoder":
        found.append(words_probabilities(rows.texts, labels, n_classes, config.seed))
    return found[0] if len(found) == 1 else combined(*found)
