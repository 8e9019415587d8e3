"""`tenor predict` for many files: one output per file, with this process or with the workers of a Ray cluster."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from tenor.console.run import ProgressLine, progress_line, show_notes
from tenor.data.unlike_texts import UnlikeTexts
from tenor.inference.engine_choice import PAYS_FROM
from tenor.inference.file_job import FileJob, model_and_options
from tenor.inference.file_outputs import locked_output
from tenor.inference.file_shards import (
    FolderResult,
    ShardEnd,
    begin_folder,
    find_shards,
    predict_shard,
    sample_texts,
    stored_engine,
    waiting_shards,
)
from tenor.inference.predictor import EngineChoice, Predictor
from tenor.runs.directory import DEFAULT_ROOT
from tenor.runs.model_notes import Threshold
from tenor.workflows.predict import threshold_message


@dataclass(frozen=True)
class FolderPrediction:
    """A job on many files, of which some may have failed (`result.faults`)."""

    result: FolderResult
    output: Path
    engine: str
    why: str
    """Why this engine."""
    seconds: float
    """Of this call's predicting alone."""
    threshold: Threshold | None = None
    """The decision threshold; None if the most probable class is predicted."""


def predict_to_folder(
    reference: str,
    job: FileJob,
    engine: EngineChoice = "auto",
    device: str = "auto",
    threads: int | None = None,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    ignore_threshold: bool = False,
) -> FolderPrediction:
    """Predict every file of a folder or a pattern (`job.input`) into the folder `job.output`, under its own name.

    Each file is a job of its own (`predict_file`): it is read once in advance, and its output replaces nothing until it
    is complete. A file that cannot be predicted is reported at the end. The same call continues an interrupted job, and
    computes only what is not complete.

    Raises:
        UserError: inputs, outputs or the model cannot be used, or the folder has outputs of another job.
    """
    console = console or Console(stderr=True, markup=False)
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    shards, notes = find_shards(job)
    show_notes(console, notes)
    with locked_output(job.output.absolute()):
        stored = None if job.restart or engine != "auto" else stored_engine(job.output)
        sample = sample_texts(shards, PAYS_FROM) if stored is None and engine == "auto" else []
        predictor = Predictor.load(
            reference,
            engine=engine if stored is None else stored,
            sample=sample,
            long_text=job.long_text,
            device=device,
            threads=threads,
            root=root,
            ignore_threshold=ignore_threshold,
        )
        predictor.require_abstention(job.abstain_below)
        why = predictor.why if stored is None else "the engine that the job was started with"
        say(f"engine {predictor.engine.name}: {why}")
        if (message := threshold_message(predictor)) is not None:
            say(message)
        begin_folder(job.output, shards, model_and_options(predictor, job), job.restart)
        total = FolderResult(UnlikeTexts(predictor.source.training_texts))
        waiting = list(waiting_shards(shards, total, say))
        started = time.perf_counter()
        with progress_line(console, "predicting files", len(shards), total.files) as line:
            for end in _ends_here(predictor, waiting, line):
                show_notes(console, end.notes)
                total.add(end)
                line.advance(1, _rate(total, started))
        seconds = time.perf_counter() - started
    return FolderPrediction(total, job.output, predictor.engine.name, why, seconds, predictor.threshold)


def _ends_here(predictor: Predictor, shards: Sequence[FileJob], line: ProgressLine) -> Iterator[ShardEnd]:
    """Predict the files one after the other in this process."""
    for shard in shards:
        yield predict_shard(predictor, shard)


def _rate(total: FolderResult, started: float) -> str:
    return f"{(total.rows - total.resumed) / max(time.perf_counter() - started, 1e-9):.1f} reviews/s"
