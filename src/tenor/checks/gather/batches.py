"""Evidence from datasets and loaders; random states are restored bit by bit."""

import random
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, Subset, TensorDataset

from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.labels_and_logits import LABEL_NAMES
from tenor.data.sequences import array_of, list_of
from tenor.errors import UserError

_RANDOM_STATES = threading.RLock()


def batch_evidence(loader: Any, n_classes: int, batches: int = 8) -> BatchEvidence:
    """The first batches of a loader, which gives dictionaries or tuples of tensors; random states are restored.

    A loader may have an attribute `epoch_labels`: the labels of its whole epoch in order, shape (rows,). Otherwise the
    labels of the first batches represent the epoch.

    Raises:
        CannotTell: a loader or dataset that can be read only once, no batch, or batches without labels.
    """
    first, dataset = _first(loader, batches), getattr(loader, "dataset", None)
    labels, ids, masks = zip(*(_parts(batch) for batch in first), strict=True)
    sized = dataset is not None and not isinstance(dataset, IterableDataset)
    epoch_labels = getattr(loader, "epoch_labels", None)
    return BatchEvidence(
        labels=labels,
        n_classes=n_classes,
        epoch_labels=_joined(labels) if epoch_labels is None else epoch_labels,
        input_ids=None if any(part is None for part in ids) else ids,
        attention_mask=None if any(part is None for part in masks) else masks,
        rows_per_epoch=_rows_per_epoch(loader) if sized else None,
        rows_in_split=_rows_in_split(loader, dataset) if sized else None,
        row_order=row_order(loader) if sized else None,
        split_labels=_labels_of_split(dataset) if sized else None,
        with_replacement=_of_a_sampler(loader, "replacement"),
        weights_given=_weights_given(loader),
    )


def loader_batches(loader: Any, batches: int = 2) -> list[dict[str, torch.Tensor]]:
    """The first batches as dictionaries of tensors with `labels`, as `probe` takes them; random states are restored.

    Raises:
        CannotTell: a loader or dataset that can be read only once, no batch, or batches without labels.
    """
    return [_as_dictionary(batch) for batch in _first(loader, batches)]


MOST_DRAWN = 200_000
"""Row numbers read from a sampler, in some hundredths of a second."""


def row_order(loader: Any, limit: int = MOST_DRAWN) -> np.ndarray | None:
    """The row numbers that a loader's sampler draws in one epoch, the first `limit` of them, shape (rows,); None where
    it has no sampler of row numbers. No row is read; random states and the sampler's attributes are restored."""
    sampler = getattr(loader, "batch_sampler", None)
    sampler = getattr(loader, "sampler", None) if sampler is None else sampler
    if sampler is None or isinstance(sampler, Iterator):
        return None
    drawn: list[int] = []
    with random_states_kept(loader), _attributes_kept(samplers_of(loader)):
        for item in sampler:
            rows = item if isinstance(item, Sequence) else (item,)
            if not all(isinstance(row, int | np.integer) for row in rows):
                return None
            drawn.extend(int(row) for row in rows)
            if len(drawn) >= limit:
                break
    return np.asarray(drawn[:limit], dtype=np.int64) if drawn else None


def _rows_in_split(loader: Any, dataset: Any) -> int | None:
    """Rows of the dataset; of a `SubsetRandomSampler`, its own."""
    subset = _of_a_sampler(loader, "indices")
    return len(subset) if isinstance(subset, Sized) else _length(dataset)


def skipped_batches(loader: Any) -> int | None:
    """Batches at the start of the epoch that the loader leaves out, as `accelerate` marks it; None: not known."""
    if hasattr(loader, "load_state_dict") and type(loader).__module__.startswith("torchdata"):
        return None  # Its position is known only to its workers.
    return max(int(getattr(one, "skip_batches", 0) or 0) for one in (loader, *samplers_of(loader)))


def _labels_of_split(dataset: Any) -> np.ndarray | None:
    try:
        labels = rows_of(dataset).labels
    except CannotTell:
        return None
    return labels if len(labels) == _length(dataset) and labels.dtype.kind in "iu" else None


def _weights_given(loader: Any) -> int | None:
    weights = _of_a_sampler(loader, "weights")
    return None if weights is None else _length(weights)


def _of_a_sampler(loader: Any, name: str) -> Any:
    """An attribute of the loader's samplers, the outermost that has it; None where none has."""
    return next((getattr(one, name) for one in samplers_of(loader) if getattr(one, name, None) is not None), None)


def samplers_of(loader: Any) -> list[Any]:
    """The loader's batch sampler and sampler, and those inside them."""
    found: list[Any] = []
    waiting = [getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None)]
    while waiting:
        one = waiting.pop(0)
        if one is not None and not any(one is other for other in found):
            found.append(one)
            waiting += [getattr(one, "batch_sampler", None), getattr(one, "sampler", None)]
    return found


@contextmanager
def _attributes_kept(owners: Iterable[Any]) -> Iterator[None]:
    """Restore the attributes of these objects after the block, such as a sampler's number of the epoch."""
    kept = [(vars(owner), dict(vars(owner))) for owner in owners if hasattr(owner, "__dict__")]
    try:
        yield
    finally:
        for attributes, values in kept:
            attributes.clear()
            attributes.update(values)


@contextmanager
def _gradient_state_kept() -> Iterator[None]:
    """Restore what `accelerate` notes about the loaders that are being read: a loader that is left early stays noted
    as active."""
    state = getattr(sys.modules.get("accelerate.state"), "GradientState", None)
    shared: dict[str, Any] = getattr(state, "_shared_state", {})
    kept = {name: list(value) if isinstance(value, list) else value for name, value in shared.items()}
    try:
        yield
    finally:
        if kept:
            shared.clear()
            shared.update(kept)


def largest_label(batches: Iterable[Mapping[str, Any]]) -> int:
    """The largest class index among the labels of these batches; -1 if they are no class indices."""
    labels = [_array(batch["labels"]) for batch in batches]
    return max((int(part.max()) for part in labels if part.size and part.dtype.kind in "iu"), default=-1)


@contextmanager
def random_states_kept(*holders: Any) -> Iterator[None]:
    """Restore every random state after the block: Python's, NumPy's, PyTorch's on each device, and the generators of
    the loaders in `holders`.

    Only one thread runs such a block at a time, because random states are shared by all threads of the process.
    """
    with _RANDOM_STATES:
        generators = [g for holder in holders for g in _generators(holder)]
        states = [generator.get_state() for generator in generators]
        python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)
            if mps is not None:
                torch.mps.set_rng_state(mps)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _first(loader: Any, batches: int) -> list[Any]:
    """The first batches of a loader that can be read more than once."""
    for source, name in ((loader, "loader"), (getattr(loader, "dataset", None), "dataset")):
        if isinstance(source, Iterator):
            raise CannotTell(f"the {name} can be read only once: reading its batches would take them from training")
    if not isinstance(loader, Iterable):
        raise CannotTell(f"a {type(loader).__name__} cannot be iterated over; give a DataLoader or a list of batches")
    with random_states_kept(loader), _attributes_kept([loader, *samplers_of(loader)]), _gradient_state_kept():
        first = list(islice(iter(loader), batches))
    if not first:
        raise CannotTell("the loader is empty: it gives no batch")
    return first


def _as_dictionary(batch: Any) -> dict[str, Any]:
    """A batch as a dictionary. A tuple ends with the labels; the parts before are ids and mask, or features."""
    if isinstance(batch, Mapping):
        name = next((name for name in LABEL_NAMES if name in batch), None)
        if name is None:
            raise CannotTell(f"the batches have no labels under {', '.join(LABEL_NAMES)}")
        return {**{k: v for k, v in batch.items() if k != name}, "labels": batch[name]}
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) < 2:
        raise CannotTell(f"batches of {type(batch).__name__} are neither dictionaries nor tuples with labels")
    first, labels = batch[0], batch[-1]
    if isinstance(first, Mapping):
        return {**first, "labels": labels}
    if not _is_token_ids(first):
        return {"features": first, "labels": labels}
    mask = {"attention_mask": batch[1]} if len(batch) > 2 and _is_token_ids(batch[1]) else {}
    return {"input_ids": first, **mask, "labels": labels}


def _joined(labels: Sequence[np.ndarray]) -> np.ndarray | None:
    """The labels of all batches; None where their shapes differ."""
    if len({part.shape[1:] for part in labels}) > 1:
        return None
    return np.concatenate([part.reshape(-1) if part.ndim < 2 else part for part in labels])


def _parts(batch: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Labels, token ids and mask of a batch."""
    named = _as_dictionary(batch)
    labels, ids, mask = (named.get(name) for name in ("labels", "input_ids", "attention_mask"))
    return _array(labels), None if ids is None else _array(ids), None if mask is None else _array(mask)


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and not value.is_floating_point()


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:
        return None


def _rows_per_epoch(loader: Any) -> int | None:
    """Rows in one epoch: the length of the sampler, without an incomplete last batch that is dropped.

    None for a sampler that gives this process its share of the rows: the other processes read the rest.
    """
    sampler = getattr(loader, "sampler", None)
    rows, size = _length(sampler), getattr(loader, "batch_size", None)
    if rows is None or size is None or (getattr(sampler, "num_replicas", None) or 1) > 1:
        return None
    return rows // size * size if getattr(loader, "drop_last", False) else rows


def _generators(holder: Any) -> list[torch.Generator]:
    """The generators of a loader and its samplers."""
    generators = [getattr(owner, "generator", None) for owner in (holder, *samplers_of(holder))]
    return list({id(g): g for g in generators if isinstance(g, torch.Generator)}.values())


LABEL_COLUMNS = ("labels", "label", "target", "targets")
TEXT_COLUMNS = ("text", "sentence", "review", "content")
ID_COLUMN = "input_ids"
MOST_DECODED = 50_000
"""Texts are decoded from token ids for at most this many rows, which takes some seconds."""


def data_evidence(
    train: Any, validation: Any, n_classes: int, class_names: tuple[str, ...] | None, tokenizer: Any = None
) -> DataEvidence:
    """Labels, and texts where they are stored or can be decoded, of datasets that can be read by column.

    These are the hub's datasets, lists of dictionaries, `TensorDataset`s of ids and labels, and `Subset`s of them.

    Raises:
        CannotTell: any other dataset.
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
    """Labels and texts of one dataset.

    Raises:
        CannotTell: a dataset without a column of labels, or with columns that cannot be read.
    """
    labels = _column(dataset, LABEL_COLUMNS)
    if labels is None:
        raise CannotTell(
            f"the dataset has no column {' or '.join(LABEL_COLUMNS)}; its collated batches are checked instead"
        )
    texts = _column(dataset, TEXT_COLUMNS)
    if texts is None and tokenizer is not None and len(dataset) <= MOST_DECODED:
        ids = _column(dataset, (ID_COLUMN,))
        texts = None if ids is None else tokenizer.batch_decode(list(ids), skip_special_tokens=True)
    try:
        return Rows(labels, None if texts is None else [str(text) for text in list_of(texts, "texts")])
    except UserError as error:
        raise CannotTell(f"the dataset's columns cannot be read: {error}") from error


def _by_position(column: Any) -> Any:
    """A column as a list or an array; datasets give lists, arrays, tensors, pandas Series and Arrow arrays."""
    is_matrix = hasattr(type(column), "ndim") and column.ndim != 1
    return array_of(column, "column") if is_matrix else list_of(column, "column")


def _column(dataset: Any, names: Sequence[str]) -> Any:
    """The first column with one of these names; None where the dataset has none."""
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
    if isinstance(dataset, list | tuple) and dataset and all(_is_pair(row) for row in dataset[:PAIRS_LOOKED_AT]):
        position = 1 if "labels" in names else 0 if "text" in names else None
        return None if position is None else [row[position] for row in dataset]
    return None


def _is_pair(row: Any) -> bool:
    """Whether a row is (text, class)."""
    if not isinstance(row, tuple | list) or len(row) != 2:
        return False
    is_class = isinstance(row[1], int | np.integer) and not isinstance(row[1], bool)
    return isinstance(row[0], str) and is_class


PAIRS_LOOKED_AT = 100
"""Rows of a list that show whether it consists of pairs."""
