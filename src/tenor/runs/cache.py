"""Where what can be made again is kept between runs: token ids, features of a frozen encoder, downloads."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """`$TENOR_CACHE/kind`, else `~/.cache/tenor/kind` (`$XDG_CACHE_HOME` is honoured); created where missing."""
    base = os.environ.get("TENOR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenor"
    folder = Path(base) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
