"""`make bench-faults`: faults put into small programs, healthy programs beside them, and what the checks say of both.

Results are kept line by line, so that a run that was cut goes on; `--fresh` begins anew.
"""

import argparse
import json
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from faults.show import show


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-faults")
    parser.add_argument("--quick", action="store_true", help="one seed of the controls instead of five")
    parser.add_argument("--only", default="", help="faults and controls whose name contains this")
    parser.add_argument("--results", type=Path, default=Path("runs/bench-faults.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    options = parser.parse_args()
    if options.fresh:
        options.results.unlink(missing_ok=True)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    encoders = make_encoders()
    jobs = all_jobs(1 if options.quick else 5, options.only)
    done = {tuple(one["job"]) for one in read(options.results)}
    run([job for job in jobs if job not in done], encoders, options.results)
    wanted = set(jobs)
    results = [one for one in read(options.results) if tuple(one["job"]) in wanted]
    show(results, (time.monotonic() - started) / 60)
    return 0


def all_jobs(seeds: int, only: str) -> list[tuple[str, str, int]]:
    """Kind, name and seed of every program to run, the long ones spread among the others."""
    from faults.catalogue import CONTROLS, FAULTS

    jobs = [("fault", one.name, 0) for one in FAULTS] + [("peers", "healthy", 0)]
    jobs += [("peers", one.name, 0) for one in FAULTS if not one.name.startswith("trainer_")]
    jobs += [("control", one.name, seed) for seed in range(seeds) for one in CONTROLS]
    return [job for job in jobs if only in job[1]]


def run(jobs: list[tuple[str, str, int]], encoders: dict[str, Path], results: Path) -> None:
    """Run the jobs in a process per core, and add a line to `results` as each ends."""
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=quieten) as pool,
        results.open("a") as file,
    ):
        waiting = {pool.submit(run_one, job, encoders): job for job in jobs}
        for number, future in enumerate(as_completed(waiting), start=1):
            file.write(json.dumps(future.result()) + "\n")
            file.flush()
            print(f"\r{number} of {len(jobs)}  {' '.join(map(str, waiting[future])):60.60}", end="", file=sys.stderr)
    print(file=sys.stderr)


def run_one(job: tuple[str, str, int], encoders: dict[str, Path]) -> dict[str, Any]:
    from faults.catalogue import BY_NAME, CONTROLS_BY_NAME
    from faults.in_trainer import healthy_trainer
    from faults.judge import judge
    from faults.judge_trainer import judge_trainer
    from faults.peers import said_by_peers
    from faults.program import healthy

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
    return {"job": job, "seconds": round(time.monotonic() - started, 1), **outcome}


def make_encoders() -> dict[str, Path]:
    """Folders of the encoders, made once."""
    from faults.encoder import save_random_encoder, save_small_encoder
    from faults.texts import longer_sentences
    from tenor.data.sources.embedded import embedded_encoder_folder
    from tenor.runs.cache import cache_folder

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
    import torch
    import transformers
    from transformers.trainer_callback import PrinterCallback

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    PrinterCallback.on_log = lambda self, *others, **named: None
    warnings.filterwarnings("ignore")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
