"""Who follows a run from outside, such as a sweep that may end it early."""

from collections.abc import Callable
from dataclasses import dataclass

from tenor.runs.directory import RunDirectory
from tenor.training.state import Validation


@dataclass(frozen=True)
class Follower:
    """Hears of a run while it goes on. What it raises ends the run: an InterruptedRunError leaves one to be resumed."""

    on_begin: Callable[[RunDirectory], None] = lambda run: None
    """The run has its folder, and its manifest says on what it rests."""
    on_validation: Callable[[Validation], None] = lambda validation: None


NO_ONE = Follower()
