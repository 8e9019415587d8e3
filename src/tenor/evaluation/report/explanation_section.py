"""The report's section on explanations: their test, what decides over the held-out rows, and the words of an error."""

from collections.abc import Iterable
from dataclasses import dataclass

from tenor.evaluation.formatting import signed
from tenor.explanations.verdict import verdict_of
from tenor.runs.explanations import StoredExplanations, StoredShortcut, StoredTerm, StoredWords

STRONG, WEAK = 0.5, 0.2
"""Values, relative to the largest of the text, from which a word has two signs or one."""


@dataclass(frozen=True)
class Piece:
    """A part of a text, and how it is marked."""

    text: str
    kind: str = ""
    """Classes of the style sheet; empty for what did little."""
    sign: str = ""
    """+ for the predicted class, − against it; two if strong."""
    value: str = ""
    """In logits."""


@dataclass(frozen=True)
class TermRow:
    """A word or a pair of words."""

    term: str
    label: str
    mean: str
    count: str
    rows: str


@dataclass(frozen=True)
class ShortcutRow:
    """A suspected shortcut."""

    term: str
    label: str
    inserted: str
    deleted: str
    rows: str
    expected: str


@dataclass(frozen=True)
class ExplanationsSection:
    """The content of `explanations.json`."""

    shown: bool
    why: str
    words: tuple[TermRow, ...]
    pairs: tuple[TermRow, ...]
    shortcuts: tuple[ShortcutRow, ...]
    no_shortcuts: str
    """Why there are none; empty if there are some."""
    labelled: str
    """The rows whose labels the shortcuts are judged by."""


def explanations_section(record: StoredExplanations) -> ExplanationsSection:
    """The tables of a finished test; without words where explanations are not shown."""
    verdict = verdict_of(record)
    missing = isinstance(record.shortcuts, dict)
    return ExplanationsSection(
        shown=verdict.shown,
        why=verdict.why,
        words=_terms(record.words) if verdict.shown else (),
        pairs=_terms(record.pairs) if verdict.shown else (),
        shortcuts=() if isinstance(record.shortcuts, dict) else tuple(map(_shortcut, record.shortcuts)),
        no_shortcuts=str(record.shortcuts["missing"]) if isinstance(record.shortcuts, dict) and missing else "",
        labelled=record.labelled,
    )


def marked_pieces(text: str, words: StoredWords) -> tuple[Piece, ...]:
    """The text in pieces, of which those that decided are marked."""
    largest = max(map(abs, words.values), default=0.0)
    pieces, at = [], 0
    for (start, end), value in zip(words.spans, words.values, strict=True):
        strength = abs(value) / largest if largest else 0.0
        if strength < WEAK or start < at:
            continue
        strong = strength >= STRONG
        kind = f"{'for' if value > 0 else 'against'}{' strong' if strong else ''}"
        sign = ("+" if value > 0 else "−") * (2 if strong else 1)
        pieces += [Piece(text[at:start]), Piece(text[start:end], kind, sign, signed(value, 2))]
        at = end
    return tuple(piece for piece in (*pieces, Piece(text[at:])) if piece.text)


def shortened(pieces: Iterable[Piece], characters: int, head: int) -> tuple[Piece, ...]:
    """The pieces without the middle of the text where it is longer than `characters`, of which the first are `head`."""
    pieces = tuple(pieces)
    total = sum(len(piece.text) for piece in pieces)
    if total <= characters:
        return pieces
    tail = characters - head
    between = (Piece(" […] "),) if tail else ()
    return (*_between(pieces, 0, head), *between, *_between(pieces, total - tail, total))


def _between(pieces: tuple[Piece, ...], start: int, end: int) -> list[Piece]:
    kept, at = [], 0
    for piece in pieces:
        text = piece.text[max(0, start - at) : max(0, end - at)]
        if text:
            kept.append(Piece(text, piece.kind, piece.sign, piece.value))
        at += len(piece.text)
    return kept


def _terms(terms: Iterable[StoredTerm]) -> tuple[TermRow, ...]:
    return tuple(TermRow(one.term, one.label, signed(one.mean, 2), f"{one.count:,}", f"{one.rows:,}") for one in terms)


def _shortcut(one: StoredShortcut) -> ShortcutRow:
    deleted = "–" if isinstance(one.deleted, dict) else signed(-one.deleted, 3)
    rows = f"{one.of_label:,} of {one.rows:,}"
    return ShortcutRow(one.term, one.label, signed(one.inserted, 3), deleted, rows, f"{100 * one.expected:.0f}%")
