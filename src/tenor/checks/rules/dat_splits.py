"""Splits compared: rows shared by two, differences in class proportions and lengths, which split selects the model."""

from collections.abc import Mapping, Sequence

import numpy as np

from tenor.checks.evidence.data_evidence import CorpusEvidence, DataEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.near_duplicates import near_duplicates, passages
from tenor.checks.rules.shared import (
    ALPHA,
    association,
    chance_of_none,
    class_counts,
    class_name,
    held_out,
    strings,
    text_keys,
)
from tenor.runs.findings import RULE_SEVERITY, Finding, Severity

SAME_WORDS = 5  # Shorter texts ("great film") may be written independently by two people.
WHOLESALE = 0.5  # Half of a split; accidental overlap was below 1% in the datasets examined (IMDb: 0.5%).
WHOLESALE_ROWS = 10  # In smaller splits, a few stock phrases may be half.
NEAR_SHARE = 0.01  # Of the held-out rows. Barz and Denzler 2020 found 3.3% and 10% in CIFAR's test sets.
SHIFT_V = 0.1  # Cohen's small effect (1988).
SHIFT_ROWS = 50  # Ten rows per cell for five classes: enough for valid chi-squared and KS tests.
SEVERITY_OF_MISSING: dict[str, tuple[Severity, Severity]] = {
    "validation": ("warning", "error"),
    "test": ("note", "warning"),
}
LENGTH_NOTE, LENGTH_WARNING = 0.1, 0.2  # KS distance; at 0.1 a tenth of the rows is on the other side of some length.


def distinct(keys: np.ndarray) -> np.ndarray:
    """The distinct keys of the texts that are not blank (`text_keys`)."""
    return np.unique(keys[keys != 0])


def evaluated_keys(evaluated: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The distinct keys of the texts of all evaluated splits."""
    return distinct(np.concatenate([np.zeros(0, np.uint64), *map(text_keys, evaluated.values())]))


@rule("DAT011", "warning", symptoms=("overlapping splits",), explains=("splits disagree",))
def duplicates_across_splits(data: DataEvidence) -> Finding | None:
    """The same text is in two splits

    Measures: rows of the validation and test splits whose text is also in an earlier split, apart from case, white
    space, punctuation, quotes and HTML tags.

    Threshold: none. A note where all of them have fewer than 5 words.

    Why: the model may have memorized the answer, so the result is slightly too good.

    Look-alikes: short texts are written independently by different people. Published splits contain some duplicates:
    IMDb's official test set shares 123 texts with its training set, half a percent, and results on it include them.

    Fix: drop them from the training rows or split by group (`data.validation.strategy=group`). For a published split,
    report their number together with the result.

    Reference: Lee et al. 2022, Deduplicating training data makes language models better.
    """
    earlier = [("train", distinct(text_keys(strings(data.train))))]
    shared: dict[str, int] = {}
    long, n = 0, 0
    for name, rows in held_out(data):
        texts = strings(rows)
        keys = text_keys(texts)
        for other, known in earlier:
            hits = np.flatnonzero(np.isin(keys, known))
            shared[f"{name} and {other}"] = len(hits)
            long += sum(len(texts[row].split()) >= SAME_WORDS for row in hits.tolist())
        n += len(texts)
        earlier.append((name, distinct(keys)))
    if not any(shared.values()):
        return None
    return Finding(
        observed=", ".join(
            f"{count:,} text{'s' if count > 1 else ''} in {pair}" for pair, count in shared.items() if count
        ),
        expected="no text in two splits",
        n=n,
        cause="the rows were split without removing duplicates, or the published splits share them",
        fix="drop these rows from the training split, or report their number together with the result",
        severity="warning" if long else "note",
    )


@rule("DAT012", "warning", symptoms=("overlapping splits",), explains=("splits disagree",))
def near_duplicates_across_splits(data: DataEvidence) -> Finding | None:
    """Nearly the same text is in two splits

    Measures: held-out texts, other than exact duplicates, that share 70% or more of their fingerprints with one
    training text. Fingerprints are hashes of 24 consecutive letters, sampled by value. At most 2,000 rows of each
    held-out split, and only texts with 16 fingerprints or more.

    Threshold: 1% of the examined held-out rows; fewer are a note.

    Why: to a model, a review that was posted twice with a different ending is the same row.

    Look-alikes: forms, signatures and quoted articles repeat letters. Passages in more than 20 rows are ignored.

    Fix: split by group (product, author, thread): `data.validation.strategy=group`.

    Reference: Manber 1994, Finding similar files in a large file system; Broder 1997, On the resemblance of documents.
    """
    known = passages(strings(data.train))
    near_by_split = {name: near_duplicates(strings(rows), known) for name, rows in held_out(data)}
    judged, near = (
        sum(one.judged for one in near_by_split.values()),
        sum(len(one.pairs) for one in near_by_split.values()),
    )
    if judged == 0:
        raise CannotTell("the texts are too short to compare passages")
    if near == 0:
        return None
    name, pair = next((name, one.pairs[0]) for name, one in near_by_split.items() if one.pairs)
    counts = ", ".join(f"{len(one.pairs):,} of {one.judged:,} {name} texts" for name, one in near_by_split.items())
    return Finding(
        observed=f"{counts} nearly equal a training text, for example {name} row {pair[0]} and training row {pair[1]}",
        expected=f"fewer than {NEAR_SHARE:.0%} of the held-out texts",
        n=judged,
        cause="the split separated reposts, quotations or edited copies",
        fix="split by group (data.validation.strategy=group with data.group_column), or drop one of each pair",
        severity="warning" if near >= NEAR_SHARE * judged else "note",
    )


@rule("DAT013", "error", explains=("class missing from a split", "overlapping splits", "splits disagree"))
def split_repeats_training(data: DataEvidence) -> Finding | None:
    """A held-out split consists of training rows

    Measures: distinct texts that the validation or test split shares with the training rows, divided by the number of
    distinct texts in the smaller of the two.

    Threshold: half, with 10 distinct texts or more.

    Why: the result then measures memory. This is the most common way to reach 99%.

    Look-alikes: a closed set of phrases (commands, emoji) repeats in every split; allow the rule there, with that
    reason.

    Fix: check whether the same file or split name was read twice, and take the split before augmentation.

    Reference: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science.
    """
    train = distinct(text_keys(strings(data.train)))
    for name, rows in held_out(data):
        texts = distinct(text_keys(strings(rows)))
        smaller, both = min(len(texts), len(train)), len(np.intersect1d(texts, train))
        if smaller >= WHOLESALE_ROWS and both >= WHOLESALE * smaller:
            return Finding(
                observed=f"{both:,} of the {len(texts):,} distinct {name} texts are training texts ({len(train):,})",
                expected="no training text",
                n=len(texts),
                cause=f"the {name} split was read from the training rows, or the rows were repeated before splitting",
                fix=f"read {name} from its own file or split, and split before any row is repeated",
            )
    return None


@rule("DAT014", "error", explains=("splits disagree",))
def selected_on_wrong_split(data: DataEvidence) -> Finding | None:
    """The best model was selected on the wrong split

    Measures: the split whose result selects the checkpoint or the settings.

    Threshold: the validation split is expected; the test split is an error, the training split a warning. An exact
    invariant.

    Why: the best of many trials on the test split is partly luck, so its result is no longer an unbiased estimate. On
    the training split, the most overfitted checkpoint wins.

    Look-alikes: using the last checkpoint selects nothing. Benchmarks that publish only their development set as the
    test set (SST-2 in GLUE) invite this error.

    Fix: set validation rows aside from the training split (`data.validation.size=0.1`), select on them, and test once.

    Reference: Hastie, Tibshirani and Friedman 2009, The elements of statistical learning, 7.2.
    """
    if data.selected_on is None:
        raise CannotTell("it is not known which split selects the model")
    if data.selected_on == "validation":
        return None
    chosen = data.test if data.selected_on == "test" else data.train
    return Finding(
        observed=f"the {data.selected_on} split selects the model",
        expected="the validation split",
        n=len(chosen.labels) if chosen else 0,
        cause="its result is then a maximum over trials" if data.selected_on == "test" else "it rewards memorization",
        fix="set validation rows aside from the training rows and select on them",
        severity="error" if data.selected_on == "test" else "warning",
    )


@rule(
    "DAT020",
    "warning",
    symptoms=("imbalance", "different splits"),
    explains=("splits disagree", "below chance"),
    setting={"data.validation.strategy": "stratified"},
)
def proportions_differ(data: DataEvidence) -> Finding | None:
    """The class proportions differ between splits

    Measures: Cramér's V between split and class, for the training split and each other split.

    Threshold: V of 0.1 (Cohen's small effect) with chi-squared p below 1e-4 over the comparisons; 50 rows each.

    Why: the model learns the training proportions as a prior, so its threshold is wrong for other proportions.

    Look-alikes: a test set balanced on purpose; rows gathered later, after the proportions have changed.

    Fix: stratify the split (`data.validation.strategy=stratified`). If the difference is intended, judge by macro F1
    and expect miscalibrated probabilities.

    Reference: Saerens, Latinne and Decaestecker 2002, Adjusting the outputs of a classifier to new
    a priori probabilities.
    """
    train = class_counts(data.train, data.n_classes)
    others = {name: class_counts(rows, data.n_classes) for name, rows in held_out(data)}
    others = {name: counts for name, counts in others.items() if min(counts.sum(), train.sum()) >= SHIFT_ROWS}
    if not others:
        raise CannotTell(f"fewer than {SHIFT_ROWS} rows in a split")
    tests = {name: association(np.stack([train, counts])) for name, counts in others.items()}
    name = max(tests, key=lambda one: tests[one].v)
    if tests[name].v < SHIFT_V or tests[name].p * len(tests) >= ALPHA:
        return None
    shares = np.abs(others[name] / others[name].sum() - train / train.sum())
    k = int(np.argmax(shares))
    return Finding(
        observed=f"class {class_name(data, k)} has {train[k] / train.sum():.1%} of the training rows and "
        f"{others[name][k] / others[name].sum():.1%} of the {name} rows (V = {tests[name].v:.2f})",
        expected="similar proportions",
        n=int(others[name].sum()),
        cause="the splits were not stratified, or come from different sources",
        fix="stratify the split, or judge by macro F1 if the difference is intended",
    )


@rule("DAT021", "warning", explains=("splits disagree",))
def lengths_differ(data: DataEvidence) -> Finding | None:
    """The text lengths differ between splits

    Measures: the largest distance between the distribution functions of the text lengths (in characters), for the
    training split and each other split (Kolmogorov and Smirnov).

    Threshold: 0.2 a warning, 0.1 a note, with p below 1e-4 over the comparisons; 50 rows each.

    Why: different lengths mean another source, or texts that were truncated in only one split.

    Look-alikes: evaluation in another domain on purpose (sentences after reviews).

    Fix: compare the shortest and longest texts of both splits, and apply the same cleaning to both.

    Reference: Massey 1951, The Kolmogorov-Smirnov test for goodness of fit.
    """
    train = np.fromiter(map(len, strings(data.train)), dtype=np.int64)
    others = {}
    for name, rows in held_out(data):
        lengths = np.fromiter(map(len, strings(rows)), dtype=np.int64)
        if min(len(lengths), len(train)) >= SHIFT_ROWS:
            others[name] = lengths
    if not others:
        raise CannotTell(f"fewer than {SHIFT_ROWS} texts in a split")
    distances = {name: _distance(train, lengths) for name, lengths in others.items()}
    name = max(distances, key=lambda one: distances[one])
    lengths, distance = others[name], distances[name]
    if distance < LENGTH_NOTE or _chance_of_distance(train, lengths) * len(others) >= ALPHA:
        return None
    return Finding(
        observed=f"the median training text has {np.median(train):,.0f} characters, the median {name} text "
        f"{np.median(lengths):,.0f} (KS distance {distance:.2f})",
        expected=f"a KS distance below {LENGTH_NOTE}",
        n=len(lengths),
        cause="the splits come from different sources, or one was truncated or cleaned differently",
        fix="compare the shortest and longest texts of both splits, and clean both in the same way",
        severity="warning" if distance >= LENGTH_WARNING else "note",
    )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the distribution functions of two samples, each of shape (n,)."""
    values = np.unique(np.concatenate([one, other]))
    below = [np.searchsorted(np.sort(part), values, side="right") / len(part) for part in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _chance_of_distance(one: np.ndarray, other: np.ndarray) -> float:
    """P-value of the distance, asked for only where it is large enough to matter: the import takes a second."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(one, other, method="asymp").pvalue)


@rule("DAT023", "error", symptoms=("class missing from a split",), explains=("different splits", "below chance"))
def class_missing_elsewhere(data: DataEvidence) -> Finding | None:
    """A class of the training rows is missing from another split

    Measures: classes that have training rows but no validation or test row, and the probability of this if the split
    had been drawn at random from all rows (hypergeometric).

    Threshold: a probability below 1e-4, corrected for K classes and two splits: an error for validation, a warning for
    test. With a higher probability: a warning for validation, a note for test.

    Why: accuracy on one class says nothing about the other, and the checkpoint selected on it may be the worst.

    Look-alikes: a rare class may be missing from a small split by chance; some tests leave a class out on purpose.

    Fix: stratify (`data.validation.strategy=stratified`), or set more rows aside.

    Reference: Kohavi 1995, A study of cross-validation and bootstrap for accuracy estimation, on stratification.
    """
    train = class_counts(data.train, data.n_classes)
    worst: tuple[float, str, list[int], int] | None = None
    for name, rows in held_out(data):
        counts = class_counts(rows, data.n_classes)
        missing = [int(k) for k in np.flatnonzero((train > 0) & (counts == 0))]
        for k in missing:
            others = int(train.sum() + counts.sum() - train[k])
            chance = chance_of_none(int(train[k]), others, int(counts.sum())) * 2 * data.n_classes
            if worst is None or chance < worst[0]:
                worst = (chance, name, missing, int(counts.sum()))
    if worst is None:
        return None
    chance, name, missing, n = worst
    likely, unlikely = SEVERITY_OF_MISSING[name]
    return Finding(
        observed=f"the {n:,} {name} rows contain none of class {', '.join(class_name(data, k) for k in missing[:5])}",
        expected="every class of the training rows in every split",
        n=n,
        cause="the split was taken by position or by class"
        if chance < ALPHA
        else "the split is small for a rare class",
        fix="stratify the split by class, or set more rows aside",
        severity=unlikely if chance < ALPHA else likely,
    )


@rule("DAT035", "error")
def evaluated_texts_in_corpus(corpus: CorpusEvidence) -> Finding | None:
    """Texts of an evaluated split are in the corpus that the encoder is adapted to

    Measures: texts of the validation and test splits that are in the corpus, apart from case, white space, punctuation,
    quotes and HTML tags.

    Threshold: none; an exact invariant. A note where all of them have fewer than 5 words.

    Why: an encoder that learned to fill the gaps of a text has memorized part of it. Without labels the effect on the
    result is small, but a test on these texts no longer shows how well the model does on new ones.

    Look-alikes: short texts are written independently by different people. A corpus that contains the evaluated texts
    on purpose (adaptation to the very texts that will be classified) is a setting of its own: allow the rule there, and
    state it with the result.

    Fix: leave these texts out (`adaptation.evaluated_texts=leave_out`), or choose a corpus without them.

    Reference: Gururangan et al. 2020, Don't stop pretraining; Jacovi et al. 2023, Stop uploading test data in plain
    text.
    """
    known = {name: distinct(text_keys(texts)) for name, texts in corpus.evaluated.items()}
    keys = text_keys(corpus.texts)
    shared = {name: len(np.intersect1d(keys, texts)) for name, texts in known.items()}
    if not any(shared.values()):
        return None
    hits = np.flatnonzero(np.isin(keys, np.concatenate(list(known.values()))))
    is_long = any(len(corpus.texts[row].split()) >= SAME_WORDS for row in hits.tolist())
    counts = [f"{count:,} of {len(known[name]):,} {name} texts" for name, count in shared.items() if count]
    return Finding(
        observed=f"{' and '.join(counts)} in a corpus of {len(keys):,} texts",
        expected="no text of an evaluated split",
        n=len(keys),
        cause="the corpus contains the file that the evaluated rows were read or split from",
        fix="set adaptation.evaluated_texts=leave_out, or choose a corpus without these texts",
        severity=RULE_SEVERITY if is_long else "note",
    )
