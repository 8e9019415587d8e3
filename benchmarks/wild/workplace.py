"""Where a case runs: a fresh folder with links to the data and the models, and a time limit."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

import tenor
from tenor.runs.files import cache_folder
from wild.cases import HERE, Case

MATERIALS = ("data", "models")
LIMIT = 300.0
"""Seconds."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int | None
    """None: it was killed at the limit."""
    out: str
    err: str
    seconds: float


def room(given: Path | None = None) -> Path:
    """The folder with the data and the models, made once (some minutes)."""
    folder = given or cache_folder("bench-wild") / "room"
    if not all((folder / name).is_dir() for name in MATERIALS):
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        words = [sys.executable, "-m", "wild.materials", str(partial)]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
        partial.rename(folder)
    return folder


@contextmanager
def workplace(case: Case, materials: Path) -> Iterator[Path]:
    """A folder with the files of the case and links to the materials; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="wild-", ignore_cleanup_errors=True) as root:
        folder = Path(root) / "case"
        shutil.copytree(case.folder, folder, ignore=shutil.ignore_patterns("report.toml", "__pycache__"))
        for name in MATERIALS:
            (folder / name).symlink_to((materials / name).resolve(), target_is_directory=True)
        yield folder


def command(case: Case) -> list[str]:
    """What starts the case inside its workplace."""
    return ["bash", case.script] if case.script.endswith(".sh") else [sys.executable, case.script]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This Tenor, no network, one thread, and caches of its own next to the workplace."""
    home = str(folder.parent / "cache")
    ours = ("PYTHONPATH", "HF_", "TENOR_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(Path(tenor.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": home,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }


def run(words: Sequence[str], folder: Path, env: Mapping[str, str], limit: float = LIMIT) -> Ran:
    """Run a command in a folder; it and its children are killed at the limit."""
    started = time.monotonic()
    out, err = folder.parent / "stdout.txt", folder.parent / "stderr.txt"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            words, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            kill(process)
            status = None
    texts = [path.read_text(encoding="utf-8", errors="replace").replace(str(folder), ".") for path in (out, err)]
    return Ran(status, *texts, round(time.monotonic() - started, 1))


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that this one started, and its children."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
