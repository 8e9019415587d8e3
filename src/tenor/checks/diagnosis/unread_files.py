"""The files in a folder that were not read, with the reason: nothing is ignored silently."""

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

MAX_FILES = 20_000
SHOWN = 4
PICKLES = "pickles, which are never opened"
WEIGHTS = "weights, which a diagnosis does not load"
LOGS = "free text"
PARTS = "parts of the model or of its tokenizer"
OTHERS = "no part of this kind of folder; give a file alone if it contains results"
CHECKPOINTS = "in folders of checkpoints, each of which can be given alone"
CHECKPOINT_FOLDERS = ("checkpoint-*", "best_model", "epoch_*")
EVENTS = "event files, whose folder can be given alone"
DESCRIPTIONS = "about the machine or the program"
REASONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (WEIGHTS, ("*.safetensors", "*.h5", "*.keras", "*.onnx", "*.gguf", "*.msgpack", "*.safetensors.index.json")),
    (PICKLES, ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.npy", "*.npz")),
    (EVENTS, ("*tfevents*",)),
    (
        PARTS,
        (
            *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "config.json"),
            *("modules.json", "*sentence*bert*config.json", "config_sentence_transformers.json", "config_setfit.json"),
            *("generation_config.json", "spiece.model", "sentencepiece*.model", "keras_metadata.pb", "*.pb"),
        ),
    ),
    (
        DESCRIPTIONS,
        ("requirements.txt", "wandb-metadata.json", "conda.yaml", "python_env.yaml", "MLmodel", "meta.yaml"),
    ),
    (LOGS, ("*.log", "*.md", "*.out", "*.err", "*.html")),
)


def unread_notes(folder: Path, read: Iterable[Path]) -> tuple[str, ...]:
    """A sentence for each reason with the files that it applies to, at most `MAX_FILES` in all."""
    known = {os.path.abspath(file) for file in read}
    groups: dict[str, list[str]] = {}
    for number, file in enumerate(_files(folder)):
        if number == MAX_FILES:
            groups.setdefault(f"files beyond the first {MAX_FILES:,}", [])
            break
        if os.path.abspath(file) not in known:
            name = file.relative_to(folder)
            groups.setdefault(_reason(name), []).append(name.as_posix())
    return tuple(f"not read ({reason}){': ' if files else ''}{_listed(files)}" for reason, files in groups.items())


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(place) / name


def _reason(file: Path) -> str:
    if any(fnmatch(part, one) for part in file.parts[:-1] for one in CHECKPOINT_FOLDERS):
        return CHECKPOINTS
    return next((reason for reason, patterns in REASONS if any(fnmatch(file.name, one) for one in patterns)), OTHERS)


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
