"""What was measured so far, kept in a file of JSON lines: a session that is cut loses nothing."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

LEVELS = (0.88, 0.90, 0.91)


@dataclass(frozen=True)
class Point:
    """An accuracy on the validation reviews, and the minutes of training that it took."""

    peer: str
    seed: int
    step: int
    minutes: float
    accuracy: float


@dataclass(frozen=True)
class Curve:
    """The points of one peer and seed, in a file that holds those of all."""

    file: Path
    peer: str
    seed: int
    until: float = LEVELS[-1]

    def points(self) -> list[Point]:
        return [point for point in read_points(self.file) if (point.peer, point.seed) == (self.peer, self.seed)]

    def keep_until(self, step: int) -> float:
        """Drop what was measured after `step`, since it is trained again; the minutes until then."""
        mine = self.points()
        points = [one for one in read_points(self.file) if one.step <= step or one not in mine]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("".join(f"{json.dumps(asdict(one))}\n" for one in points))
        return max((point.minutes for point in self.points()), default=0.0)

    def add(self, step: int, minutes: float, accuracy: float) -> None:
        with self.file.open("a") as file:
            file.write(f"{json.dumps(asdict(Point(self.peer, self.seed, step, minutes, accuracy)))}\n")
        print(f"{self.peer} {self.seed}: step {step:,}, {minutes:.1f} min, {accuracy:.2%}", flush=True)

    def is_enough(self) -> bool:
        """Whether the level that it is measured for is reached."""
        return minutes_until(self.until, self.points()) is not None


class Clock:
    """Minutes of training, without what lies between."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self._since = minutes, 0.0

    def go_on(self) -> None:
        """What passed since the last `count` is no training."""
        self._since = time.perf_counter()

    def count(self) -> None:
        """What passed since the last call was training."""
        now = time.perf_counter()
        self.minutes, self._since = self.minutes + (now - self._since) / 60, now


def read_points(file: Path) -> list[Point]:
    return [Point(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def minutes_until(level: float, points: Sequence[Point]) -> float | None:
    """Minutes at the second of the first two measurements in a row that meet the level."""
    return next((two.minutes for one, two in pairwise(points) if min(one.accuracy, two.accuracy) >= level), None)
