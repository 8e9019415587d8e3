"""A process that is killed at any moment is resumed to the result of an uninterrupted one."""

import signal
from pathlib import Path

import pytest

from forked import Commands, Fault
from same_end import differences
from small_runs import write_config
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")]

SETTINGS = ("training.trackers=[tensorboard]",)
STOPPING = (*SETTINGS, "training.learning_rate=0.0", "training.patience=3", "training.epochs=5")
LOOP, CHECKPOINT, TRAIN = "tenor.training.loop", "tenor.training.checkpoint", "tenor.workflows.train"

# A small run has 12 steps, in two epochs; 3, 6, 9 and 12 are validated, these and every even one are checkpointed.
MOMENTS = {
    "before the first checkpoint": Fault(f"{LOOP}.set_rates", 2),
    "mid-accumulation": Fault("accelerate.Accelerator.backward", 8, "after"),
    "mid-epoch": Fault(f"{LOOP}.set_rates", 6),
    "between an update and its record": Fault(f"{LOOP}._record", 4),
    "between epochs": Fault(f"{LOOP}.epoch_batches", 2),
    "during validation": Fault("tenor.measures.objective.measure", 2),
    "between a validation and its checkpoint": Fault(f"{LOOP}.save_checkpoint", 4),
    "checkpoint: weights half written": Fault(f"{CHECKPOINT}.save_file", 1, "half", "step-000006"),
    "checkpoint: moments half written": Fault(f"{CHECKPOINT}.save_file", 2, "half", "step-000006"),
    "checkpoint: without its manifest": Fault(f"{CHECKPOINT}.write_text", 1, "before", "step-000006"),
    "checkpoint: before the rename": Fault("tenor.runs.files._take_place", 1, "before", "step-000006"),
    "checkpoint: after the rename": Fault("tenor.runs.files._take_place", 1, "after", "step-000006"),
    "checkpoint: an old one half removed": Fault("tenor.runs.files.shutil.rmtree", 2, "before", "step-"),
    "checkpoint: the last one written, none removed": Fault(f"{LOOP}._drop_old_checkpoints", 9),
    "evaluation: before the model is saved": Fault(f"{TRAIN}.save_model"),
    "evaluation: the model saved": Fault(f"{TRAIN}.save_model", 1, "after"),
    "evaluation: the baseline saved": Fault(f"{TRAIN}.fit_baselines", 1, "after"),
    "evaluation: half of the predictions": Fault(f"{TRAIN}.write_predictions", 1, "after"),
    "evaluation: before its file": Fault(f"{TRAIN}.evaluation_json", 1, "after"),
    "evaluation: before its row": Fault("tenor.workflows.outcome.upsert_row"),
    "evaluation: before the manifest says so": Fault("tenor.workflows.outcome.upsert_row", 1, "after"),
    "evaluation: before the model's card": Fault(f"{TRAIN}.evaluation_report"),
}


def whole_run(folder: Path, commands: Commands, model: Path, settings: tuple[str, ...]) -> RunDirectory:
    ended = commands.run(folder, "train", str(write_config(folder, model)), *settings)
    assert ended.status == 0, ended.output
    return only_run(folder)


@pytest.fixture(scope="module")
def whole(commands: Commands, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return whole_run(tmp_path_factory.mktemp("whole"), commands, small_model, SETTINGS)


def only_run(folder: Path) -> RunDirectory:
    (run,) = list_runs(folder / "runs")
    return run


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_is_resumed_exactly(
    moment: str, whole: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, small_model)
    killed = commands.run(tmp_path, "train", str(config), *SETTINGS, fault=MOMENTS[moment])
    assert killed.status == -signal.SIGKILL, killed.output
    run = only_run(tmp_path)
    assert read_manifest(run).status == "running"
    resumed = commands.run(tmp_path, "train", "--resume", "latest")
    assert resumed.status == 0, resumed.output
    assert differences(run, whole) == []
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == read_manifest(run).status == "completed"


def test_a_run_killed_repeatedly_is_resumed_exactly(
    whole: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, small_model)
    arguments = ["train", str(config), *SETTINGS]
    for call in (3, 2, 3, 2, 3):
        killed = commands.run(tmp_path, *arguments, fault=Fault(f"{LOOP}.set_rates", call))
        assert killed.status == -signal.SIGKILL, killed.output
        arguments = ["train", "--resume", "latest"]
    assert commands.run(tmp_path, *arguments).status == 0
    assert differences(only_run(tmp_path), whole) == []


@pytest.mark.parametrize("validation", [2, 3])
def test_early_stopping_continues_after_a_kill(
    validation: int, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    whole = whole_run(tmp_path / "whole", commands, small_model, STOPPING)
    config = write_config(tmp_path / "cut", small_model)
    fault = Fault(f"{LOOP}.save_checkpoint", 2 * validation, "after")
    killed = commands.run(tmp_path / "cut", "train", str(config), *STOPPING, fault=fault)
    assert killed.status == -signal.SIGKILL, killed.output
    assert commands.run(tmp_path / "cut", "train", "--resume", "latest").status == 0
    assert differences(only_run(tmp_path / "cut"), whole) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "function",
    [
        f"{TRAIN}.run_preflight",
        f"{LOOP}.set_rates",
        "tenor.measures.objective.measure",
        f"{TRAIN}.save_model",
        f"{TRAIN}.write_predictions",
    ],
)
def test_a_signal_ends_a_run_cleanly_with_the_command_to_resume(
    function: str, number: signal.Signals, whole: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, small_model)
    ended = commands.run(tmp_path, "train", str(config), *SETTINGS, fault=Fault(function, number=number))
    run = only_run(tmp_path)
    assert ended.status == 130, ended.output
    assert "Traceback" not in ended.output
    assert number.name in ended.output
    advice = ended.output.replace("\n", " ").rpartition("Resume with: tenor ")[2].split()
    assert read_manifest(run).status == "interrupted"
    resumed = commands.run(tmp_path, *advice)
    assert resumed.status == 0, resumed.output
    # A checkpoint at the moment of the signal is one more than a run without a signal has.
    assert [name for name in differences(run, whole) if name != "checkpoints"] == []
