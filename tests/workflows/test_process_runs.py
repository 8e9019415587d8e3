"""Whole runs in several processes: one folder, one report, one message, and a resume on any number of them."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from forked import Commands, Ended, Fault
from same_end import differences, timeless
from small_runs import write_config
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import list_checkpoints

slow = pytest.mark.slow
# A process waits ten seconds for the reason of another one that has ended.
pytestmark = pytest.mark.alone

SETTINGS = ("training.trackers=[tensorboard]", "model.dropout=0.0", "training.learning_rate=3e-4")
LOOP = "tenor.training.loop"


def train(
    commands: Commands, folder: Path, model: Path, *settings: str, count: int = 2, **options: object
) -> list[Ended]:
    arguments = ("train", str(write_config(folder, model)), *SETTINGS, *settings)
    return commands.run_group(folder, *arguments, count=count, **options)  # type: ignore[arg-type]


def only_run(folder: Path) -> RunDirectory:
    (run,) = list_runs(folder / "runs")
    return run


def statuses(ended: list[Ended]) -> list[int]:
    return [one.status for one in ended]


def messages(ended: list[Ended]) -> list[str]:
    """What follows `tenor: `, of all processes."""
    assert not any("Traceback" in one.output for one in ended), "\n".join(one.output for one in ended)
    return [part for one in ended for part in one.output.split("\ntenor: ")[1:]] + [
        one.output.removeprefix("tenor: ") for one in ended if one.output.startswith("tenor: ")
    ]


def resume_words(message: str) -> list[str]:
    """The arguments of the command that a message ends with."""
    command = message.replace("\n", " ").rpartition("Resume with: ")[2]
    assert command.startswith("torchrun --nproc-per-node 2 -m tenor train --resume ")
    return command.split(" -m tenor ")[1].split()


def losses(run: RunDirectory) -> list[tuple[str, int, float]]:
    return [(one["kind"], one["step"], one["loss"]) for one in timeless(run) if "loss" in one]


def assert_like(one: RunDirectory, other: RunDirectory) -> None:
    """The same losses, and probabilities of the same rows."""
    assert [record[:2] for record in losses(one)] == [record[:2] for record in losses(other)]
    assert [record[2] for record in losses(one)] == pytest.approx([record[2] for record in losses(other)], rel=1e-5)
    for split, rows in (("validation", 16), ("test", 20)):
        tables = [pq.read_table(run.predictions / f"{split}.parquet").to_pylist() for run in (one, other)]
        assert [row["id"] for row in tables[0]] == [row["id"] for row in tables[1]]
        assert len({row["id"] for row in tables[0]}) == rows
    results = [json.loads(run.evaluation.read_text()) for run in (one, other)]
    assert results[0]["test"]["confusion_matrix"] == results[1]["test"]["confusion_matrix"]
    assert results[0]["test"]["loss"] == pytest.approx(results[1]["test"]["loss"], rel=1e-3)  # After a calibration.


@pytest.fixture(scope="module")
def alone(commands: Commands, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("alone")
    ended = commands.run(folder, "train", str(write_config(folder, small_model)), *SETTINGS)
    assert ended.status == 0, ended.output
    return only_run(folder)


@pytest.fixture(scope="module")
def of_two(commands: Commands, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("of-two")
    ended = train(commands, folder, small_model)
    assert statuses(ended) == [0, 0], ended
    assert ended[1].output == ""
    return only_run(folder)


@slow
def test_two_processes_leave_one_run_like_that_of_one(of_two: RunDirectory, alone: RunDirectory) -> None:
    assert_like(of_two, alone)
    manifest = read_manifest(of_two)
    assert (manifest.status, manifest.processes, manifest.threads) == ("completed", 2, 1)
    assert [path.name for path in list_checkpoints(of_two.checkpoints)] == [
        path.name for path in list_checkpoints(alone.checkpoints)
    ]
    (row,) = read_summary(of_two.path.parent.parent)
    assert row.status == "completed"
    assert of_two.report.is_file()
    assert not list(of_two.path.rglob(".tmp-*"))


# In both orders of ranks, and where the other one waits for the main process.
KILLS = {
    "the main process, in a step": {0: Fault(f"{LOOP}.set_rates", 6)},
    "another process, in a step": {1: Fault(f"{LOOP}.set_rates", 6)},
    "another process, between passes": {1: Fault("accelerate.Accelerator.backward", 8, "after")},
    "another process, in a validation": {1: Fault("tenor.training.together.predict", 2)},
    "the main process, in the preflight": {0: Fault("tenor.workflows.train.run_preflight")},
    "another process, in the evaluation": {1: Fault("tenor.training.together.predict", 5)},
    "the main process, when it saves the model": {0: Fault("tenor.workflows.train.save_model")},
}


@slow
@pytest.mark.parametrize("moment", KILLS)
def test_when_a_process_is_killed_all_end_with_one_message_and_the_command_that_resumes(
    moment: str, of_two: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    ended = train(commands, tmp_path, small_model, faults=KILLS[moment])
    (killed,) = KILLS[moment]
    assert statuses(ended)[killed] == -signal.SIGKILL
    assert statuses(ended)[1 - killed] == 1
    (message,) = messages(ended)
    resumed = commands.run_group(tmp_path, *resume_words(message))
    assert statuses(resumed) == [0, 0], resumed
    # The step after which a process was lost is checkpointed, too.
    assert [name for name in differences(only_run(tmp_path), of_two) if name != "checkpoints"] == []


@slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_run_is_resumed_by_another_number_of_processes(
    count: int, alone: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    ended = train(commands, tmp_path, small_model, faults={1: Fault(f"{LOOP}.set_rates", 6)})
    (message,) = messages(ended)
    resumed = (
        [commands.run(tmp_path, *resume_words(message))]
        if count == 1
        else commands.run_group(tmp_path, *resume_words(message), count=count)
    )
    assert statuses(resumed) == [0] * count, resumed
    assert f"processes was 2, here it is {count}" in resumed[0].output
    assert_like(only_run(tmp_path), alone)
    assert read_manifest(only_run(tmp_path)).processes == count


@slow
def test_a_run_of_one_process_is_resumed_by_two(
    alone: RunDirectory, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, small_model)
    commands.run(tmp_path, "train", str(config), *SETTINGS, fault=Fault(f"{LOOP}.set_rates", 6))
    resumed = commands.run_group(tmp_path, "train", "--resume", "latest")
    assert statuses(resumed) == [0, 0], resumed
    assert_like(only_run(tmp_path), alone)


@slow
@pytest.mark.parametrize(
    ("rank", "fault"),
    [
        (0, Fault(f"{LOOP}.save_checkpoint", 3, "full")),
        (0, Fault("tenor.training.checkpoint.save_file", 7, "full")),
        (1, Fault("tenor.workflows.run_task.make_examples", 1, "full")),
    ],
)
def test_a_full_disk_of_any_process_is_one_message(
    rank: int, fault: Fault, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    ended = train(commands, tmp_path, small_model, faults={rank: fault})
    assert statuses(ended) == [1, 1]
    (message,) = messages(ended)
    assert "No space left on device" in message
    resumed = commands.run_group(tmp_path, *resume_words(message))
    assert statuses(resumed) == [0, 0], resumed


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ranks", [(0, 1), (1,)])
def test_a_signal_to_any_process_stops_all_after_the_same_step_with_a_checkpoint(
    number: signal.Signals,
    ranks: tuple[int, ...],
    of_two: RunDirectory,
    commands: Commands,
    small_model: Path,
    tmp_path: Path,
) -> None:
    faults = {rank: Fault(f"{LOOP}.set_rates", 5, number=number) for rank in ranks}
    ended = train(commands, tmp_path, small_model, faults=faults)
    assert statuses(ended) == [130, 130], ended
    (message,) = messages(ended)
    assert f"{number.name} after step 5, which was checkpointed" in message
    assert read_manifest(only_run(tmp_path)).status == "interrupted"
    assert (only_run(tmp_path).checkpoint(5) / "manifest.json").is_file()
    resumed = commands.run_group(tmp_path, *resume_words(message))
    assert statuses(resumed) == [0, 0], resumed
    assert [name for name in differences(only_run(tmp_path), of_two) if name != "checkpoints"] == []


@slow
@pytest.mark.parametrize(
    ("settings", "status", "text"),
    [
        (("checks.policy=stop", "training.learning_rate=1e-12"), 3, "OPT021"),
        (("training.learning_rate=1e30",), 2, "a number from 0 to 10"),
        (("data.path=missing.csv",), 2, "missing.csv"),
        (("training.threads=1", "training.trackers=[wandb]"), 2, "wandb"),
    ],
)
def test_what_ends_the_main_process_ends_all_with_its_status_and_one_message(
    settings: tuple[str, ...], status: int, text: str, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    ended = train(commands, tmp_path, small_model, *settings)
    assert statuses(ended) == [status, status], ended
    (message,) = messages(ended)
    assert text in message


@slow
@pytest.mark.parametrize(
    "settings",
    [
        ("model.freeze=base",),
        ("training.ema_decay=0.9",),
        ("training.learning_rate=0.0", "training.patience=3", "training.epochs=5"),
        ("training.short_share=0.5",),
    ],
)
def test_every_way_to_train_gives_what_one_process_gives(
    settings: tuple[str, ...], commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    one = commands.run(
        tmp_path / "one", "train", str(write_config(tmp_path / "one", small_model)), *SETTINGS, *settings
    )
    assert one.status == 0, one.output
    two = train(commands, tmp_path / "two", small_model, *settings)
    assert statuses(two) == [0, 0], two
    assert_like(only_run(tmp_path / "two"), only_run(tmp_path / "one"))


@slow
def test_other_rows_in_one_process_are_refused(commands: Commands, small_model: Path, tmp_path: Path) -> None:
    """As on a machine with another version of the file: here, one process reads a row less."""
    ended = train(
        commands,
        tmp_path,
        small_model,
        faults={1: Fault("tenor.workflows.prepare.data_fingerprint", 1, "other")},
    )
    assert statuses(ended) == [2, 2], ended
    (message,) = messages(ended)
    assert "process 1 has other inputs than process 0: data" in message


@slow
def test_commands_of_one_process_refuse_a_launcher(commands: Commands, tmp_path: Path) -> None:
    for words in (("configs",), ("train", "demo", "--seeds", "2"), ("train", "--repeat", "latest")):
        ended = commands.run_group(tmp_path, *words)
        assert statuses(ended) == [2, 2]
        (message,) = messages(ended)
        assert "runs in one process" in message


@slow
def test_weights_of_the_saved_model_are_those_of_the_checkpoint(of_two: RunDirectory) -> None:
    best = json.loads(of_two.evaluation.read_text())["checkpoint"]["step"]
    saved, checkpoint = (load_file(folder / "model.safetensors") for folder in (of_two.model, of_two.checkpoint(best)))
    assert all(torch.equal(saved[name], weight) for name, weight in checkpoint.items())
