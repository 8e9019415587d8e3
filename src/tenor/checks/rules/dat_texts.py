"""Texts as read: blank, repeated, missing values as words, broken characters, one text with different labels."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from tenor.checks.evidence.data_evidence import DataEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import all_splits, bare, labelled_texts, strings, text_keys, without_markup
from tenor.runs.findings import Finding

CONFLICTS = 0.01  # Of the rows: the label noise in the cleanest of ten test sets (Northcutt et al. 2021).
BROKEN = 0.01  # Of the texts: any crawl may contain a few; the embedded IMDb reviews contain none.
RARE = 0.001  # Of the rows: one in a thousand may be a real text ("None") or a single bad row.
HALF = 0.5
DOMINANT = 0.2  # No text that people write makes up a fifth of a dataset; stock answers ("good") reach a few percent.
MIN_ROWS = 10
MISSING = frozenset(
    {"nan", "none", "null", "na", "nat", "undefined", "todo", "tbd", "nocomment", "nocomments", "notext"}
)
"""As `bare` writes them."""
BRACKETED = frozenset({"[deleted]", "[removed]", "(deleted)", "(removed)", "[deleted by user]", "[empty]", "[blank]"})
_KIND = (
    r"(?:movie|film|book|product|restaurant|hotel|show|series|actor|actress|director|author|character|brand|company|game"
    r"|app|store|place|item|service)"
)
_PART = r"(?:text|reviews?|sentences?|tweets?|comments?|names?|titles?|descriptions?|content|reasons?|features?)"
SLOT = re.compile(
    rf"[\[{{<](?:(?:please )?(?:insert|enter|write|add|your|fill in)\b"
    rf"[\w '’/-]{{0,40}}\b(?:{_KIND}|{_PART})\b[\w '’/-]{{0,20}}"
    rf"|[\w '’/-]{{0,40}}\b{_PART}(?: goes)? here|{_KIND}(?:['’]s)?[ _-]?(?:name|title))[\]}}>]"
    rf"|\{{\{{?\s*(?:{_KIND}|{_PART})(?:[ _-]?(?:name|title|{_PART}))?\s*\}}?\}}",
    re.IGNORECASE,
)
"""A slot of a template that nobody filled in: `[Insert movie title]`, `[MOVIE NAME]`, `{actor}`, `<review text here>`.
Not the masks of anonymized texts, such as `[NAME]`; none of IMDb's 50,000 reviews has one."""
LOREM_IPSUM = "lorem ipsum"
EMPTY_LOOKING = " .-–—_/\\|,'\"…\u200b\u200c\u200d\u2060\ufeff\xa0\t\r\n"
_TEXT = r"(?:content|text|reviews?|sentences?|tweets?|comments?|examples?|responses?)\b"
_MODEL = r"(?:ai language model|language model|ai assistant|artificial intelligence model)\b"
REFUSAL = re.compile(
    rf"\bas an? (?:large |ai )?{_MODEL}|^\W*as an ai\b"
    r"|^\W*(?:(?:i['’]?m sorry|i am sorry|i apologize|sorry|unfortunately)\W+(?:but )?)?i(?:"
    r"(?: can(?:['’]?t|not)|(?: am|['’]?m) (?:unable|not able) to|(?: will|['’]?ll) not)"
    r" (?:assist\b|comply\b|engage in\b|help (?:you )?with\b|fulfill? (?:that|this|your|the) request"
    rf"|(?:generate|create|produce|provide|write) (?:\w+ ){{0,4}}{_TEXT})"
    r"|(?: do not|['’]?m not| am not| don['’]?t) (?:feel )?comfortable (?:writ|creat|generat|produc|provid|assist)"
    r")",
    re.IGNORECASE,
)
"""How assistants decline, at the beginning of a text."""
INTRODUCTION = re.compile(
    rf"^\W*(?:sure|certainly|of course|absolutely)\W+here(?:['’]s| is| are)\b[^.\n]{{0,60}}\b{_TEXT}"
    rf"|^\W*here(?:['’]s| is| are) (?:an?|another|one|some|the|your|\d+)\b[^.:\n]{{0,60}}\b{_TEXT}[^.:\n]{{0,30}}:",
    re.IGNORECASE,
)
"""How they introduce what they wrote."""
REFUSAL_CHARACTERS = 300
LONGEST_PLACEHOLDER = 60
DIGITS = re.compile(r"\d+")
TEMPLATE_SAMPLE = 4_000
MIN_JUDGED = 50
TEMPLATE_WORDS = 7  # Shorter texts share their words with others by chance.
TEMPLATE_TEXTS, TEMPLATE_OF_ROWS = 10, 0.005  # Texts with one frame: in a sample, and as a share of a larger one.
SHORT_OF_ROWS = 0.05  # The same for 4 words: "this is one of the" begins 0.5% of IMDb's reviews.
TEMPLATES_NOTE, TEMPLATES_WARNING = 0.05, 0.25
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


@rule("DAT016", "warning", explains=("conflicting labels",))
def blank_texts(data: DataEvidence) -> Finding | None:
    """Some texts are empty or blank

    Measures: texts of every split without a visible character; a value that is not a string counts as empty.

    Threshold: none: any is a warning. Half of the texts is an error, because the wrong column was probably read.

    Why: such a row contains only [CLS] and [SEP] for the model, so its label is noise.

    Look-alikes: a form without a comment, whose label is still informative.

    Fix: drop these rows (of files: `data.faulty_rows=leave_out`), or read the right column (`data.text_column`).

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
        fix="drop these rows (of files: data.faulty_rows=leave_out), or read the right column (data.text_column)",
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
def placeholder_texts(data: DataEvidence) -> Finding | None:
    """Placeholders stand for missing texts

    Measures: texts of every split that consist only of a word for a missing value ("nan", "None", "N/A"), of a
    placeholder ("[deleted]", "[removed]", "TODO"), or of dashes, dots and empty HTML tags; that begin with "lorem
    ipsum"; or that contain a slot that nobody filled in ("[Insert movie title]", "{actor}", "<review text here>").

    Threshold: one row in a thousand is a warning, fewer a note.

    Why: `str(float("nan"))` is "nan": a missing value becomes a word, and the model learns its label.

    Look-alikes: "none" can be a real answer in a survey. Masks of anonymized texts ("[NAME]") are not counted.

    Fix: drop missing values before converting the column to strings: `frame.dropna(subset=["text"])`, and the rows with
    placeholders.

    Reference: pandas' user guide, Working with missing data.
    """
    counts, n, example = affected(data, is_placeholder)
    total = sum(counts.values())
    if total == 0:
        return None
    return Finding(
        observed=f"{by_split(counts)} of {n:,} are or contain placeholders, for example {_with_slot(example)!r}",
        expected="none",
        n=n,
        cause="missing values were converted to strings, texts were deleted where they were gathered, or a template "
        "was not filled in",
        fix="drop these rows, and missing texts before converting the column to strings",
        severity="warning" if total >= max(2, RARE * n) else "note",
    )


def is_placeholder(text: str) -> bool:
    """Whether a text that is not blank stands for a missing one, or contains a slot that nobody filled in."""
    if text[:40].strip().lower().startswith(LOREM_IPSUM) or SLOT.search(text) is not None:
        return True
    plain = text.strip().lower()
    if not plain or len(text) > LONGEST_PLACEHOLDER:
        return False
    is_reminder = re.match(r"\W*(todo|tbd|fixme)\b", plain) is not None
    return is_reminder or plain in BRACKETED or not without_markup(plain).strip(EMPTY_LOOKING) or bare(plain) in MISSING


def _with_slot(text: str) -> str:
    """The beginning of a text, or the part of it with a slot."""
    slot = SLOT.search(text)
    start = 0 if slot is None or slot.end() <= SHOWN_CHARACTERS else slot.start()
    return text[start : start + SHOWN_CHARACTERS].strip()


SHOWN_CHARACTERS = 40


@rule("DAT026", "warning", explains=("unrelated labels",))
def assistant_texts(data: DataEvidence) -> Finding | None:
    """Texts are an assistant's refusals or introductions

    Measures: texts of every split that begin like the answer of a language model that declines ("As an AI language
    model, I cannot …", "I'm sorry, but I can't assist with …") or introduces what it wrote ("Sure, here is a positive
    review", "Here is a positive review:").

    Threshold: one row in a thousand is a warning, fewer a note. None of IMDb's 50,000 reviews begins like this.

    Why: the texts or labels were generated, and nobody read them: these rows do not contain the text that was asked
    for, so their label is noise.

    Look-alikes: reviews of a chatbot that quote it.

    Fix: drop these rows, and read some of the other generated ones.

    Reference: Gilardi, Alizadeh and Kubli 2023, ChatGPT outperforms crowd workers for text-annotation tasks, on
    generated labels.
    """
    kinds = {"refusals": REFUSAL, "introductions": INTRODUCTION}
    found = {
        name: affected(data, lambda text, kind=kind: bool(kind.search(text[:REFUSAL_CHARACTERS])))  # type: ignore[misc]
        for name, kind in kinds.items()
    }
    n = next(iter(found.values()))[1]
    total = sum(sum(counts.values()) for counts, *_ in found.values())
    if total == 0:
        return None
    return Finding(
        observed="; ".join(
            f"{name}: {by_split(counts)} of {n:,}, for example {example.strip()[:60]!r}"
            for name, (counts, _, example) in found.items()
            if example
        ),
        expected="none",
        n=n,
        cause="the texts were generated by a language model that declined or talked about its task",
        fix="drop these rows, and read some of the other generated ones",
        severity="warning" if total >= max(2, RARE * n) else "note",
    )


@rule("DAT027", "warning")
def texts_from_templates(data: DataEvidence) -> Finding | None:
    """Many texts are made from templates

    Measures: the share of distinct training texts, of 7 words or more, whose first 6 words, last 6 words, or first and
    last 3 words are those of at least 9 other distinct texts and of 0.5% of the texts, or whose first or last 4 words
    are those of 5%; numbers count as equal. At most 4,000 texts are compared.

    Threshold: 25% is a warning, 5% a note.

    Why: rows that differ in one slot are nearly copies. A model learns the template, a random split puts the same
    sentence on both sides, and the result says nothing about texts that people write.

    Look-alikes: forms, signatures and headers that every text has; they should be removed. Financial and medical
    reports are written in fixed phrases.

    Fix: remove a prefix or suffix that many texts share. Keep few rows of each template, and keep the rows of one
    template in the same split (`data.validation.strategy=group`).

    Reference: Ribeiro et al. 2020, Beyond accuracy: behavioral testing of NLP models with CheckList, on templates.
    """
    texts = strings(data.train)
    rows = np.random.default_rng(0).permutation(len(texts))[:TEMPLATE_SAMPLE]
    found = templates([texts[row] for row in rows.tolist()])
    if found.judged < MIN_JUDGED:
        raise CannotTell(f"fewer than {MIN_JUDGED} distinct texts of {TEMPLATE_WORDS} words or more")
    if found.made < TEMPLATES_NOTE * found.judged:
        return None
    return Finding(
        observed=f"{found.made:,} of {found.judged:,} distinct texts share their beginning or end with many others, "
        f"{found.commonest_count:,} of them {found.commonest!r}",
        expected=f"below {TEMPLATES_NOTE:.0%}",
        n=found.judged,
        cause="the texts were generated from templates, or have a common header or signature",
        fix="remove the common part, or keep the rows of one template in the same split",
        severity="warning" if found.made >= TEMPLATES_WARNING * found.judged else "note",
    )


@dataclass(frozen=True)
class Templates:
    """Distinct texts that share a frame, the words around a slot, with many others."""

    judged: int
    made: int
    commonest: str
    commonest_count: int


def templates(texts: Sequence[str]) -> Templates:
    """Measured on texts of `TEMPLATE_WORDS` words or more; copies count once."""
    of_texts, seen = [], set()
    for text in texts:  # One at a time: the words of long texts take many times their memory.
        words = DIGITS.sub("#", text.casefold()).split()
        if len(words) >= TEMPLATE_WORDS and (key := hash(bare(text))) not in seen:
            seen.add(key)
            of_texts.append(frames(words))
    counts = Counter(chain.from_iterable(of_texts))
    n = len(of_texts)
    frequent = {
        frame: count
        for frame, count in counts.items()
        if count >= max(TEMPLATE_TEXTS, n * (TEMPLATE_OF_ROWS if frame.count(" ") == 6 else SHORT_OF_ROWS))
    }
    made = sum(any(frame in frequent for frame in of_text) for of_text in of_texts)
    commonest = max(frequent, key=lambda frame: frequent[frame], default="")
    return Templates(n, made, commonest, frequent.get(commonest, 0))


def frames(words: Sequence[str]) -> tuple[str, ...]:
    """The 6 words before a slot, after it and around it, and the 4 words at the beginning and the end."""
    around = " ".join([*words[:3], "…", *words[-3:]])
    return around, *(frame for k in (6, 4) for frame in (" ".join(words[:k]) + " …", "… " + " ".join(words[-k:])))


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
