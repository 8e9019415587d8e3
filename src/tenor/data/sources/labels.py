"""Rows → labelled text: maps labels to class indices and refuses faulty rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.files.nested import advice_on_fields
from tenor.data.sequences import list_of
from tenor.data.sources.label_advice import (
    MISSING,
    guessed,
    listed,
    looks_like,
    maybe_missing_note,
    mismatch,
    not_consecutive,
    polarity,
    refuse_no_classes,
    rows_text,
    setting,
    several_in_field,
    several_labels,
    unpacked,
    vector_of,
)
from tenor.data.sources.row_files import read_rows
from tenor.data.sources.rows import (
    ONE_LABEL,
    Columns,
    Role,
    SourceRows,
    columns_of,
    faults_by_row,
    list_rows,
    nearest,
    python_column,
    refuse_faults,
    require_columns,
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
from tenor.runs.missing import Missing

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


FaultyRows = Literal["refuse", "leave_out"]
MAX_CHARACTERS: dict[Role, int] = {"text": 10_000_000, "label": 200, "name": 1_000}
"""Far more than any text that is classified as a whole (War and Peace has 3.2 million characters), or any name."""


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


def classes_of(data: Data, names: tuple[str, ...] | None) -> Classes:
    return Classes(names, relabel=data.relabel, faulty_rows=data.faulty_rows)


def label_splits(train: SourceRows, test: SourceRows | Missing, data: Data) -> SourceData:
    """Label both splits; the test split uses the classes of the training split.

    Class names that a file itself stores are those of its labels' indices; `data.class_names` renames or reorders them.
    Raises UserError as `label_rows` does.
    """
    columns = columns_of(data)
    labelled = label_file(train, columns, classes_of(data, data.class_names))
    if isinstance(test, Missing):
        return SourceData(labelled, test)
    return SourceData(labelled, _label_test(test, columns, data, train, labelled.class_names))


def label_file(rows: SourceRows, columns: Columns, classes: Classes) -> LabelledText:
    """`label_rows`, by the class names that the file itself stores, if it does; `classes.names` renames or reorders
    them. Raises UserError as `label_rows` and `rename_classes` do."""
    if rows.class_names is None:
        return label_rows(rows, columns, classes)
    own = replace(classes, names=rows.class_names, matched="index")
    return rename_classes(label_rows(rows, columns, own), classes.names)


def _label_test(
    test: SourceRows, columns: Columns, data: Data, train: SourceRows, names: tuple[str, ...]
) -> LabelledText:
    classes = replace(classes_of(data, names), of_other_file=test is not train)
    if test.class_names is not None:
        own = label_rows(test, columns, replace(classes, names=test.class_names, matched="index"))
        own = rename_classes(own, data.class_names) if test.class_names == train.class_names else own
        if (matched := in_classes(own, names)) is None:
            raise UserError(
                f"{test.where}: stores the class names {', '.join(test.class_names)}, expected {', '.join(names)} as "
                "in the training file. Give both files the same class names."
            )
        return matched
    # Names derived from the training labels are matched by name only: otherwise an integer label of the test file would
    # be taken for a position in an order that nobody chose.
    if not (data.class_names or train.class_names):
        classes = replace(classes, matched="name")
    return label_rows(test, columns, classes)


def label_rows(rows: SourceRows, columns: Columns, classes: Classes) -> LabelledText:
    """Give each row its class index.

    Raises UserError for a missing column, no rows, a column of the wrong type and labels that cannot be classes. Rows
    with missing or invalid text or label are reported in one message with their count, or left out if `classes` says
    so.
    """
    faults = {column: dict(of_column) for column, of_column in rows.faults.items()}
    named = _named_texts(rows, columns, faults)
    labels = _strings(rows, columns.label, "label", faults).combine_chunks()
    for of_column in faults.values():
        for row in of_column.keys() & rows.left_out.keys():
            del of_column[row]
    indices, meaning = _class_indices(rows, columns, labels, classes, faults)
    used = indices != LEFT_OUT
    notes = [*rows.notes, *(f"{rows.where}, column {columns.label!r}: {note}." for note in meaning.notes)]
    if rows.left_out:
        reasons = Counter(rows.left_out.values())
        counted = ", ".join(f"{rows_text(count)}: {reason}" for reason, count in reasons.most_common())
        notes.insert(len(rows.notes), f"{rows.where}: left out, and not used: {counted}.")
    if classes.faulty_rows == "leave_out" and (by_row := faults_by_row(faults)):
        notes.append(
            f"{rows.where}: data.faulty_rows=leave_out: {len(by_row):,} of {len(labels):,} rows are left out. "
            f"{list_rows(rows, by_row)}"
        )
        used[list(by_row)] = False
    else:
        refuse_faults(rows, faults, meaning.advice_on(faults, columns))
    if not used.any():
        raise UserError(f"{rows.where}: no rows are left: {' '.join(notes)}")
    table = named.add_column(2, "label", pa.array(indices, type=pa.int64()))
    positions = None if used.all() else np.flatnonzero(used)
    return LabelledText(table, meaning.names, rows.origin, positions, notes=tuple(notes))


def rename_classes(labelled: LabelledText, wanted: tuple[str, ...] | None) -> LabelledText:
    """Give the classes of a source the names that the user chose.

    The source's own names (regardless of case) in another order permute the indices; new names replace the source's
    in order. Raises UserError if their count differs, or if only some are the source's names, at other indices.
    """
    own = labelled.class_names
    if wanted is None or wanted == own:
        return labelled
    _require_distinct(wanted)
    index_of = [GivenNames(wanted).index(name) for name in own]
    if len(wanted) == len(own) and (moved := in_classes(labelled, wanted)) is not None:
        return moved
    if len(wanted) != len(own):
        raise UserError(
            f"data.class_names has {len(wanted)} names, but {labelled.origin} has {len(own)} classes "
            f"({', '.join(own)}). Give one name per class, in this order, or leave data.class_names out."
        )
    if any(index is not None and index != at for at, index in enumerate(index_of)):
        raise UserError(
            f"data.class_names is {', '.join(wanted)}, but the classes of {labelled.origin} are {', '.join(own)}, in "
            "this order: one of these names would be given to another class. Use these names, in any order, or new "
            "ones."
        )
    return replace(labelled, class_names=wanted)


def in_classes(labelled: LabelledText, names: tuple[str, ...]) -> LabelledText | None:
    """The rows with the class indices of `names`, matched by name regardless of case; None if a class has no match, or
    two classes have the same."""
    own = labelled.class_names
    given = GivenNames(names)
    known = [index for name in own if (index := given.index(name)) is not None]
    if not len(set(known)) == len(known) == len(own):
        return None
    column = labelled.table.column_names.index("label")
    moved = np.array(known, dtype=np.int64)[labelled.table["label"].to_numpy()]
    table = labelled.table.set_column(column, "label", pa.array(moved))
    return replace(labelled, table=table, class_names=names)


def _named_texts(rows: SourceRows, columns: Columns, faults: dict[str, dict[int, str]]) -> pa.Table:
    require_columns(rows.table.column_names, columns, rows.where)
    if rows.table.num_rows == 0:
        raise UserError(f"{rows.where}: no rows, expected one text per row.")
    if columns.id is None:
        names = pa.array(np.arange(1, rows.table.num_rows + 1)).cast(pa.string())
    else:
        names = _strings(rows, columns.id, "name", faults).cast(pa.string())
    table = {"id": names, "text": _strings(rows, columns.text, "text", faults)}
    if columns.group is not None:
        table["group"] = _strings(rows, columns.group, "name", faults).cast(pa.string())
    return pa.table(table)


def _plain_labels(values: pa.ChunkedArray, column: str, faults: dict[int, str]) -> pa.ChunkedArray:
    """Labels of any Arrow type as strings, as `python_column` reads them: True, 5 for 5.0, NaN missing; a list with one
    element as this element."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, pa.scalar("True", pa.large_string()), pa.scalar("False", pa.large_string()))
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_nested(kind)):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        try:
            finite = pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(kind) else values
            return finite.cast(pa.int64())
        except pa.ArrowException:  # A fraction, or too many digits.
            pass
    chunks, first = [], 0
    for chunk in values.chunks:
        strings, of_chunk = python_column(chunk.to_pylist(), column, "label")
        chunks.append(strings)
        faults.update({first + row: fault for row, fault in of_chunk.items()})
        first += len(chunk)
    return pa.chunked_array(chunks, pa.large_string())


def _strings(rows: SourceRows, column: str, role: Role, faults: dict[str, dict[int, str]]) -> pa.ChunkedArray:
    """One column as large_string, without joining its chunks; missing values are added to the faults."""
    values = rows.table[column]
    of_column = faults.setdefault(column, {})
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        values = _decoded(values, rows.where, column)
    if role == "label":
        values = _plain_labels(values, column, of_column)
    missing = np.flatnonzero(values.is_null().to_numpy())
    if len(missing) == len(values) and not rows.left_out:
        raise _all_missing(rows.where, column, len(values), role)
    for row in missing.tolist():
        of_column.setdefault(row, f"{column} is missing")
    kind = values.type
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_number = pa.types.is_integer(kind) or (role == "name" and pa.types.is_floating(kind))
    if pa.types.is_null(kind) or is_string or (role != "text" and is_number):
        strings = values.cast(pa.large_string())
        _add_long(rows, strings, column, role, of_column)
        return strings
    expected = {"text": "strings", "label": "integers or strings", "name": "strings or numbers"}[role]
    share = f" ({len(missing):,} of its {len(values):,} values are missing)" if len(missing) else ""
    option = f"data.{'id' if role == 'name' else role}_column={{}}"
    advice = advice_on_fields(pa.field(column, kind), role, option) or "Convert the column."
    raise UserError(f"{rows.where}: column {column!r} has the type {kind}{share}, expected {expected}. {advice}")


def _all_missing(where: str, column: str, rows: int, role: Role) -> UserError:
    split = " If this is an unlabelled test split, use a labelled split." if role == "label" else ""
    return UserError(
        f"{where}: column {column!r} is missing in all {rows_text(rows)}. Choose a column that has values.{split}"
    )


def _add_long(rows: SourceRows, strings: pa.ChunkedArray, column: str, role: Role, of_column: dict[int, str]) -> None:
    lengths = pc.utf8_length(strings).fill_null(0).to_numpy(zero_copy_only=False)
    too_long = np.flatnonzero(lengths > MAX_CHARACTERS[role])
    if role == "label" and 5 * len(too_long) > len(lengths):
        raise UserError(
            f"{rows.where}: column {column!r} has up to {lengths.max():,} characters per row, expected a class name of "
            f"at most {MAX_CHARACTERS[role]:,}. It seems to contain texts. Set data.label_column to the column with "
            "the class."
        )
    for row in too_long.tolist():
        length, most = lengths[row], MAX_CHARACTERS[role]
        of_column.setdefault(row, f"{column} has {length:,} characters, expected at most {most:,}")


def _decoded(values: pa.ChunkedArray, where: str, column: str) -> pa.ChunkedArray:
    """A binary column as strings. Raises UserError unless it is UTF-8."""
    try:
        return values.cast(pa.large_string())
    except pa.ArrowException as error:
        raise UserError(
            f"{where}: column {column!r} has the type {values.type}, and its bytes are not UTF-8. Convert the column."
        ) from error


LEFT_OUT = -2
"""Class index of a row that is not used."""
UNLABELLED = "-1"
"""The index that the library `datasets` gives to rows whose label is hidden or missing."""


@dataclass(frozen=True)
class _Meaning:
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


def _class_indices(
    rows: SourceRows, columns: Columns, labels: pa.Array, classes: Classes, faults: dict[str, dict[int, str]]
) -> tuple[np.ndarray, _Meaning]:
    """Class index per row, int64, shape (rows,), -1 for a faulty row and `LEFT_OUT` for one that is not used; and the
    meaning of the labels."""
    column, of_column = columns.label, faults.setdefault(columns.label, {})
    ignored = np.zeros(len(labels), dtype=bool)
    ignored[[*of_column, *rows.left_out]] = True
    good = np.flatnonzero(~ignored)
    encoded = labels.take(pa.array(good)).dictionary_encode()
    distinct: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows_of = np.bincount(codes, minlength=len(distinct)).tolist()
    written = Counter(dict(zip(distinct, rows_of, strict=True)))
    read = _read_labels(written, classes)
    if written and all(read.faults.get(label) == "missing" for label in written):
        raise _all_missing(rows.where, column, written.total(), "label")
    if classes.faulty_rows == "refuse":
        _refuse_several(read, written, rows.where, column)
    meaning = _meaning(read.counts(written), classes, rows, columns)
    _require_printable(meaning.names, rows.where)
    meaning = replace(meaning, notes=(*_relabel_notes(read, written, classes), *meaning.notes))
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

    def counts(self, written: Counter[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for label, known in self.label_of.items():
            counts[known] += written[label]
        return counts


def _read_labels(written: Counter[str], classes: Classes) -> _Read:
    read = _Read({}, [], {}, {}, {})
    _require_distinct(classes.names or ())
    given = GivenNames(classes.names or ())
    wanted = {key: target for old, target in classes.relabel.items() for key in (old, _key(old))}
    for label in written:
        key = label if label in wanted else _key(label)
        if key in wanted:
            target = wanted[key]
            read.relabelled[label] = target
            if target is None:
                read.left_out.append(label)
            else:
                read.label_of[label] = target
        elif given.index(label) is not None:
            read.label_of[label] = label
        elif not tidied(label):
            read.faults[label] = "missing"
        elif folded(label) in MISSING:
            read.faults[label] = f"{shorten(label)}, which marks a missing value"
        elif classes.matched == "index" and as_integer(tidied(label)) == UNLABELLED:
            read.faults[label] = "-1, which marks an unlabelled row"
        else:
            _unpack(label, unpacked(label), read)
    return read


def _key(label: str) -> str:
    return folded(as_integer(tidied(label)))


def _unpack(label: str, value: object, read: _Read) -> None:
    match value:
        case str():
            read.label_of[label] = value
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


def _refuse_several(read: _Read, written: Counter[str], where: str, column: str) -> None:
    """Raises UserError if most labels are lists or dictionaries."""
    count = sum(written[label] for label in read.several)
    if 2 * count > written.total():
        raise several_labels(read.several, count, written.total(), where, column)


def _relabel_notes(read: _Read, written: Counter[str], classes: Classes) -> list[str]:
    if not classes.relabel:
        return []
    counts = Counter({label: written[label] for label in read.relabelled})
    changed = []
    for label, count in counts.most_common():
        target = read.relabelled[label]
        changed.append(f"{shorten(label)} ({rows_text(count)}) {'left out' if target is None else f'as {target!r}'}")
    found = {key for label in read.relabelled for key in (label, _key(label))}
    unused = [old for old in classes.relabel if old not in found and _key(old) not in found]
    sentences = [f"data.relabel: {', '.join(changed[:20])}{', …' if len(changed) > 20 else ''}"] if changed else []
    if unused:
        sentences.append(f"data.relabel: no row has the label {', '.join(map(shorten, unused[:20]))}")
    return sentences


def _meaning(counts: Counter[str], classes: Classes, rows: SourceRows, columns: Columns) -> _Meaning:
    if classes.names is None:
        return _own_meaning(counts, rows, columns, classes.faulty_rows)
    names = classes.names
    _require_distinct(names)
    integers_only = all(INTEGER.fullmatch(as_integer(tidied(label))) for label in counts)
    names_have_integers = any(INTEGER.fullmatch(name) for name in names)
    if classes.matched == "index" or (classes.matched == "either" and integers_only and not names_have_integers):
        expected = "one of " + ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        written = {label: as_integer(tidied(label)) for label in counts}
        index_of = {label: int(one) for label, one in written.items() if one in map(str, range(len(names)))}
        index_of |= {label: names.index(label) for label in counts if label in names}  # Results of `relabel`.
        meaning = _Meaning(names, index_of, f"expected {expected}")
    else:
        given = GivenNames(names)
        index_of = {label: index for label in counts if (index := given.index(label)) is not None}
        merged = merged_note(counts, {label: names[index] for label, index in index_of.items()})
        expected = f"one of {', '.join(names)}"
        meaning = _Meaning(names, index_of, f"expected {expected}", () if merged is None else (merged,), given)
    return _with_advice(meaning, counts, classes, rows.where, columns.label)


def _with_advice(meaning: _Meaning, counts: Counter[str], classes: Classes, where: str, column: str) -> _Meaning:
    """The meaning with advice on labels that match no class. Raises UserError if they are too many for single mistakes:
    the column has another scale, other names, or no classes."""
    strangers = [label for label in counts if label not in meaning.index_of]
    if not strangers or (meaning.given is not None and any(map(meaning.given.alike, strangers))):
        return meaning
    indices = meaning.given is None
    if several := several_in_field(Counter([*counts, *meaning.names])):
        several = {label: parts for label, parts in several.items() if label in strangers}
    what, advice = mismatch(counts, strangers, meaning.names, indices, classes.of_other_file)
    faulty = Counter({label: counts[label] for label in strangers})
    if several:
        advice = ONE_LABEL
        what = f"{shorten(next(iter(several)))} looks like {len(next(iter(several.values())))} labels"
    numbers = all(INTEGER.fullmatch(as_integer(tidied(label))) for label in counts)
    many = 5 * faulty.total() >= counts.total() and (faulty.total() > FEW_STRANGERS or numbers)
    if len(strangers) == len(counts) or many:
        if not several:
            refuse_no_classes(counts, where, column)
        of_all = "all" if len(strangers) == len(counts) else f"{faulty.total():,} of"
        raise UserError(
            f"{where}: {of_all} {counts.total():,} labels in column {column!r} are not classes: {listed(faulty)}; "
            f"{what}. {advice}."
        )
    hint = nearest(strangers[0], meaning.names)
    return replace(meaning, wrong=f"{meaning.wrong}{hint}", advice=f"{advice}.")


FEW_STRANGERS = 5
"""Rows whose label matches no class that are listed one by one, unless all rows have such labels or numbers."""


def _own_meaning(counts: Counter[str], rows: SourceRows, columns: Columns, faulty_rows: FaultyRows) -> _Meaning:
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
    classes = _own_classes(single, where, column)
    if several:
        wrong = "which looks like several labels; if it is one class, list all classes in data.class_names"
        classes = replace(classes, wrong=wrong)
    index_of = {label: classes.index_of[name] for label, name in spellings.name_of.items() if name in classes.index_of}
    merged = merged_note(counts, spellings.name_of)
    known = Counter({name: spellings.counts[name] for name in classes.names})
    notes = (merged, near_note(known), maybe_missing_note(known))
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


def _own_classes(counts: Counter[str], where: str, column: str) -> _Meaning:
    """The classes that these names form."""
    integers = [label for label in counts if INTEGER.fullmatch(label)]
    if not integers:
        names = tuple(sorted(counts))
        return _Meaning(names, {name: index for index, name in enumerate(names)}, "")
    if len(integers) < len(counts):
        return _mixed(counts, integers)
    numbers = sorted(int(label) for label in integers)
    if numbers == [-1] or (len(numbers) > 1 and numbers != list(range(len(numbers)))):
        raise not_consecutive(numbers, counts, where, column)
    return _Meaning(tuple(map(str, numbers)), {str(number): at for at, number in enumerate(numbers)}, "")


def _mixed(counts: Counter[str], integers: list[str]) -> _Meaning:
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
    return _Meaning(tuple(kept), {label: index for index, label in enumerate(kept)}, wrong, advice=advice)


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


def _require_distinct(names: tuple[str, ...]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"data.class_names contains {repeated[0]!r} more than once. Give each class a different name.")


def file_source(data: Data) -> SourceData:
    """Read `data.path` and `data.test_path`. Raises UserError for files that cannot be read or understood."""
    if data.path is None:
        raise UserError("data.source=file requires data.path, the file to train on.")
    columns = columns_of(data)
    train = read_rows(data.path, columns)
    if data.test_path is None:
        return label_splits(train, Missing("data.test_path is not set"), data)
    return label_splits(
        train, train if data.test_path == data.path else read_rows(data.test_path, columns, is_test=True), data
    )


def read_table(
    path: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    relabel: Mapping[str, str | None] | None = None,
    faulty_rows: Literal["refuse", "leave_out"] = "refuse",
) -> LabelledText:
    """One file of labelled text: CSV, TSV, JSON Lines or Parquet, by its suffix.

    Labels are strings, integers or booleans; "1" in a string column is an integer, and so is 1.0. Labels that differ
    only in case, spaces or Unicode normalization are one class; `notes` says which spellings were merged. Without
    `class_names`, the sorted distinct labels are the classes, and integers must be 0 … K-1; with `class_names`, a label
    is one of the names or, if no name is an integer, a position among them. Without `id_column`, ids are row numbers:
    "1", "2", ….
    Raises UserError for a file that cannot be read or understood.
    """
    columns = Columns(text_column, label_column, id_column, group_column)
    classes = Classes(class_names, relabel=dict(relabel or {}), faulty_rows=faulty_rows)
    return label_file(read_rows(path, columns), columns, classes)


def from_dataframe(
    frame: "pandas.DataFrame",
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    relabel: Mapping[str, str | None] | None = None,
    faulty_rows: Literal["refuse", "leave_out"] = "refuse",
    origin: str = "data frame",
) -> LabelledText:
    """Labelled text from a pandas data frame, as `read_table` reads a file. Rows count from 1, whatever the index.

    Raises UserError for columns or values that cannot be used.
    """
    _require_frame(frame, origin)
    columns = Columns(text_column, label_column, id_column, group_column)
    class_names = None if class_names is None else tuple(list_of(class_names, "class_names"))
    names = [str(name) for name in frame.columns]  # A frame without a header has integers.
    require_columns(names, columns, origin)
    arrays, faults = {}, {}
    for name, role in columns.roles().items():
        arrays[name], faults[name] = python_column(_values(frame.iloc[:, names.index(name)]), name, role)
    classes = Classes(class_names, relabel=dict(relabel or {}), faulty_rows=faulty_rows)
    return label_rows(SourceRows(pa.table(arrays), origin, origin, faults), columns, classes)


def _require_frame(frame: object, origin: str) -> None:
    if not hasattr(type(frame), "iloc") or not hasattr(type(frame), "columns"):
        how = "frame.to_pandas()" if hasattr(type(frame), "to_pandas") else "pandas.DataFrame(…)"
        raise UserError(f"{origin}: is a {type(frame).__name__}, expected a pandas DataFrame. Convert it: {how}")


def _values(series: "pandas.Series") -> list[object]:
    values = list_of(series, str(series.name))
    if getattr(series.dtype, "kind", "") == "f" and None in values:
        # pandas converts an integer column to float as soon as a value is missing.
        return [int(value) if value is not None and value.is_integer() else value for value in values]
    return values
