"""Where what can be made again is kept between runs: token ids, features of a frozen encoder, downloads."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tenor.runs.files import atomic_path, sha256_file, write_text


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
