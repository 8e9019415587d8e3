"""One folder per run: the paths of its files, and how the folder is created, looked up and locked."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from filelock import FileLock, Timeout

from tenor.errors import UserError
from tenor.runs.files import TEMPORARY_PREFIX, flush_folder, make_folder, read_json
from tenor.runs.findings import FINDINGS

DEFAULT_ROOT = Path("runs")
SHOWN_RUNS = 5

REPORT = "report.html"


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run; they need not exist."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def config_name(self) -> str:
        return self.path.parent.name

    @property
    def reference(self) -> str:
        """`<config>/<run id>`, as `find_run` accepts it."""
        return f"{self.config_name}/{self.run_id}"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def baseline(self) -> Path:
        return self.path / "baseline"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def text_keys(self) -> Path:
        return self.path / "text_keys.safetensors"

    @property
    def findings(self) -> Path:
        return self.path / FINDINGS

    @property
    def evaluation(self) -> Path:
        return self.path / "eval_best_model.json"

    @property
    def adaptation(self) -> Path:
        """The summary of a run of `tenor adapt`."""
        return self.path / "adaptation.json"

    @property
    def report(self) -> Path:
        return self.path / REPORT

    @property
    def evaluations(self) -> Path:
        """Later evaluations, one folder each."""
        return self.path / "evaluations"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after `step` optimizer steps."""
        return self.checkpoints / f"step-{step:06d}"


def create_run(root: Path, config_name: str) -> RunDirectory:
    """Create `<root>/<config name>/<UTC time>-<random>/`, a new folder for every call, also across processes.

    Raises ValueError for a name that cannot be a folder's, and UserError if the folder cannot be created.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", config_name):
        raise ValueError(f"{config_name!r} is not a folder name; expected letters, digits, '.', '_' or '-'")
    parent = Path(root) / config_name
    try:
        make_folder(parent)
        while True:
            path = parent / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            flush_folder(parent)
            return RunDirectory(path)
    except OSError as error:
        raise UserError(
            f"{parent}: a run folder cannot be created there ({error.strerror}); choose another root."
        ) from error


def list_runs(root: Path) -> list[RunDirectory]:
    """All runs below `root`, ordered by start time, oldest first. A folder without a manifest is not a run (yet).

    Raises UserError for a manifest that cannot be read.
    """
    manifests = [
        manifest for manifest in Path(root).glob("*/*/manifest.json") if not _is_temporary(manifest.parent.name)
    ]
    runs = [RunDirectory(manifest.parent) for manifest in manifests]
    return sorted(runs, key=lambda run: (_started(run), run.run_id))


def find_run(root: Path, reference: str) -> RunDirectory:
    """The run that `reference` names: a folder, `<config>/<run id>`, a run id or its first characters, or `latest`.

    Raises UserError, with the candidates, if no run or more than one matches.
    """
    for path in (Path(reference), Path(root) / reference):
        if reference and (path / "manifest.json").is_file():
            return RunDirectory(path.resolve())
    runs = list_runs(root)
    if reference == "latest" and runs:
        return runs[-1]
    matches = [run for run in runs if reference == run.run_id]
    matches = matches or [run for run in runs if reference and run.run_id.startswith(reference)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"{reference!r} matches {len(matches)} runs; give one of {_listed(matches)}.")
    raise UserError(_unknown(Path(root), reference, runs))


def _unknown(root: Path, reference: str, runs: list[RunDirectory]) -> str:
    if reference and (Path(reference) / "config.json").is_file():
        return (
            f"{reference} is a model folder, not a run (it has no manifest.json), so nothing is known about its "
            f"training and test rows. To have its predictions judged on labelled rows: tenor predict {reference} "
            "--input ROWS.csv --output predictions.csv, then tenor diagnose predictions.csv"
        )
    if Path(reference).is_dir() and reference:
        message = f"{reference} is a folder without manifest.json, so it is not a run"
    else:
        message = f"No run {reference!r} below {root}"
    if not runs:
        return f"{message}. {root} contains no run; start one with `tenor train`, or name another root."
    by_name = {name: run for run in runs for name in (run.run_id, run.reference)}
    near = list(dict.fromkeys(by_name[name] for name in get_close_matches(reference, by_name, n=3, cutoff=0.6)))
    nearest = f" Nearest: {_listed(near)}." if near else ""
    newest = ", ".join(run.reference for run in reversed(runs[-SHOWN_RUNS:]))
    return f"{message}.{nearest} Newest: {newest}. Give one of these, a run's folder, or `latest`."


def _listed(runs: list[RunDirectory]) -> str:
    shown = ", ".join(run.reference for run in runs[:SHOWN_RUNS])
    return shown if len(runs) <= SHOWN_RUNS else f"{shown} and {len(runs) - SHOWN_RUNS} more"


def _started(run: RunDirectory) -> str:
    manifest = read_json(run.manifest)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("started"), str):
        raise UserError(f"{run.manifest}: `started` is missing or not a text; restore the file or remove the run.")
    return str(manifest["started"])


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX)


LOCK_NAME = ".lock"


@contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Lock `run` against other processes. The operating system releases the lock if this process dies.

    Raises:
        UserError: another process has locked it.
    """
    lock = FileLock(run.path / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{run.reference} is locked by another process, which is running it; wait until it ends, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()
