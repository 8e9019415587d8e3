"""What can go wrong for a user, and the exit status that each ends with.

Raise one of these where a person can mend the cause: the message says what was found, what was
expected and the next step. Anything else that escapes is a defect of Tenor and keeps its traceback.
"""


class TenorError(Exception):
    """A run that failed: exit status 1."""

    exit_code = 1


class UserError(TenorError):
    """Wrong usage, a wrong configuration or an unreadable input: exit status 2."""

    exit_code = 2


class TextError(UserError):
    """A text that can't be predicted; `position` is its place among those given, counted from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class RefusedError(TenorError):
    """A check refused to start, or stopped, a run: exit status 3."""

    exit_code = 3


class InterruptedRunError(TenorError):
    """Stopped by a signal after a checkpoint was written: exit status 130, as shells report SIGINT."""

    exit_code = 130
