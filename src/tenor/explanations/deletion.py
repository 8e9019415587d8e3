"""The test of a model's explanations: deleting the words that they call important, against deleting random words.

This is the comprehensiveness of DeYoung et al. (2020), "ERASER", against a random explanation of the same size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tenor.explanations.explainer import Explainer, Explanation, Word
from tenor.explanations.text_words import Span
from tenor.measures.intervals import Interval, percentile_interval, resampled_counts

ROWS = 200
"""Rows of the test …"""
FEWEST_ROWS = 30
"""… and the fewest for a verdict: with fewer, the bootstrap's intervals are too narrow."""
FEWEST_WORDS = 5
"""Words of a row: of a shorter one, random words are often the important ones."""
SHARE = 0.1
"""Of a row's words, which are deleted; at least one word."""
DRAWS = 5
"""Random choices of words per row, whose mean counts."""
RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Explained:
    """A text with the probability of its predicted class and its explanation."""

    text: str
    label: int
    probability: float
    explanation: Explanation


@dataclass(frozen=True)
class Deletion:
    """The result of the test on n rows."""

    important: np.ndarray
    """How much the probability of the predicted class falls without the important words, shape (n,) …"""
    random: np.ndarray
    """… and without as many random words."""
    deleted: np.ndarray
    """Count of deleted words, shape (n,)."""
    interval: Interval
    """Of the mean difference."""

    @property
    def difference(self) -> float:
        return float((self.important - self.random).mean())


def explain_rows(explainer: Explainer, texts: Sequence[str], advance: Advance = lambda rows: None) -> list[Explained]:
    """The explanations of the predicted classes; texts that can't be predicted are left out."""
    explained = []
    for chunk, scores in explainer.predictor.stream([(texts, texts)]):
        labels = explainer.predictor.decide(scores.probabilities)
        for row, text in enumerate(chunk):
            if row not in scores.faults:
                label = int(labels[row])
                probability = float(scores.probabilities[row, label])
                explained.append(Explained(text, label, probability, explainer.explain_class(text, label)))
            advance(1)
    return explained


def measure_deletion(
    explainer: Explainer, rows: Sequence[Explained], advance: Advance = lambda rows: None, seed: int = SEED
) -> Deletion | None:
    """Delete words from each row; None if fewer than `FEWEST_ROWS` rows have `FEWEST_WORDS` words.

    The most important words are those with the largest values. Both choices are among the words with letters or digits
    that the model reads.
    """
    random = np.random.default_rng(seed)
    texts: list[str] = []
    usable: list[tuple[Explained, int]] = []
    for row in rows:
        words = [word for word in row.explanation.words if any(map(str.isalnum, word.word))]
        if len(words) < FEWEST_WORDS:
            continue
        count = max(1, round(SHARE * len(words)))
        important = sorted(words, key=lambda word: -word.value)[:count]
        drawn = [random.choice(len(words), count, replace=False) for _ in range(DRAWS)]
        texts += [
            without(row.text, _spans(chosen)) for chosen in (important, *([words[at] for at in one] for one in drawn))
        ]
        usable.append((row, count))
    if len(usable) < FEWEST_ROWS:
        return None
    left = class_probabilities_of(explainer, texts, [row.label for row, _ in usable for _ in range(1 + DRAWS)], advance)
    falls = np.array([row.probability for row, _ in usable])[:, None] - left.reshape(len(usable), 1 + DRAWS)
    important_falls, random_falls = falls[:, 0], falls[:, 1:].mean(axis=1)
    return Deletion(
        important_falls,
        random_falls,
        np.array([count for _, count in usable]),
        mean_interval(important_falls - random_falls),
    )


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE, seed: int = SEED) -> Interval:
    """The bootstrap percentile interval of the mean of `values` (n,)."""
    counts = resampled_counts(np.ones(len(values), dtype=np.int64), seed, RESAMPLES)
    return percentile_interval(counts @ values / len(values), confidence)


def class_probabilities_of(
    explainer: Explainer, texts: Sequence[str], labels: Sequence[int], advance: Advance = lambda rows: None
) -> np.ndarray:
    """The probability of one class per text, shape (texts,); an empty text has equal probabilities."""
    classes = len(explainer.predictor.labels)
    ((_, scores),) = explainer.predictor.stream([(None, texts)], advance=advance)
    values = scores.probabilities[np.arange(len(texts)), np.asarray(labels, dtype=np.int64)]
    return np.where(np.isnan(values), 1 / classes, values)


def without(text: str, spans: Sequence[Span]) -> str:
    """The text without these parts, which are ascending and disjoint."""
    bounds = [0, *(at for span in spans for at in span), len(text)]
    return "".join(text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True))


def _spans(words: Sequence[Word]) -> list[Span]:
    return sorted((word.start, word.end) for word in words)
