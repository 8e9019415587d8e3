"""Each step is recorded exactly once, also after an interruption."""

import errno
import json
from pathlib import Path

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from matplotlib.figure import Figure

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.step_records import read_records
from tenor.training.recorder import Recorder


def tensorboard_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, from every event file below `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: dict[str, list[tuple[int, float]]] = {}
    for part in sorted({file.parent for file in folder.rglob("events.out.*")}):
        accumulator = EventAccumulator(str(part), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            events.setdefault(tag, []).extend((event.step, event.value) for event in accumulator.Scalars(tag))
    return events


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "a" / "b").mkdir(parents=True)
    return RunDirectory(tmp_path / "a" / "b")


def test_records_are_lines_of_json_in_their_order(run: RunDirectory) -> None:
    recorder = Recorder(run, ())
    recorder.record("train", 1, loss=0.1 + 0.2)
    recorder.record("validation", 1, accuracy=0.5)
    recorder.close()
    assert read_records(run.metrics) == [
        {"kind": "train", "step": 1, "loss": 0.1 + 0.2},
        {"kind": "validation", "step": 1, "accuracy": 0.5},
    ]


def test_resuming_drops_later_records_and_repeats_none(run: RunDirectory) -> None:
    first = Recorder(run, ("tensorboard",))
    for step in (2, 4, 6):
        first.record("train", step, loss=float(step))
    first.record("validation", 4, accuracy=0.5)
    first.close()

    second = Recorder(run, ("tensorboard",), done_steps=4)
    assert [record["step"] for record in read_records(run.metrics)] == [2, 4, 4]
    second.record("train", 6, loss=60.0)
    second.close()

    assert [(r["kind"], r["step"]) for r in read_records(run.metrics)] == [
        ("train", 2),
        ("train", 4),
        ("validation", 4),
        ("train", 6),
    ]
    events = tensorboard_events(run.tensorboard)
    assert events == {"train/loss": [(2, 2.0), (4, 4.0), (6, 60.0)], "validation/accuracy": [(4, 0.5)]}


def test_a_line_that_a_killed_process_left_unfinished_is_left_out(run: RunDirectory) -> None:
    run.metrics.write_text('{"kind": "train", "step": 1}\n{"kind": "tra')
    assert read_records(run.metrics) == [{"kind": "train", "step": 1}]
    Recorder(run, (), done_steps=1).record("train", 2)
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2]


def test_there_are_no_records_before_there_is_a_file(tmp_path: Path) -> None:
    assert read_records(tmp_path / "metrics.jsonl") == []


def test_a_tracker_that_is_not_installed_is_named(run: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"training\.trackers: swanlab is not installed"):
        Recorder(run, ("swanlab",))


class Unwell(GeneralTracker):
    """A tracker that fails at its start or at its end."""

    name = "unwell"
    requires_logging_directory = False
    tracker = None

    def __init__(self, project: str) -> None:
        super().__init__()

    def start(self) -> None:
        """Nothing to do, unless a test puts something here."""

    def log(self, values: dict[str, float], step: int | None = None, **_: object) -> None:
        """Lost."""

    def finish(self) -> None:
        raise ConnectionError("no route\nto the server")


@pytest.fixture
def unwell(monkeypatch: pytest.MonkeyPatch) -> type[Unwell]:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "unwell", Unwell)
    return Unwell


def test_a_tracker_that_can_t_start_is_named(
    unwell: type[Unwell], run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Unwell) -> None:
        raise RuntimeError("api_key not configured.\nUse login().")

    monkeypatch.setattr(unwell, "start", refuse)
    with pytest.raises(UserError, match=r"training\.trackers: unwell cannot start: api_key not configured\. Fix"):
        Recorder(run, ("unwell",))


def test_a_full_disk_at_a_tracker_s_start_is_reported(
    unwell: type[Unwell], run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Unwell) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unwell, "start", fill)
    with pytest.raises(OSError, match="No space left"):
        Recorder(run, ("unwell",))


def test_a_tracker_that_fails_to_close_is_reported_and_the_others_are_closed(
    unwell: type[Unwell], run: RunDirectory
) -> None:
    recorder = Recorder(run, ("unwell", "tensorboard"))
    recorder.record("train", 2, loss=2.0)
    assert recorder.close() == ("training.trackers: unwell did not close: no route",)
    assert tensorboard_events(run.tensorboard) == {"train/loss": [(2, 2.0)]}


def test_figures_reach_tensorboard(run: RunDirectory) -> None:
    recorder = Recorder(run, ("tensorboard",))
    figure = Figure(figsize=(1, 1), dpi=20)
    recorder.figure("validation/confusion", 3, figure)
    recorder.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(next(run.tensorboard.rglob("events.out.*")).parent))
    accumulator.Reload()
    assert [image.step for image in accumulator.Images("validation/confusion")] == [3]


@pytest.mark.parametrize(
    "line", ['{"kind": "train"', "[1]", '{"kind": "train", "step": "3"}', "\x00", "NaN", "[" * 100_000]
)
def test_a_damaged_line_is_named(line: str, run: RunDirectory) -> None:
    run.metrics.write_text('{"kind": "train", "step": 1}\n' + line + '\n{"kind": "train", "step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: is not a record"):
        read_records(run.metrics)


def test_without_the_extra_for_pictures_numbers_are_recorded_all_the_same(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenor.training.recorder.find_spec", lambda name: None)
    made = Recorder(run, ("tensorboard",))
    assert not made.shows_pictures
    made.record("train", 1, loss=0.5)
    assert made.close() == ()
    assert [record["loss"] for record in read_records(run.metrics)] == [0.5]
