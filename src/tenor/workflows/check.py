"""`tenor check`: prepare a run as if to train it, and apply the rules."""

from rich.console import Console

from tenor.checks.finding import Report
from tenor.config.schema import Config
from tenor.data.splits import data_notes
from tenor.workflows.preflight import run_preflight
from tenor.workflows.prepare import prepare
from tenor.workflows.show_notes import show_notes


def check(config: Config, deep: bool = False, console: Console | None = None) -> Report:
    """Everything that can be known about a run before its first step. Notes on how the rows were read go to `console`,
    which is stderr by default.

    Raises:
        UserError: what could not be read or understood at all.
    """
    prepared = prepare(config)
    show_notes(console or Console(stderr=True, markup=False), data_notes(prepared.splits))
    return run_preflight(prepared, deep)
