"""`records.jsonl`, which is only ever appended to, and `result.json`, which follows from it.

Times are Unix times: a machine that was suspended in a step pays for it. What a killed process did stays in the file,
with its time; the process that resumes the run appends a `Start` at the step of its checkpoint.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from speedrun.rules import Rules
from tenor.errors import UserError
from tenor.runs.files import append_line, parse_record, sha256_file
from tenor.runs.missing import missing_because

CONFIG, RECORDS, RESULT = "config.yaml", "records.jsonl", "result.json"
TRAINING_ROWS, VALIDATION_ROWS, WEIGHTS = "training_rows.txt", "validation_rows.txt", "weights"
NOT_KEPT = "not kept"
"""Digest of weights that meet no level that was open."""


@dataclass(frozen=True)
class Start:
    """A process that starts or resumes the run."""

    kind: ClassVar[str] = "start"
    step: int
    """0, or that of the checkpoint."""
    at: float
    until: float
    """The level to train for."""
    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    threads: int
    precision: str
    versions: dict[str, str]
    seed: int
    config_sha256: str
    training_rows_sha256: str
    validation_rows_sha256: str
    peak_gflops: dict[str, float]
    """Best square matrix product, by number type."""

    @property
    def ended(self) -> float:
        return self.at

    def same_machine(self) -> dict[str, Any]:
        """What all processes of a run have in common."""
        return {name: value for name, value in asdict(self).items() if name not in ("step", "at", "peak_gflops")}


@dataclass(frozen=True)
class Step:
    """An optimizer step."""

    kind: ClassVar[str] = "step"
    step: int
    tokens: int
    loss: float
    began: float
    ended: float
    seconds: float
    """Of training since the beginning of the run, with the steps that were lost in a kill."""


@dataclass(frozen=True)
class Measurement:
    """A measurement on the validation rows, whose time does not count."""

    kind: ClassVar[str] = "measurement"
    step: int
    correct: int
    accuracy: float
    ended: float
    seconds: float
    """As in the step before it."""
    peak_gflops: dict[str, float]
    weights_sha256: str


Record = Start | Step | Measurement
KINDS: dict[str, type[Record]] = {kind.kind: kind for kind in (Start, Step, Measurement)}


def append(folder: Path, record: Record) -> None:
    """Add one line."""
    append_line(folder / RECORDS, json.dumps({"kind": record.kind, **asdict(record)}))


def read_records(folder: Path) -> list[Record]:
    """All complete lines; none where there is no file. Raises UserError for a line that is not a record."""
    path = folder / RECORDS
    if not path.exists():
        return []
    # A killed process may leave a line without its end; the next process ends it.
    lines = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def _parsed(path: Path, number: int, line: str) -> Record:
    try:
        values = json.loads(line)
        kind = KINDS[values.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}, line {number}: is not a record; restore the file") from error
    record: Record = parse_record(kind, values, path, f"restore line {number}")
    return record


def measurements_in_force(records: Sequence[Record]) -> list[Measurement]:
    """The measurements that lead to the run's weights, by step: a resume from a checkpoint drops later ones."""
    kept: dict[int, Measurement] = {}
    for record in records:
        if isinstance(record, Start):
            kept = {step: one for step, one in kept.items() if step <= record.step}
        elif isinstance(record, Measurement):
            kept[record.step] = record
    return [kept[step] for step in sorted(kept)]


def reached(level: float, measurements: Sequence[Measurement]) -> tuple[Measurement, Measurement] | None:
    """The first two measurements in a row that meet the level; None if there are none."""
    pairs = pairwise(measurements)
    return next((pair for pair in pairs if min(one.accuracy for one in pair) >= level), None)


def steps_with_weights(measurements: Sequence[Measurement], levels: Sequence[float]) -> set[int]:
    """The steps whose weights prove a level, or may together with the next measurement."""
    steps: set[int] = set()
    for level in levels:
        if pair := reached(level, measurements):
            steps |= {one.step for one in pair}
        elif measurements and measurements[-1].accuracy >= level:
            steps.add(measurements[-1].step)
    return steps


def weights_file(folder: Path, step: int) -> Path:
    """The weights that were measured after a step."""
    return folder / WEIGHTS / f"step-{step:06d}.safetensors"


def result_of(folder: Path, records: Sequence[Record], rules: Rules) -> dict[str, Any]:
    """What `result.json` contains, on one line.

    `score` is minutes times the median of the peaks that were measured in the run, of the number type that it trained
    in: about the work that the level took.
    """
    starts = [record for record in records if isinstance(record, Start)]
    steps = [record for record in records if isinstance(record, Step)]
    first, measurements = starts[0], measurements_in_force(records)
    measured = [record.peak_gflops for record in records if not isinstance(record, Step)]
    peaks = {kind: round(median(peak[kind] for peak in measured), 1) for kind in first.peak_gflops}
    levels = {f"{level:.2f}": _level(level, measurements, steps, peaks[first.precision]) for level in rules.levels}
    proofs = [one for one in measurements if one.step in steps_with_weights(measurements, rules.levels)]
    return {
        "rules": rules.version,
        "until": first.until,
        "levels": levels,
        "minutes": round(steps[-1].seconds / 60, 3),
        "wall_minutes": round((records[-1].ended - first.at) / 60, 3),
        "steps": len(steps),
        "tokens": sum(step.tokens for step in steps),
        "resumed": len(starts) - 1,
        "peak_gflops": peaks,
        "precision": first.precision,
        "processor": first.processor,
        "instruction_sets": list(first.instruction_sets),
        "cores": first.cores,
        "threads": first.threads,
        "versions": first.versions,
        "seed": first.seed,
        "config_sha256": first.config_sha256,
        "training_rows_sha256": first.training_rows_sha256,
        "validation_rows_sha256": first.validation_rows_sha256,
        "records_sha256": sha256_file(folder / RECORDS),
        "weights_sha256": {f"step-{one.step:06d}": one.weights_sha256 for one in proofs},
    }


def _level(level: float, measurements: Sequence[Measurement], steps: Sequence[Step], peak: float) -> dict[str, Any]:
    pair = reached(level, measurements)
    if pair is None:
        best = max((one.accuracy for one in measurements), default=0.0)
        return missing_because(f"not reached in {steps[-1].step:,} steps; best accuracy {best:.2%}")
    before = [step for step in steps if step.seconds <= pair[1].seconds]
    return {
        "minutes": round(pair[1].seconds / 60, 3),
        "score": round(pair[1].seconds / 60 * peak, 1),
        "step": pair[1].step,
        "tokens": sum(step.tokens for step in before),
        "accuracies": [one.accuracy for one in pair],
    }
