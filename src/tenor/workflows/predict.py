"""`tenor predict` for a file: survey the rows, choose an engine, stream predictions with progress."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rich.console import Console

from tenor.console.run import ProgressLine, progress_line, show_notes
from tenor.errors import UserError
from tenor.inference.engine_choice import COMPARED, PAYS_FROM
from tenor.inference.file_job import FileJob, interrupted_job, predict_file, refuse_faults, survey
from tenor.inference.file_outputs import is_text, refuse_existing, require_output
from tenor.inference.file_records import FileResult
from tenor.inference.predictor import EngineChoice, Predictor
from tenor.runs.directory import DEFAULT_ROOT
from tenor.runs.model_notes import Threshold

Result = TypeVar("Result")


@dataclass(frozen=True)
class FinishedJob(Generic[Result]):
    """A finished job on one file or on many; of many, some may have failed (`result.faults`)."""

    result: Result
    output: Path
    engine: str
    why: str
    """Why this engine."""
    seconds: float
    """Of this call's predicting alone."""
    threshold: Threshold | None = None
    """The decision threshold; None if the most probable class is predicted."""


def predict_to_file(
    reference: str,
    job: FileJob,
    engine: EngineChoice = "auto",
    device: str = "auto",
    threads: int | None = None,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    ignore_threshold: bool = False,
) -> FinishedJob[FileResult]:
    """Predict every row of a file.

    The file is read once in advance, so that a row that cannot be predicted, a missing column or a malformed line is
    reported within seconds and not after hours.

    Raises:
        UserError: input, output or model cannot be used; with `on_error="fail"` also a row that cannot be predicted.
    """
    console = console or Console(stderr=True, markup=False)
    require_output(job.output)
    if job.input.resolve() == job.output.resolve():
        raise UserError(f"{job.output} is both input and output; name another output")
    if job.output.absolute().parent == job.input.absolute():
        raise UserError(f"{job.output} is in the input folder, where it would be read as input; name another folder")
    if not job.restart:
        refuse_existing(job.output)
    surveyed = survey(job.input, job.text_column, is_text(job.output))
    show_notes(console, surveyed.notes)
    refuse_faults(surveyed, job)
    started_job = None if job.restart else interrupted_job(job.output)
    sample: list[str] = []
    if started_job is not None and engine in COMPARED:
        engine = started_job.engine
    elif engine in COMPARED:
        sample = surveyed.sample if surveyed.rows >= PAYS_FROM else []
    predictor = Predictor.load(
        reference,
        engine=engine,
        sample=sample,
        long_text=job.long_text,
        device=device,
        threads=threads,
        root=root,
        ignore_threshold=ignore_threshold,
    )
    why = "the engine that the job was started with" if started_job is not None else predictor.why
    console.print(f"engine {predictor.engine.name}: {why}", highlight=False, soft_wrap=True)
    if (message := threshold_message(predictor)) is not None:
        console.print(message, highlight=False, soft_wrap=True, markup=False)
    started = time.perf_counter()
    with progress_line(console, "predicting", surveyed.rows, started_job.rows if started_job else 0) as line:
        result = predict_file(predictor, job, surveyed, lambda rows: line.advance(rows, _rate(line, rows)))
    seconds = time.perf_counter() - started
    return FinishedJob(result, job.output, predictor.engine.name, why, seconds, predictor.threshold)


def threshold_message(predictor: Predictor) -> str | None:
    """A message that labels are decided by a threshold; None if they are the most probable classes."""
    if predictor.threshold is None:
        return None
    return f"threshold: {predictor.threshold}, chosen with tenor calibrate; ignore it with --ignore-threshold"


def _rate(line: ProgressLine, rows: int) -> str:
    seconds = max(time.monotonic() - line.started, 1e-9)
    return f"{(line.done + rows - line.started_at) / seconds:.1f} reviews/s"
