"""Suspected shortcuts: words that move the model wherever they are, and that nearly always come with one label.

A watermark, a studio's name or a leftover of a scraper can give the label away; a model that learned it fails as soon
as the word means nothing. Two facts make a word suspect: texts of other classes get another probability when it is
inserted into them (or texts that have it, when it is deleted), and its rows have one label more purely than chance
explains. Whether it is a shortcut or just a strong word only a reader can tell.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tenor.explanations.deletion import Advance, Explained, class_probabilities_of, without
from tenor.explanations.explainer import Explainer
from tenor.explanations.text_words import Span, word_spans

SHOWN = 10
FEWEST_ROWS_WITH = 5
"""Labelled rows with a word, below which nothing can be said about its labels."""
MOST_ROWS = 10_000
"""Labelled rows that are read: enough for any word that a model can learn from."""
CANDIDATES = 200
"""Words that are inserted into `FIRST_HOSTS` texts; those that move them most are inserted into `HOSTS`."""
FIRST_HOSTS, FINALISTS, HOSTS = 8, 40, 40
HOST_WORDS = 50
"""The length of the texts that words are inserted into: their first words."""
DELETED_FROM = 20
"""The most texts from which a word is deleted."""
SEED = 0


@dataclass(frozen=True)
class OneSided:
    """A word in labelled rows."""

    term: str
    """In lower case …"""
    form: str
    """… and as it is usually written."""
    label: int
    """The class that it is most surprisingly common in."""
    rows: int
    of_label: int
    expected: float
    """The class's share of all rows."""
    surprise: float
    """−log10 of the probability that so many of the rows have the class by chance (binomial)."""
    purity: float
    """Logit of the lower bound of the class's share among the word's rows, minus that of all rows; at least 0."""


@dataclass(frozen=True)
class Shortcut:
    """A suspected shortcut."""

    word: OneSided
    inserted: float
    """Mean change of the class's probability."""
    hosts: int
    """Texts that it was inserted into."""
    deleted: float | None
    """Mean fall of the class's probability; None: no explained text has the word."""
    deleted_from: int

    @property
    def score(self) -> float:
        moved = self.inserted if self.deleted is None else max(self.inserted, self.deleted * self.trust)
        return moved * self.word.purity

    @property
    def trust(self) -> float:
        """Of the effect of deleting: little if few texts have the word."""
        return self.deleted_from / (self.deleted_from + FEWEST_ROWS_WITH)


def one_sided_words(texts: Sequence[str], labels: np.ndarray, classes: int) -> list[OneSided]:
    """Words of `FEWEST_ROWS_WITH` rows or more, the most suspicious labels first; at most `CANDIDATES`."""
    from scipy.special import logit
    from scipy.stats import binom, norm

    chosen = np.sort(np.random.default_rng(SEED).permutation(len(texts))[:MOST_ROWS])
    forms, counts = _counts((texts[row] for row in chosen.tolist()), labels[chosen], classes)
    shares = np.bincount(labels[chosen], minlength=classes) / len(chosen)
    frequent = counts.sum(axis=1) >= FEWEST_ROWS_WITH
    forms, counts = [form for form, keep in zip(forms, frequent, strict=True) if keep], counts[frequent]
    if not forms:
        return []
    n = counts.sum(axis=1)
    surprise = np.maximum(0.0, -binom.logsf(counts - 1, n[:, None], shares) / np.log(10))
    best = surprise.argmax(axis=1)
    at = np.arange(len(forms))
    m, q, surprise = counts[at, best], shares[best], surprise[at, best]
    low = _wilson_low(m, n, float(norm.ppf(0.975)))
    with np.errstate(divide="ignore"):
        purity = np.maximum(0.0, logit(low) - logit(q))
    found = [
        OneSided(
            term=form.lower(),
            form=form,
            label=int(best[k]),
            rows=int(n[k]),
            of_label=int(m[k]),
            expected=float(q[k]),
            surprise=float(surprise[k]),
            purity=float(purity[k]),
        )
        for k, form in enumerate(forms)
        if 0 < q[k] < 1 and purity[k] > 0
    ]
    by_surprise = sorted(found, key=lambda one: -one.surprise)
    by_purity = sorted(found, key=lambda one: -one.purity)
    both = dict.fromkeys(one for pair in zip(by_surprise, by_purity, strict=True) for one in pair)
    return list(both)[:CANDIDATES]


def _counts(texts: Iterable[str], labels: np.ndarray, classes: int) -> tuple[list[str], np.ndarray]:
    """The words of the texts as they are usually written, and the rows of each class that have them, (words, K)."""
    rows: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(classes, dtype=np.int64))
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(texts, labels.tolist(), strict=True):
        written = {text[start:end] for start, end in word_spans(text)}
        for form in written:
            forms[form.lower()][form] += 1
        for term in {form.lower() for form in written}:
            rows[term][label] += 1
    return [forms[term].most_common(1)[0][0] for term in rows], np.array(list(rows.values())).reshape(-1, classes)


def _wilson_low(successes: np.ndarray, n: np.ndarray, z: float) -> np.ndarray:
    """The lower bounds of Wilson's intervals, shape as the arguments."""
    share = successes / n
    spread = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return (share + z**2 / (2 * n) - spread) / (1 + z**2 / n)


def suspected_shortcuts(
    explainer: Explainer,
    candidates: Sequence[OneSided],
    hosts: Sequence[Explained],
    advance: Advance = lambda texts: None,
) -> list[Shortcut]:
    """The candidates that move the model most, weighed by how one-sided their labels are, in descending order.

    `hosts` are explained texts, into which the words are inserted if another class is predicted, and from which they
    are deleted if they have them. `advance` is called with counts of predicted texts, at most `most_predictions`.
    """
    trial = _Trial(explainer, hosts, advance)
    first = [trial.inserted(word, FIRST_HOSTS) for word in candidates]
    order = sorted(
        range(len(candidates)), key=lambda at: -(first[at][0] * candidates[at].purity if first[at][1] else 0.0)
    )
    finalists = [candidates[at] for at in order[:FINALISTS] if first[at][1]]
    found = [Shortcut(word, *trial.inserted(word, HOSTS), *trial.deleted(word)) for word in finalists]
    return sorted(found, key=lambda one: (-one.score, one.word.term))[:SHOWN]


def most_predictions(candidates: Sequence[OneSided], hosts: Sequence[Explained]) -> int:
    """The most texts that `suspected_shortcuts` predicts."""
    inserted = len(candidates) * FIRST_HOSTS + FINALISTS * (HOSTS + 2 * DELETED_FROM)
    return inserted + len(hosts) * len({word.label for word in candidates})


@dataclass
class _Trial:
    """Inserts words into texts, and deletes them, and asks the model."""

    explainer: Explainer
    rows: Sequence[Explained]
    advance: Callable[[int], None]

    def __post_init__(self) -> None:
        self.words = [{row.text[start:end].lower() for start, end in word_spans(row.text)} for row in self.rows]
        self.excerpts = [_excerpt(row.text) for row in self.rows]
        self.before: dict[tuple[int, int], float] = {}

    def inserted(self, word: OneSided, most: int) -> tuple[float, int]:
        """Mean change of the probability of the word's class in texts of other classes, and their count."""
        hosts = [at for at, row in enumerate(self.rows) if row.label != word.label and word.term not in self.words[at]]
        hosts = hosts[:most]
        if not hosts:
            return 0.0, 0
        random = np.random.default_rng([SEED, len(word.term), word.rows])
        texts = []
        for at in hosts:
            text, ends = self.excerpts[at]
            place = int(random.choice(ends)) if ends else len(text)
            texts.append(f"{text[:place]} {word.form}{text[place:]}")
        after = self._probabilities(texts, [word.label] * len(hosts))
        return float((after - self._excerpts_before(hosts, word.label)).mean()), len(hosts)

    def deleted(self, word: OneSided) -> tuple[float | None, int]:
        """Mean fall of the probability of the word's class in texts that have it, and their count."""
        having = [at for at in range(len(self.rows)) if word.term in self.words[at]][:DELETED_FROM]
        if not having:
            return None, 0
        texts = [self.rows[at].text for at in having]
        left = [without(text, _occurrences(text, word.term)) for text in texts]
        labels = [word.label] * len(having)
        both = self._probabilities([*texts, *left], [*labels, *labels])
        return float((both[: len(having)] - both[len(having) :]).mean()), len(having)

    def _excerpts_before(self, hosts: Sequence[int], label: int) -> np.ndarray:
        missing = [at for at in hosts if (at, label) not in self.before]
        if missing:
            found = self._probabilities([self.excerpts[at][0] for at in missing], [label] * len(missing))
            self.before |= {(at, label): float(value) for at, value in zip(missing, found, strict=True)}
        return np.array([self.before[at, label] for at in hosts])

    def _probabilities(self, texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
        return class_probabilities_of(self.explainer, texts, labels, self.advance)


def _excerpt(text: str) -> tuple[str, list[int]]:
    """The first words of a text, and the ends of these words."""
    ends = [end for _, end in word_spans(text)[:HOST_WORDS]]
    return text[: ends[-1]] if ends else text, ends


def _occurrences(text: str, term: str) -> list[Span]:
    return [(start, end) for start, end in word_spans(text) if text[start:end].lower() == term]
