"""Texts that are unlike the training texts: another script or language, tokens that the model does not know, a label
that was left in the text. The prediction for such a text should not be trusted, however high its probability."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from unicodedata import name, normalize

import numpy as np

from tenor.runs.model_notes import TrainingTexts

CHARACTERS = 2_000  # Examined of each text; its language does not change after that.
PROFILE_TEXTS = 5_000
FREQUENT_WORDS = 500
MIN_WORDS = 8
"""Texts of as many words must contain one of the frequent words, longer ones more in proportion; shorter ones are
judged by script and unknown tokens only ("great acting, superb soundtrack" has no frequent word either)."""
MIN_MARKED_WORDS = 5
"""The same for texts with a letter that the training texts hardly contain ("película"), which is further evidence."""
LETTER_SHARE = 1e-4  # Of the training letters.
MIN_TEXTS = 200  # With fewer, the frequent words are those of a subject and not those of a language.
FOREIGN_SHARE = 0.25
"""Frequent words in a text of another language. Measured: 0 to 0.2 in German, French, Spanish, Italian, Portuguese,
Dutch and Turkish reviews, at least 0.43 in 99.9% of IMDb's, 0.27 in 99% of the Rotten Tomatoes sentences."""
OF_LOW_SHARE = 0.6
"""Of the share that 95% of the training texts have, which is lower in languages of long compounds."""
RELIABLE_SHARE = 0.15  # If 5% of the training texts have fewer frequent words, these say too little.
SCRIPT_SHARE = 0.005  # Of the training letters: foreign names and quotations are fewer.
UNKNOWN = 0.5  # Of a text's tokens: one emoji after two words is no reason to doubt.
REPORTED_LANGUAGE = 0.001
"""Of the rows: fewer may be mistakes of the measure."""
REPORTED_UNKNOWN, REPORTED_TOKENS = 0.05, 200  # Of all tokens, and their least number, as in rule TOK003.
NO_LANGUAGE = re.compile(r"https?://\S+|\B@\w+|</?[a-z][^<>]{0,200}>")
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")
"""In scripts without blanks between words, each character counts as one."""
LABEL = re.compile(r"\s*__label__\S+\s")

Kind = Literal["script", "language", "unknown", "label"]


def profile_of(texts: Sequence[str]) -> TrainingTexts:
    """What training texts are recognized by, from at most `PROFILE_TEXTS` of them, evenly spread."""
    scripts, letters, words = Counter[str](), Counter[str](), Counter[str]()
    of_texts: list[list[str]] = []
    for row in np.unique(np.linspace(0, len(texts) - 1, min(len(texts), PROFILE_TEXTS)).astype(int)).tolist():
        plain = _plain(texts[row])
        scripts.update(_scripts(plain))
        letters.update(_marked_letters(plain))
        of_texts.append(WORD.findall(plain))
        words.update(of_texts[-1])
    frequent = [word for word, _ in words.most_common(FREQUENT_WORDS)]
    known = frozenset(frequent)
    shares = [_hits(words, known) / len(words) for words in of_texts if len(words) >= MIN_WORDS]
    low = float(np.quantile(shares, 0.05)) if len(shares) >= MIN_TEXTS else 0.0
    total = max(1, scripts.total())
    return TrainingTexts(
        scripts={script: count / total for script, count in scripts.most_common() if count >= SCRIPT_SHARE * total},
        marked_letters="".join(sorted(letter for letter, count in letters.items() if count >= LETTER_SHARE * total)),
        frequent_words=" ".join(frequent) if low >= RELIABLE_SHARE else "",
        lowest_share=min(FOREIGN_SHARE, OF_LOW_SHARE * low),
    )


def unlike(text: str, unknown_share: float, known: TrainingTexts | None) -> Kind | None:
    """How a text differs from the training texts, whose profile is None if no training recorded it."""
    if LABEL.match(text):
        return "label"
    plain = _plain(text)
    if known is not None and (scripts := _scripts(plain)):
        script, letters = scripts.most_common(1)[0]
        if script not in known.scripts and 2 * letters > scripts.total():
            return "script"
    if unknown_share > UNKNOWN:
        return "unknown"
    if known is not None and known.frequent_words:
        words = WORD.findall(plain)
        hits = _hits(words, _frequent(known.frequent_words))
        if len(words) >= MIN_WORDS and hits <= known.lowest_share * (len(words) - MIN_WORDS):
            return "language"
        marked = any(letter not in known.marked_letters for letter in _marked_letters(plain))
        if marked and len(words) >= MIN_MARKED_WORDS and hits <= known.lowest_share * len(words):
            return "language"
    return None


@dataclass
class UnlikeTexts:
    """A count of such texts, kept while texts are predicted."""

    known: TrainingTexts | None
    rows: int = 0
    tokens: int = 0
    """Of all texts, without special tokens."""
    unknown_tokens: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    first: dict[Kind, str] = field(default_factory=dict)
    """Place and beginning of the first text of each kind."""

    def add(
        self, texts: Sequence[object], tokens: np.ndarray, unknown: np.ndarray, place: Callable[[int], str]
    ) -> dict[int, Kind]:
        """Examine texts with `tokens` tokens, `unknown` of them unknown, both (n,); `place` names a text by its
        position. Returns the kinds by position."""
        shares = unknown / np.maximum(tokens, 1)
        kinds: dict[int, Kind] = {}
        for position, text in enumerate(texts):
            if isinstance(text, str) and (kind := unlike(text, float(shares[position]), self.known)) is not None:
                kinds[position] = kind
                self.first.setdefault(kind, f"{place(position)}, {' '.join(text[:200].split())[:40]!r}")
        self.counts.update(kinds.values())
        self.rows += len(texts)
        self.tokens, self.unknown_tokens = self.tokens + int(tokens.sum()), self.unknown_tokens + int(unknown.sum())
        return kinds

    def add_record(self, record: Mapping[str, Any], file: str) -> None:
        """Add the counts of a file that was examined elsewhere: its `record`, and `examples`, the first places."""
        for kind, key in _KEYS.items():
            if isinstance(count := record[key], int) and count:
                self.counts[kind] += count
        for kind in _KEYS:
            if kind in record["examples"]:
                self.first.setdefault(kind, f"{file}, {record['examples'][kind]}")
        self.rows += record["rows"]
        self.tokens, self.unknown_tokens = (
            self.tokens + record["tokens"],
            self.unknown_tokens + record["unknown_tokens"],
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the predictions of these texts."""
        notes = [
            f"{count:,} of {self.rows:,} texts ({count / self.rows:.1%}) {self._what(kind)}, for example "
            f"{self.first[kind]}: {_CONSEQUENCE[kind]}"
            for kind, count in self.counts.most_common()
            if kind != "language" or count >= REPORTED_LANGUAGE * self.rows
        ]
        if self.tokens >= REPORTED_TOKENS and self.unknown_tokens > REPORTED_UNKNOWN * self.tokens:
            notes.append(
                f"{self.unknown_tokens:,} of {self.tokens:,} tokens ({self.unknown_tokens / self.tokens:.1%}) are "
                "unknown to the model, and all of these look the same to it"
            )
        return tuple(notes)

    def record(self) -> dict[str, Any]:
        """The same as plain data: the counts of rows and tokens, whatever is printed."""
        compared = self.known is not None
        checked = {
            "other_script": self.counts["script"] if compared else _UNKNOWN_TEXTS,
            "other_language": self.counts["language"] if self.known and self.known.frequent_words else _UNKNOWN_TEXTS,
        }
        unknown = {"mostly_unknown_tokens": self.counts["unknown"], "starts_with_label": self.counts["label"]}
        shares = {"tokens": self.tokens, "unknown_tokens": self.unknown_tokens}
        return {"rows": self.rows, **checked, **unknown, **shares, "notes": list(self.notes)}

    def _what(self, kind: Kind) -> str:
        if kind == "script" and self.known is not None:
            return f"are written in another script than the training texts ({', '.join(self.known.scripts).lower()})"
        return _WHAT[kind]


_KEYS: dict[Kind, str] = {
    "script": "other_script",
    "language": "other_language",
    "unknown": "mostly_unknown_tokens",
    "label": "starts_with_label",
}
"""By kind, the key of its count in a record."""
_UNKNOWN_TEXTS = {"missing": "the model has no record of the language of its training texts"}
_WHAT: dict[Kind, str] = {
    "script": "are written in another script than the training texts",
    "language": "contain hardly any of the frequent words of the training texts, as in another language",
    "unknown": "consist mostly of tokens that the model does not know",
    "label": "begin with a label",
}
_DOUBT = "do not trust their predictions"
_CONSEQUENCE: dict[Kind, str] = {
    "script": _DOUBT,
    "language": _DOUBT,
    "unknown": _DOUBT,
    "label": "the model reads it as a part of the text; remove it first",
}
CAUTIONS: dict[Kind, str] = {
    "script": "the text is written in another script than the training texts",
    "language": "the text seems to be in another language than the training texts",
    "unknown": "most of the text's tokens are unknown to the model",
    "label": "the text begins with a label, which the model reads as a part of it",
}
"""Why one prediction should not be trusted."""


def _plain(text: str) -> str:
    plain = NO_LANGUAGE.sub(" ", text[:CHARACTERS].casefold())
    return plain if plain.isascii() else normalize("NFKC", plain)


def _scripts(plain: str) -> Counter[str]:
    """Letters by script."""
    if plain.isascii():
        return Counter({"LATIN": count}) if (count := sum(map(str.isalpha, plain))) else Counter()
    scripts = Counter(map(_script, filter(str.isalpha, plain)))
    del scripts[""]
    return scripts


def _marked_letters(plain: str) -> list[str]:
    """Letters outside the English alphabet; without those of Chinese and other scripts that have thousands."""
    if plain.isascii():
        return []
    return [
        letter for letter in plain if letter > "\x7f" and letter.isalpha() and _script(letter) not in ("CJK", "HANGUL")
    ]


@lru_cache(maxsize=100_000)
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name: LATIN, CYRILLIC, CJK; empty for signs that are used in any script."""
    script = name(letter, "").partition(" ")[0]
    return "" if script in ("MODIFIER", "FEMININE", "MASCULINE", "MICRO") else script


def _hits(words: Sequence[str], frequent: frozenset[str]) -> int:
    return sum(word in frequent for word in words)


@lru_cache(maxsize=8)
def _frequent(words: str) -> frozenset[str]:
    return frozenset(words.split())
