"""Runs side by side. Imports nothing of PyTorch: a list of runs must not take seconds."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tenor.evaluation.words import duration
from tenor.runs.environment import is_absent
from tenor.runs.summary import SummaryRow


def experiments_table(rows: Sequence[SummaryRow]) -> Table:
    """One line per run: status, accuracies, loss, time."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("status")
    for header in ("validation", "test", "text baseline", "time"):
        table.add_column(header, justify="right")
    for row in rows:
        color = "" if row.status == "completed" else "red"
        table.add_row(
            Text(f"{row.config_name}/{row.run_id}"),
            Text(row.status, style=color),
            _accuracy(row.val_metrics),
            _accuracy(row.test_metrics),
            _baseline(row.test_metrics) if "baselines" in row.test_metrics else _baseline(row.val_metrics),
            "-" if is_absent(row.duration_sec) else duration(float(row.duration_sec)),  # type: ignore[arg-type]
        )
        if isinstance(row.error, str):
            table.add_row(Text(f"  {row.error}", style="red"))
    return table


def _accuracy(metrics: object) -> str:
    return f"{metrics['accuracy']:.2%}" if isinstance(metrics, dict) and "accuracy" in metrics else "-"


def _baseline(metrics: object) -> str:
    text = metrics.get("baselines", {}).get("text") if isinstance(metrics, dict) else None
    return f"{text:.2%}" if isinstance(text, float) else "-"
