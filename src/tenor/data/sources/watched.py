"""Columns that nobody named, but that say which rows must not be trained on: splits, and rejected answers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from shlex import quote

from tenor.data.files.commands import unused_split
from tenor.data.files.nested import names_of, with_fields
from tenor.data.files.stream import FileRows
from tenor.data.sources.exports import Export
from tenor.errors import UserError

SPLIT_COLUMNS = frozenset(
    "split splits set subset partition usage fold data_split dataset_split split_name datasplit data_set dataset "  # noqa: SIM905
    "train_test traintest train_or_test train_test_split ml_use purpose".split()
)
"""Names of columns that say of each row to which split it belongs, in lower case. `ml_use`: Google AutoML."""
SPLIT_VALUES = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "te"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development", "eval"), "validation"),
    **dict.fromkeys(("", "none", "null", "nan", "unassigned", "unsup", "extra", "holdout", "hold-out"), "other"),
}
MOST_VALUES = 20


def _last_word(name: str) -> str:
    """The last part of a name such as `labels.aiplatform.googleapis.com/ml_use`, in lower case."""
    return re.split(r"[./]", name.strip().lower())[-1]


class Watched:
    """Counts the values of the columns that say which rows belong to a split."""

    def __init__(self, rows: FileRows, required: Sequence[str]) -> None:
        self.where, self.required = rows.where, frozenset([*required, rows.chosen_by])
        self.counts: dict[str, Counter[str]] = {}

    def names(self, columns: Sequence[str]) -> list[str]:
        """Which of these columns are to be counted."""
        return [
            name
            for name in columns
            if _last_word(name) in SPLIT_COLUMNS and name not in self.required and columns.count(name) == 1
        ]

    def fields(self, record: dict[str, object]) -> dict[str, object]:
        """The fields of objects within a record of JSON that are to be counted, by the names that can be given."""
        nested = [name for name in names_of(record) if name not in record and _last_word(name) in SPLIT_COLUMNS]
        return {name: with_fields(record, [name]).get(name) for name in self.names(nested)}

    def add(self, name: str, values: Sequence[object]) -> None:
        counts = self.counts.setdefault(name, Counter())
        if len(counts) <= MOST_VALUES:
            counts.update("" if value is None else str(value).strip() for value in values)

    def refuse_splits(self) -> None:
        """Raises UserError for a column that marks training rows and others."""
        for name, counts in self.counts.items():
            kinds = {value: SPLIT_VALUES.get(value.lower(), "") for value in counts}
            train = next((value for value, kind in kinds.items() if kind == "train"), None)
            held_out = [value for value, kind in kinds.items() if kind in ("test", "validation")]
            if train is None or not held_out or "" in kinds.values():
                continue
            shown = ", ".join(f"{value!r} ({count:,})" for value, count in counts.most_common())
            test = next((value for value in held_out if kinds[value] == "test"), held_out[0])
            path = self.where
            options = (
                f"data.path={quote(f'{path}#{name}={train}')} data.test_path={quote(f'{path}#{name}={test}')} "
                "data.test_size=null"
            )
            raise UserError(
                f"{path}: column {name!r} marks the rows of several splits, {shown}: read together, test rows would be "
                f"trained on. Set {options} (tenor evaluate: --input {quote(f'{path}#{name}={test}')}). To use all "
                f"rows: data.path={quote(f'{path}#{name}!=')}."
                + unused_split(value for value in held_out if value != test)
            )


def rejected(export: Export | None, columns: Mapping[str, Sequence[object]], rows: int) -> dict[int, str]:
    """The rows of a table of which an export says that they must not be taught, with the reason."""
    if export is None or not export.reads:
        return {}
    found = {}
    for at in range(rows):
        reason = export.left_out({name: columns[name][at] for name in export.reads})
        if reason is not None:
            found[at] = f"{reason} ({export.name})"
    return found
