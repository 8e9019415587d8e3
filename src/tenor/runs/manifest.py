"""`manifest.json`: the process, machine, inputs and outputs of a run, and how it ended."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import psutil
from pydantic import AfterValidator, ConfigDict

from tenor.runs.directory import RunDirectory
from tenor.runs.environment import commits, hardware, package_versions
from tenor.runs.files import parse_record, read_json, write_json
from tenor.runs.missing import MissingRecord, missing_because, refuse_nulls

Status = Literal["running", "completed", "failed", "interrupted", "refused"]
STATUSES: tuple[str, ...] = get_args(Status)
Job = Literal["train", "adapt"]
FINGERPRINTS = ("config", "data", "encoder_weights", "tokenizer")
MERGED = ("fingerprints", "digests", "timings")


def _require_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("expected a time with its zone")
    return text


@dataclass(frozen=True)
class Manifest:
    """One run. A missing value is `{"missing": reason}`; none is null."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    run_id: str
    config_name: str
    status: Status
    seed: int
    command: list[str]
    started: Annotated[str, AfterValidator(_require_time)]
    """ISO 8601, UTC."""
    pid: int
    pid_born: float
    """When the process started, in seconds since 1970."""
    host: str
    os: str
    versions: dict[str, Any]
    hardware: dict[str, Any]
    commits: dict[str, Any]
    """Of `project`, the working folder, and `tenor`: `{"commit": …, "dirty": …}`."""
    ended: str | MissingRecord = field(default_factory=lambda: missing_because("the run has not ended"))
    duration_sec: float | MissingRecord = field(default_factory=lambda: missing_because("the run has not ended"))
    threads: int | MissingRecord = field(default_factory=lambda: missing_because("not decided yet"))
    """CPU threads that PyTorch used."""
    device: str | MissingRecord = field(default_factory=lambda: missing_because("not decided yet"))
    precision: str | MissingRecord = field(default_factory=lambda: missing_because("not decided yet"))
    precision_choice: dict[str, Any] = field(default_factory=lambda: missing_because("not decided yet"))
    """Why, and what was measured, as in `tenor.training.precision.PrecisionChoice`."""
    job: Job = "train"
    """The command of `tenor` that started the run and can resume it."""
    processes: int = 1
    """Processes that trained together; `threads` is the number of each."""
    fingerprints: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of `config` (the file config.yaml), `data`, `encoder_weights` and `tokenizer`."""
    digests: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of the files that the run wrote, by name."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds per phase."""
    error: str | MissingRecord = field(default_factory=lambda: missing_because("no error"))
    data_notes: list[str] = field(default_factory=list)
    """What is unusual about how the rows were read, such as spellings of labels that are one class, or quotes that are
    part of the text."""
    trainable: dict[str, Any] = field(
        default_factory=lambda: missing_because("not recorded by the version of Tenor that ran this")
    )
    """Counts and names of the trainable and of the frozen parameters, from `tenor.model.freezing`. It is the last field
    because it is long."""


def new_manifest(
    run: RunDirectory,
    seed: int,
    accelerators: Sequence[str] = (),
    threads: int | None = None,
    fingerprints: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    job: Job = "train",
) -> Manifest:
    """Write the manifest of a run that starts now, in this process. `command` defaults to this process's own."""
    not_computed = {name: missing_because("not computed yet") for name in FINGERPRINTS}
    manifest = Manifest(
        run_id=run.run_id,
        config_name=run.config_name,
        status="running",
        seed=seed,
        command=list(sys.argv if command is None else command),
        job=job,
        started=_now(),
        **_this_process(),
        os=platform.platform(),
        versions=package_versions(),
        hardware=hardware(accelerators),
        commits=commits(),
        threads=missing_because("not decided yet") if threads is None else threads,
        fingerprints={**not_computed, **(fingerprints or {})},
        trainable=missing_because("not decided yet"),
    )
    _write(run, manifest)
    return manifest


def read_manifest(run: RunDirectory) -> Manifest:
    """Read the manifest; fields that the version of Tenor that wrote it did not have take their defaults.

    Raises:
        UserError: a file that is missing, damaged or not a manifest.
    """
    next_step = "restore the file, or name another run"
    return parse_record(Manifest, read_json(run.manifest), run.manifest, next_step)


def update_manifest(run: RunDirectory, **changes: Any) -> Manifest:
    """Rewrite the manifest with the given fields changed.

    `fingerprints`, `digests` and `timings` are merged, other fields are replaced. A status that ends the run also sets
    `ended` and `duration_sec` (since `started`), unless they are given; `running` records this process as the one that
    resumed the run.

    Raises:
        TypeError: an unknown field.
        ValueError: an unknown status, or None anywhere.
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
    """Whether the run's process is alive, or may be: for a run on another host this cannot be determined."""
    if manifest.status != "running":
        return False
    if manifest.host != platform.node():
        return True
    try:
        process = psutil.Process(manifest.pid)
        # The system reuses process ids, so the start time must match, too.
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - manifest.pid_born) < 2.0)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _bounds(manifest: Manifest, status: Any) -> dict[str, Any]:
    if status not in STATUSES:
        raise ValueError(f"{status!r} is not a status; expected one of {', '.join(STATUSES)}")
    if status == "running":
        not_ended = missing_because("the run has not ended")
        return {**_this_process(), "ended": not_ended, "duration_sec": not_ended, "error": missing_because("no error")}
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
