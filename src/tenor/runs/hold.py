"""One process at a time runs a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory

LOCK_NAME = ".lock"


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    """Keep other processes from running `run` meanwhile. The system lets go when this process dies.

    Raises UserError where another process holds it.
    """
    lock = FileLock(run.path / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{run.reference} is held by another process that runs it; wait, or stop that one") from error
    try:
        yield
    finally:
        lock.release()
