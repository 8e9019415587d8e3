"""What all processes of a run do: the same task, a share of its steps and of its evaluation."""

from pathlib import Path
from typing import NoReturn

import numpy as np
from rich.console import Console

from tenor.config.schema import Config
from tenor.console.run import progress_line
from tenor.data.batching import Examples
from tenor.data.dataset import SourceData
from tenor.data.splits import present_splits
from tenor.inference.logits import Forward
from tenor.runs.directory import RunDirectory
from tenor.training.loop import fit
from tenor.training.processes import LostProcessError, Processes
from tenor.training.signals import terminations_ignored
from tenor.training.together import copy_weights, predict_in_shares
from tenor.workflows.outcome import resume_advice
from tenor.workflows.prepare import (
    Prepared,
    input_fingerprints,
    make_accelerator,
    make_examples,
    make_task,
    prepare,
    require_same_inputs,
)
from tenor.workflows.run_checks import silent_watchdog


def predict_held_out(
    prepared: Prepared, examples: dict[str, Examples], forward: Forward, console: Console
) -> dict[str, np.ndarray]:
    """The logits of every row of the validation and the test split, with the main process's weights; each process
    computes a share of the rows."""
    model, processes = prepared.classifier.model, prepared.processes
    copy_weights(processes, model)
    logits: dict[str, np.ndarray] = {}
    for name, rows in present_splits(prepared.splits).items():
        if name != "train":
            with progress_line(console, f"evaluating on {name}", len(rows)) as line:
                logits[name] = predict_in_shares(processes, model, examples[name], prepared.plan, forward, line.advance)
    return logits


def share_settings(prepared: Prepared, threads: int | None = None) -> None:
    """Tell the other processes what they need to prepare the same run, now that the caches are written."""
    config, plan = prepared.config, prepared.plan
    same = config.training.model_copy(update={"device": plan.device, "precision": plan.precision})
    settings = config.model_copy(update={"training": same}).model_dump_json()
    prepared.processes.share({"config": settings, "threads": threads})


def assist(processes: Processes, given: SourceData | None) -> NoReturn:
    """What every process but the main one does in a run: the same steps, with a share of the rows.

    It reads no run folder and writes nothing but caches, on a machine that does not share them with the main one.

    Raises:
        SystemExit: when the main process has ended, with its status.
        TenorError: an error of this process, or the main process ended without a message.
    """
    silent = Console(quiet=True)
    told = processes.share()
    prepared = prepare(Config.model_validate_json(told["config"]), given, told["threads"], processes)
    require_same_inputs(processes, input_fingerprints(prepared))
    run = RunDirectory(Path(processes.share()))
    try:
        # A launcher terminates all processes when the main one was killed; who is left says how to resume.
        with terminations_ignored(True):
            with processes.main_first():
                examples, forward = make_examples(prepared, silent)
            task = make_task(prepared, examples, forward, run.checkpoints)
            fit(task, make_accelerator(prepared.plan), callbacks=silent_watchdog(task))
            predict_held_out(prepared, examples, forward, silent)
            raise SystemExit(processes.share()["status"])
    except LostProcessError as error:
        raise LostProcessError(f"{error}. {resume_advice(run)}") from error
