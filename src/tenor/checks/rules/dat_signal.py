"""Whether naive Bayes can predict the labels from the texts: not at all, one row off, inverted, or too easily."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenor.checks.evidence.data_evidence import DataEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import ALPHA, class_name, held_out, labelled_texts
from tenor.measures.tail_probabilities import binomial_at_most, normal_above
from tenor.runs.findings import Finding

SAMPLE = 2_000  # Rows; naive Bayes reaches 80% on IMDb with this number, in a second.
FOLDS = 5
PERMUTATIONS = 20  # For the mean and spread under the null hypothesis; the tail is assumed normal.
TERMS = 1 << 15  # Hashed words; collisions cost one point of accuracy.
MAX_CLASSES = 10  # With more classes, 2,000 rows contain too few of each for a conclusive failure.
MIN_ROWS = 1_000  # With fewer rows, a hard but learnable task looks like noise.
MIN_PER_CLASS = 100
NO_SIGNAL_Z = 3.0  # Below this, not distinguishable from shuffled labels; IMDb has 29, Rotten Tomatoes 14.
NO_SIGNAL_KAPPA = 0.1  # "Slight" agreement ends at 0.2 (Landis and Koch 1977).
PAIRED_ROWS = 100
GAIN = 0.2  # In kappa, of the shifted or swapped labels over the given ones; chance stays below 0.1 at 200 rows.
FAIR_KAPPA = 0.2  # A baseline must reach this on the training rows before it can judge other splits.
TOKEN_ROWS = 100
TOKEN_SAMPLE = 4_000
WRITTEN, WRITTEN_ROWS = 0.9, 10  # By chance, IMDb's reviews begin or end with "negative" or "positive" in 0.1%.
GIVEAWAY = 0.95  # Balanced accuracy of one word; the best word of IMDb ("bad") reaches 0.61.
RATING_SIGNS = re.compile(r"([★☆⭐✩✭🌟●○])\1*")
WORD = re.compile(r"[^\s.,;!?()\"']+")


def hashed(texts: Sequence[str]) -> Any:
    """The words present in each text, as a sparse matrix, shape (n, TERMS)."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=TERMS, alternate_sign=False, binary=True, norm=None).transform(texts)


def naive_bayes(features: Any, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Log probabilities of the terms per class with equal priors, shape (TERMS, K) (multinomial, add-one)."""
    one_hot = np.eye(n_classes)[labels]
    counts = features.T @ one_hot + 1.0
    return np.log(counts / counts.sum(axis=0))


def out_of_fold(features: Any, labels: np.ndarray, n_classes: int, folds: list[np.ndarray]) -> np.ndarray:
    """Each row's class as predicted by naive Bayes on the other folds, shape (n,)."""
    one_hot = np.eye(n_classes)[labels]
    parts = [(features[fold], fold) for fold in folds]
    counts = [part.T @ one_hot[fold] for part, fold in parts]
    total = np.sum(counts, axis=0) + 1.0
    predicted = np.zeros(len(labels), dtype=np.int64)
    for (part, fold), own in zip(parts, counts, strict=True):
        others = total - own
        predicted[fold] = np.argmax(part @ np.log(others / others.sum(axis=0)), axis=1)
    return predicted


def kappa(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> float:
    """Agreement beyond chance: 1 perfect, 0 chance, below 0 worse than chance (Cohen 1960); 0 for a single class."""
    from sklearn.metrics import cohen_kappa_score

    if (labels == labels[0]).all() and (predicted == labels[0]).all():
        return 0.0
    return float(cohen_kappa_score(labels, predicted, labels=range(n_classes)))


def sample(n: int, size: int) -> np.ndarray:
    """At most `size` of n row numbers in random order, the same at every call."""
    return np.random.default_rng(0).permutation(n)[:size]


@dataclass(frozen=True)
class Signal:
    """How well cross-validated naive Bayes predicts the labels from the texts."""

    n: int
    kappa: float
    before: float
    """Kappa with the label of the row before …"""
    after: float
    """… and of the row after."""
    z: float
    """Standard deviations by which kappa exceeds that of shuffled labels."""


def signal(texts: Sequence[str], labels: np.ndarray, n_classes: int) -> Signal:
    """Measured on at most 2,000 rows that have both neighbours."""
    rows = 1 + sample(len(texts) - 2, SAMPLE)
    features = hashed([texts[row] for row in rows])
    folds = np.array_split(np.arange(len(rows)), FOLDS)

    def score(candidates: np.ndarray) -> float:
        return kappa(candidates, out_of_fold(features, candidates, n_classes, folds), n_classes)

    own, before, after = (score(labels[rows + shift]) for shift in (0, -1, 1))
    random = np.random.default_rng(1)
    null = np.array([score(random.permutation(labels[rows])) for _ in range(PERMUTATIONS)])
    spread = max(float(null.std(ddof=1)), 1e-3)
    return Signal(len(rows), own, before, after, (own - float(null.mean())) / spread)


@rule(
    "DAT008",
    "warning",
    symptoms=("unrelated labels",),
    explains=("bad result", "stalled loss", "random labels learned"),
)
def labels_unrelated(data: DataEvidence) -> Finding | None:
    """The labels are unrelated to the texts, or shifted by one row

    Measures: Cohen's kappa of naive Bayes over words, cross-validated on at most 2,000 training rows: with the labels
    as given, shuffled 20 times, and taken from the row before and after.

    Threshold: less than 3 standard deviations above shuffled labels and a kappa below 0.1, on 1,000 rows or more with
    100 of each class: a warning. Labels of a neighbouring row better by 0.2, with p below 1e-4: an error.

    Why: texts and labels that were sorted, filtered or joined separately are noise. A transformer memorizes it, and the
    validation accuracy stays at chance.

    Look-alikes: tasks that single words do not show (entailment, grammar, irony). Therefore a warning and never an
    error.

    Fix: print ten rows and read them; keep text and label in one table through all steps.

    Reference: Zhang et al. 2017, Understanding deep learning requires rethinking generalization; Cohen 1960 for kappa.
    """
    texts, labels = labelled_texts(data.train, data.n_classes)
    counts = np.bincount(labels, minlength=data.n_classes)
    if len(texts) < PAIRED_ROWS or np.count_nonzero(counts) < 2 or data.n_classes > MAX_CLASSES:
        raise CannotTell(
            f"{len(texts):,} rows of {data.n_classes} classes are not enough to test whether texts predict labels"
        )
    result = signal(texts, labels, data.n_classes)
    neighbour = max(result.before, result.after)
    if neighbour - result.kappa >= GAIN and 2 * chance_of_gain(neighbour - result.kappa, result.n) < ALPHA:
        return Finding(
            observed=f"words predict the label of the row {'before' if result.before > result.after else 'after'} "
            f"(kappa {neighbour:.2f}) better than the row's own ({result.kappa:.2f})",
            expected="the best prediction for the row's own label",
            n=result.n,
            cause="texts and labels are shifted by one row: a header, a dropped row or an offset in one of them",
            fix="keep text and label in one table; compare the first and last rows with the source",
            severity="error",
        )
    if result.z >= NO_SIGNAL_Z or result.kappa >= NO_SIGNAL_KAPPA:
        return None
    if len(texts) < MIN_ROWS or counts[counts > 0].min() < MIN_PER_CLASS:
        raise CannotTell(
            "words do not predict the labels, and there are too few rows to conclude anything about the labels"
        )
    return Finding(
        observed=f"naive Bayes over words predicts the labels with kappa {result.kappa:.2f}, no better than "
        f"shuffled labels (z = {result.z:.1f})",
        expected=f"a z of {NO_SIGNAL_Z:.0f} or more: words usually predict sentiment",
        n=result.n,
        cause="the labels were shuffled or joined to other rows, or single words do not determine the class",
        fix="read ten random rows with their labels; keep text and label in one table through all steps",
    )


def chance_of_gain(gain: float, n: int) -> float:
    """Upper bound on the p-value of a difference of two kappas on the same n rows (normal, each with spread 1/√n)."""
    return normal_above(gain / math.sqrt(2 / n))


@dataclass(frozen=True)
class Swap:
    """The relabelling of a split's classes that agrees best with a baseline trained on the training rows."""

    order: tuple[int, ...]
    """The new class of each of the split's classes."""
    n: int
    as_given: float
    relabelled: float
    """Cohen's kappa, on rows that were not used to choose the relabelling."""
    p: float
    """P-value of the gain in a sign test."""


def best_swap(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> Swap:
    """The relabelling that agrees best with the predictions on one half of the rows, measured on the other."""
    from scipy.optimize import linear_sum_assignment

    half = len(labels) // 2
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (labels[:half], predicted[:half]), 1)
    order = linear_sum_assignment(-confusion)[1]
    given, guess = labels[half:], predicted[half:]
    wins = int(np.sum((order[given] == guess) & (given != guess)))
    losses = int(np.sum((given == guess) & (order[given] != guess)))
    return Swap(
        tuple(int(k) for k in order),
        len(given),
        kappa(given, guess, n_classes),
        kappa(order[given], guess, n_classes),
        binomial_at_most(losses, wins + losses, 0.5) if wins else 1.0,  # As of so many wins: both are equally likely.
    )


@rule("DAT009", "error", explains=("swapped classes", "below chance"))
def labels_swapped(data: DataEvidence) -> Finding | None:
    """One split uses different class indices

    Measures: naive Bayes over words, trained on at most 2,000 training rows and applied to the other splits: its
    agreement with their labels as given and under the best relabelling. Half of the rows choose the relabelling, the
    other half measures it.

    Threshold: the relabelled rows are better by 0.2 in kappa and the given labels below 0.1, with p below 1e-4 over the
    splits; 100 rows, and a kappa of 0.2 on the training rows themselves.

    Why: if negative is 0 in one file and 1 in the other, a better model has a worse result.

    Look-alikes: another domain lowers the agreement to 0, but not below.

    Fix: map names to indices once, from the same list, for all splits (`data.class_names`).

    Reference: Wang and Manning 2012, Baselines and bigrams, for naive Bayes on sentiment.
    """
    texts, labels = labelled_texts(data.train, data.n_classes)
    rows = sample(len(texts), SAMPLE)
    if len(rows) < PAIRED_ROWS or len(np.unique(labels)) < 2 or data.n_classes > MAX_CLASSES:
        raise CannotTell(
            f"{len(texts):,} training rows of {data.n_classes} classes are not enough to train the baseline"
        )
    features = hashed([texts[row] for row in rows])
    folds = np.array_split(np.arange(len(rows)), FOLDS)
    if kappa(labels[rows], out_of_fold(features, labels[rows], data.n_classes, folds), data.n_classes) < FAIR_KAPPA:
        raise CannotTell("words do not predict the labels of the training rows")
    weights = naive_bayes(features, labels[rows], data.n_classes)
    judged = 0
    for name, split in held_out(data):
        others, given = labelled_texts(split, data.n_classes)
        chosen = sample(len(others), SAMPLE // 2)
        if len(chosen) < PAIRED_ROWS:
            continue
        judged += 1
        predicted = np.argmax(hashed([others[row] for row in chosen]) @ weights, axis=1)
        swap = best_swap(given[chosen], predicted, data.n_classes)
        better = swap.relabelled - swap.as_given >= GAIN and swap.as_given < NO_SIGNAL_KAPPA
        if better and swap.p * 2 < ALPHA:
            moved = [f"{k} as {to}" for k, to in enumerate(swap.order) if k != to]
            return Finding(
                observed=f"{name} labels agree with a baseline from the training rows with kappa {swap.as_given:.2f}; "
                f"relabelled ({', '.join(moved[:4])}) with {swap.relabelled:.2f}",
                expected="the best agreement for the labels as given",
                n=swap.n,
                cause=f"the {name} split uses another class order, or its labels are inverted",
                fix="map names to indices from one list for all splits (data.class_names), and read ten rows of each",
            )
    if judged == 0:
        raise CannotTell(f"fewer than {PAIRED_ROWS} rows in the other splits")
    return None


@dataclass(frozen=True)
class Giveaway:
    """The word whose presence predicts a class best."""

    word: str
    label: int
    balanced_accuracy: float
    p: float
    """Fisher's p-value, times the number of words and classes."""


def signs_in(text: str) -> set[str]:
    """The signs of ratings in a text: of "★★★★☆" the runs of at least one, two, three and four stars, and "☆"."""
    return {run.group()[:length] for run in RATING_SIGNS.finditer(text) for length in range(1, len(run.group()) + 1)}


def best_word(texts: Sequence[str], labels: np.ndarray, n_classes: int) -> Giveaway | None:
    """Over all words, by the balanced accuracy of "present: this class, absent: another"."""
    from scipy.stats import hypergeom

    n, per_class = len(texts), np.bincount(labels, minlength=n_classes)
    tallies: list[Counter[str]] = [Counter() for _ in range(n_classes)]
    for text, label in zip(texts, labels.tolist(), strict=True):
        tallies[label].update(set(WORD.findall(text.lower())) | signs_in(text))
    rows = Counter[str]()
    for tally in tallies:
        rows.update(tally)
    best: tuple[float, str, int] | None = None
    for label in np.flatnonzero((per_class >= MIN_PER_CLASS // 10) & (per_class < n)).tolist():
        inside, outside = int(per_class[label]), n - int(per_class[label])
        for word, hits in tallies[label].items():
            score = (hits / inside + 1 - (rows[word] - hits) / outside) / 2
            if best is None or score > best[0]:
                best = (score, word, label)
    if best is None:
        return None
    score, word, label = best
    tail = hypergeom.sf(tallies[label][word] - 1, n, int(per_class[label]), rows[word])
    return Giveaway(word, label, score, float(tail) * len(rows) * n_classes)


@dataclass(frozen=True)
class Written:
    """A class whose name is the first or last word of its texts."""

    label: int
    count: int
    rows: int
    example: str


def written_label(texts: Sequence[str], labels: np.ndarray, names: Sequence[str]) -> Written | None:
    """The first class whose texts nearly all begin or end with its name, as in `__label__2 …` and `positive: …`, while
    those of other classes hardly do."""
    ends = [set(map(label_word, (words[0], words[-1]))) if (words := text.split()) else set() for text in texts]
    for label, name in enumerate(names):
        named = np.array([name.casefold() in words for words in ends])
        own = labels == label
        if (
            own.sum() >= WRITTEN_ROWS
            and named[own].mean() >= WRITTEN
            and named[~own].sum() <= (1 - WRITTEN) * own.sum()
        ):
            return Written(label, int(named[own].sum()), int(own.sum()), texts[int(np.flatnonzero(named & own)[0])])
    return None


def label_word(word: str) -> str:
    """A word without the signs around a label."""
    return word.casefold().removeprefix("__label__").strip("[](){}<>|:;,.=#*\"'_-")


@rule("DAT015", "warning")
def word_reveals_label(data: DataEvidence) -> Finding | None:
    """A single word reveals the label

    Measures: whether the texts of a class begin or end with its name (`__label__2 …`, `positive: …`), and the balanced
    accuracy of each word's presence as a predictor of each class, on at most 4,000 training rows.

    Threshold: 90% of the rows of a class of 10 rows or more begin or end with its name, and a tenth as many rows of
    other classes; or a balanced accuracy of 0.95, with Fisher's p below 1e-4 after correction for all words and
    classes, on 100 rows or more. The best word of IMDb reaches 0.61.

    Why: if a label, a file name or a rating was left in the text, the model learns only that, and it is missing in
    production.

    Look-alikes: texts made from templates; classes defined by a keyword; star ratings written by the reviewers
    ("10/10"), which never occur in all rows.

    Fix: read rows with the word. If it comes from the way the data were made, remove it from the text.

    Reference: Gururangan et al. 2018, Annotation artifacts in natural language inference data.
    """
    texts, labels = labelled_texts(data.train, data.n_classes)
    rows = sample(len(texts), TOKEN_SAMPLE)
    sampled = [texts[row] for row in rows]
    names = data.class_names or tuple(map(str, range(data.n_classes)))
    if (written := written_label(sampled, labels[rows], names)) is not None:
        return Finding(
            observed=f"{written.count:,} of {written.rows:,} texts of class {class_name(data, written.label)} begin or "
            f"end with its name, for example {written.example.strip()[:40]!r}",
            expected=f"below {WRITTEN:.0%}",
            n=len(rows),
            cause="the label was left in the text",
            fix="remove it from the text: it will be missing in production",
        )
    if len(texts) < TOKEN_ROWS:
        raise CannotTell(f"{len(texts)} rows are too few; {TOKEN_ROWS} are needed")
    result = best_word(sampled, labels[rows], data.n_classes)
    if result is None:
        raise CannotTell("fewer than two classes have training rows")
    if result.balanced_accuracy < GIVEAWAY or result.p >= ALPHA:
        return None
    return Finding(
        observed=f"{result.word!r} alone predicts class {class_name(data, result.label)} with balanced accuracy "
        f"{result.balanced_accuracy:.3f}",
        expected=f"below {GIVEAWAY} for every word",
        n=len(rows),
        cause="the text contains the label, or a trace of how the data were made",
        fix="read rows with and without it; remove it if it will be missing in production",
    )
