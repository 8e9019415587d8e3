"""Records of the training: `metrics.jsonl` first, then the trackers."""

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from tenor.errors import UserError, first_line, system_refusal
from tenor.runs.directory import RunDirectory
from tenor.runs.step_records import append_record, read_records, write_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def missing_trackers(names: Sequence[str]) -> list[str]:
    """The names of Accelerate's trackers, among `names`, whose package is not installed."""
    from accelerate.tracking import get_available_trackers

    available = {str(kind.value) for kind in get_available_trackers()}
    return [name for name in names if name not in available]


KEYS_OF_EVENT = ("kind", "step")
"""Keys of a record that identify its event; all other keys are values."""


class Recorder:
    """Appends records to `metrics.jsonl` and passes their numbers on to Accelerate's trackers."""

    def __init__(self, run: RunDirectory, trackers: tuple[str, ...], done_steps: int = 0) -> None:
        """Continue after `done_steps`: later records are removed, and the trackers receive the remaining ones again,
        so that no step is recorded twice.

        Raises:
            UserError: a tracker that is not installed or cannot start, or a damaged `metrics.jsonl`.
        """
        self._path = run.metrics
        kept = [record for record in read_records(run.metrics) if record["step"] <= done_steps]
        write_records(run.metrics, kept)
        shutil.rmtree(run.tensorboard, ignore_errors=True)
        self._trackers = [_start(name, run) for name in trackers]
        for record in kept:
            self._forward(record)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Add one record: `kind` is `train`, `validation` or `finding`, `step` the optimizer steps done."""
        record = {"kind": kind, "step": step, **values}
        append_record(self._path, record)
        self._forward(record)

    @property
    def shows_pictures(self) -> bool:
        """Whether a tracker takes images and matplotlib, which draws them, is installed."""
        return find_spec("matplotlib") is not None and any(hasattr(tracker, "log_images") for tracker in self._trackers)

    def figure(self, name: str, step: int, figure: "Figure") -> None:
        """Send a figure to the trackers that take images."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # Imported late: it delays the first step.

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[None, ..., :3]
        for tracker in self._trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: image}, step=step, **options)

    def close(self) -> tuple[str, ...]:
        """Close every tracker; returns a message for each that failed to close. That is not an error: `metrics.jsonl`
        contains everything that they received."""
        return tuple(message for tracker in self._trackers if (message := _finish(tracker)))

    def _forward(self, record: dict[str, Any]) -> None:
        numbers = {
            f"{record['kind']}/{name}": value
            for name, value in record.items()
            if name not in KEYS_OF_EVENT and isinstance(value, int | float)
        }
        for tracker in self._trackers if numbers else ():
            tracker.log(numbers, step=record["step"])


def _start(name: str, run: RunDirectory) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    project = "tensorboard" if name == "tensorboard" else "tenor"
    try:
        tracker = kind(project, str(run.path)) if kind.requires_logging_directory else kind(project)
        tracker.start()
    except ImportError as error:
        raise UserError(f"training.trackers: {name} is not installed ({error}); install it or leave it out") from error
    except Exception as error:  # No key, server or network: the trackers' errors share no base class.
        if system_refusal(error) is not None:
            raise
        raise UserError(
            f"training.trackers: {name} cannot start: {first_line(error)}. Fix that, or leave it out"
        ) from error
    return tracker


def _finish(tracker: Any) -> str:
    """Close a tracker; empty where that succeeded, else a message."""
    try:
        tracker.finish()
    except Exception as error:  # As above.
        return f"training.trackers: {tracker.name} did not close: {first_line(error)}"
    return ""
