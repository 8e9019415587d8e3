"""The files in a folder that were not read, with the reason: nothing is ignored silently."""

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from tenor.checks.diagnosis.history_files import is_history_file
from tenor.errors import UserError

MAX_FILES = 20_000
SHOWN = 4
PICKLES = "pickles, which are never opened"
WEIGHTS = "weights, which a diagnosis does not load"
LOGS = "text of a program or a person"
EMPTY = "empty"
BROKEN = "not valid JSON"
ALONE = "another record of training, which can be given alone"
RUNS = "runs, each of which can be given alone"
LARGEST_RECORD = 2**20
"""Bytes of a file that is opened to see whether it is a record of training."""
PARTS = "parts of the model or of its tokenizer"
OTHERS = "of no known kind here; if one contains results, give it alone"
CHECKPOINTS = "checkpoints, each of which can be given alone"
PARTS_OF_CHECKPOINTS = "weights and other files of checkpoints whose state was read"
RUN = "manifest.json"
CHECKPOINT_FOLDERS = ("checkpoint-*", "best_model", "epoch_*")
EVENTS = "event files, whose folder can be given alone"
DESCRIPTIONS = "about the machine or the program"
REASONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (WEIGHTS, ("*.safetensors", "*.h5", "*.keras", "*.onnx", "*.gguf", "*.msgpack", "*.safetensors.index.json")),
    (
        PICKLES,
        ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib"),
    ),
    ("arrays, each of which can be given alone", ("*.npy", "*.npz")),
    (EVENTS, ("*tfevents*",)),
    (
        PARTS,
        (
            *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "config.json"),
            *("modules.json", "*sentence*bert*config.json", "config_sentence_transformers.json", "config_setfit.json"),
            *(
                "generation_config.json",
                "spiece.model",
                "sentencepiece*.model",
                "keras_metadata.pb",
                "*.pb",
                "config.cfg",
            ),
        ),
    ),
    (
        DESCRIPTIONS,
        ("requirements.txt", "wandb-metadata.json", "conda.yaml", "python_env.yaml", "MLmodel", "meta.yaml"),
    ),
    (LOGS, ("*.log", "*.md", "*.out", "*.err", "*.html")),
)


def unread_notes(folder: Path, read: Iterable[Path]) -> tuple[str, ...]:
    """A sentence for each reason with the files that it applies to, at most `MAX_FILES` in all.

    `read` are the files that were read, and folders of which nothing is to be reported.
    """
    known = {os.path.abspath(path) for path in read}
    groups: dict[str, list[str]] = {}
    for number, file in enumerate(_files(folder, known)):
        if number == MAX_FILES:
            groups.setdefault(f"files beyond the first {MAX_FILES:,}", [])
            break
        if os.path.abspath(file) not in known:
            reason, name = _reason(file, file.relative_to(folder), known)
            groups.setdefault(reason, []).append(name.as_posix())
    groups = {reason: list(dict.fromkeys(names)) for reason, names in groups.items()}
    return tuple(f"not read ({reason}){': ' if files else ''}{_listed(files)}" for reason, files in groups.items())


def _files(folder: Path, known: set[str]) -> Iterator[Path]:
    """The files in a folder, in order, without those in the folders that are known."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if os.path.abspath(Path(place) / name) not in known)
        for name in sorted(names):
            yield Path(place) / name


def _reason(file: Path, name: Path, known: set[str]) -> tuple[str, Path]:
    """Why a file is not read, and what to name: the file, or the folder that can be given alone."""
    for folder in reversed(name.parents[:-1]):
        place = file.parents[len(name.parts) - len(folder.parts) - 1]
        if any(fnmatch(folder.name, one) for one in CHECKPOINT_FOLDERS):
            was_read = any(Path(one).is_relative_to(os.path.abspath(place)) for one in known)
            return (PARTS_OF_CHECKPOINTS if was_read else CHECKPOINTS), folder
        if (place / RUN).is_file():
            return RUNS, folder
    return _reason_of_file(file), name


def _reason_of_file(file: Path) -> str:
    if not file.is_file():
        return "a link to nothing, or no file"
    reason = next((reason for reason, patterns in REASONS if any(fnmatch(file.name, one) for one in patterns)), OTHERS)
    if reason in (LOGS, OTHERS) and file.stat().st_size == 0:
        return EMPTY
    if reason not in (LOGS, OTHERS) or file.stat().st_size > LARGEST_RECORD:
        return reason
    try:
        return ALONE if is_history_file(file) else reason
    except UserError:
        return BROKEN


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
