"""Archives of many files: the command that extracts one, and the settings that then read what it holds."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import BinaryIO, cast

from tenor.data.files.commands import ALL_TEST_ROWS, unused_split
from tenor.data.files.folders import TABLES, format_suffix, natural, split_of
from tenor.data.files.formats import FORMATS
from tenor.data.files.opening import DECOMPRESSION_ERRORS, IGNORED, data_members
from tenor.data.files.paired_files import how_to_join_archive, label_suffix
from tenor.errors import UserError

TAR = (".tar", ".tgz", ".tbz", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
MOST_MEMBERS = 500_000
"""Of an archive, that are listed; the largest of labelled texts has 100,000."""
MOST_TAR_BYTES = 2**32
"""A tar archive is read up to here for the names in it."""
MOST_HEADER_BYTES = 2**20
"""Long names have headers of their own, of a few hundred bytes."""
SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
"""What `Dataset.save_to_disk` writes next to the data."""
SHOWN = 5


def refuse_archive(path: Path) -> None:
    """Raises UserError for an archive of several data files, with the command that extracts it and the settings that
    then work. Other files, and archives that cannot be listed, pass."""
    if is_tar(path):
        extract, names = "tar -xf {} -C {}", _tar_names(path)
    elif path.suffix.lower() == ".zip":
        extract, names = "unzip {} -d {}", _zip_names(path)
    else:
        return
    # Names that lead out of the folder are not extracted there.
    are_safe = all(name.parts and not name.is_absolute() and ".." not in name.parts for name in names)
    if len(names) < (1 if is_tar(path) else 2) or not are_safe:
        return
    if is_tar(path) and (suffix := label_suffix(names)):
        raise UserError(f"{path}: {how_to_join_archive(path, names, suffix)}")
    folder = _new_folder(path)
    command = extract.format(quote(str(path)), quote(str(folder)))
    command = f"mkdir -p {quote(str(folder))} && {command}" if is_tar(path) else command
    what, then = _contents(names, folder)
    raise UserError(f"{path}: is an archive of {what}. Extract it: {command}; then {then}.")


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR)


def _zip_names(path: Path) -> list[PurePosixPath]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [PurePosixPath(info.filename) for info in data_members(archive.infolist()[:MOST_MEMBERS])]
    except (*DECOMPRESSION_ERRORS, OSError):
        return []  # Reported where the file is read.


def _tar_names(path: Path) -> list[PurePosixPath]:
    try:
        with _unpacked(path) as content, tarfile.open(fileobj=cast(BinaryIO, _Headers(content)), mode="r:") as archive:
            found = [PurePosixPath(name) for name in islice(_files_of(archive), MOST_MEMBERS)]
    except (*DECOMPRESSION_ERRORS, tarfile.TarError, OSError):
        return []  # Reported as an archive without a way further.
    return [name for name in found if not any(map(IGNORED.fullmatch, name.parts))]


def _unpacked(path: Path) -> BinaryIO:
    match path.suffix.lower():
        case ".gz" | ".tgz":
            return cast(BinaryIO, gzip.open(path))
        case ".bz2" | ".tbz":
            return cast(BinaryIO, bz2.open(path))
        case ".xz" | ".txz":
            return cast(BinaryIO, lzma.open(path))
    return path.open("rb")


class _Headers:
    """A tar archive of which only headers are read: one that claims to be long is refused, not loaded into memory."""

    def __init__(self, content: BinaryIO) -> None:
        self.tell, self.seek, self.content = content.tell, content.seek, content

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.content.read(size)


def _files_of(archive: tarfile.TarFile) -> Iterator[str]:
    for member in archive:
        if member.isfile():
            yield member.name
        if member.offset_data + member.size > MOST_TAR_BYTES:
            return


def _new_folder(path: Path) -> Path:
    """A folder for the content, next to the archive, whose name nothing else has."""
    stem = path.name
    while (end := PurePosixPath(stem).suffix.lower()) in (".zip", ".gz", ".bz2", ".xz", *TAR):
        stem = stem[: -len(end)]
    folder = path.with_name(stem)
    return path.with_name(f"{stem}_extracted") if folder.exists() else folder


def _contents(names: Sequence[PurePosixPath], folder: Path) -> tuple[str, str]:
    """What the archive holds, and the settings that read it when it is extracted to `folder`."""
    root = _root(names)
    at = folder.joinpath(*root.parts)
    inner = sorted({name.relative_to(root).parts[0] for name in names if name.parent != root}, key=natural)
    files = sorted((name.name for name in names if name.parent == root), key=natural)
    tables = [name for name in files if format_suffix(Path(name)) in FORMATS and name not in SAVED]
    what = f"{len(names):,} file{'' if len(names) == 1 else 's'}{_listed(inner or files)}"
    if (splits := _splits(inner) or _splits(tables)) is not None:
        return what, settings({split: at / _only_table(names, root / name) for split, name in splits.items()})
    below = [str(name) for name in names if name.parent != root]
    if any(name.name in SAVED for name in names) and not inner:
        return what, settings({"": at})
    if inner and all(format_suffix(Path(name)) in ("", ".txt") for name in (*below, *tables)):
        return f"{what}, which seem to be classes", settings({"": at})
    suffixes = {PurePosixPath(name).suffix for name in tables}
    if len(suffixes) == 1 and not inner and (len(tables) == 1 or suffixes != {".txt"}):
        return what, settings({"": at / tables[0] if len(tables) == 1 else at})
    shown = " or ".join(f"data.path={quote(str(at / name))}" for name in (tables or inner or files)[:SHOWN])
    return what, shown


def _splits(entries: Sequence[str]) -> dict[str, str] | None:
    """The entry of each split; None if these are not the entries of several splits."""
    named = [name for name in entries if split_of(name)]
    found = {split_of(name): name for name in named}
    return found if len(found) == len(named) > 1 else None


def _only_table(names: Sequence[PurePosixPath], entry: PurePosixPath) -> PurePosixPath:
    """The only file in a folder, if it is a table; else the entry itself. Both below the folder of the entry."""
    own = [name for name in names if name.is_relative_to(entry)]
    one = own[0] if len(own) == 1 and format_suffix(Path(own[0])) in TABLES else entry
    return one.relative_to(entry.parent)


def _root(names: Sequence[PurePosixPath]) -> PurePosixPath:
    """The folder that holds all names and more than one entry."""
    root = PurePosixPath()
    while len(tops := {name.relative_to(root).parts[0] for name in names}) == 1:
        inner = root / next(iter(tops))
        if inner in names:
            break
        root = inner
    return root


def settings(by_split: dict[str, Path]) -> str:
    """The settings that read these paths: the training split first, and the test split if there is one. A path that is
    the only one has no split."""
    train = by_split.get("train", next(iter(by_split.values())))
    path, test = quote(str(train)), by_split.get("test")
    if test is None or test == train:
        return f"data.path={path} (tenor predict: --input {path})"
    unused = unused_split(by_split).rstrip(".")
    more = f".{unused}" if unused else ""
    return f"data.path={path} data.test_path={quote(str(test))} {ALL_TEST_ROWS} (tenor predict: --input {path}){more}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f" ({', '.join(names[:SHOWN])}{more})"
