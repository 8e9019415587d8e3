"""The environment of a run: packages, hardware, commits. A missing value has a reason and is never null."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from tenor.runs.files import sha256_file
from tenor.runs.missing import missing_because

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "pydantic",
)
GIT_SECONDS = 10.0


def package_versions() -> dict[str, Any]:
    """The versions of Python, Tenor and the packages that affect its results, and a digest of Tenor's source files."""
    packages = {name: _version(name) for name in ("tenor", *PACKAGES)}
    return {"python": platform.python_version(), **packages, "tenor_sources": _sources_digest()}


def hardware(accelerators: Sequence[str] = ()) -> dict[str, Any]:
    """Processor, cores, memory in bytes; the caller passes the names of accelerators, since this module does not import
    torch."""
    physical = psutil.cpu_count(logical=False)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": _cpu_model(),
        "cores_physical": physical or missing_because("the operating system does not report it"),
        "cores_logical": psutil.cpu_count(logical=True) or missing_because("the operating system does not report it"),
        "cores_available": usable or missing_because("the operating system does not report it"),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": list(accelerators),
    }


def commits() -> dict[str, Any]:
    """The commit of the project in the working folder, and of Tenor's checkout if Tenor is run from one."""
    here = Path(__file__).resolve()
    # A virtual environment that contains Tenor may be inside another project's checkout: only a tracked file counts.
    tracked, _ = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    tenor = _commit(here.parent) if tracked else missing_because("Tenor is not run from a git checkout")
    return {"project": _commit(Path.cwd()), "tenor": tenor}


def _commit(folder: Path) -> dict[str, Any]:
    succeeded, commit = _git(folder, "rev-parse", "HEAD")
    if not succeeded:
        return missing_because(commit)
    succeeded, changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes) if succeeded else missing_because(changes)}


def _git(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Whether git succeeded, and its output."""
    if shutil.which("git") is None:
        return False, "git is not installed"
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"git could not be run: {error}"
    if process.returncode != 0:
        message = " ".join(process.stderr.split()) or "git failed without a message"
        return False, "not a git checkout" if "not a git repository" in message else message
    return True, process.stdout.strip()


@cache
def _sources_digest() -> str:
    """SHA-256 over Tenor's Python files, which in a checkout may change while the version stays the same."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + sha256_file(file).encode() + b"\n")
    return digest.hexdigest()


def _version(name: str) -> Any:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return missing_because("not installed as a package")


def _cpu_model() -> Any:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(named), "") or platform.processor() or missing_because("the operating system does not report it")


"""Lock for blocks that change warnings, logging or progress output, or that seed the process's random generator: they
run one after another."""
