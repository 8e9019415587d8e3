"""The IMDb Large Movie Review Dataset v1.0 (Maas et al. 2011) in its official split of 25,000 and 25,000 reviews."""

import importlib.util
from os.path import expanduser
from pathlib import Path

import pyarrow.parquet as pq

from tenor.config.schema import Data
from tenor.data.dataset import SourceData
from tenor.data.sources.aclimdb import read_archive, read_folder
from tenor.data.sources.files import read_parquet_files
from tenor.data.sources.labels import Classes, label_rows, rename_classes
from tenor.data.sources.rows import Columns, Rows
from tenor.errors import UserError
from tenor.runs.cache import cache_folder

CLASS_NAMES = ("negative", "positive")
ARCHIVE_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
ARCHIVE_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"


def imdb_source(data: Data, archive_sha256: str = ARCHIVE_SHA256) -> SourceData:
    """The reviews at `data.path`: a folder of Parquet files, an extracted `aclImdb/`, or the official archive.

    Where `data.path` is null the archive is downloaded, verified and kept. Ids are the official file names, such as
    `train/neg/0_3`, where the files tell them; `rating` and `movie` can serve as `data.group_column`.
    Raises UserError for what cannot be read, or is not what it should be.
    """
    path = _downloaded() if data.path is None else Path(expanduser(data.path))
    if path.is_file():
        splits = read_archive(path, archive_sha256)
    elif not path.exists():
        raise UserError(f"{path}: there is no such file or folder. {_expected()}")
    elif extracted := _extracted_folder(path):
        splits = read_folder(extracted)
    else:
        splits = {split: _parquet_rows(path, split, data) for split in ("train", "test")}
    labelled = {
        split: label_rows(rows, _columns(rows, data), Classes(CLASS_NAMES, "index")) for split, rows in splits.items()
    }
    renamed = {split: rename_classes(rows, data.class_names) for split, rows in labelled.items()}
    return SourceData(renamed["train"], renamed["test"])


def _expected() -> str:
    return (
        "Expected data.path to be a folder with train-*.parquet and test-*.parquet, an extracted aclImdb folder, or "
        "the archive aclImdb_v1.tar.gz."
    )


def _columns(rows: Rows, data: Data) -> Columns:
    own_id = "id" if "id" in rows.table.column_names else None
    return Columns(data.text_column, data.label_column, data.id_column or own_id, data.group_column)


def _extracted_folder(path: Path) -> Path | None:
    return next((folder for folder in (path, path / "aclImdb") if (folder / "train" / "neg").is_dir()), None)


def _parquet_rows(folder: Path, split: str, data: Data) -> Rows:
    for place in (folder, folder / "data", folder / "plain_text"):
        files = sorted(place.glob(f"{split}-*.parquet"))
        if files:
            break
    else:
        raise UserError(f"{folder}: there is no {split}-*.parquet in it, in data/ or in plain_text/. {_expected()}")
    columns = Columns(data.text_column, data.label_column, data.id_column, data.group_column)
    if columns.id is None and _has_column(files[0], "id"):
        columns = Columns(columns.text, columns.label, "id", columns.group)
    return read_parquet_files(files, columns, f"{split}-*.parquet")


def _has_column(file: Path, name: str) -> bool:
    try:
        return name in pq.read_schema(file).names
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: is not a sound Parquet file: {error}. It may be cut off; write it again.") from error


def _downloaded() -> Path:
    """The official archive, from the cache or the network."""
    missing = [package for package in ("pooch", "tqdm") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"data.source 'imdb' without data.path downloads the archive, which needs {' and '.join(missing)}. "
            "Install the extra: pip install 'tenor[download]'; or give data.path."
        )
    import pooch

    try:
        path = pooch.retrieve(
            ARCHIVE_URL,
            known_hash=f"sha256:{ARCHIVE_SHA256}",
            fname="aclImdb_v1.tar.gz",
            path=cache_folder("downloads"),
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=60),
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{ARCHIVE_URL} could not be downloaded: {error}. Download it in another way and give its place: "
            "data.path=aclImdb_v1.tar.gz; or train on the embedded reviews: data.source=embedded."
        ) from error
    return Path(path)
