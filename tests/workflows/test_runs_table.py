"""The list of runs fits a terminal and is complete."""

import io
from pathlib import Path

from rich.console import Console

from tenor.console.run_list import all_runs, experiments_table
from tenor.runs.directory import create_run
from tenor.runs.files import read_json, write_json
from tenor.runs.manifest import new_manifest, update_manifest
from tenor.runs.missing import missing_because
from tenor.runs.summary import SummaryRow, upsert_row

METRICS = {"n": 2000, "accuracy": 1.0, "baselines": {"text": 1.0}}


def _shown(rows: list[SummaryRow], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(experiments_table(rows))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_row_is_one_line_of_80_columns() -> None:
    row = SummaryRow("20261122-211819-ff6321", "imdb_minilm_freeze_and_more_words", {}, "interrupted", 36000.0)
    shown = _shown([SummaryRow(**{**vars(row), "val_metrics": METRICS, "test_metrics": METRICS})])
    (line,) = [line for line in shown.splitlines() if row.run_id in line]
    assert line.split() == [row.run_id, "interrupted", "100.00%", "100.00%", "100.00%", "10.0", "h"]
    assert row.config_name in "".join(shown.split())


def test_the_reason_why_a_run_ended_is_below_the_table() -> None:
    row = SummaryRow("20261122-211819-ff6321", "demo", {}, "failed", 1.0, error="UserError: [red]no such column[/]")
    assert "demo/20261122-211819-ff6321: UserError: [red]no such column[/]" in " ".join(_shown([row]).split())


def test_a_run_that_could_not_write_its_end_is_listed(tmp_path: Path) -> None:
    ended, going, killed = (create_run(tmp_path, "demo") for _ in range(3))
    for run in (ended, going, killed):
        new_manifest(run, 1)
    update_manifest(ended, status="failed")
    upsert_row(tmp_path, SummaryRow(ended.run_id, "demo", {}, "failed", 1.0, *[missing_because("it failed")] * 3))
    write_json(killed.manifest, {**read_json(killed.manifest), "pid_born": 1.0})
    assert {row.run_id: row.status for row in all_runs(tmp_path)} == {
        ended.run_id: "failed",
        going.run_id: "running",
        killed.run_id: "killed",
    }
    assert f"tenor train --resume {killed.path}" in _shown(all_runs(tmp_path), 300)


def test_a_resumed_run_is_shown_with_its_present_status(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo")
    new_manifest(run, 1)
    upsert_row(tmp_path, SummaryRow(run.run_id, "demo", {}, "interrupted", 1.0, *[missing_because("stopped")] * 3))
    assert [row.status for row in all_runs(tmp_path)] == ["running"]
