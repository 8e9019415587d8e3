"""Texts as read: blank, repeated, missing values as words, broken characters, one text with different labels."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice

import numpy as np

from tenor.checks.evidence import DataEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.shared import all_splits, labelled_texts, strings, text_keys

CONFLICTS = 0.01  # Of the rows: the label noise in the cleanest of ten test sets (Northcutt et al. 2021).
BROKEN = 0.01  # Of the texts: any crawl may contain a few; the embedded IMDb reviews contain none.
RARE = 0.001  # Of the rows: one in a thousand may be a real text ("None") or a single bad row.
HALF = 0.5
DOMINANT = 0.2  # No text that people write makes up a fifth of a dataset; stock answers ("good") reach a few percent.
MIN_ROWS = 10
MISSING = frozenset({"nan", "none", "null", "n/a", "na", "<na>", "nat", "#n/a", "undefined"})
MOJIBAKE = re.compile(r"[ÃÂ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[\u0080-\u00bf™œžš˜¢“”¦]|ðŸ|\ufffd|ï»¿")


def affected(data: DataEvidence, wrong: Callable[[str], bool]) -> tuple[dict[str, int], int, str]:
    """(count per split, number of texts, first example) of the texts for which `wrong` is true."""
    counts, n, example = {}, 0, ""
    for name, rows in all_splits(data):
        if rows.texts is None and name != "train":
            continue
        texts = strings(rows)
        counts[name], n = 0, n + len(texts)
        for text in texts:
            if wrong(text):
                counts[name] += 1
                example = example or text
    return counts, n, example


def by_split(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name} texts" for name, count in counts.items() if count)


@rule("DAT010", "warning", symptoms=("conflicting labels", "unrelated labels"))
def conflicting_labels(data: DataEvidence) -> Finding | None:
    """The same text has different labels

    Measures: rows of all splits whose text occurs elsewhere with another label, apart from case, white space,
    punctuation, quotes and HTML tags.

    Threshold: 1% of the rows is a warning, fewer a note.

    Why: such rows cannot all be predicted correctly. They limit the accuracy and make the model less confident.

    Look-alikes: short texts ("it was okay") are truly ambiguous, and datasets may keep several annotators on purpose.

    Fix: read a few of them; keep the majority label, or drop the rows.

    Reference: Northcutt, Athalye and Mueller 2021, Pervasive label errors in test sets.
    """
    labelled = [
        labelled_texts(rows, data.n_classes)
        for name, rows in all_splits(data)
        if rows.texts is not None or name == "train"
    ]
    keys = np.concatenate([text_keys(texts) for texts, _ in labelled])
    labels = np.concatenate([labels for _, labels in labelled])
    distinct, first, text_of = np.unique(keys, return_index=True, return_inverse=True)
    lowest, highest = np.full(len(distinct), data.n_classes), np.zeros(len(distinct), dtype=np.int64)
    np.minimum.at(lowest, text_of, labels)
    np.maximum.at(highest, text_of, labels)
    conflicts = np.flatnonzero((lowest < highest) & (distinct != 0))
    if not len(conflicts):
        return None
    n, rows_touched = len(keys), int(np.isin(text_of, conflicts).sum())
    earliest = conflicts[np.argmin(first[conflicts])]
    tally = dict(Counter(labels[text_of == earliest].tolist()))
    example = next(islice(chain.from_iterable(texts for texts, _ in labelled), int(first[earliest]), None)).strip()
    return Finding(
        observed=f"{len(conflicts):,} texts ({rows_touched:,} rows) have more than one label, for example "
        f"{example[:50]!r} with {tally}",
        expected=f"one label per text, with fewer than {CONFLICTS:.0%} exceptions",
        n=n,
        cause="annotators disagree, tables were joined incorrectly, or labels come from overlapping rules",
        fix="read a few of them; keep the majority label, or drop the rows",
        severity="warning" if rows_touched >= CONFLICTS * n else "note",
    )


@rule("DAT016", "warning", symptoms=("repeated text",), explains=("conflicting labels",))
def blank_texts(data: DataEvidence) -> Finding | None:
    """Some texts are empty or blank

    Measures: texts of every split without a visible character; a value that is not a string counts as empty.

    Threshold: none: any is a warning. Half of the texts is an error, because the wrong column was probably read.

    Why: such a row contains only [CLS] and [SEP] for the model, so its label is noise.

    Look-alikes: a form without a comment, whose label is still informative.

    Fix: drop these rows, or read the right column (`data.text_column`).

    Reference: Sculley et al. 2015, Hidden technical debt in machine learning systems, on testing inputs.
    """
    counts, n, _ = affected(data, lambda text: not text.strip())
    total = sum(counts.values())
    if total == 0:
        return None
    return Finding(
        observed=f"{by_split(counts)} of {n:,} are empty or blank",
        expected="none",
        n=n,
        cause="rows without a text, or a cleaning step that removed everything",
        fix="drop these rows, or read the right column (data.text_column)",
        severity="error" if total >= HALF * n else "warning",
    )


@rule("DAT017", "warning", symptoms=("repeated text",), explains=("unrelated labels",))
def one_text_dominates(data: DataEvidence) -> Finding | None:
    """One text makes up a large part of the training rows

    Measures: the share of the training rows with the most frequent text, without blank ones.

    Threshold: a fifth is a warning; all of 10 rows or more an error.

    Why: from equal texts a model can learn nothing but the class proportions.

    Look-alikes: stock answers ("good") in short surveys, which reach a few percent.

    Fix: look for a placeholder ("[deleted]"), a wrong column, or a preprocessing step that returns the same text for
    all rows.

    Reference: Lee et al. 2022, Deduplicating training data makes language models better.
    """
    texts = strings(data.train)
    keys = text_keys(texts)
    distinct, first, counts = np.unique(keys, return_index=True, return_counts=True)
    written = distinct != 0
    n = int(counts[written].sum())
    if n < MIN_ROWS:
        raise CannotTell(f"fewer than {MIN_ROWS} texts that are not blank")
    ties = np.flatnonzero(written & (counts == counts[written].max()))
    commonest = ties[np.argmin(first[ties])]
    count, text = int(counts[commonest]), texts[int(first[commonest])].strip()
    if count < DOMINANT * n:
        return None
    return Finding(
        observed=f"{count:,} of {n:,} training texts are {text[:50]!r}",
        expected=f"less than {DOMINANT:.0%} of the rows with the same text",
        n=n,
        cause="a placeholder, a wrong column, or a cleaning step that returns the same text",
        fix="read the right column, and drop or merge the repeated rows",
        severity="error" if count == n else "warning",
    )


@rule("DAT018", "warning", explains=("repeated text", "unrelated labels"))
def missing_written_out(data: DataEvidence) -> Finding | None:
    """Missing values were converted to words

    Measures: texts of every split that consist only of "nan", "None", "null" or a similar word.

    Threshold: one row in a thousand is a warning, fewer a note.

    Why: `str(float("nan"))` is "nan": a missing value becomes a word, and the model learns its label.

    Look-alikes: "none" can be a real answer in a survey.

    Fix: drop missing values before converting the column to strings: `frame.dropna(subset=["text"])`.

    Reference: pandas' user guide, Working with missing data.
    """
    counts, n, example = affected(data, lambda text: len(text) < 20 and text.strip().lower() in MISSING)
    total = sum(counts.values())
    if total == 0:
        return None
    return Finding(
        observed=f"{by_split(counts)} of {n:,} are missing values written as words, for example {example!r}",
        expected="none",
        n=n,
        cause="missing values were converted to strings",
        fix="drop the rows with a missing text before converting the column to strings",
        severity="warning" if total >= max(2, RARE * n) else "note",
    )


@rule("DAT019", "warning")
def broken_characters(data: DataEvidence) -> Finding | None:
    """Texts were decoded with the wrong encoding

    Measures: texts of every split that contain UTF-8 decoded as Windows-1252 ("Ã©", "â€™") or the character U+FFFD.

    Threshold: 1% of the texts is a warning, fewer a note: any crawl contains a few.

    Why: for a pretrained model "cafÃ©" consists of different tokens than "café", and it has rarely seen them.

    Look-alikes: texts about encodings; crawled reviews that were already broken when they were posted.

    Fix: read the file with the encoding in which it was written (`encoding="utf-8"`), or repair the texts with ftfy.

    Reference: Speer 2019, ftfy.
    """
    counts, n, example = affected(data, lambda text: not text.isascii() and MOJIBAKE.search(text) is not None)
    total = sum(counts.values())
    if total == 0:
        return None
    where = MOJIBAKE.search(example)
    shown = example[max(0, where.start() - 15) : where.end() + 15] if where else example[:40]
    return Finding(
        observed=f"{by_split(counts)} of {n:,} contain broken characters, for example {shown!r}",
        expected=f"less than {BROKEN:.0%} of the texts",
        n=n,
        cause="UTF-8 was decoded with another encoding, or characters were replaced while reading",
        fix="read the file with its own encoding (encoding='utf-8'), or repair the texts with ftfy",
        severity="warning" if total >= BROKEN * n else "note",
    )
