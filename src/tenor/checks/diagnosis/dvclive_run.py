"""Folders of DVCLive: a table per metric, `plots/metrics/train/loss.tsv`, the splits in folders; `params.yaml`."""

from itertools import islice
from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import History, Series, history_evidence
from tenor.checks.diagnosis.history_files import histories_in
from tenor.errors import UserError

PLOTS = Path("plots", "metrics")
LAST_VALUES = "metrics.json"
MAX_METRICS = 200


def dvclive_tables(path: Path) -> list[Path]:
    """The tables of metrics in a folder, at most `MAX_METRICS`; empty if it is none of DVCLive."""
    place = path / PLOTS
    return sorted(islice(place.rglob("*.tsv"), MAX_METRICS)) if place.is_dir() else []


def read_dvclive_folder(path: Path) -> list[Artifacts]:
    """The metrics of all splits as those of one run. Raises UserError if none of them is known."""
    tables, series, numbered = dvclive_tables(path), dict[str, Series](), True
    for table in tables:
        folder = table.parent.relative_to(path / PLOTS).as_posix()
        for history in histories_in(table)[0].values():
            for name, values in history.series.items():
                series[name if folder == "." else f"{folder}/{name}"] = values
                # Steps without a gap are the calls of `next_step()`, usually one per epoch.
                numbered = numbered and sorted(values) == list(range(min(values), min(values) + len(values)))
    evidence = history_evidence(History(series, numbered=numbered))
    if not evidence:
        raise UserError(
            f"{path}: DVCLive's metrics {', '.join(list(series)[:8]) or '(none)'}, of which none is known. Expected a "
            f"loss, or an accuracy with val or test in its name: live.log_metric('val/acc', value)."
        )
    return [Artifacts("a run of DVCLive", evidence, files=(*tables, path / LAST_VALUES))]
