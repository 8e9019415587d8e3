"""`predictions/{validation,test}.parquet`: what a checkpoint said about every row of a split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sequences import array_of, list_of
from tenor.errors import UserError
from tenor.measures.metrics import check_labels, check_probabilities
from tenor.measures.objective import predicted_classes
from tenor.runs.files import atomic_path

_CLASS_NAMES = b"tenor.class_names"
_TEMPERATURE = b"tenor.temperature"
_COLUMNS = ("id", "label", "label_name", "predicted", "predicted_name")
_LENGTHS = ("tokens", "truncated")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels and probabilities of the n rows of one split, in the split's order."""

    ids: tuple[str, ...]
    labels: np.ndarray
    """Class indices, int64, shape (n,)."""
    probabilities: np.ndarray
    """float32 or float64, shape (n, K)."""
    class_names: tuple[str, ...]
    temperature: float = 1.0
    """By which the checkpoint's logits were divided before the softmax."""
    tokens: np.ndarray | None = None
    """Tokens of each whole text, int64, shape (n,); None where they were not recorded."""
    truncated: np.ndarray | None = None
    """How many of them were cut off and never seen by the model, int64, shape (n,); None with `tokens`."""

    @property
    def lengths(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The two columns of lengths, as `write_predictions` takes them."""
        return None if self.tokens is None or self.truncated is None else (self.tokens, self.truncated)

    @property
    def predicted(self) -> np.ndarray:
        """Class indices, shape (n,)."""
        return predicted_classes(self.probabilities)


def write_predictions(
    path: Path,
    ids: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    temperature: float = 1.0,
    lengths: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Write labels (n,) and probabilities (n, K), float32 as such and everything else as float64, atomically.

    `temperature` is the one that the probabilities have, kept in the file's metadata. `lengths` are the columns
    `tokens`, of each whole text, and `truncated`, how many of them were cut off, both (n,).
    Raises ValueError for no rows, shapes that do not fit, labels outside 0 … K-1, and rows that are no distribution.
    """
    ids, class_names = list_of(ids, "ids"), list_of(class_names, "class_names")
    labels = check_labels(labels, len(class_names))
    stored = array_of(probabilities, "probabilities")
    check_probabilities(stored, len(class_names))
    if not len(ids) == len(labels) == len(stored):
        raise ValueError(f"{len(ids)} ids, {len(labels)} labels and {len(stored)} rows of probabilities")
    stored = stored if stored.dtype == np.float32 else stored.astype(np.float64)
    names = pa.array(class_names, pa.string())
    predicted = pa.array(predicted_classes(stored), pa.int64())
    columns = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(labels, pa.int64()),
        "label_name": names.take(pa.array(labels)),
        "predicted": predicted,
        "predicted_name": names.take(predicted),
    }
    columns |= {f"probability_{k}": pa.array(np.ascontiguousarray(stored[:, k])) for k in range(len(class_names))}
    if lengths is not None:
        tokens, truncated = _check_lengths(*lengths, len(labels))
        columns |= {"tokens": pa.array(tokens), "truncated": pa.array(truncated)}
    metadata = {_CLASS_NAMES: json.dumps(list(class_names)).encode(), _TEMPERATURE: repr(float(temperature)).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote; raises UserError where the file is missing, broken or not consistent."""
    try:
        table = pq.read_table(path)
        return _parse(table)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(
            f"cannot read predictions from {path}: {error}. Expected the Parquet file that an evaluation writes; "
            f"run `tenor evaluate` on the run to write it again."
        ) from error


def _parse(table: pa.Table) -> Predictions:
    class_names = _class_names(table.schema)
    columns = [*_COLUMNS, *(f"probability_{k}" for k in range(len(class_names)))]
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)} among {', '.join(table.column_names)}")
    nulls = [name for name in columns if table[name].null_count]
    if nulls:
        raise ValueError(f"missing values in column {', '.join(nulls)}")
    labels = check_labels(table["label"].to_numpy(), len(class_names))
    probabilities = np.stack([table[name].to_numpy() for name in columns[len(_COLUMNS) :]], axis=1)
    check_probabilities(probabilities, len(class_names))
    for name, indices in (("label", labels), ("predicted", predicted_classes(probabilities))):
        differing = np.flatnonzero(table[name].to_numpy() != indices)
        named = table[f"{name}_name"].to_pylist()
        misnamed = [row for row, index in enumerate(indices) if named[row] != class_names[index]]
        if len(differing) or misnamed:
            row = int(differing[0]) if len(differing) else misnamed[0]
            raise ValueError(f"row {row}: {name} and {name}_name do not fit the probabilities or the class names")
    return Predictions(
        tuple(table["id"].to_pylist()), labels, probabilities, class_names, _temperature(table.schema), *_lengths(table)
    )


def _temperature(schema: pa.Schema) -> float:
    # Files from before there was calibration hold none, and probabilities as the checkpoint gave them.
    temperature = float((schema.metadata or {}).get(_TEMPERATURE, b"1.0"))
    if not 0 < temperature < np.inf:
        raise ValueError(f"the temperature in its metadata is {temperature}, expected a number above 0")
    return temperature


def _lengths(table: pa.Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    found = [name for name in _LENGTHS if name in table.column_names]
    if len(found) < len(_LENGTHS):
        return None, None
    if any(table[name].null_count or not pa.types.is_integer(table[name].type) for name in found):
        raise ValueError(f"expected whole numbers in {' and '.join(_LENGTHS)}")
    return _check_lengths(table["tokens"].to_numpy(), table["truncated"].to_numpy(), table.num_rows)


def _check_lengths(tokens: np.ndarray, truncated: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, truncated = np.asarray(tokens, dtype=np.int64), np.asarray(truncated, dtype=np.int64)
    if tokens.shape != (n,) or truncated.shape != (n,):
        raise ValueError(f"expected {n} lengths, found {tokens.shape} and {truncated.shape}")
    if truncated.min() < 0 or (truncated > tokens).any():
        raise ValueError("expected 0 ≤ truncated ≤ tokens in every row")
    return tokens, truncated


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    stored = (schema.metadata or {}).get(_CLASS_NAMES)
    if stored is None:
        raise ValueError("the class names are not in its metadata; another program may have written it")
    names = json.loads(stored)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the class names in its metadata are {stored!r}, expected a list of names")
    return tuple(names)
