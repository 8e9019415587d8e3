"""Evidence from live datasets: columns of labels and texts; nothing is read from the loader."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset

from tenor.checks.evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.data.sequences import array_of, list_of
from tenor.errors import UserError

LABEL_COLUMNS = ("labels", "label", "target", "targets")
TEXT_COLUMNS = ("text", "sentence", "review", "content")
ID_COLUMN = "input_ids"
MOST_DECODED = 50_000
"""Rows whose texts are made from token ids where there is no text: some seconds."""


def data_evidence(
    train: Any, validation: Any, n_classes: int, class_names: tuple[str, ...] | None, tokenizer: Any = None
) -> DataEvidence:
    """Labels, and texts where they are there or can be decoded, of datasets that can be read by column.

    Those are the hub's datasets, lists of dictionaries, `TensorDataset`s of ids and labels, and `Subset`s of these.
    Raises CannotTell for any other.
    """
    positions, source = None, None
    if isinstance(train, Subset):
        positions, source = np.asarray(train.indices), np.asarray(_column(train.dataset, LABEL_COLUMNS))
    return DataEvidence(
        train=rows_of(train, tokenizer),
        n_classes=n_classes,
        validation=None if validation is None else rows_of(validation, tokenizer),
        class_names=class_names,
        source_labels=source,
        train_positions=positions,
    )


def rows_of(dataset: Any, tokenizer: Any = None) -> Rows:
    """Labels and texts of one dataset."""
    labels = _column(dataset, LABEL_COLUMNS)
    if labels is None:
        raise CannotTell(
            f"the dataset has no column {' or '.join(LABEL_COLUMNS)} to read; its collated batches are judged instead"
        )
    texts = _column(dataset, TEXT_COLUMNS)
    if texts is None and tokenizer is not None and len(dataset) <= MOST_DECODED:
        ids = _column(dataset, (ID_COLUMN,))
        texts = None if ids is None else tokenizer.batch_decode(list(ids), skip_special_tokens=True)
    try:
        return Rows(labels, None if texts is None else [str(text) for text in list_of(texts, "texts")])
    except UserError as error:
        raise CannotTell(f"the dataset's columns can't be read: {error}") from error


def _by_position(column: Any) -> Any:
    """A column in whatever form its dataset gives it: a list, an array, a tensor, a pandas Series, an Arrow array."""
    is_matrix = hasattr(type(column), "ndim") and column.ndim != 1
    return array_of(column, "column") if is_matrix else list_of(column, "column")


def _column(dataset: Any, names: Sequence[str]) -> Any:
    """The first column of these names; None where there is none."""
    if isinstance(dataset, Subset):
        whole = _column(dataset.dataset, names)
        return None if whole is None else [whole[i] for i in list_of(dataset.indices, "indices")]
    if isinstance(dataset, TensorDataset):
        tensor = dataset.tensors[-1] if "labels" in names else dataset.tensors[0] if ID_COLUMN in names else None
        return None if tensor is None else torch.as_tensor(tensor).cpu().numpy()
    columns = getattr(dataset, "column_names", None)
    if columns:
        return next((_by_position(dataset[name][:]) for name in names if name in columns), None)
    if isinstance(dataset, list | tuple) and dataset and isinstance(dataset[0], Mapping):
        name = next((name for name in names if name in dataset[0]), None)
        return None if name is None else [row[name] for row in dataset]
    return None
