"""What is run: faults, the peers on the same faults, and healthy programs."""

import gc
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_callback import PrinterCallback

from faults.catalogue import BY_NAME, CONTROLS, CONTROLS_BY_NAME, FAULTS
from faults.encoder import save_random_encoder, save_small_encoder
from faults.in_trainer import healthy_trainer
from faults.judge import judge
from faults.judge_trainer import judge_trainer
from faults.peers import said_by_peers
from faults.program import healthy
from faults.texts import longer_sentences
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.runs.files import cache_folder

Job = tuple[str, str, int]
"""Kind (fault, peers, control), name and seed."""


def all_jobs(seeds: int, only: str) -> list[Job]:
    """Kind, name and seed of every program to run."""
    jobs = [("fault", one.name, 0) for one in FAULTS]
    jobs += [("control", one.name, seed) for seed in range(seeds) for one in CONTROLS]
    jobs += [("peers", name, 0) for name in ("healthy", *(one.name for one in FAULTS)) if "trainer_" not in name]
    return [job for job in jobs if only in job[1]]


def run_one(job: Job, encoders: dict[str, Path]) -> dict[str, Any]:
    kind, name, seed = job
    started = time.monotonic()
    for_trainer = name.startswith("trainer_")
    program: Any = (healthy_trainer if for_trainer else healthy)(encoders, seed)
    if kind == "control":
        program = CONTROLS_BY_NAME[name].change(program)
    elif name != "healthy":
        program = BY_NAME[name].inject(program)
    if kind == "peers":
        outcome: dict[str, Any] = {peer: sorted(said) for peer, said in said_by_peers(program).items()}
    else:
        outcome = asdict((judge_trainer if for_trainer else judge)(program))
    # Models, optimizers and their hooks hold each other; uncollected, a few hundred programs took 3 GB.
    del program
    gc.collect()
    return {"job": job, "seconds": round(time.monotonic() - started, 1), **outcome}


def make_encoders() -> dict[str, Path]:
    """Folders of the encoders, made once."""
    quieten()
    root = cache_folder("bench-faults")
    small = root / "minilm-1-layer"
    if not (small / "tokenizer.json").exists():
        taught = longer_sentences()
        save_small_encoder(small, taught.texts, taught.labels)
    for kind in ("distilbert", "bert"):
        if not (root / kind / "tokenizer.json").exists():
            save_random_encoder(kind, small, root / kind)
    return {
        "minilm": small,
        "distilbert": root / "distilbert",
        "bert": root / "bert",
        "whole": embedded_encoder_folder(),
    }


def quieten() -> None:
    """One thread, no progress bars, no warnings of what is done on purpose."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    PrinterCallback.on_log = lambda self, *others, **named: None
    warnings.filterwarnings("ignore")
