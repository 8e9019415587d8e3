"""`predictions/{validation,test}.parquet`: a checkpoint's probabilities for every row of a split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tenor.errors import UserError
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
    """The checkpoint's logits were divided by it before the softmax."""
    tokens: np.ndarray | None = None
    """Token count of each text before truncation, int64, shape (n,); None where it was not recorded."""
    truncated: np.ndarray | None = None
    """How many of these were truncated, so that the model never saw them, int64, shape (n,); None with `tokens`."""

    @property
    def lengths(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The two columns of lengths, as `write_predictions` takes them."""
        return None if self.tokens is None or self.truncated is None else (self.tokens, self.truncated)

    @property
    def predicted(self) -> np.ndarray:
        """Class indices, shape (n,)."""
        return self.probabilities.argmax(axis=1)


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

    `temperature` is that of the probabilities and is kept in the file's metadata. `lengths` are the columns `tokens`
    (of each text before truncation) and `truncated` (how many of them were truncated), both (n,).

    Raises:
        ValueError: no rows, shapes that do not fit, labels outside 0 … K-1, or a row that is not a distribution.
    """
    labels, stored = np.asarray(labels), np.asarray(probabilities)
    require_labels(labels, len(class_names))
    require_distributions(stored, len(class_names))
    if not len(ids) == len(labels) == len(stored):
        raise ValueError(f"{len(ids)} ids, {len(labels)} labels and {len(stored)} rows of probabilities")
    stored = stored if stored.dtype == np.float32 else stored.astype(np.float64)
    names = pa.array(list(class_names), pa.string())
    predicted = pa.array(stored.argmax(axis=1), pa.int64())
    columns = {
        "id": pa.array(list(ids), pa.string()),
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
    """Read what `write_predictions` wrote.

    Raises:
        UserError: a file that is missing, damaged or not consistent.
    """
    try:
        table = pq.read_table(path)
        return _parse(table)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UserError(
            f"cannot read predictions from {path}: {error}. Expected the Parquet file that an evaluation writes; "
            f"run `tenor evaluate` on the run to write it again."
        ) from error


def require_labels(labels: np.ndarray, n_classes: int) -> None:
    """Raises ValueError unless `labels` are class indices 0 … K-1 of shape (n,), n > 0."""
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"expected class indices of shape (n,) with n > 0, observed shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"expected class indices of an integer type, observed {labels.dtype}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"expected class indices in 0 … {n_classes - 1}, observed {labels.min()} … {labels.max()}")


def require_distributions(probabilities: np.ndarray, n_classes: int) -> None:
    """Raises ValueError unless `probabilities` is (n, K), n > 0, and every row is a distribution."""
    if probabilities.dtype.kind not in "biuf":
        raise ValueError(f"expected probabilities of a numeric type, observed {probabilities.dtype}")
    if probabilities.ndim != 2 or len(probabilities) == 0 or probabilities.shape[1] != n_classes:
        raise ValueError(f"expected probabilities of shape (n, {n_classes}) with n > 0, observed {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(probabilities)} rows of probabilities contain NaN or infinity")
    # 1e-3: a softmax in bfloat16 sums to 1 no better than that.
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3 * n_classes:
        raise ValueError("expected every row of probabilities to be non-negative and to sum to 1; are these logits?")


def _parse(table: pa.Table) -> Predictions:
    class_names = _class_names(table.schema)
    columns = [*_COLUMNS, *(f"probability_{k}" for k in range(len(class_names)))]
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)} among {', '.join(table.column_names)}")
    nulls = [name for name in columns if table[name].null_count]
    if nulls:
        raise ValueError(f"missing values in column {', '.join(nulls)}")
    labels = table["label"].to_numpy()
    require_labels(labels, len(class_names))
    probabilities = np.stack([table[name].to_numpy() for name in columns[len(_COLUMNS) :]], axis=1)
    require_distributions(probabilities, len(class_names))
    for name, indices in (("label", labels), ("predicted", probabilities.argmax(axis=1))):
        differing = np.flatnonzero(table[name].to_numpy() != indices)
        named = table[f"{name}_name"].to_pylist()
        misnamed = [row for row, index in enumerate(indices) if named[row] != class_names[index]]
        if len(differing) or misnamed:
            row = int(differing[0]) if len(differing) else misnamed[0]
            raise ValueError(f"row {row}: {name} and {name}_name do not fit the probabilities or the class names")
    return Predictions(
        tuple(table["id"].to_pylist()),
        labels.astype(np.int64),
        probabilities,
        class_names,
        _temperature(table.schema),
        *_lengths(table),
    )


def _temperature(schema: pa.Schema) -> float:
    # Files that were written before Tenor calibrated have none: their probabilities are the checkpoint's own.
    temperature = float((schema.metadata or {}).get(_TEMPERATURE, b"1.0"))
    if not 0 < temperature < np.inf:
        raise ValueError(f"the temperature in its metadata is {temperature}, expected a number above 0")
    return temperature


def _lengths(table: pa.Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not set(_LENGTHS) <= set(table.column_names):
        return None, None
    if any(table[name].null_count or not pa.types.is_integer(table[name].type) for name in _LENGTHS):
        raise ValueError(f"expected integers in {' and '.join(_LENGTHS)}")
    return _check_lengths(table["tokens"].to_numpy(), table["truncated"].to_numpy(), table.num_rows)


def _check_lengths(tokens: np.ndarray, truncated: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, truncated = np.asarray(tokens, dtype=np.int64), np.asarray(truncated, dtype=np.int64)
    if tokens.shape != (n,) or truncated.shape != (n,):
        raise ValueError(f"lengths of shape {tokens.shape} and {truncated.shape}, expected ({n},)")
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
