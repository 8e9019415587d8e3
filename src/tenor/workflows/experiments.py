"""Several configurations in turn, past those that fail, and side by side at the end."""

import gc
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import InterruptedRunError, RefusedError, TenorError
from tenor.runs.directory import DEFAULT_ROOT
from tenor.runs.environment import absent
from tenor.runs.summary import SummaryRow, read_summary
from tenor.workflows.availability import require_available
from tenor.workflows.train import train


def run_experiments(
    names: Sequence[str], overrides: Sequence[str], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration, each with the overrides; a failed one is reported and the next one begun.

    Returns the rows of these runs, in their order, also of those that ended before there was a run: they left nothing.

    Raises:
        UserError: a configuration that can't be read, or names what is not there, before anything is run.
        InterruptedRunError: someone asked to stop; later configurations are not begun.
    """
    return run_configs([load_config(name, overrides) for name in names], root, console)


def run_configs(
    configs: Sequence[Config], root: Path = DEFAULT_ROOT, console: Console | None = None
) -> list[SummaryRow]:
    """Train every configuration; a failed one is reported and the next one begun.

    Returns the rows of these runs, in their order.

    Raises:
        UserError: a configuration that names a rule or a tracker that is not there, before anything is run.
        InterruptedRunError: someone asked to stop; later configurations are not begun.
    """
    for config in configs:
        require_available(config)
    console = console or Console(stderr=True, markup=False)
    rows: list[SummaryRow] = []
    for number, config in enumerate(configs, start=1):
        console.rule(f"{number} of {len(configs)}: {config.name}, seed {config.seed}")
        before = {(row.config_name, row.run_id) for row in read_summary(root)}
        error = _train_one(config, root, console)
        gc.collect()  # A watched model is held by its own hooks, and the next run needs its memory.
        # Another process may have added runs of its own meanwhile.
        ours = config.model_dump(mode="json")
        new = [row for row in read_summary(root) if (row.config_name, row.run_id) not in before and row.config == ours]
        rows += new or ([_never_begun(config, error)] if error is not None else [])
    return rows


def exit_status(rows: Sequence[SummaryRow], asked: int) -> int:
    """0 where all runs that were asked for completed, 3 where a check refused all others, else 1."""
    stopped = {row.status for row in rows} - {"completed"}
    if len(rows) == asked and stopped <= {"refused"}:
        return RefusedError.exit_code if stopped else 0
    return TenorError.exit_code


def _train_one(config: Config, root: Path, console: Console) -> str | None:
    """Train; what ended it, in words: the error itself would hold the run's memory while the next one trains."""
    try:
        train(config, root, console)
    except (InterruptedRunError, KeyboardInterrupt):
        raise
    except TenorError as error:
        console.print(f"{config.name} did not complete: {error}", style="red", soft_wrap=True, markup=False)
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # A defect in one run must not take the others with it; it is shown whole.
        console.print(traceback.format_exc(), style="red", soft_wrap=True, markup=False)
        return f"{type(error).__name__}: {error}"
    return None


def _never_begun(config: Config, error: str) -> SummaryRow:
    """The row of a configuration that ended before there was a run, and so without one in the summary."""
    none = absent("the run did not begin")
    settings = config.model_dump(mode="json")
    return SummaryRow("none", config.name, settings, "failed", 0.0, none, none, none, error=error)
