"""`text_keys.safetensors`: a number for each text that a run trained and validated on, so that rows which are evaluated
later can be recognized. It contains no text."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tenor.errors import UserError, first_line
from tenor.runs.files import atomic_path

SPLITS = ("train", "validation")


def write_text_keys(path: Path, keys: Mapping[str, np.ndarray]) -> None:
    """Write the keys of each of `SPLITS`, uint64 of shape (texts,), atomically."""
    with atomic_path(path) as temporary:
        save_file({split: keys[split] for split in SPLITS}, temporary)


def read_text_keys(path: Path) -> dict[str, np.ndarray]:
    """The keys of each of `SPLITS`, uint64 of shape (texts,).

    Raises:
        UserError: a file that is missing, damaged, or not as `write_text_keys` writes it.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: earlier versions of Tenor did not write it; restore it, or train again")
    try:
        found = load_file(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path} can't be read: {first_line(error)}. Restore the file, or train again") from error
    if set(found) != set(SPLITS) or any(keys.ndim != 1 or keys.dtype != np.uint64 for keys in found.values()):
        described = ", ".join(f"{name} {keys.dtype} {keys.shape}" for name, keys in sorted(found.items()))
        raise UserError(
            f"{path}: contains {described or 'nothing'}, expected uint64 keys of {' and '.join(SPLITS)}. Restore the "
            "file, or train again"
        )
    return found
