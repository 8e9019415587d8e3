"""How a job survives being killed: every chunk's result is a file of its own beside the output until all are there.

`OUT.parts/job.json` says what the job is; a part appears whole or not at all. The same command goes on behind the last
part. The output is written from the parts in one go and takes its place by a rename.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tenor.errors import TenorError, UserError
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
        """How many rows they hold. Raises UserError for one that is damaged."""
        try:
            return sum(pq.read_metadata(self._part(number)).num_rows for number in range(self.count))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); begin anew with --restart") from error

    @property
    def job(self) -> dict[str, Any] | None:
        """What the job is, or None where none was begun. Raises UserError for a file that says something else."""
        path = self.folder / JOB
        if not path.exists():
            return None
        found = read_json(path)
        if not isinstance(found, dict):
            raise UserError(f"{path}: holds no job; begin anew with --restart")
        return found

    def write(self, number: int, table: pa.Table) -> None:
        """Keep a chunk's result, atomically."""
        with atomic_path(self._part(number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def tables(self, rows: Sequence[int]) -> Iterator[pa.Table]:
        """The results in order, one chunk at a time; `rows` says how many each chunk has.

        Raises TenorError where the parts are not exactly those chunks: nothing may be made of them.
        """
        for number, expected in enumerate(rows):
            try:
                table = pq.read_table(self._part(number))
            except (pa.ArrowException, OSError) as error:
                raise self._spoiled(number, f"can't be read: {error}") from error
            if table.num_rows != expected:
                raise self._spoiled(number, f"has {table.num_rows:,} rows, expected {expected:,}")
            yield table
        if self._part(len(rows)).exists():
            raise self._spoiled(len(rows), "is one more than the input has chunks")

    def remove(self) -> None:
        """Remove all of it; what is left where the process dies meanwhile is never taken for a job."""
        remove_whole(self.folder)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _spoiled(self, number: int, found: str) -> TenorError:
        return TenorError(
            f"{self._part(number)} {found}. Something else changed the parts meanwhile, so no output was written; "
            "begin anew with --restart"
        )


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
    with _locked(output):
        if restart:
            parts.remove()
            output.unlink(missing_ok=True)
        _claim(parts, output, job)
        yield parts


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"{output}: another process is writing it; wait for it, or name another output") from error
    try:
        yield
    finally:
        # Removed only by who holds it, and before letting go. Whoever opened it before and locks it after that holds a
        # file without a name, which FileLock takes for no lock. Windows removes no open file; FileLock does it there.
        if os.name != "nt":
            path.unlink(missing_ok=True)
        lock.release()


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
