"""The distinct labels of a column → classes: which class each means, and which are faulty."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from tenor.data.files.stream import NULL
from tenor.data.sources.label_advice import (
    MISSING,
    OTHER_SCALE,
    guessed,
    listed,
    looks_like,
    maybe_missing_note,
    mismatch,
    not_consecutive,
    numbers_text,
    polarity,
    refuse_no_classes,
    rows_text,
    setting,
    several_in_field,
    several_labels,
    unpacked,
    vector_of,
    whole_numbers,
)
from tenor.data.sources.rows import (
    MAX_CHARACTERS,
    ONE_LABEL,
    Columns,
    SourceRows,
    all_missing,
    nearest,
    one_hot_name,
    python_column,
    shorten,
)
from tenor.data.sources.spellings import (
    INTEGER,
    GivenNames,
    as_integer,
    folded,
    merged_note,
    near_note,
    own_spellings,
    tidied,
)
from tenor.errors import UserError, is_command

FaultyRows = Literal["refuse", "leave_out"]


@dataclass(frozen=True)
class Classes:
    """How labels are matched to classes.

    `names` None: the distinct labels are the classes, regardless of case and spaces (`spellings.own_spellings`).
    `index`: a label is a position in `names`; `name`: it is one of the names; `either`: positions if all labels are
    integers and no class name is, else names.
    """

    names: tuple[str, ...] | None = None
    matched: Literal["index", "name", "either"] = "either"
    relabel: Mapping[str, str | None] = field(default_factory=dict)
    """Labels to read as others; None: their rows are left out."""
    faulty_rows: FaultyRows = "refuse"
    of_other_file: bool = False
    """Whether the names are those of another file, the training file."""


LEFT_OUT = -2
"""Class index of a row that is not used."""
UNLABELLED = "-1"
"""The index that the library `datasets` gives to rows whose label is hidden or missing."""


def class_indices(
    rows: SourceRows, columns: Columns, labels: pa.Array, classes: Classes, faults: dict[str, dict[int, str]]
) -> tuple[np.ndarray, "Meaning"]:
    """Class index per row, int64, shape (rows,), -1 for a faulty row and `LEFT_OUT` for one that is not used; and the
    meaning of the labels. The classes are those of the rows that are read: a row that is left out defines none."""
    column, of_column = columns.label, faults.setdefault(columns.label, {})
    ignored = np.zeros(len(labels), dtype=bool)
    leaves_out = classes.faulty_rows == "leave_out"
    ignored[[*(row for of_one in (faults.values() if leaves_out else [of_column]) for row in of_one)]] = True
    ignored[list(rows.left_out)] = True
    good = np.flatnonzero(~ignored)
    encoded = labels.take(pa.array(good)).dictionary_encode()
    distinct: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows_of = np.bincount(codes, minlength=len(distinct)).tolist()
    written = Counter(dict(zip(distinct, rows_of, strict=True)))
    read = _read_labels(written, classes)
    if written and all(read.faults.get(label) == "missing" for label in written):
        raise all_missing(rows.where, column, written.total(), "label")
    if written and all(as_integer(tidied(label)) == UNLABELLED for label in written) and not read.relabelled:
        _refuse_unlabelled(written.total(), classes.names, rows.where, column)
    if classes.faulty_rows == "refuse":
        _refuse_several(read, written, rows.where, column, rows.has_fields)
    meaning = _meaning(read.counts(written), classes, rows, columns)
    _require_printable(meaning.names, rows.where)
    notes = [*_relabel_notes(read, written, classes), *_reading_notes(read, written)]
    meaning = replace(meaning, notes=(*notes, *meaning.notes))
    index_of = {label: meaning.index_of.get(known, -1) for label, known in read.label_of.items()}
    index_of |= dict.fromkeys(read.left_out, LEFT_OUT)
    indices = np.full(len(labels), -1, dtype=np.int64)
    indices[list(rows.left_out)] = LEFT_OUT
    indices[good] = np.array([index_of.get(label, -1) for label in distinct], dtype=np.int64)[codes]
    fault_of = [
        f"{column} is {read.faults[label] if label in read.faults else meaning.fault(read.label_of[label])}"
        if index_of.get(label, -1) == -1
        else ""
        for label in distinct
    ]
    wrong = indices[good] == -1
    for row, code in zip(good[wrong].tolist(), codes[wrong].tolist(), strict=True):
        of_column[row] = fault_of[code]
    return indices, meaning


def _refuse_unlabelled(rows: int, names: tuple[str, ...] | None, where: str, column: str) -> None:
    """Raises UserError for a column of -1 only, unless that is a class."""
    if UNLABELLED not in (names or ()):
        raise UserError(
            f"{where}: all {rows:,} labels in column {column!r} are -1, which marks unlabelled rows, as in test splits "
            "whose labels are hidden. Use a labelled split, or another data.label_column. Unlabelled rows are for "
            "tenor predict: leave data.test_path out."
        )


@dataclass(frozen=True)
class Meaning:
    """The class of each distinct label of a column."""

    names: tuple[str, ...]
    """The class names, by index."""
    index_of: dict[str, int]
    """The class of each valid label."""
    wrong: str
    """The fault of all other labels."""
    notes: tuple[str, ...] = ()
    given: GivenNames | None = None
    advice: str = ""
    """What to do about labels that are not valid."""

    def fault(self, label: str) -> str:
        """The fault of a label that is not valid."""
        if self.given is not None and (alike := self.given.alike(label)):
            return f"{shorten(label)}, which matches several class names except for case: {', '.join(alike)}"
        return f"{shorten(label)}, {self.wrong}"

    def advice_on(self, faults: Mapping[str, Mapping[int, str]], columns: Columns) -> str:
        """What to do about the rows with these faults."""
        several = any(
            ONE_LABEL in fault or "looks like several" in fault or SEVERAL in fault
            for fault in faults.get(columns.label, {}).values()
        )
        rest = "Fix or remove these rows, or leave them out: data.faulty_rows=leave_out."
        return " ".join(filter(None, [self.advice, ONE_LABEL if several else "", rest]))


SEVERAL = "several values"


@dataclass(frozen=True)
class _Read:
    """The distinct labels as written, after `Classes.relabel` and with lists of one element unpacked."""

    label_of: dict[str, str]
    """The label to match to a class."""
    left_out: list[str]
    faults: dict[str, str]
    several: dict[str, str]
    """What labels of several values look like."""
    relabelled: dict[str, str | None]
    one_hot: list[str] = field(default_factory=list)
    """Labels that are dictionaries of 0 and 1, read as the key that has 1."""
    whole: dict[str, str] = field(default_factory=dict)
    """Whole numbers with a decimal comma, and the integers that they are read as."""

    def counts(self, written: Counter[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for label, known in self.label_of.items():
            counts[known] += written[label]
        return counts


def _read_labels(written: Counter[str], classes: Classes) -> _Read:
    read = _Read({}, [], {}, {}, {})
    require_distinct(classes.names or ())
    given = GivenNames(classes.names or ())
    wanted = {key: target for old, target in classes.relabel.items() for key in (old, _key(old))}
    read.whole.update(whole_numbers(label for label in written if tidied(label)))
    for label in written:
        key = label if label in wanted else _key(read.whole.get(label, label))
        if key in wanted:
            target = wanted[key]
            read.relabelled[label] = target
            if target is None:
                read.left_out.append(label)
            else:
                read.label_of[label] = target
        elif given.index(label) is not None:
            read.label_of[label] = label
        elif label in read.whole:
            read.label_of[label] = read.whole[label]
        elif tidied(label) in ("", NULL):
            read.faults[label] = "missing"
        elif folded(label) in MISSING:
            read.faults[label] = f"{shorten(label)}, which marks a missing value"
        elif classes.matched == "index" and as_integer(tidied(label)) == UNLABELLED:
            read.faults[label] = f"{UNLABELLED}, which marks an unlabelled row"
        else:
            _unpack(label, unpacked(label), read)
    return read


def _key(label: str) -> str:
    return folded(as_integer(tidied(label)))


def _unpack(label: str, value: object, read: _Read) -> None:
    match value:
        case str():
            read.label_of[label] = value
        case dict() if (name := one_hot_name(value)) is not None:
            read.label_of[label] = name
            read.one_hot.append(label)
        case dict():
            read.several[label] = "a dictionary"
            read.faults[label] = f"{shorten(label)}, a dictionary, expected one label"
        case list() | tuple() if len(value) == 1 and not isinstance(value[0], list | tuple | dict | set):
            (strings, faults) = python_column([value[0]], "label", "label")
            if faults or (known := strings[0].as_py()) is None:
                read.faults[label] = f"{shorten(label)}, expected one label"
            else:
                read.label_of[label] = known
        case list() | tuple() | set() if not value:
            read.faults[label] = f"{shorten(label)}, an empty list"
        case list() | tuple() | set():
            read.several[label] = looks_like(list(value))
            read.faults[label] = f"{shorten(label)}, {SEVERAL} ({looks_like(list(value))}), expected one label"


def _refuse_several(read: _Read, written: Counter[str], where: str, column: str, has_fields: bool) -> None:
    """Raises UserError if most labels are lists or dictionaries."""
    count = sum(written[label] for label in read.several)
    if 2 * count > written.total():
        raise several_labels(read.several, count, written.total(), where, column, has_fields)


def _reading_notes(read: _Read, written: Counter[str]) -> list[str]:
    notes = []
    if read.one_hot:
        count = sum(written[label] for label in read.one_hot)
        notes.append(f"dictionaries of 0 and 1 are read as the key that has 1 ({rows_text(count)})")
    if shown := next((label for label in read.whole if read.label_of.get(label) == read.whole[label]), None):
        notes.append(f"numbers with a decimal comma are read as integers, such as {shown!r} as {read.whole[shown]!r}")
    return notes


def _relabel_notes(read: _Read, written: Counter[str], classes: Classes) -> list[str]:
    if not classes.relabel:
        return []
    counts = Counter({label: written[label] for label in read.relabelled})
    changed = []
    for label, count in counts.most_common():
        target = read.relabelled[label]
        changed.append(f"{shorten(label)} ({rows_text(count)}) {'left out' if target is None else f'as {target!r}'}")
    found = {key for label in read.relabelled for key in (label, _key(read.whole.get(label, label)))}
    unused = [old for old in classes.relabel if old not in found and _key(old) not in found]
    sentences = [f"data.relabel: {', '.join(changed[:20])}{', …' if len(changed) > 20 else ''}"] if changed else []
    if unused:
        sentences.append(f"data.relabel: no row has the label {', '.join(map(shorten, unused[:20]))}")
    return sentences


def _meaning(counts: Counter[str], classes: Classes, rows: SourceRows, columns: Columns) -> Meaning:
    if classes.names is None:
        return _own_meaning(counts, rows, columns, classes.faulty_rows)
    names = classes.names
    require_distinct(names)
    integers_only = all(INTEGER.fullmatch(as_integer(tidied(label))) for label in counts)
    names_have_integers = any(INTEGER.fullmatch(name) for name in names)
    if classes.matched == "index" or (classes.matched == "either" and integers_only and not names_have_integers):
        expected = "one of " + ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        written = {label: as_integer(tidied(label)) for label in counts}
        index_of = {label: int(one) for label, one in written.items() if one in map(str, range(len(names)))}
        index_of |= {label: names.index(label) for label in counts if label in names}  # Results of `relabel`.
        meaning = Meaning(names, index_of, f"expected {expected}")
    else:
        given = GivenNames(names)
        index_of = {label: index for label in counts if (index := given.index(label)) is not None}
        merged = merged_note(counts, {label: names[index] for label, index in index_of.items()})
        expected = f"one of {', '.join(names)}"
        meaning = Meaning(names, index_of, f"expected {expected}", () if merged is None else (merged,), given)
    return _with_advice(meaning, counts, classes, rows.where, columns.label)


def _with_advice(meaning: Meaning, counts: Counter[str], classes: Classes, where: str, column: str) -> Meaning:
    """The meaning with advice on labels that match no class. Raises UserError if they are too many for single mistakes:
    the column has another scale, other names, or no classes."""
    strangers = [label for label in counts if label not in meaning.index_of]
    if not strangers or (meaning.given is not None and any(map(meaning.given.alike, strangers))):
        return meaning
    if wrong := [shorten(label) for label in strangers if label in classes.relabel.values()]:
        raise UserError(
            f"{where}: data.relabel reads labels as {', '.join(wrong)}, expected one of {', '.join(meaning.names)}, or "
            "null to leave rows out."
        )
    indices = meaning.given is None
    if several := several_in_field(Counter([*counts, *meaning.names])):
        several = {label: parts for label, parts in several.items() if label in strangers}
    what, advice = mismatch(counts, strangers, meaning.names, indices, classes.of_other_file)
    faulty = Counter({label: counts[label] for label in strangers})
    if several:
        advice = ONE_LABEL.removesuffix(".")
        what = f"{shorten(next(iter(several)))} looks like {len(next(iter(several.values())))} labels"
    numbers = all(INTEGER.fullmatch(as_integer(tidied(label))) for label in counts)
    many = 5 * faulty.total() >= counts.total() and (faulty.total() > FEW_STRANGERS or numbers)
    are_left_out = classes.faulty_rows == "leave_out" and len(several) == len(strangers)
    if len(strangers) == len(counts) or (many and not are_left_out):
        if not several:
            refuse_no_classes(counts, where, column)
        of_all = "all" if len(strangers) == len(counts) else f"{faulty.total():,} of"
        are = f"not classes: {listed(faulty)}"
        if numbers and what.startswith(OTHER_SCALE) and (of_all == "all" or guessed(counts, meaning.names)):
            of_all, are = "all", numbers_text(counts)
        raise UserError(
            f"{where}: {of_all} {counts.total():,} labels in column {column!r} are {are}; {what}. {advice}."
        )
    hint = nearest(strangers[0], meaning.names)
    return replace(meaning, wrong=f"{meaning.wrong}{hint}", advice=f"{advice}.")


FEW_STRANGERS = 5
"""Rows whose label matches no class that are listed one by one, unless all rows have such labels or numbers."""


def _own_meaning(counts: Counter[str], rows: SourceRows, columns: Columns, faulty_rows: FaultyRows) -> Meaning:
    where, column = rows.where, columns.label
    spellings = own_spellings(counts)
    vectors = {label: vector for label in spellings.counts if (vector := vector_of(label)) is not None}
    if counts and len(vectors) == len(spellings.counts):
        looks = {label: looks_like(vector) for label, vector in vectors.items()}
        raise several_labels(looks, counts.total(), counts.total(), where, column)
    refuse_no_classes(spellings.counts, where, column, _swapped(rows, columns))
    several = several_in_field(spellings.counts)
    in_several = sum(spellings.counts[label] for label in several)
    if 2 * in_several > counts.total() and (faulty_rows == "refuse" or in_several == counts.total()):
        examples = {label: looks_like(parts) for label, parts in several.items()}
        raise several_labels(examples, in_several, counts.total(), where, column)
    single = Counter({name: count for name, count in spellings.counts.items() if name not in several})
    try:
        classes = _own_classes(single, where, column)
    except UserError as error:
        if not several or faulty_rows == "leave_out":
            raise
        examples = {label: looks_like(parts) for label, parts in several.items()}
        raise several_labels(examples, in_several, counts.total(), where, column) from error
    if several:
        wrong = "which looks like several labels; if it is one class, list all classes in data.class_names"
        classes = replace(classes, wrong=wrong)
    index_of = {label: classes.index_of[name] for label, name in spellings.name_of.items() if name in classes.index_of}
    merged = merged_note(counts, spellings.name_of)
    known = Counter({name: spellings.counts[name] for name in classes.names})
    notes = (merged, *classes.notes, near_note(known), maybe_missing_note(known))
    if merged is not None and len(counts) > len(spellings.counts):
        merged += ". Spellings that data.class_names lists separately stay separate classes"
        notes = (merged, *notes[1:])
    return replace(classes, index_of=index_of, notes=tuple(note for note in notes if note is not None))


def _swapped(rows: SourceRows, columns: Columns) -> str:
    """The settings to give if the column of texts has a few short values, as labels do; else an empty string."""
    texts = rows.table[columns.text][:SAMPLED_TEXTS].to_pylist()
    kinds = {str(text) for text in texts}
    if len(texts) < 2 or 2 * len(kinds) > len(texts) or max(map(len, kinds)) > MAX_CHARACTERS["label"]:
        return ""
    shown = ", ".join(map(shorten, sorted(kinds)[:3]))
    return (
        f"Text and label seem to be swapped, because the text column {columns.text!r} has only {len(kinds)} different "
        f"values ({shown}): set data.text_column={columns.label} data.label_column={columns.text}"
    )


SAMPLED_TEXTS = 1000


LONGEST_SCALE = 10
"""Integers from 1 to at most this are stars or points, each of which is a class."""


def _own_classes(counts: Counter[str], where: str, column: str) -> Meaning:
    """The classes that these names form."""
    integers = [label for label in counts if INTEGER.fullmatch(label)]
    if not integers:
        names = tuple(sorted(counts))
        return Meaning(names, {name: index for index, name in enumerate(names)}, "")
    if len(integers) < len(counts):
        return _mixed(counts, integers)
    numbers = sorted(int(label) for label in integers)
    if 1 < len(numbers) <= LONGEST_SCALE and numbers == list(range(1, len(numbers) + 1)):
        names = tuple(map(str, numbers))
        note = f"the integers 1 … {len(names)} are read as the names of {len(names)} classes"
        return Meaning(names, {name: index for index, name in enumerate(names)}, "", notes=(note,))
    if numbers == [-1] or (len(numbers) > 1 and numbers != list(range(len(numbers)))):
        raise not_consecutive(numbers, counts, where, column)
    return Meaning(tuple(map(str, numbers)), {str(number): at for at, number in enumerate(numbers)}, "")


def _mixed(counts: Counter[str], integers: list[str]) -> Meaning:
    """The meaning of integers and names in one column: the less frequent kind is faulty."""
    in_minority = sum(counts[label] for label in integers) * 2 < counts.total()
    kept = [label for label in counts if (label in integers) != in_minority]
    other = "a name" if in_minority else "an integer"
    wrong = f"expected {other} as in the other rows; if it is a separate class, list all classes in data.class_names"
    named = sorted(set(counts).difference(integers))
    guess = guessed(integers, sorted(named)) if 1 < len(integers) == len(named) else {}
    if not guess and sorted(integers) == ["0", "1"] and len(named) == 2:
        polar = {kind: name for name in named if (kind := _truth(name)) is not None}
        guess = {number: polar[number] for number in integers} if len(polar) == 2 else {}
    advice = f"If they mean the same classes: {setting('relabel', guess)}." if guess else ""
    return Meaning(tuple(kept), {label: index for index, label in enumerate(kept)}, wrong, advice=advice)


def _truth(name: str) -> str | None:
    """0 or 1 for a word that means it."""
    return {"negative": "0", "positive": "1"}.get(polarity(name) or "")


def _require_printable(names: tuple[str, ...], where: str) -> None:
    """Class names are printed to terminals, which would execute control characters."""
    for name in names:
        if any(map(is_command, name)):
            raise UserError(
                f"{where}: the class name {shorten(name)} contains a control character. Remove it, or name the "
                "classes with data.class_names."
            )


def require_distinct(names: tuple[str, ...]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"data.class_names contains {repeated[0]!r} more than once. Give each class a different name.")
