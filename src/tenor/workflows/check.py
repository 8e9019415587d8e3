"""`tenor check`: prepare a run as if to train it, and apply the rules."""

from tenor.checks.finding import Report
from tenor.config.schema import Config
from tenor.workflows.preflight import run_preflight
from tenor.workflows.prepare import prepare


def check(config: Config, deep: bool = False) -> Report:
    """Everything that can be known about a run before its first step.

    Raises:
        UserError: what could not be read or understood at all.
    """
    return run_preflight(prepare(config), deep)
