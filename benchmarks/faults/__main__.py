"""`make bench-faults`: faults put into small programs, healthy programs beside them, and what the checks say of both.

Results are kept line by line, so that a run that was cut goes on; `--fresh` begins anew.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from faults.jobs import Job, all_jobs, make_encoders, quieten, run_one
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


def run(jobs: list[Job], encoders: dict[str, Path], results: Path) -> None:
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


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
