"""`tenor predict` for a whole file: looked through, an engine chosen, streamed with progress."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tenor.console.progress import ProgressLine, progress_line
from tenor.console.run import show_notes
from tenor.errors import UserError
from tenor.inference.file_job import FileJob, FileResult, interrupted_job, predict_file, survey
from tenor.inference.file_outputs import is_text, refuse_existing, require_output
from tenor.inference.predictor import EngineChoice, Predictor
from tenor.model.notes import Threshold
from tenor.runs.directory import DEFAULT_ROOT

AUTO_FROM_ROWS = 1000
"""Rows from which a comparison of engines, which takes as long as some hundred texts, can pay."""


@dataclass(frozen=True)
class FilePrediction:
    """A finished job."""

    result: FileResult
    output: Path
    engine: str
    why: str
    """Why this engine."""
    seconds: float
    """Of this call's predicting alone."""
    threshold: Threshold | None = None
    """What decided the labels; None: the most probable class."""


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

    The file is read once before: a row that can't be predicted, a missing column or a malformed place is told in
    seconds and not after hours.

    Raises:
        UserError: whatever in input, output or model can't be used; with `on_error="fail"` also a single row.
    """
    console = console or Console(stderr=True, markup=False)
    require_output(job.output)
    if job.input.resolve() == job.output.resolve():
        raise UserError(f"{job.output}: is the input itself; name another output")
    if not job.restart:
        refuse_existing(job.output)
    found = survey(job.input, job.text_column, is_text(job.output))
    show_notes(console, found.notes)
    if found.faults and job.on_error == "fail":
        raise UserError(
            f"{job.input}: {found.faults:,} of {found.rows:,} rows can't be predicted, the first: {found.first_fault}. "
            "Mend them, or leave their predictions empty: --on-error null"
        )
    begun = None if job.restart else interrupted_job(job.output)
    sample: list[str] = []
    if begun is not None and engine == "auto":
        engine = begun.engine
    elif engine == "auto":
        sample = found.sample if found.rows >= AUTO_FROM_ROWS else []
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
    why = "as the job was begun" if begun is not None else predictor.why
    console.print(f"engine {predictor.engine.name}: {why}", highlight=False, soft_wrap=True)
    if (told := threshold_told(predictor)) is not None:
        console.print(told, highlight=False, soft_wrap=True, markup=False)
    started = time.perf_counter()
    with progress_line(console, "predicting", found.rows, begun.rows if begun else 0) as line:
        result = predict_file(predictor, job, found, lambda rows: line.advance(rows, _rate(line, rows)))
    seconds = time.perf_counter() - started
    return FilePrediction(result, job.output, predictor.engine.name, why, seconds, predictor.threshold)


def threshold_told(predictor: Predictor) -> str | None:
    """Whoever reads labels must know that they are not the most probable classes; None where they are."""
    if predictor.threshold is None:
        return None
    return f"threshold: {predictor.threshold}, as tenor calibrate chose it; without it: --ignore-threshold"


def _rate(line: ProgressLine, rows: int) -> str:
    seconds = max(time.monotonic() - line.started, 1e-9)
    return f"{(line.done + rows - line.started_at) / seconds:.1f} reviews/s"
