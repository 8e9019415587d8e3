"""Files that are either whole or missing: atomic writes, careful reads, digests; and where caches live."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from tenor.errors import UserError

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling to write a file or a folder to; it takes `path`'s place when the block ends without an error.

    What was at `path` before stays untouched until then, and after an error. The sibling keeps the name's suffix, for
    writers that tell a format by it. Missing parent folders are made. Replacing a file is atomic; a folder that
    replaces a folder leaves a moment with neither, and never a mixture.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = _sibling(target)
    try:
        yield temporary
        _flush_tree(temporary)
        _take_place(temporary, target)
        flush_folder(target.parent)
    finally:
        _remove(temporary)


def make_folder(path: str | Path) -> None:
    """Make a folder and its missing parents, such that a power cut does not take them away again."""
    missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
    Path(path).mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        flush_folder(folder.parent)


def flush_folder(path: str | Path) -> None:
    """Have the system write a folder's list of names to the disk."""
    if os.name != "nt":  # Windows opens no folders, and needs no flush of them.
        _flush(Path(path))


def discard_folder(path: str | Path) -> None:
    """Delete a folder. A deletion that is cut short leaves what `remove_leftovers` takes, never half of the folder."""
    aside = _sibling(Path(path))
    os.replace(path, aside)
    shutil.rmtree(aside)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with the line ends it has, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON in its own key order, atomically.

    Raises ValueError for NaN and infinities, which JSON does not have, and TypeError for what is not plain data.
    """
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises UserError, with line and column where they are known, for a file that is missing, truncated or not JSON.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a JSON file.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; expected JSON text. Restore the file or write it anew."
        ) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        found = "ends too early" if error.pos >= len(text.rstrip()) else f"is not JSON ({error.msg})"
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: the file {found}. Restore it or write it anew."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON that can be read ({error}). Restore it or write it anew.") from error


def append_line(path: str | Path, line: str) -> None:
    """Append one line in a single write, and have it on the disk. A half line that a killed process left behind is
    ended first."""
    if "\n" in line:
        raise ValueError("append_line takes one line, without a line end")
    with open(path, "ab+") as file:
        unended = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write((b"\n" if unended else b"") + line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: str | Path) -> str:
    """SHA-256 over the sorted relative names and the digests of all files below `path`; temporaries are left out.

    Raises NotADirectoryError where `path` is no folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    names = sorted(file.relative_to(folder).as_posix() for file in _files_below(folder))
    digest = hashlib.sha256()
    for name in names:
        digest.update(os.fsencode(name) + b"\0" + sha256_file(folder / name).encode() + b"\n")
    return digest.hexdigest()


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporaries that killed processes left below `folder`, and return them.

    Call it only where no other process writes.
    """
    leftovers = []
    for root, folders, files in os.walk(folder):
        found = [name for name in (*folders, *files) if name.startswith(TEMPORARY_PREFIX)]
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
        leftovers += [Path(root, name) for name in found]
    for leftover in leftovers:
        _remove(leftover)
    return leftovers


def remove_whole(folder: str | Path) -> None:
    """Remove a folder where there is one. It loses its name first, so that no half of it is ever found under it."""
    path = Path(folder)
    if path.exists():
        aside = _sibling(path)
        os.replace(path, aside)
        _remove(aside)


def _sibling(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


def _take_place(temporary: Path, target: Path) -> None:
    # A rename cannot replace a folder that holds files, so the old one steps aside first.
    if target.is_dir() and not target.is_symlink() and temporary.is_dir():
        aside = _sibling(target)
        os.replace(target, aside)
        os.replace(temporary, target)
        _remove(aside)
    else:
        os.replace(temporary, target)


def _flush_tree(path: Path) -> None:
    if not path.is_dir():
        _flush(path)
        return
    for root, _, files in os.walk(path):
        for name in files:
            _flush(Path(root, name))
        flush_folder(Path(root))


def _flush(path: Path) -> None:
    # Windows flushes only what was opened for writing; elsewhere a file may be read-only.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
        yield from (Path(root, name) for name in files if not name.startswith(TEMPORARY_PREFIX))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def cache_folder(kind: str) -> Path:
    """`$TENOR_CACHE/kind`, else `~/.cache/tenor/kind` (`$XDG_CACHE_HOME` is honoured); created where missing."""
    base = os.environ.get("TENOR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenor"
    folder = Path(base) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_file(kind: str, name: str, write: Callable[[Path], None]) -> Path:
    """The cache's file `name`, as `write` made it now or earlier.

    Its SHA-256 lies beside it and is verified at every call: a file that is not, byte for byte, what was written is
    made anew. Processes that ask at once wait for the one that writes; the system frees the lock of one that dies.
    """
    path = cache_folder(kind) / name
    seal = path.with_name(f"{name}.sha256")
    with FileLock(path.with_suffix(".lock")):
        if not _is_whole(path, seal):
            with atomic_path(path) as temporary:
                write(temporary)
                digest = sha256_file(temporary)
            write_text(seal, f"{digest}\n")
    return path


def _is_whole(path: Path, seal: Path) -> bool:
    # The seal is written last, so that what a killed process leaves has none, or one that differs.
    return path.is_file() and seal.is_file() and seal.read_bytes() == f"{sha256_file(path)}\n".encode()
