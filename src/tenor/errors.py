"""The kinds of failure that a user can fix, and their exit status.

The message says what was observed, what was expected, and the next step. Any other exception is a bug in Tenor and
keeps its traceback.
"""

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOM = "Free some disk space"
_RIGHTS = "Give this user write permission there, or choose another folder"
REFUSALS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: "Free some space within the disk quota",
    errno.EFBIG: "Raise the limit on file size (ulimit -f)",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Choose a writable folder",
    errno.EIO: "Check the disk for errors",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.ENOTDIR: "A file is in the way of a folder with the same name; move the file away",
}
"""The next step for each operating system error."""

COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control characters: a terminal or a browser acts on them instead of showing them."""
JOINERS = "\u200c\u200d"
"""Control characters that are part of words and of emoji; they are not escaped."""


class TenorError(Exception):
    """A run that failed: exit status 1."""

    exit_code = 1
    run: Path | None = None
    """Folder of the run that failed, was refused or was interrupted; None if no run was created yet."""


class UserError(TenorError):
    """Wrong usage, a wrong configuration or an unreadable input: exit status 2."""

    exit_code = 2


class TextError(UserError):
    """A text that cannot be predicted; `position` is its zero-based index in the input."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class RefusedError(TenorError):
    """A check refused or stopped a run, or reported an error in a result: exit status 3."""

    exit_code = 3


class InterruptedRunError(TenorError):
    """Stopped by a signal after a checkpoint was written: exit status 130, as shells report SIGINT."""

    exit_code = 130


@contextmanager
def errors_of_run(run: Path) -> Iterator[None]:
    """Attach the run's folder to every exception raised in the block, bugs included; `run_of` reads it."""
    try:
        yield
    except BaseException as error:
        with suppress(AttributeError):  # Another library's exception may be immutable.
            error.run = run  # type: ignore[attr-defined]
        raise


def run_of(error: BaseException) -> Path | None:
    """The folder of the run that an error ended; None if no run was created yet."""
    return getattr(error, "run", None)


def is_command(character: str) -> bool:
    """Whether a terminal or a browser acts on this character instead of showing it."""
    return unicodedata.category(character) in COMMANDS and character not in JOINERS


def harmless(message: str) -> str:
    """The message with its control characters escaped: it may quote a file or another library."""
    return "".join(repr(char)[1:-1] if is_command(char) and char != "\n" else char for char in message)


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, or its class if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).removesuffix(".")


def system_refusal(error: BaseException) -> str | None:
    """The message for an operating system error such as a full disk, with the next step; None for other errors."""
    number = error.errno if isinstance(error, OSError) else None
    # safetensors and Arrow give the error number only in the message; NumPy's message for a short write has none.
    if number is None and (match := re.search(r"(?:os error|errno) (\d+)", str(error), re.IGNORECASE)):
        number = int(match[1])
    if number is None and isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
        number = errno.ENOSPC
    if number not in REFUSALS:
        return None
    filename = getattr(error, "filename", None)
    return f"{f'{filename}: ' if filename else ''}{os.strerror(number)}. {REFUSALS[number]}"


@contextmanager
def advice_on_memory(phase: str, fix: str) -> Iterator[None]:
    """Report an out-of-memory error in the block with its phase ("in training") and the setting that helps.

    Blocks may be nested: the innermost one reports.

    Raises:
        TenorError: memory ran out. Every other error is raised unchanged.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TenorError(f"memory ran out {phase}: {fix}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether another library reports that memory ran out."""
    # PyTorch has an exception class only for GPUs; its CPU allocator raises RuntimeError. So do cuBLAS and libraries
    # written in Rust, each with a different message.
    message = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
    is_reported = isinstance(error, MemoryError) or any(word in message for word in words)
    return is_reported and not isinstance(error, TenorError)
