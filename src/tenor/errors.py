"""What can go wrong for a user, and the exit status that each ends with.

Raise one of these where a person can mend the cause: the message says what was found, what was
expected and the next step. Anything else that escapes is a defect of Tenor and keeps its traceback.
"""

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOM = "Make room on the disk"
_RIGHTS = "Give this user the right to write there, or choose another folder"
REFUSALS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: "Make room within the quota",
    errno.EFBIG: "Raise the limit on the size of a file (ulimit -f)",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Choose a folder that can be written to",
    errno.EIO: "Check the disk",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.ENOTDIR: "A file stands where a folder is needed; move it away",
}
"""What mends each of the system's refusals."""

COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that a terminal or a browser obeys instead of showing them."""
JOINERS = "\u200c\u200d"
"""Which of these belong to the spelling of words and of emoji."""


class TenorError(Exception):
    """A run that failed: exit status 1."""

    exit_code = 1
    run: Path | None = None
    """Folder of the run that failed, was refused or was interrupted; None where there was no run yet."""


class UserError(TenorError):
    """Wrong usage, a wrong configuration or an unreadable input: exit status 2."""

    exit_code = 2


class TextError(UserError):
    """A text that can't be predicted; `position` is its place among those given, counted from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class RefusedError(TenorError):
    """A check refused to start, or stopped, a run, or found an error in a result: exit status 3."""

    exit_code = 3


class InterruptedRunError(TenorError):
    """Stopped by a signal after a checkpoint was written: exit status 130, as shells report SIGINT."""

    exit_code = 130


@contextmanager
def errors_of_run(run: Path) -> Iterator[None]:
    """Every error that leaves the block carries the folder of its run, a defect's error too; `run_of` reads it."""
    try:
        yield
    except BaseException as error:
        with suppress(AttributeError):  # An error of another library may be immutable.
            error.run = run  # type: ignore[attr-defined]
        raise


def run_of(error: BaseException) -> Path | None:
    """The folder of the run that an error ended; None where there was no run yet."""
    return getattr(error, "run", None)


def is_command(character: str) -> bool:
    """Whether a terminal or a browser obeys this character instead of showing it."""
    return unicodedata.category(character) in COMMANDS and character not in JOINERS


def harmless(message: str) -> str:
    """A message with whatever a file or another library put into it, so that a terminal shows all of it."""
    return "".join(repr(one)[1:-1] if is_command(one) and one != "\n" else one for one in message)


def first_line(error: BaseException) -> str:
    """What another library's error says first, for a sentence of one's own; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).removesuffix(".")


def system_refusal(error: BaseException) -> str | None:
    """What to tell a person where the system, and no defect of Tenor, kept a file from being written or read.

    None for every other error.
    """
    number = error.errno if isinstance(error, OSError) else None
    # safetensors and Arrow tell the number in the text alone; NumPy tells a short write in words of its own.
    if number is None and (found := re.search(r"(?:os error|errno) (\d+)", str(error), re.IGNORECASE)):
        number = int(found[1])
    if number is None and isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
        number = errno.ENOSPC
    if number not in REFUSALS:
        return None
    place = getattr(error, "filename", None)
    return f"{f'{place}: ' if place else ''}{os.strerror(number)}. {REFUSALS[number]}"


@contextmanager
def advice_on_memory(phase: str, mend: str) -> Iterator[None]:
    """Tell memory that runs out in the block by its phase ("in training") and the setting that helps there.

    Blocks may be nested: the innermost one knows best.

    Raises:
        TenorError: memory ran out. Every other error goes on as it is.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise TenorError(f"memory ran out {phase}: {mend}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has a class of its own for GPUs only; on a CPU its allocator speaks through a RuntimeError, as Rust's
    # libraries and cuBLAS do in their own words.
    message = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
    is_told = isinstance(error, MemoryError) or any(word in message for word in words)
    return is_told and not isinstance(error, TenorError)
