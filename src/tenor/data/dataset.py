"""Labelled text: what every source yields and every later step takes. Texts are read where they are stored."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tenor.data.sequences import Strings, array_of, list_of
from tenor.errors import UserError
from tenor.runs.missing import Missing


@dataclass(frozen=True, eq=False)
class LabelledText:
    """Rows of text with a class index each: those at `positions` of a table that is never copied, since it may lie in
    a file larger than memory.

    `table` has the columns `id` (string), `text` (large_string), `label` (int64, 0 … K-1) and, where the source names
    groups, `group` (string). No value is null.
    """

    table: pa.Table
    class_names: tuple[str, ...]
    origin: str
    """Where the rows come from, for messages and the manifest: a file name, a package, a hub id."""
    positions: np.ndarray | None = None
    """int64, shape (rows,); None: all rows of `table`."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the rows were read, such as spellings of labels that are one class."""

    def __post_init__(self) -> None:
        if not isinstance(self.table, pa.Table):
            raise not_labelled(self.table, "table")
        object.__setattr__(self, "class_names", tuple(list_of(self.class_names, "class_names")))
        if self.positions is not None:
            object.__setattr__(self, "positions", _positions(self.positions))

    def __len__(self) -> int:
        return self.table.num_rows if self.positions is None else len(self.positions)

    @property
    def labels(self) -> np.ndarray:
        """Class indices, int64, shape (rows,)."""
        return self._chosen(self.table["label"].to_numpy())

    @property
    def texts(self) -> Strings:
        """Read when they are asked for."""
        return Strings(self.table["text"], self.positions)

    @property
    def ids(self) -> list[str]:
        return list(Strings(self.table["id"], self.positions))

    @property
    def groups(self) -> np.ndarray | None:
        """Group names, shape (rows,), or None where the source has none."""
        has_groups = "group" in self.table.column_names
        return self._chosen(self.table["group"].to_numpy(zero_copy_only=False)) if has_groups else None

    def select(self, rows: Iterable[int]) -> "LabelledText":
        """The rows at the given positions, in the given order. Raises UserError for what are no positions."""
        chosen = _positions(rows)
        return replace(self, positions=chosen if self.positions is None else self.positions[chosen])

    def _chosen(self, values: np.ndarray) -> np.ndarray:
        return values if self.positions is None else values[self.positions]

    def label_counts(self) -> np.ndarray:
        """Rows per class, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))


@dataclass(frozen=True)
class SourceData:
    """What a source holds, in its own order: rows to learn from, and its own test split."""

    train: LabelledText | Missing
    test: LabelledText | Missing

    def __post_init__(self) -> None:
        for name, rows in (("train", self.train), ("test", self.test)):
            if not isinstance(rows, LabelledText | Missing):
                raise not_labelled(rows, name)


def not_labelled(rows: object, name: str) -> UserError:
    """What to raise where something else was given for labelled text."""
    return UserError(
        f"{name} is a {type(rows).__name__}, expected labelled text; make it from a pandas DataFrame: "
        "tenor.data.from_dataframe(frame, text_column=…, label_column=…)"
    )


def _positions(rows: Iterable[int]) -> np.ndarray:
    """Row positions as int64, shape (rows,), a copy."""
    found = array_of(rows, "rows")
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        hint = "; numpy.flatnonzero(mask) gives those of a mask" if found.dtype.kind == "b" else ""
        raise UserError(
            f"rows are {found.dtype} of shape {found.shape}, expected positions from 0, whole numbers{hint}"
        )
    return found.astype(np.int64)


def repeated_ids(rows: LabelledText) -> dict[str, int]:
    """The ids that stand on several rows, and on how many: one of these tells no row from another."""
    return {name: count for name, count in Counter(rows.ids).items() if count > 1}


def excerpt(text: str, letters: int = 200) -> str:
    """The beginning of a text on one line, for people."""
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
