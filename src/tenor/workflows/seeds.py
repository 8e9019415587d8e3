"""The same configuration with several seeds: what it reaches on average, and how far chance moves it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.runs.environment import absent
from tenor.runs.summary import SummaryRow
from tenor.workflows.experiments import run_configs

MEASURES = {"accuracy": "{:.2%}", "macro_f1": "{:.4f}", "loss": "{:.4f}"}
SPLITS = ("validation", "test")
WHAT_VARIES = (
    "The spread is the standard deviation between runs. The seed decides the validation and training rows, the order "
    "of examples, the head's first weights and dropout, so all of these are in it; the test rows are the same."
)


@dataclass(frozen=True)
class Spread:
    """Of n values; the standard deviation (n - 1 in the denominator) needs two."""

    n: int
    mean: float
    deviation: float | None


def train_seeds(config: Config, count: int, root: Path) -> list[SummaryRow]:
    """Ordinary runs with `count` consecutive seeds from the configuration's on; one that fails does not stop the rest.

    Raises:
        UserError: fewer seeds than 2.
        InterruptedRunError: someone asked to stop; later seeds are not begun.
    """
    if count < 2:
        raise UserError(f"--seeds {count}: expected 2 or more; a spread needs them")
    return run_configs([config.model_copy(update={"seed": config.seed + k}) for k in range(count)], root)


def spreads(rows: Sequence[SummaryRow]) -> dict[str, dict[str, Spread]]:
    """By split and measure, over the runs that completed; a split that none has is left out."""
    found: dict[str, dict[str, Spread]] = {}
    for split in SPLITS:
        metrics = [_metrics(row, split) for row in rows if row.status == "completed"]
        values = [one for one in metrics if "accuracy" in one]
        if values:
            found[split] = {name: _spread([float(one[name]) for one in values]) for name in MEASURES}
    return found


def seeds_record(rows: Sequence[SummaryRow]) -> dict[str, Any]:
    """The runs and their spread as plain data."""
    summary = {
        split: {
            name: {"n": one.n, "mean": one.mean, "deviation": absent("needs two runs that completed")}
            if one.deviation is None
            else asdict(one)
            for name, one in measures.items()
        }
        for split, measures in spreads(rows).items()
    }
    return {"what_varies": WHAT_VARIES, "summary": summary, "runs": [asdict(row) for row in rows]}


def seeds_table(rows: Sequence[SummaryRow]) -> RenderableType:
    """One line per seed, and below them mean ± spread."""
    found = spreads(rows)
    columns = [(split, name) for split in found for name in ("accuracy", "macro_f1")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("seed", justify="right")
    table.add_column("run", overflow="fold")
    for split, name in columns:
        table.add_column(f"{split}\n{name.replace('_f1', ' F1')}", justify="right", no_wrap=True)
    for row in rows:
        metrics = [(_metrics(row, split), name) for split, name in columns]
        cells = [MEASURES[name].format(one[name]) if name in one else "-" for one, name in metrics]
        done = row.status == "completed"
        told = Text(row.run_id) if done else Text(f"{row.run_id} {row.status}", style="red")
        table.add_row(str(row.config["seed"]), told, *cells)
        if not done and isinstance(row.error, str):
            table.add_row("", Text(row.error, style="red"))
    if columns:
        n = next(iter(found[columns[0][0]].values())).n
        table.add_section()
        table.add_row("", f"mean, n = {n}", *(MEASURES[m].format(found[s][m].mean) for s, m in columns), style="bold")
        table.add_row("", "± spread", *(_deviation(found[split][name], name) for split, name in columns), style="bold")
    return Group(table, Text(WHAT_VARIES, style="dim"))


def _metrics(row: SummaryRow, split: str) -> Any:
    return row.test_metrics if split == "test" else row.val_metrics


def _spread(values: list[float]) -> Spread:
    return Spread(len(values), mean(values), stdev(values) if len(values) > 1 else None)


def _deviation(one: Spread, name: str) -> str:
    return "-" if one.deviation is None else MEASURES[name].format(one.deviation)
