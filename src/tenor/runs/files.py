"""Reading and writing files: atomic and durable writes, JSON and its pydantic models, digests, and the cache folder."""

import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tenor.errors import UserError

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling path to write a file or a folder to; it replaces `path` if the block ends without an error.

    Until then, and after an error, whatever is at `path` stays unchanged. The sibling keeps the name's suffix, for
    writers that derive the format from it. Missing parent folders are created. Replacing a file is atomic; when a
    folder replaces a folder, `path` is missing for a moment, but it never contains a mixture of both.
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


def remove_temporaries_of(path: str | Path) -> None:
    """Delete what killed writers of `path` left next to it; nobody else may be writing it."""
    target = Path(path)
    for stale in target.parent.glob(f"{TEMPORARY_PREFIX}*-{glob.escape(target.name)}"):
        if len(stale.name) == len(_sibling(target).name):
            _remove(stale)


def make_folder(path: str | Path) -> None:
    """Create a folder and its missing parents, and flush them to the disk, so that they survive a power cut."""
    missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
    Path(path).mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        flush_folder(folder.parent)


def flush_folder(path: str | Path) -> None:
    """Flush a folder's entries (the names in it) to the disk."""
    if os.name != "nt":  # Windows cannot open folders, and does not need to flush them.
        _flush(Path(path))


def discard_folder(path: str | Path) -> None:
    """Delete a folder. It is renamed first, so an interrupted deletion leaves a temporary for `remove_leftovers`."""
    aside = _sibling(Path(path))
    os.replace(path, aside)
    shutil.rmtree(aside)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically and with its line endings unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON, atomically; keys keep their order.

    Raises ValueError for NaN and infinities, which JSON does not have, and TypeError for values JSON cannot represent.
    """
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises UserError, with line and column if known, for a file that is missing, incomplete or not JSON.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected the path of a JSON file.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; expected JSON text. Restore the file or write it again."
        ) from error
    return parse_json(text, path, parse_constant=_refuse_constant)


def parse_json(
    text: str,
    path: str | Path,
    parse_int: Callable[[str], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """The value of JSON text from `path`; the hooks are those of `json.loads`.

    Raises:
        UserError: not JSON, with line and column; or a hook raised ValueError.
    """
    try:
        return json.loads(text, parse_int=parse_int, parse_constant=parse_constant)
    except json.JSONDecodeError as error:
        problem = "ends too early" if error.pos >= len(text.rstrip()) else f"is not valid JSON ({error.msg})"
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: the file {problem}. Restore it or write it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: the JSON cannot be read ({error}). Restore it or write it again.") from error


def append_line(path: str | Path, line: str) -> None:
    """Append one line in a single write and flush it to the disk. An unfinished last line, which a killed process may
    leave, is ended first."""
    if "\n" in line:
        raise ValueError("append_line expects one line without a newline")
    with open(path, "ab+") as file:
        unfinished = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write((b"\n" if unfinished else b"") + line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: str | Path) -> str:
    """SHA-256 over the sorted relative names and the digests of all files below `path`, except temporaries.

    Raises NotADirectoryError if `path` is not a folder.
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

    Call it only while no other process writes there.
    """
    leftovers = []
    for root, folders, files in os.walk(folder):
        matches = [name for name in (*folders, *files) if name.startswith(TEMPORARY_PREFIX)]
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
        leftovers += [Path(root, name) for name in matches]
    for leftover in leftovers:
        _remove(leftover)
    return leftovers


def remove_whole(folder: str | Path) -> None:
    """Remove a folder if it exists. It is renamed first, so that no partly deleted folder remains at its path."""
    path = Path(folder)
    if path.exists():
        aside = _sibling(path)
        os.replace(path, aside)
        _remove(aside)


def _sibling(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


def _take_place(temporary: Path, target: Path) -> None:
    # A rename cannot replace a folder that is not empty, so the old one is moved aside first.
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
    # Windows flushes only files opened for writing; on other systems the file may be read-only.
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
    """`$TENOR_CACHE/kind`, else `~/.cache/tenor/kind` (`$XDG_CACHE_HOME` is honoured); created if missing."""
    base = os.environ.get("TENOR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenor"
    folder = Path(base) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_file(kind: str, name: str, write: Callable[[Path], None]) -> Path:
    """The path of the cached file `name`, which `write` writes unless an earlier call did.

    Its SHA-256 is stored next to it and verified at every call: a file that differs from what was written is written
    again. Concurrent callers wait for the process that writes; the system releases the lock if that process dies.
    """
    path = cache_folder(kind) / name
    digest_file = path.with_name(f"{name}.sha256")
    with FileLock(path.with_suffix(".lock")):
        if not _is_intact(path, digest_file):
            with atomic_path(path) as temporary:
                write(temporary)
                digest = sha256_file(temporary)
            write_text(digest_file, f"{digest}\n")
    return path


def _is_intact(path: Path, digest_file: Path) -> bool:
    # The digest is written last: a file left by a killed process has none, or one that does not match.
    return path.is_file() and digest_file.is_file() and digest_file.read_bytes() == f"{sha256_file(path)}\n".encode()


SHOWN_FAULTS = 3
SHOWN_CHARACTERS = 40

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(strict=True, ge=1)]

T = TypeVar("T")


class Record(BaseModel):
    """The content of a file, or a part of it. Keys that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def parse_record(kind: type[T], value: Any, path: Path, next_step: str) -> T:
    """The value of a JSON file as a record, a pydantic model or a dataclass.

    Raises:
        UserError: not what Tenor writes; names the keys, what they contain and the next step.
    """
    hashable: Any = kind
    try:
        record: T = _validator(hashable).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{path}: not as Tenor writes it ({faults_of(error)}); {next_step}") from error
    return record


@cache
def _validator(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def faults_of(error: ValidationError) -> str:
    """The first faults of a value, each with its key and what it contains, on one line."""
    faults = error.errors(include_url=False)
    shown = "; ".join(_fault(fault) for fault in faults[:SHOWN_FAULTS])
    return shown if len(faults) <= SHOWN_FAULTS else f"{shown}; and {len(faults) - SHOWN_FAULTS} more"


def _fault(fault: Any) -> str:
    key = ".".join(map(str, fault["loc"]))
    message = fault["msg"] if fault["type"] == "missing" else f"{fault['msg']}, observed {_shown(fault['input'])}"
    return " ".join((f"key {key}: {message}" if key else message).split())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
