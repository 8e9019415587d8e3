"""The table of runs. Does not import PyTorch, so that listing runs takes no seconds."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenor.evaluation.formatting import duration
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import Manifest, process_lives, read_manifest
from tenor.runs.missing import is_missing
from tenor.runs.summary import SummaryRow, read_summary

RUN_ID = 22
"""Characters."""


def all_runs(root: Path) -> list[SummaryRow]:
    """The summary's rows, and one for each run that is running, or was killed before it could write its row."""
    rows = {(row.config_name, row.run_id): row for row in read_summary(root)}
    for run in list_runs(root):
        manifest, key = read_manifest(run), (run.config_name, run.run_id)
        if manifest.status == "running" or key not in rows:
            rows[key] = _unfinished(run, manifest)
    return list(rows.values())


def experiments_table(rows: Sequence[SummaryRow]) -> RenderableType:
    """A line per run below its configuration's name: status, accuracies, time; errors of failed runs below."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold", max_width=RUN_ID + 2)
    table.add_column("status", no_wrap=True)
    for header in ("validation", "test", "text\nbaseline", "time"):
        table.add_column(header, justify="right", no_wrap=True)
    # The configuration is on a separate line: with its name, a run's id would not fit into 80 columns.
    for name in dict.fromkeys(row.config_name for row in rows):
        table.add_row(Text(name, style="bold"))
        for row in (row for row in rows if row.config_name == name):
            table.add_row(*_cells(row))
    errors = [Text(f"{row.config_name}/{row.run_id}: {row.error}", "red") for row in rows if isinstance(row.error, str)]
    return Group(table, *errors)


def _unfinished(run: RunDirectory, manifest: Manifest) -> SummaryRow:
    if manifest.status != "running" or process_lives(manifest):
        return SummaryRow(run.run_id, run.config_name, {}, manifest.status, error=manifest.error)
    error = f"its process no longer exists; resume it: tenor train --resume {run.path}"
    # Not a status that a run records: a killed process cannot write it.
    return SummaryRow(run.run_id, run.config_name, {}, "killed", error=error)  # type: ignore[arg-type]


def _cells(row: SummaryRow) -> list[Text]:
    seconds = None if is_missing(row.duration_sec) else float(row.duration_sec)  # type: ignore[arg-type]
    return [
        Text(f"  {row.run_id}"),
        Text(row.status, style="" if row.status in ("completed", "running") else "red"),
        Text(_accuracy(row.val_metrics)),
        Text(_accuracy(row.test_metrics)),
        Text(_baseline(row.test_metrics if "baselines" in row.test_metrics else row.val_metrics)),
        Text("-" if seconds is None else duration(seconds)),
    ]


def _accuracy(metrics: object) -> str:
    return f"{metrics['accuracy']:.2%}" if isinstance(metrics, dict) and "accuracy" in metrics else "-"


def _baseline(metrics: object) -> str:
    text = metrics.get("baselines", {}).get("text") if isinstance(metrics, dict) else None
    return f"{text:.2%}" if isinstance(text, float) else "-"
