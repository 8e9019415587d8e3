"""The summary of all runs: no row is lost, no completed run lacks a checkpoint, and old runs are pruned."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tenor.config import load_config
from tenor.errors import UserError
from tenor.runs import summary as summary_module
from tenor.runs.directory import create_run, list_runs
from tenor.runs.manifest import new_manifest, update_manifest
from tenor.runs.missing import missing_because
from tenor.runs.summary import FILE_NAME, CheckpointRow, SummaryRow, prune, read_summary, remove_rows, upsert_row


def row(number: int, **changes) -> SummaryRow:
    return replace(SummaryRow(f"run-{number}", "demo", {"seed": None}, "running"), **changes)


def completed(root, **changes) -> SummaryRow:
    path = "demo/run-1/checkpoints/step-000010"
    (root / path).mkdir(parents=True, exist_ok=True)
    kept = CheckpointRow(path, 10, {"accuracy": 0.9}, "d" * 64)
    done = SummaryRow(
        run_id="run-1",
        config_name="demo",
        config=load_config("demo").model_dump(mode="json"),
        status="completed",
        duration_sec=1.5,
        ckpt_path=path,
        val_metrics={"accuracy": 0.9},
        test_metrics=missing_because("the dataset has no test split"),
        findings=({"code": "DAT001"},),
        checkpoints=(kept,),
    )
    return replace(done, **changes)


def test_rows_read_back_equal_and_are_replaced_in_place(tmp_path):
    assert read_summary(tmp_path) == []
    upsert_row(tmp_path, row(1))
    upsert_row(tmp_path, row(2))
    done = completed(tmp_path)
    upsert_row(tmp_path, done)
    assert read_summary(tmp_path) == [done, row(2)]
    remove_rows(tmp_path, [create_run(tmp_path, "demo")])
    assert len(read_summary(tmp_path)) == 2


def test_the_same_run_id_under_two_configurations_is_two_runs(tmp_path):
    upsert_row(tmp_path, row(1))
    upsert_row(tmp_path, row(1, config_name="other"))
    assert len(read_summary(tmp_path)) == 2


def test_threads_lose_no_row(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: upsert_row(tmp_path, row(number)), range(24)))
    assert {found.run_id for found in read_summary(tmp_path)} == {f"run-{number}" for number in range(24)}


def test_processes_lose_no_row(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tenor.runs.summary import SummaryRow, upsert_row\n"
        "for i in range(8): upsert_row(Path(sys.argv[1]), SummaryRow(f'{sys.argv[2]}-{i}', 'demo', {}, 'running'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len({found.run_id for found in read_summary(tmp_path)}) == 24


@pytest.mark.parametrize(
    "changes",
    [
        {"ckpt_path": None},
        {"ckpt_path": ""},
        {"ckpt_path": missing_because("none")},
        {"ckpt_path": "demo/run-1/checkpoints/step-000020"},
        {"val_metrics": None},
        {"val_metrics": {}},
        {"val_metrics": {"accuracy": None}},
        {"val_metrics": {"accuracy": float("nan")}},
        {"val_metrics": {"report": {"macro avg": {"f1": float("inf")}}}},
        {"val_metrics": missing_because("never validated")},
        {"test_metrics": None},
        {"test_metrics": {}},
        {"duration_sec": missing_because("unknown")},
        {"checkpoints": ()},
        {"status": "ok"},
    ],
)
def test_a_completed_run_has_a_checkpoint_and_metrics(tmp_path, changes):
    upsert_row(tmp_path, completed(tmp_path))
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(ValueError):
        upsert_row(tmp_path, completed(tmp_path, **changes))
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_failed_run_may_have_no_checkpoint_and_records_why(tmp_path):
    upsert_row(tmp_path, row(1, status="failed", ckpt_path=missing_because("failed at step 3"), error="no space left"))
    assert json.loads((tmp_path / FILE_NAME).read_text())[0]["error"] == "no space left"


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"run_id": "x"}]', "[", "[null]"])
def test_a_damaged_summary_is_refused_and_kept(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match=FILE_NAME):
        upsert_row(tmp_path, row(1))
    assert (tmp_path / FILE_NAME).read_text() == content


def three_runs(root):
    runs = []
    for name in ("demo", "demo", "other"):
        run = create_run(root, name)
        new_manifest(run, seed=1)
        update_manifest(run, status="failed")
        upsert_row(root, SummaryRow(run.run_id, name, {}, "failed"))
        runs.append(run)
    return runs


def test_pruning_keeps_the_newest_of_each_configuration_and_drops_the_rows(tmp_path):
    old, new, other = three_runs(tmp_path)
    assert prune(tmp_path, 1, dry_run=True).removed == (old,)
    assert old.path.exists()
    assert prune(tmp_path, 1).removed == (old,)
    assert list_runs(tmp_path) == [new, other]
    assert [found.run_id for found in read_summary(tmp_path)] == [new.run_id, other.run_id]
    assert list(tmp_path.glob("*/.*")) == []


def test_a_living_run_is_never_pruned(tmp_path, monkeypatch):
    old, new, other = three_runs(tmp_path)
    update_manifest(old, status="running")
    pruned = prune(tmp_path, 0)
    assert set(pruned.removed) == {new, other}
    assert pruned.still_running == (old,)
    monkeypatch.setattr(summary_module, "process_lives", lambda _: False)
    assert prune(tmp_path, 0).removed == (old,)


def test_nothing_is_pruned_where_something_is_wrong(tmp_path):
    runs = three_runs(tmp_path)
    with pytest.raises(UserError, match="keep_last"):
        prune(tmp_path, -1)
    runs[1].manifest.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        prune(tmp_path, 0)
    assert all(run.path.exists() for run in runs)
