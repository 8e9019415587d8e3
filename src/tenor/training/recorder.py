"""What happened, step by step: `metrics.jsonl` first, then the trackers."""

import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tenor.errors import UserError, first_line, system_refusal
from tenor.runs.directory import RunDirectory
from tenor.runs.files import append_line, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def missing_trackers(names: Sequence[str]) -> list[str]:
    """Those of Accelerate's trackers, by name, whose package is not installed."""
    from accelerate.tracking import get_available_trackers

    available = {str(kind.value) for kind in get_available_trackers()}
    return [name for name in names if name not in available]


PLACE = ("kind", "step")
"""What says of which moment a record tells."""


class Recorder:
    """Appends records to `metrics.jsonl` and passes their numbers on to Accelerate's trackers."""

    def __init__(self, run: RunDirectory, trackers: tuple[str, ...], done_steps: int = 0) -> None:
        """Go on after `done_steps`: what was recorded later is forgotten, and the trackers see the rest once more, so
        that no step stands twice.

        Raises:
            UserError: a tracker that is not installed or can't start.
        """
        self._path = run.metrics
        kept = [record for record in read_records(run.metrics) if record["step"] <= done_steps]
        write_text(run.metrics, "".join(json.dumps(record) + "\n" for record in kept))
        shutil.rmtree(run.tensorboard, ignore_errors=True)
        self._trackers = [_start(name, run) for name in trackers]
        for record in kept:
            self._forward(record)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """One line: `kind` is `train`, `validation` or `finding`, `step` the optimizer steps done."""
        record = {"kind": kind, "step": step, **values}
        append_line(self._path, json.dumps(record))
        self._forward(record)

    @property
    def shows_pictures(self) -> bool:
        """Whether a tracker shows pictures, and the extra that draws them is installed."""
        return find_spec("matplotlib") is not None and any(hasattr(one, "log_images") for one in self._trackers)

    def figure(self, name: str, step: int, figure: "Figure") -> None:
        """A picture, for the trackers that show pictures."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # Not before the first step.

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[None, ..., :3]
        for tracker in self._trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: image}, step=step, **options)

    def close(self) -> tuple[str, ...]:
        """End every tracker; returns what kept one from it. No error: `metrics.jsonl` holds all that they were told."""
        return tuple(fault for tracker in self._trackers if (fault := _finish(tracker)))

    def _forward(self, record: dict[str, Any]) -> None:
        numbers = {
            f"{record['kind']}/{name}": value
            for name, value in record.items()
            if name not in PLACE and isinstance(value, int | float)
        }
        for tracker in self._trackers if numbers else ():
            tracker.log(numbers, step=record["step"])


def read_records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl`; a last line that a killed process left unfinished is left out.

    Raises:
        UserError: names the line that is not a record.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [_record_of(line, number, path) for number, line in enumerate(lines[:-1], start=1) if line]


def _record_of(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record["step"], int) or not isinstance(record["kind"], str):
            raise ValueError("its step or kind is of the wrong type")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path}, line {number}: is not a record ({type(error).__name__}: {error}). Restore the file, or remove "
            f"the line: what it told is lost then, and nothing else"
        ) from error
    return record


def _start(name: str, run: RunDirectory) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    project = "tensorboard" if name == "tensorboard" else "tenor"
    try:
        tracker = kind(project, str(run.path)) if kind.requires_logging_directory else kind(project)
        tracker.start()
    except ImportError as error:
        raise UserError(f"training.trackers: {name} is not installed ({error}); install it or leave it out") from error
    except Exception as error:  # A key, a server, a network that is missing: trackers' errors share no base class.
        if system_refusal(error) is not None:
            raise
        raise UserError(
            f"training.trackers: {name} can't start: {first_line(error)}. Mend that, or leave it out"
        ) from error
    return tracker


def _finish(tracker: Any) -> str:
    """Empty where it ended, else why it did not."""
    try:
        tracker.finish()
    except Exception as error:  # As above.
        return f"training.trackers: {tracker.name} did not end well: {first_line(error)}"
    return ""
