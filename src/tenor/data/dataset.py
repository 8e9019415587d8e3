"""Labelled text, the common format of all sources. Texts are not copied into memory."""

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
    """Rows of text, each with a class index.

    The rows are those at `positions` of a table that is never copied, because it may be a memory-mapped file larger
    than memory. `table` has the columns `id` (string), `text` (large_string), `label` (int64, 0 … K-1) and, if the
    source has groups, `group` (string). No value is null.
    """

    table: pa.Table
    class_names: tuple[str, ...]
    origin: str
    """The source of the rows, for messages and the manifest: a file name, a package, a hub id."""
    positions: np.ndarray | None = None
    """int64, shape (rows,); None: all rows of `table`."""
    notes: tuple[str, ...] = ()
    """Messages for the user about how the rows were read, such as label spellings that were merged into one class."""

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
        """The texts, read on access."""
        return Strings(self.table["text"], self.positions)

    @property
    def ids(self) -> list[str]:
        return list(Strings(self.table["id"], self.positions))

    @property
    def groups(self) -> np.ndarray | None:
        """Group names, shape (rows,), or None if the source has none."""
        has_groups = "group" in self.table.column_names
        return self._chosen(self.table["group"].to_numpy(zero_copy_only=False)) if has_groups else None

    def select(self, rows: Iterable[int]) -> "LabelledText":
        """The rows at the given positions, in the given order. Raises UserError unless they are row positions."""
        chosen = _positions(rows)
        return replace(self, positions=chosen if self.positions is None else self.positions[chosen])

    def _chosen(self, values: np.ndarray) -> np.ndarray:
        return values if self.positions is None else values[self.positions]

    def label_counts(self) -> np.ndarray:
        """Rows per class, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))


@dataclass(frozen=True)
class SourceData:
    """The content of a source, in its own order: training rows and test split."""

    train: LabelledText | Missing
    test: LabelledText | Missing

    def __post_init__(self) -> None:
        for name, rows in (("train", self.train), ("test", self.test)):
            if not isinstance(rows, LabelledText | Missing):
                raise not_labelled(rows, name)


def not_labelled(rows: object, name: str) -> UserError:
    """The error to raise if something other than labelled text was passed."""
    return UserError(
        f"{name} is a {type(rows).__name__}, expected labelled text. Create it from a pandas DataFrame: "
        "tenor.data.from_dataframe(frame, text_column=…, label_column=…)"
    )


def _positions(rows: Iterable[int]) -> np.ndarray:
    """Row positions as int64, shape (rows,), a copy."""
    positions = array_of(rows, "rows")
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        hint = "; numpy.flatnonzero(mask) converts a mask" if positions.dtype.kind == "b" else ""
        raise UserError(
            f"rows are {positions.dtype} of shape {positions.shape}, expected integer positions of shape (n,), counted "
            f"from 0{hint}"
        )
    return positions.astype(np.int64)


def repeated_ids(rows: LabelledText) -> dict[str, int]:
    """The ids that several rows share, with the count of rows: such an id does not identify a row."""
    return {name: count for name, count in Counter(rows.ids).items() if count > 1}


def excerpt(text: str, letters: int = 200) -> str:
    """The beginning of a text on one line, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"
