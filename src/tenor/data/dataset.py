"""Labelled text: what every source yields and every later step takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tenor.data.strings import Strings


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

    def select(self, rows: Sequence[int] | np.ndarray) -> "LabelledText":
        """The given rows, in the given order."""
        chosen = np.array(rows, dtype=np.int64)
        return replace(self, positions=chosen if self.positions is None else self.positions[chosen])

    def _chosen(self, values: np.ndarray) -> np.ndarray:
        return values if self.positions is None else values[self.positions]

    def label_counts(self) -> np.ndarray:
        """Rows per class, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))


@dataclass(frozen=True)
class Absent:
    """A split that a source does not have, and why."""

    reason: str


@dataclass(frozen=True)
class SourceData:
    """What a source holds, in its own order: rows to learn from, and its own test split."""

    train: LabelledText | Absent
    test: LabelledText | Absent


def repeated_ids(rows: LabelledText) -> dict[str, int]:
    """The ids that stand on several rows, and on how many: one of these tells no row from another."""
    return {name: count for name, count in Counter(rows.ids).items() if count > 1}


def excerpt(text: str, letters: int = 200) -> str:
    """The beginning of a text on one line, for people."""
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
