"""The IMDb Large Movie Review Dataset v1.0 (Maas et al. 2011) in its official split."""

import importlib.util
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os.path import expanduser
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.config.schema import Data
from tenor.data.dataset import SourceData
from tenor.data.sources.label_classes import Classes
from tenor.data.sources.labels import label_rows, rename_classes
from tenor.data.sources.row_files import read_parquet_files
from tenor.data.sources.rows import Columns, SourceRows
from tenor.errors import UserError
from tenor.runs.files import cache_folder, sha256_file

CLASSES = ("neg", "pos")
SPLITS = ("train", "test")
REVIEW = re.compile(r"(?P<number>[0-9]{1,9})_(?P<rating>[0-9]{1,2})\.txt")
REVIEW_MEMBER = re.compile(rf"aclImdb/(?P<split>train|test)/(?P<class>neg|pos)/(?P<file>{REVIEW.pattern})")
URLS_MEMBER = re.compile(r"aclImdb/(?P<split>train|test)/urls_(?P<class>neg|pos)\.txt")
TITLE = re.compile(r"/title/(tt[0-9]+)")
MAX_FILE_BYTES = 2**20  # the longest official review has 14 kB, the longest list of addresses 0.6 MB
MAX_MEMBERS = 200_000  # the official archive has about 100,000
MAX_TOTAL_BYTES = 2**31  # its members hold about 0.5 GB together


@dataclass
class _Files:
    """The files read so far, by (split, class)."""

    reviews: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    urls: dict[tuple[str, str], bytes] = field(default_factory=dict)


def read_folder(folder: Path) -> dict[str, SourceRows]:
    """`train` and `test` of an extracted `aclImdb/`: columns text, label, id, rating and, if the lists of URLs exist,
    movie. Negative reviews come first; each class is in the order of the numbers in the file names.

    Raises UserError for a missing or empty class folder and for a file that does not belong to the dataset.
    """
    files = _Files()
    for split in SPLITS:
        for name in CLASSES:
            files.reviews[split, name] = _reviews_in(folder / split / name)
            urls = folder / split / f"urls_{name}.txt"
            if urls.is_file():
                files.urls[split, name] = _bounded(urls)
    return _rows(files, str(folder))


def read_archive(archive: Path, sha256: str) -> dict[str, SourceRows]:
    """The same from the official archive, without extracting it to disk.

    Raises UserError if the digest differs from the expected one, and for an archive with links, devices, paths
    outside of it, duplicate names, or files that are too large or too many.
    """
    digest = sha256_file(archive)
    if digest != sha256:
        raise UserError(
            f"{archive}: SHA-256 is {digest}, expected {sha256}, that of the official aclImdb_v1.tar.gz. The file may "
            "be incomplete or another one; download it again."
        )
    try:
        with tarfile.open(archive, "r|gz") as tar:
            files = _read_members(archive, tar)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: is not a valid tar.gz archive: {error}. Download it again.") from error
    return _rows(files, str(archive))


def _reviews_in(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Extract the whole archive aclImdb_v1.tar.gz again.")
    reviews = {}
    for file in folder.iterdir():
        if file.name.startswith("."):  # files that file managers create
            continue
        if not REVIEW.fullmatch(file.name) or not file.is_file():
            raise UserError(f"{file}: is not a review of the dataset, expected NUMBER_RATING.txt. Move it elsewhere.")
        reviews[file.name] = _bounded(file)
    return reviews


def _bounded(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}.") from error
    if len(content) > MAX_FILE_BYTES:
        raise UserError(
            f"{file}: is larger than {MAX_FILE_BYTES:,} bytes, unlike any file of the dataset. Extract the archive "
            "again."
        )
    return content


def _read_members(archive: Path, tar: tarfile.TarFile) -> _Files:
    files = _Files()
    seen: set[str] = set()
    total = 0
    for member in tar:
        total += member.size
        _require_harmless(archive, member, seen, total)
        seen.add(member.name)
        review, urls = REVIEW_MEMBER.fullmatch(member.name), URLS_MEMBER.fullmatch(member.name)
        if member.isdir() or not (review or urls):
            continue
        stream: IO[bytes] | None = tar.extractfile(member)
        assert stream is not None  # only links and devices have none
        content = stream.read()
        if review:
            files.reviews.setdefault((review["split"], review["class"]), {})[review["file"]] = content
        elif urls:
            files.urls[urls["split"], urls["class"]] = content
    return files


def _require_harmless(archive: Path, member: tarfile.TarInfo, seen: set[str], total: int) -> None:
    name = member.name
    problem = None
    if not (member.isreg() or member.isdir()) or member.issparse():
        problem = "is neither a regular file nor a folder"
    elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        problem = "has a path outside the archive"
    elif name in seen and not member.isdir():
        problem = "occurs twice"
    elif member.size > MAX_FILE_BYTES and (REVIEW_MEMBER.fullmatch(name) or URLS_MEMBER.fullmatch(name)):
        problem = f"is larger than {MAX_FILE_BYTES:,} bytes"
    elif total > MAX_TOTAL_BYTES:
        problem = f"makes the archive larger than {MAX_TOTAL_BYTES:,} bytes"
    elif len(seen) >= MAX_MEMBERS:
        problem = f"exceeds the limit of {MAX_MEMBERS:,} members"
    if problem:
        raise UserError(f"{archive}: member {name[:200]!r} {problem}, so the archive is not read. Download it again.")


def _rows(files: _Files, where: str) -> dict[str, SourceRows]:
    return {split: _split_rows(files, split, where) for split in SPLITS}


def _split_rows(files: _Files, split: str, where: str) -> SourceRows:
    rows: list[tuple[str, int, str, int]] = []
    movies: list[str] = []
    for label, name in enumerate(CLASSES):
        reviews = files.reviews.get((split, name), {})
        if not reviews:
            raise UserError(f"{where}: no review in {split}/{name}. Download and extract the archive again.")
        ordered = sorted(reviews, key=_number_and_rating)
        rows.extend(_row(reviews, file, label, f"{split}/{name}", where) for file in ordered)
        if (split, name) in files.urls:
            movies.extend(_movies(files.urls[split, name], ordered, f"{where}: {split}/urls_{name}.txt"))
    texts, labels, ids, ratings = zip(*rows, strict=True)
    columns: Mapping[str, Iterable[object]] = {"text": texts, "label": labels, "id": ids, "rating": ratings}
    if len(movies) == len(rows):
        columns = {**columns, "movie": movies}
    table = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    return SourceRows(table, f"{where} ({split})", f"aclImdb/{split}", place=lambda row: ids[row])


def _number_and_rating(file: str) -> tuple[int, int]:
    number, rating = file.removesuffix(".txt").split("_")
    return int(number), int(rating)


def _row(reviews: Mapping[str, bytes], file: str, label: int, folder: str, where: str) -> tuple[str, int, str, int]:
    name = f"{folder}/{file.removesuffix('.txt')}"
    try:
        text = reviews[file].decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: {name}.txt is not UTF-8 (byte {error.start:,}). Extract the archive again."
        ) from error
    return text, label, name, _number_and_rating(file)[1]


def _movies(urls: bytes, files: list[str], where: str) -> list[str]:
    """The title id of each review: line N of the list, counted from 0, belongs to review number N."""
    lines = urls.decode(errors="replace").splitlines()
    movies = []
    for file in files:
        number = _number_and_rating(file)[0]
        title = TITLE.search(lines[number]) if number < len(lines) else None
        if title is None:
            raise UserError(f"{where} has no title id on line {number + 1:,} for {file}. Extract the archive again.")
        movies.append(title[1])
    return movies


CLASS_NAMES = ("negative", "positive")
ARCHIVE_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
ARCHIVE_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"


def imdb_source(data: Data, archive_sha256: str = ARCHIVE_SHA256) -> SourceData:
    """The reviews at `data.path`: a folder of Parquet files, an extracted `aclImdb/`, or the official archive.

    If `data.path` is null, the archive is downloaded, verified and kept in the cache. Ids are the official file names,
    such as `train/neg/0_3`, if the files contain them; `rating` and `movie` can serve as `data.group_column`.
    Raises UserError for files that cannot be read or are not as expected.
    """
    path = _downloaded() if data.path is None else Path(expanduser(data.path))
    if path.is_file():
        splits = read_archive(path, archive_sha256)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder. {_expected()}")
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


def _columns(rows: SourceRows, data: Data) -> Columns:
    own_id = "id" if "id" in rows.table.column_names else None
    return Columns(data.text_column, data.label_column, data.id_column or own_id, data.group_column)


def _extracted_folder(path: Path) -> Path | None:
    return next((folder for folder in (path, path / "aclImdb") if (folder / "train" / "neg").is_dir()), None)


def _parquet_rows(folder: Path, split: str, data: Data) -> SourceRows:
    for place in (folder, folder / "data", folder / "plain_text"):
        files = sorted(place.glob(f"{split}-*.parquet"))
        if files:
            break
    else:
        raise UserError(f"{folder}: no {split}-*.parquet in it, in data/ or in plain_text/. {_expected()}")
    columns = Columns(data.text_column, data.label_column, data.id_column, data.group_column)
    if columns.id is None and _has_column(files[0], "id"):
        columns = Columns(columns.text, columns.label, "id", columns.group)
    return read_parquet_files(files, columns, f"{split}-*.parquet")


def _has_column(file: Path, name: str) -> bool:
    try:
        return name in pq.read_schema(file).names
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: is not a valid Parquet file: {error}. It may be incomplete; write it again."
        ) from error


def _downloaded() -> Path:
    """The official archive, from the cache or the network."""
    missing = [package for package in ("pooch", "tqdm") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"data.source=imdb without data.path downloads the archive, which requires {' and '.join(missing)}. "
            "Install the extra: pip install 'tenor[download]'; or set data.path."
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
            f"{ARCHIVE_URL} could not be downloaded: {error}. Download it in another way and set "
            "data.path=aclImdb_v1.tar.gz; or train on the embedded reviews: data.source=embedded."
        ) from error
    return Path(path)
