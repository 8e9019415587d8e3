"""The loop: interruptions, failed writes and signals do not change the result; which checkpoints are kept."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenor.errors import InterruptedRunError, TenorError
from tenor.inference.logits import predict
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json, sha256_file, write_json
from tenor.runs.step_records import read_records
from tenor.training import checkpoint as checkpoint_module
from tenor.training.checkpoint import (
    Checkpoint,
    TrainState,
    Validation,
    Window,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from tenor.training.loop import Callbacks, fit
from tenor.training.recorder import Recorder
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import make_accelerator
from training_tasks import Cut, cut_after, differing, make_task, run_task, weights, without_timings

# Exact resume. Six steps per epoch; validations after 3, 6, 9, 12; checkpoints there and after 2, 4, 8, 10; records
# after 5, 10 and, of what is left, 12.

RESUMABLE: dict[str, Any] = {
    "epochs": 2, "evaluate_every": 0.5, "checkpoint_every": 2, "log_every": 5, "keep_last": 2, "patience": 50
}  # fmt: skip


@dataclasses.dataclass
class Finished:
    weights: dict[str, torch.Tensor]
    state: TrainState
    records: list[dict[str, Any]]
    predictions: np.ndarray
    checkpoints: dict[str, str]


def _resumable_task(folder: Path, tmp_path: Path) -> TrainingTask:
    return make_task(folder, tmp_path / "checkpoints", model={"dropout": 0.3}, **RESUMABLE)


def _recorded(recorder: Recorder, cut_at: tuple[str, int] | None = None) -> Callbacks:
    def cut(place: str, step: int) -> None:
        if cut_at == (place, step):
            raise Cut

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        recorder.record("train", step, **values)
        cut("record", step)

    def on_validation(validation: Validation) -> None:
        recorder.record("validation", validation.step, **validation.metrics)
        cut("validation", validation.step)

    return Callbacks(on_record=on_record, on_step=lambda state: cut("step", state.step), on_validation=on_validation)


def _result(task: TrainingTask, state: TrainState, run: RunDirectory) -> Finished:
    records = read_records(run.metrics)
    for record in records:
        record.pop("tokens_per_second", None)
    digests = {path.name: verify_checkpoint(path).digest for path in list_checkpoints(task.checkpoints)}
    return Finished(weights(task), state, records, predict(task.model, task.validation, task.plan), digests)


def _uninterrupted(folder: Path, path: Path) -> Finished:
    path.mkdir()
    task, run = _resumable_task(folder, path), RunDirectory(path)
    return _result(task, run_task(task, callbacks=_recorded(Recorder(run, ()))), run)


def _cut_and_resumed(folder: Path, path: Path, *cuts: tuple[str, int]) -> Finished:
    path.mkdir()
    run = RunDirectory(path)
    for cut in (*cuts, None):
        task = _resumable_task(folder, path)
        torch.manual_seed(999)  # Whatever another process did before must not matter.
        found = list_checkpoints(task.checkpoints)
        newest = verify_checkpoint(found[-1]) if found else None
        callbacks = _recorded(Recorder(run, (), newest.step if newest else 0), cut)
        if cut is None:
            return _result(task, run_task(task, newest, callbacks), run)
        with pytest.raises(Cut):
            run_task(task, newest, callbacks)
    raise AssertionError


@pytest.fixture(scope="module")
def uninterrupted(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return _uninterrupted(small_model, tmp_path_factory.mktemp("uninterrupted") / "run")


CUTS: list[tuple[tuple[str, int], ...]] = [
    (("step", 1),),  # before any checkpoint
    (("step", 4),),  # right after one, mid-epoch
    (("step", 5),),  # one step after it
    (("validation", 3),),  # measured, not yet saved
    (("step", 6),),  # between epochs, right after a validation
    (("step", 7),),  # the first step of an epoch
    (("record", 10),),  # recorded, not yet saved
    (("record", 12),),  # the last record, before the last validation
    (("validation", 12),),  # at the very end
    (("step", 3), ("step", 5), ("record", 10), ("step", 11)),
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(
    cuts: tuple[tuple[str, int], ...], uninterrupted: Finished, small_model: Path, tmp_path: Path
) -> None:
    resumed = _cut_and_resumed(small_model, tmp_path / "run", *cuts)
    assert differing(resumed.weights, uninterrupted.weights) == []
    assert resumed.records == uninterrupted.records
    assert without_timings(resumed.state) == without_timings(uninterrupted.state)
    assert resumed.checkpoints == uninterrupted.checkpoints
    np.testing.assert_array_equal(resumed.predictions, uninterrupted.predictions)
    steps = [(record["kind"], record["step"]) for record in resumed.records]
    assert len(set(steps)) == len(steps)
    assert [step for kind, step in steps if kind == "train"] == [5, 10, 12]


def test_resuming_a_finished_run_does_nothing(small_model: Path, tmp_path: Path) -> None:
    task = _resumable_task(small_model, tmp_path)
    state = run_task(task)
    end = weights(task)
    again = _resumable_task(small_model, tmp_path)
    newest = verify_checkpoint(list_checkpoints(again.checkpoints)[-1])
    finished = run_task(again, newest)
    assert without_timings(finished) == without_timings(state)
    assert finished.seconds == state.seconds
    assert differing(weights(again), end) == []


def test_the_time_of_a_training_includes_the_time_before_a_resume(small_model: Path, tmp_path: Path) -> None:
    task = _resumable_task(small_model, tmp_path)
    run_task(task)
    first = verify_checkpoint(list_checkpoints(task.checkpoints)[0])
    state = read_state(first)
    assert state.seconds > 0
    state.seconds += 3600
    write_json(first.path / "state.json", dataclasses.asdict(state))
    manifest = read_json(first.path / "manifest.json")
    manifest["sha256"]["state.json"] = sha256_file(first.path / "state.json")
    write_json(first.path / "manifest.json", manifest)
    resumed = run_task(_resumable_task(small_model, tmp_path), verify_checkpoint(first.path))
    assert resumed.seconds > state.seconds


def test_resume_restores_the_loss_scale_of_fp16(small_model: Path, tmp_path: Path) -> None:
    """The scaler is PyTorch's own; it works on a CPU too, where Tenor has no use for it."""

    def scaled_run(folder: Path, resume_from: Checkpoint | None = None, stop: Callbacks | None = None) -> TrainState:
        task = make_task(small_model, folder, epochs=2, checkpoint_every=1, keep_last=99, max_grad_norm=None)
        accelerator = make_accelerator(task.plan)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        try:
            return fit(task, accelerator, resume_from, stop)
        finally:
            accelerator.scaler = None

    whole = scaled_run(tmp_path / "whole")
    assert whole.loss_scale["scale"] == 4.0 * 2**6
    with pytest.raises(Cut):
        scaled_run(tmp_path / "cut", stop=cut_after(5))
    newest = verify_checkpoint(list_checkpoints(tmp_path / "cut")[-1])
    kept = read_state(newest).loss_scale
    assert (kept["scale"], kept["_growth_tracker"]) == (16.0, 1)
    resumed = scaled_run(tmp_path / "cut", newest)
    assert resumed.loss_scale == whole.loss_scale
    digests = [
        [verify_checkpoint(path).digest for path in list_checkpoints(tmp_path / name)] for name in ("whole", "cut")
    ]
    assert digests[0] == digests[1]


def test_going_on_from_an_older_checkpoint_keeps_the_new_ones_and_drops_the_stale(
    small_model: Path, tmp_path: Path
) -> None:
    """As after damage to the newest: the checkpoints of the abandoned future must not push out those that follow."""
    settings = {"epochs": 2, "learning_rate": 0.0, "checkpoint_every": 1, "keep_last": 1}
    run_task(make_task(small_model, tmp_path, **settings))
    best, newest = list_checkpoints(tmp_path)
    assert (best.name, newest.name) == ("step-000006", "step-000012")
    (newest / "state.json").write_text("damaged")
    with pytest.raises(Cut):
        run_task(make_task(small_model, tmp_path, **settings), verify_checkpoint(best), cut_after(8))
    assert [verify_checkpoint(path).step for path in list_checkpoints(tmp_path)] == [6, 8]


# What is kept, and when training ends.


@pytest.mark.parametrize("keep_last", [1, 3])
def test_the_best_and_the_newest_checkpoints_are_kept(keep_last: int, small_model: Path, tmp_path: Path) -> None:
    # A rate of 0 makes the first validation the best one.
    task = make_task(small_model, tmp_path, epochs=3, learning_rate=0.0, checkpoint_every=2, keep_last=keep_last)
    state = run_task(task)
    assert state.best is not None
    assert state.best.step == 6
    steps = [verify_checkpoint(path).step for path in list_checkpoints(tmp_path)]
    assert steps == sorted({6, *list(range(2, 19, 2))[-keep_last:]})


def test_resuming_from_an_earlier_checkpoint_keeps_the_best_up_to_it(small_model: Path, tmp_path: Path) -> None:
    """The newest may be the best and damaged; the one before it needs the best of its own time at the run's end."""
    task = make_task(small_model, tmp_path, epochs=3, keep_last=2, select_by="loss")
    state = run_task(task)
    assert state.best is not None
    kept = {verify_checkpoint(path).step for path in list_checkpoints(tmp_path)}
    for newest in (12, 18):
        before = state.best_at(newest, task.objective)
        assert before is not None
        assert {newest, before.step} <= kept


def test_patience_ends_training_and_an_interruption_does_not_prolong_it(small_model: Path, tmp_path: Path) -> None:
    settings = {"epochs": 9, "learning_rate": 0.0, "patience": 3}
    task = make_task(small_model, tmp_path / "whole", **settings)
    state = run_task(task)
    assert [v.step for v in state.validations] == [6, 12, 18, 24]
    assert state.finished
    assert verify_checkpoint(list_checkpoints(tmp_path / "whole")[-1]).step == 24

    with pytest.raises(Cut):
        run_task(make_task(small_model, tmp_path / "cut", **settings), callbacks=cut_after(14))
    newest = verify_checkpoint(list_checkpoints(tmp_path / "cut")[-1])
    assert newest.step == 12
    resumed = run_task(make_task(small_model, tmp_path / "cut", **settings), newest)
    assert without_timings(resumed) == without_timings(state)


def test_a_checkpoint_that_cannot_be_written_ends_training_and_leaves_the_last_one(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(small_model, tmp_path, checkpoint_every=2)
    real = checkpoint_module.save_file

    def full(tensors: Any, path: Path, **options: Any) -> None:
        if "step-000004" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path, **options)

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(TenorError, match=r"step-000004.*No space left"):
        run_task(task)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]
    verify_checkpoint(tmp_path / "step-000002")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["record", "step"])
def test_a_signal_ends_training_with_a_checkpoint_of_the_last_step(
    number: signal.Signals, place: str, small_model: Path, tmp_path: Path
) -> None:
    def send(step: int, at: str) -> None:
        if (step, at) == (3, place):
            os.kill(os.getpid(), number)

    callbacks = Callbacks(
        on_record=lambda step, values, window: send(step, "record"), on_step=lambda state: send(state.step, "step")
    )
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=number.name) as caught:
        run_task(make_task(small_model, tmp_path), callbacks=callbacks)
    newest = verify_checkpoint(list_checkpoints(tmp_path)[-1])
    assert f"after step {newest.step}," in str(caught.value)
    assert newest.step in (3, 4)
    assert signal.getsignal(number) == before

    resumed, whole = make_task(small_model, tmp_path), make_task(small_model, tmp_path / "whole")
    run_task(resumed, newest)
    run_task(whole)
    assert differing(weights(resumed), weights(whole)) == []


@pytest.mark.parametrize("place", ["validation", "step"])
def test_a_signal_during_the_last_step_interrupts_too(place: str, small_model: Path, tmp_path: Path) -> None:
    task = make_task(small_model, tmp_path, epochs=1)

    def send(step: int, at: str) -> None:
        if (step, at) == (task.total_steps, place):
            os.kill(os.getpid(), signal.SIGINT)

    callbacks = Callbacks(
        on_validation=lambda validation: send(validation.step, "validation"),
        on_step=lambda state: send(state.step, "step"),
    )
    with pytest.raises(InterruptedRunError, match=f"SIGINT after step {task.total_steps},"):
        run_task(task, callbacks=callbacks)
    newest = verify_checkpoint(list_checkpoints(tmp_path)[-1])
    resumed = make_task(small_model, tmp_path, epochs=1)
    state = run_task(resumed, newest)
    assert (newest.step, state.step, state.finished) == (task.total_steps, task.total_steps, True)
    assert differing(weights(resumed), weights(task)) == []
