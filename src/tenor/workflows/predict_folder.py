"""`tenor predict` for many files: one output per file, with this process or with the workers of a Ray cluster."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from tenor.console.run import progress_line, show_notes
from tenor.data.unlike_texts import UnlikeTexts
from tenor.inference.engine_choice import COMPARED, PAYS_FROM
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
from tenor.inference.ray_shards import RayPool, WorkerModel, cluster_device, connected, ends_on_ray, require_ray
from tenor.inference.source import lasting_reference
from tenor.model.device import plan_device
from tenor.runs.directory import DEFAULT_ROOT
from tenor.workflows.predict import FinishedJob, threshold_message


def predict_to_folder(
    reference: str,
    job: FileJob,
    engine: EngineChoice = "auto",
    device: str = "auto",
    threads: int | None = None,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    ignore_threshold: bool = False,
    ray: RayPool | None = None,
) -> FinishedJob[FolderResult]:
    """Predict every file of a folder or a pattern (`job.input`) into the folder `job.output`, under its own name.

    Each file is a job of its own (`predict_file`): it is read once in advance, and its output replaces nothing until it
    is complete. A file that cannot be predicted is reported at the end. The same call continues an interrupted job, and
    computes only what is not complete. With `ray` the workers of a cluster predict the files, each with `threads`
    threads (by default one); the outputs are the same.

    Raises:
        UserError: inputs, outputs, the model or the cluster cannot be used, or the folder has outputs of another job.
        TenorError: Ray failed.
    """
    console = console or Console(stderr=True, markup=False)
    if ray is not None:
        require_ray(ray)
        job = replace(job, input=job.input.absolute(), output=job.output.absolute())
    shards, notes = find_shards(job)
    show_notes(console, notes)
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    with locked_output(job.output.absolute()), ExitStack() as stack:
        if ray is not None:
            stack.enter_context(connected(ray, plan_device("cpu").threads))
            device = cluster_device(device)
        predictor, why = _predictor(reference, job, shards, engine, device, threads, root, ignore_threshold, ray)
        say(f"engine {predictor.engine.name}: {why}")
        if (message := threshold_message(predictor)) is not None:
            say(message)
        described = model_and_options(predictor, job)
        begin_folder(job.output, shards, described, job.restart)
        total = FolderResult(UnlikeTexts(predictor.source.training_texts))
        waiting = list(waiting_shards(shards, total, say))
        ends: Iterable[ShardEnd]
        if ray is None:
            ends = (predict_shard(predictor, shard) for shard in waiting)
        else:
            model = WorkerModel(
                lasting_reference(reference, root),
                predictor.engine.name,
                device,
                threads or 1,
                ignore_threshold,
                described,
            )
            ends = ends_on_ray(waiting, model, ray)
        started = time.perf_counter()
        with progress_line(console, "predicting files", len(shards), total.files) as line:
            for end in ends:
                show_notes(console, end.notes)
                total.add(end)
                line.advance(1, _rate(total, started))
        seconds = time.perf_counter() - started
    return FinishedJob(total, job.output, predictor.engine.name, why, seconds, predictor.threshold)


def _predictor(
    reference: str,
    job: FileJob,
    shards: Sequence[FileJob],
    engine: EngineChoice,
    device: str,
    threads: int | None,
    root: Path,
    ignore_threshold: bool,
    ray: RayPool | None,
) -> tuple[Predictor, str]:
    """The model with the engine of the job, and why this engine; for a cluster, only to describe the job by it.

    One engine computes all files, on whatever machine: chosen here on the first texts, unless it was chosen before.
    """
    stored = stored_engine(job.output) if engine in COMPARED and not job.restart else None
    here = stored is None and engine in COMPARED and device != "cuda"
    predictor = Predictor.load(
        reference,
        engine=engine if stored is None else stored,
        sample=sample_texts(shards, PAYS_FROM) if here else [],
        long_text=job.long_text,
        device=device if ray is None else "cpu",
        threads=threads,
        root=root,
        ignore_threshold=ignore_threshold,
    )
    predictor.require_abstention(job.abstain_below)
    return predictor, predictor.why if stored is None else "the engine that the job was started with"


def _rate(total: FolderResult, started: float) -> str:
    return f"{(total.rows - total.resumed) / max(time.perf_counter() - started, 1e-9):.1f} reviews/s"
