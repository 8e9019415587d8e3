"""`text_keys.safetensors`: a hash of each text that a run trained or validated on. A later evaluation compares its rows
with them to detect overlap. The file contains no text."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from tenor.errors import UserError, first_line
from tenor.runs.files import atomic_path

SPLITS = ("train", "validation")
KIND = "2"
"""What a key is made of (`tenor.checks.rules.shared.text_keys`): keys of another kind match nothing."""


def write_text_keys(path: Path, keys: Mapping[str, np.ndarray]) -> None:
    """Write the keys of each of `SPLITS`, uint64 of shape (texts,), atomically."""
    with atomic_path(path) as temporary:
        save_file({split: keys[split] for split in SPLITS}, temporary, {"kind": KIND})


def read_text_keys(path: Path) -> dict[str, np.ndarray]:
    """The keys of each of `SPLITS`, uint64 of shape (texts,).

    Raises:
        UserError: the file is missing, damaged, or not in the format that `write_text_keys` writes.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing: earlier versions of Tenor did not write it. Restore the file, or train again"
        )
    try:
        with safe_open(path, "numpy") as file:
            kind = (file.metadata() or {}).get("kind", "1")
        keys = load_file(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}. Restore the file, or train again") from error
    if set(keys) != set(SPLITS) or any(array.ndim != 1 or array.dtype != np.uint64 for array in keys.values()):
        observed = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in sorted(keys.items()))
        raise UserError(
            f"{path}: contains {observed or 'nothing'}, expected uint64 keys of {' and '.join(SPLITS)}. Restore the "
            "file, or train again"
        )
    if kind != KIND:
        raise UserError(f"{path}: keys of kind {kind}, this version of Tenor compares kind {KIND}. Train again")
    return keys
