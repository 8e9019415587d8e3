"""Datasets of the Hugging Face hub, and local folders in its layout, read with the `datasets` library."""

from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tenor.config.schema import Data
from tenor.data.dataset import SourceData
from tenor.data.sources.labels import label_splits
from tenor.data.sources.rows import SourceRows, columns_of, nearest, require_columns
from tenor.errors import UserError
from tenor.runs.missing import Missing

if TYPE_CHECKING:
    import datasets


def hub_source(data: Data) -> SourceData:
    """`data.train_split` and `data.test_split` of the dataset `data.hub_name`, a hub id or a local folder.

    A label column of type `ClassLabel` names the classes. Raises UserError if the dataset cannot be loaded, lacks
    the splits or columns, or has an unlabelled split.
    """
    if data.hub_name is None:
        raise UserError("data.source=hub requires data.hub_name, such as stanfordnlp/imdb.")
    splits = _load(data.hub_name, data.hub_config)
    train = _split_rows(splits, data.train_split, "data.train_split", data)
    if data.test_split is None:
        test: SourceRows | Missing = Missing("data.test_split is null")
    else:
        test = _split_rows(splits, data.test_split, "data.test_split", data)
    return label_splits(train, test, data)


def sst2(data: Data) -> SourceData:
    """SST-2 (Socher et al. 2013; GLUE). Its labelled `validation` split serves as the test split, because the labels of
    its `test` split are hidden. `data.hub_name` may name a local copy. Raises UserError as `hub_source` does."""
    changes: dict[str, str] = {"hub_name": data.hub_name or "stanfordnlp/sst2"}
    if data.text_column == "text":
        changes["text_column"] = "sentence"
    if data.test_split == "test":
        changes["test_split"] = "validation"
    return hub_source(data.model_copy(update=changes))


def _load(name: str, config: str | None) -> "datasets.DatasetDict":
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "Datasets of the hub require the package datasets. Install it: pip install 'tenor[hub]'"
        ) from error
    local = Path(expanduser(name))
    try:
        if local.is_dir():
            with _offline():
                return datasets.load_dataset(str(local), config)
        return datasets.load_dataset(name, config)
    # The library raises errors of a dozen packages here (network, hub, file formats); none is a bug in Tenor.
    except Exception as error:
        raise UserError(
            f"The dataset {name!r}{f', configuration {config!r},' if config else ''} could not be loaded: "
            f"{type(error).__name__}: {error}\nCheck data.hub_name, data.hub_config and the connection. Without the "
            "hub: data.source=imdb data.path=FOLDER reads IMDb from disk, data.source=file reads your own file, "
            "and data.source=embedded needs no file and no network."
        ) from error


@contextmanager
def _offline() -> Iterator[None]:
    """Keeps `datasets` off the network. It reads HF_DATASETS_OFFLINE once, when it is imported."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _split_rows(splits: "datasets.DatasetDict", split: str, setting: str, data: Data) -> SourceRows:
    """The required columns of a split, with its class names if the label column is a `ClassLabel`."""
    name = str(data.hub_name)
    if split not in splits:
        raise UserError(
            f"{name}: no split {split!r}{nearest(split, splits)}. Available splits: {', '.join(splits)}. "
            f"Set {setting} to one of them" + (", or to null." if setting == "data.test_split" else ".")
        )
    dataset, columns, where = splits[split], columns_of(data), f"{name}, split {split}"
    require_columns(dataset.column_names, columns, where)
    table = dataset.select_columns(list(columns.roles())).with_format("arrow")[:]
    names = getattr(dataset.features[data.label_column], "names", None)
    if "-1" not in data.relabel:
        _require_labels(table[data.label_column], names is not None, where, setting)
    return SourceRows(table, where, f"{name}/{split}", class_names=None if names is None else tuple(names))


def _require_labels(labels: pa.ChunkedArray, indices: bool, where: str, setting: str) -> None:
    """Raises UserError for rows with the label -1, if labels are indices of names or all are -1: it may be a class."""
    if not pa.types.is_integer(labels.type):
        return
    hidden = pc.sum(pc.equal(labels, -1)).as_py() or 0
    if hidden and (indices or hidden == len(labels)):
        raise UserError(
            f"{where}: {hidden:,} of {len(labels):,} rows have the label -1, which marks unlabelled rows. Set "
            f"{setting} to a labelled split"
            + (", or to null" if setting == "data.test_split" else "")
            + ", or leave these rows out: 'data.relabel={\"-1\": null}'."
        )
