"""The digest of all cases and of what they have to be found as: `python -m wild.freeze` writes it, once.

It is written before anything was run on the faulty cases. The runner refuses to run if a byte has changed since.
"""

import hashlib
import sys
from pathlib import Path

from wild.cases import HERE

FROZEN = HERE / "frozen.sha256"
LEFT_BY_PYTHON = "__pycache__"


def digest() -> str:
    """SHA-256 over the relative paths and the contents of every file of every case, and of expected.toml."""
    files = [HERE / "expected.toml", *(path for part in ("programs", "healthy") for path in (HERE / part).rglob("*"))]
    hasher = hashlib.sha256()
    for path in sorted((one for one in files if _counts(one)), key=_name):
        hasher.update(f"{_name(path)}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return hasher.hexdigest()


def refuse_if_changed() -> None:
    """Raises SystemExit if the cases are not the frozen ones."""
    if not FROZEN.exists():
        sys.exit("the cases are not frozen yet: python -m wild.freeze")
    frozen, found = FROZEN.read_text(encoding="ascii").strip(), digest()
    if found != frozen:
        sys.exit(f"the cases or expected.toml are not those that were frozen: {found} instead of {frozen}")


def _counts(path: Path) -> bool:
    return path.is_file() and LEFT_BY_PYTHON not in path.parts


def _name(path: Path) -> str:
    return path.relative_to(HERE).as_posix()


if __name__ == "__main__":
    if FROZEN.exists():
        sys.exit(f"already frozen; {FROZEN.name} is written only once")
    FROZEN.write_text(digest() + "\n", encoding="ascii")
    print(digest())
