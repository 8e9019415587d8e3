"""`manifest.json`: what a run was, on what, with what, and how it ended."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import psutil

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import commits, hardware, missing_because, package_versions, refuse_nulls
from tenor.runs.files import read_json, write_json

Status = Literal["running", "completed", "failed", "interrupted", "refused"]
STATUSES: tuple[str, ...] = get_args(Status)
FINGERPRINTS = ("config", "data", "encoder_weights", "tokenizer")
MERGED = ("fingerprints", "digests", "timings")


@dataclass(frozen=True)
class Manifest:
    """One run. A value that is missing is `{"missing": reason}`; none is null."""

    run_id: str
    config_name: str
    status: Status
    seed: int
    command: list[str]
    started: str
    """ISO 8601, UTC."""
    pid: int
    pid_born: float
    """Seconds since 1970 at which the process began."""
    host: str
    os: str
    versions: dict[str, Any]
    hardware: dict[str, Any]
    commits: dict[str, Any]
    """Of `project`, the working folder, and `tenor`: `{"commit": …, "dirty": …}`."""
    ended: str | dict[str, str] = field(default_factory=lambda: missing_because("the run has not ended"))
    duration_sec: float | dict[str, str] = field(default_factory=lambda: missing_because("the run has not ended"))
    threads: int | dict[str, str] = field(default_factory=lambda: missing_because("not decided yet"))
    """CPU threads that PyTorch used."""
    device: str | dict[str, str] = field(default_factory=lambda: missing_because("not decided yet"))
    precision: str | dict[str, str] = field(default_factory=lambda: missing_because("not decided yet"))
    fingerprints: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of `config` (the file config.yaml), `data`, `encoder_weights` and `tokenizer`."""
    digests: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of what the run wrote, by name."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds per phase."""
    error: str | dict[str, str] = field(default_factory=lambda: missing_because("no error"))
    data_notes: list[str] = field(default_factory=list)
    """How the rows were read where that is not as usual: spellings of labels that are one class, quotes that are
    letters."""
    trainable: dict[str, Any] = field(
        default_factory=lambda: missing_because("not recorded by the version of Tenor that ran this")
    )
    """Counts and names of trainable and frozen parameters, as `tenor.model.freezing` has them. The last field, because
    it is long."""


def new_manifest(
    run: RunDirectory,
    seed: int,
    accelerators: Sequence[str] = (),
    threads: int | None = None,
    fingerprints: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> Manifest:
    """Write the manifest of a run that starts now, in this process. `command` is this process's own by default."""
    unknown = {name: missing_because("not computed yet") for name in FINGERPRINTS}
    manifest = Manifest(
        run_id=run.run_id,
        config_name=run.config_name,
        status="running",
        seed=seed,
        command=list(sys.argv if command is None else command),
        started=_now(),
        **_this_process(),
        os=platform.platform(),
        versions=package_versions(),
        hardware=hardware(accelerators),
        commits=commits(),
        threads=missing_because("not decided yet") if threads is None else threads,
        fingerprints={**unknown, **(fingerprints or {})},
        trainable=missing_because("not decided yet"),
    )
    _write(run, manifest)
    return manifest


def read_manifest(run: RunDirectory) -> Manifest:
    """Raises UserError for a file that is missing, broken or not a manifest."""
    found = read_json(run.manifest)
    known = {item.name for item in fields(Manifest)}
    # A run of an earlier version may lack what has a default; what it never had is absent.
    needed = {item.name for item in fields(Manifest) if item.default_factory is MISSING}
    if not isinstance(found, dict) or not needed <= set(found) <= known or not _is_sound(found):
        wrong = sorted((needed - set(found)) | (set(found) - known)) if isinstance(found, dict) else []
        keys = f" (keys missing or unknown: {', '.join(wrong)})" if wrong else ""
        raise UserError(f"{run.manifest}: is not a run's manifest{keys}. Restore the file, or name another run.")
    return Manifest(**found)


def update_manifest(run: RunDirectory, **changes: Any) -> Manifest:
    """Rewrite the manifest with the given fields changed.

    `fingerprints`, `digests` and `timings` are merged, other fields replaced. A status that ends the run sets `ended`
    and `duration_sec` (since `started`) unless they are given; `running` takes a resumed run over into this process.
    Raises TypeError for an unknown field, ValueError for an unknown status and for None anywhere.
    """
    manifest = read_manifest(run)
    for name in set(MERGED) & set(changes):
        changes[name] = {**getattr(manifest, name), **changes[name]}
    if "status" in changes:
        changes = {**_bounds(manifest, changes["status"]), **changes}
    manifest = replace(manifest, **changes)
    _write(run, manifest)
    return manifest


def process_lives(manifest: Manifest) -> bool:
    """Whether the run is under way, or may be: on another host no one can tell from here."""
    if manifest.status != "running":
        return False
    if manifest.host != platform.node():
        return True
    try:
        process = psutil.Process(manifest.pid)
        # Numbers of processes are used again, so the time of birth must agree too.
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - manifest.pid_born) < 2.0)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _is_sound(found: dict[str, Any]) -> bool:
    """Whether the values are of the kinds that every reader relies on."""
    texts = all(isinstance(found[name], str) for name in ("run_id", "config_name", "started", "host", "os"))
    numbers = all(isinstance(found[name], int | float) for name in ("seed", "pid", "pid_born"))
    data_notes = found.get("data_notes", [])
    notes = isinstance(data_notes, list) and all(isinstance(note, str) for note in data_notes)
    named = ("versions", "hardware", "commits", "trainable", *MERGED)
    tables = all(isinstance(found.get(name, {}), dict) for name in named)
    return found["status"] in STATUSES and texts and numbers and notes and tables and _is_time(found["started"])


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _bounds(manifest: Manifest, status: Any) -> dict[str, Any]:
    if status not in STATUSES:
        raise ValueError(f"{status!r} is no status; expected one of {', '.join(STATUSES)}")
    if status == "running":
        none = missing_because("the run has not ended")
        return {**_this_process(), "ended": none, "duration_sec": none, "error": missing_because("no error")}
    ended = _now()
    seconds = datetime.fromisoformat(ended) - datetime.fromisoformat(manifest.started)
    return {"ended": ended, "duration_sec": seconds.total_seconds()}


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "pid_born": psutil.Process().create_time(), "host": platform.node()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _write(run: RunDirectory, manifest: Manifest) -> None:
    record = asdict(manifest)
    refuse_nulls(record)
    write_json(run.manifest, record)
