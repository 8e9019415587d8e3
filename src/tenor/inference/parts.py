"""How a job survives being killed: every chunk's result is a file of its own beside the output until all are there.

`OUT.parts/job.json` says what the job is; a part appears whole or not at all. The same command goes on behind the last
part. The output is written from the parts in one go and takes its place by a rename.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tenor.errors import UserError
from tenor.runs.files import atomic_path, read_json, remove_leftovers, remove_whole, write_json

JOB = "job.json"


@dataclass(frozen=True)
class Parts:
    """The finished chunks of one job."""

    folder: Path

    @property
    def count(self) -> int:
        """How many there are, from the first on without a gap."""
        count = 0
        while self._part(count).exists():
            count += 1
        return count

    @property
    def rows(self) -> int:
        """How many rows they hold."""
        return sum(pq.read_metadata(self._part(number)).num_rows for number in range(self.count))

    @property
    def job(self) -> dict[str, Any] | None:
        """What the job is, or None where none was begun."""
        return read_json(self.folder / JOB) if (self.folder / JOB).exists() else None

    def write(self, number: int, table: pa.Table) -> None:
        """Keep a chunk's result, atomically."""
        with atomic_path(self._part(number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def tables(self) -> Iterator[pa.Table]:
        """The results in order, one chunk at a time."""
        for number in range(self.count):
            yield pq.read_table(self._part(number))

    def remove(self) -> None:
        """Remove all of it; what is left where the process dies meanwhile is never taken for a job."""
        remove_whole(self.folder)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"


def parts_of(output: Path) -> Parts:
    """Where the parts of the job that writes `output` are."""
    return Parts(output.with_name(f"{output.name}.parts"))


def refuse_existing(output: Path) -> None:
    """Raises UserError for an output that is there and that no cut job was writing."""
    if output.exists() and parts_of(output).job is None:
        raise UserError(f"{output} exists; name another output, or write it anew with --restart")


@contextmanager
def job_parts(output: Path, job: Mapping[str, Any], restart: bool) -> Iterator[Parts]:
    """The parts of the job that writes `output`: new ones, or those that an earlier call left.

    Raises:
        UserError: the output exists, another process writes it, or the parts belong to a job with other input or model.
    """
    parts = parts_of(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        with lock.acquire(blocking=False):
            if restart:
                parts.remove()
                output.unlink(missing_ok=True)
            _claim(parts, output, job)
            yield parts
    except Timeout as error:
        raise UserError(f"{output}: another process is writing it; wait for it, or name another output") from error
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)


def _claim(parts: Parts, output: Path, job: Mapping[str, Any]) -> None:
    begun = parts.job
    if begun is None:
        refuse_existing(output)
        write_json(parts.folder / JOB, dict(job))
        return
    remove_leftovers(parts.folder)
    differing = [name for name in sorted({*begun, *job}) if begun.get(name) != job.get(name)]
    if differing:
        told = ", ".join(f"{name} {_short(begun.get(name))}, now {_short(job.get(name))}" for name in differing)
        raise UserError(
            f"{parts.folder} holds an unfinished job that was another: {told}. Finish that one with its own command, "
            "name another output, or begin anew with --restart"
        )


def _short(value: Any) -> str:
    return f"{str(value)[:16]}…" if len(str(value)) > 32 else str(value)
