"""`tenor predict` for a file: check all rows, choose an engine, then predict in a stream with a progress line."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tenor.console.progress import ProgressLine, progress_line
from tenor.console.run import show_notes
from tenor.errors import UserError
from tenor.inference.file_job import FileJob, FileResult, begun_job, predict_file, survey
from tenor.inference.file_outputs import is_text, refuse_existing, require_output
from tenor.inference.predictor import EngineChoice, Predictor
from tenor.model.notes import Threshold
from tenor.runs.directory import DEFAULT_ROOT

AUTO_FROM_ROWS = 1000
"""From this number of rows, comparing engines is worth its cost, which is that of a few hundred texts."""


@dataclass(frozen=True)
class FilePrediction:
    """The result of a finished job."""

    result: FileResult
    output: Path
    engine: str
    why: str
    """Why this engine was chosen."""
    seconds: float
    """Time of prediction in this call, without loading."""
    threshold: Threshold | None = None
    """The threshold that decided the labels; None: the label is the most probable class."""


def predict_to_file(
    reference: str,
    job: FileJob,
    engine: EngineChoice = "auto",
    device: str = "auto",
    threads: int | None = None,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    ignore_threshold: bool = False,
) -> FilePrediction:
    """Predict every row of a file.

    The whole file is read once before prediction, so that a row that can't be predicted, a missing column or malformed
    input is reported in seconds and not after hours.

    Raises:
        UserError: the input, the output or the model can't be used; with `on_error="fail"` also if a single row can't.
    """
    console = console or Console(stderr=True, markup=False)
    require_output(job.output)
    if job.input.resolve() == job.output.resolve():
        raise UserError(f"{job.output}: is the input file; choose another output")
    if not job.restart:
        refuse_existing(job.output)
    surveyed = survey(job.input, job.text_column, is_text(job.output))
    show_notes(console, surveyed.notes)
    if surveyed.faults and job.on_error == "fail":
        raise UserError(
            f"{job.input}: {surveyed.faults:,} of {surveyed.rows:,} rows can't be predicted, the first: "
            f"{surveyed.first_fault}. Fix them, or leave their predictions empty: --on-error null"
        )
    begun = None if job.restart else begun_job(job.output)
    sample: list[str] = []
    if begun is not None and engine == "auto":
        engine = begun.engine
    elif engine == "auto":
        sample = surveyed.sample if surveyed.rows >= AUTO_FROM_ROWS else []
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
    why = "the job was started with it" if begun is not None else predictor.why
    console.print(f"engine {predictor.engine.name}: {why}", highlight=False, soft_wrap=True)
    if (message := threshold_message(predictor)) is not None:
        console.print(message, highlight=False, soft_wrap=True, markup=False)
    started = time.perf_counter()
    with progress_line(console, "predicting", surveyed.rows, begun.rows if begun else 0) as line:
        result = predict_file(predictor, job, surveyed, lambda rows: line.advance(rows, _rate(line, rows)))
    seconds = time.perf_counter() - started
    return FilePrediction(result, job.output, predictor.engine.name, why, seconds, predictor.threshold)


def threshold_message(predictor: Predictor) -> str | None:
    """A note that a threshold decides the labels; None if each label is the most probable class."""
    if predictor.threshold is None:
        return None
    return f"threshold: {predictor.threshold}, chosen by tenor calibrate; to ignore it: --ignore-threshold"


def _rate(line: ProgressLine, rows: int) -> str:
    seconds = max(time.monotonic() - line.started, 1e-9)
    return f"{(line.done + rows - line.started_at) / seconds:.1f} reviews/s"
