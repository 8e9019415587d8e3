"""The bench's programs as plain programs under `tenor watch`: what it finds without an edit.

    python -m faults.watched OUTPUT.jsonl [--only TEXT] [--part K/N] [--kind fault|control] [--seeds N]
    python -m faults.watched_score OUTPUT.jsonl

One process imports the libraries with the hooks in place and is forked for each program, which saves the imports. Each
healthy program runs twice, with and without the hooks: standard output and weights must be bit-identical.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tenor.watch.settings import WatchSettings
from tenor.watch.start import start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--kind", default="")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="watched-"))
    start(WatchSettings(root))  # Before the libraries are imported.
    from faults.catalogue import CONTROLS, FAULTS
    from faults.jobs import make_encoders

    make_encoders()
    jobs = [("fault", one.name, 0) for one in FAULTS]
    jobs += [("control", one.name, seed) for seed in range(options.seeds) for one in CONTROLS]
    jobs = [job for job in jobs if options.only in job[1] and job[0].startswith(options.kind)]
    part, parts = map(int, options.part.split("/"))
    done = {tuple(json.loads(line)["job"]) for line in options.output.open()} if options.output.exists() else set()
    for job in jobs[part - 1 :: parts]:
        if job in done:
            continue
        result = run_job(job, root / f"{job[1]}-{job[2]}")
        with options.output.open("a") as file:
            print(json.dumps(result), file=file)
        print(job[1], result["top"], result["seconds"], result["status"], flush=True)


def run_job(job: tuple[str, str, int], folder: Path) -> dict[str, Any]:
    """What was found in one program, and for a healthy one whether it did the same as without the hooks."""
    started = time.monotonic()
    status = in_fork(job, folder / "watched", is_watched=True)
    record_file = folder / "watched" / "watch" / "diagnosis.json"
    record = json.loads(record_file.read_text()) if record_file.exists() else None
    findings = record["findings"] if record else []
    causes = record["causes"] if record else []
    result: dict[str, Any] = {
        "job": job,
        "found": [(one["stage"], one["code"], one["severity"]) for one in findings],
        "top": causes[0]["code"] if causes else findings[0]["code"] if findings else "",
        "notes": record["notes"] if record else ["no record"],
        "checked": len(record["checked"]) if record else 0,
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
    }
    if job[0] == "control":
        plain = in_fork(job, folder / "plain", is_watched=False)
        result["identical"] = status == plain and digest(folder / "plain") == digest(folder / "watched")
    return result


def in_fork(job: tuple[str, str, int], folder: Path, is_watched: bool) -> int:
    """Run one program in a child process; its exit status."""
    from faults import plain

    folder.mkdir(parents=True)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        from tenor.watch.observer import OBSERVER
        from tenor.watch.patches import own_work

        with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["plain.py", job[0], job[1], str(job[2]), str(folder / "files")]
            OBSERVER.begin(WatchSettings(folder / "watch"))
            try:
                with contextlib.nullcontext() if is_watched else own_work():
                    plain.main()
                status = 0
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)
            OBSERVER.session.conclude()
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def digest(folder: Path) -> str:
    """Of standard output and of every file that the program wrote."""
    files = [folder / "out.txt", *sorted(path for path in (folder / "files").rglob("*") if path.is_file())]
    kept = [path for path in files if path.name not in VARYING and "findings" not in path.name]
    hasher = hashlib.sha256()
    for path in kept:
        hasher.update(path.name.encode() + hashlib.sha256(normal(path)).digest())
    return hasher.hexdigest()


VARYING = {"training_args.bin", "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"}
"""Files with times or paths in them."""


def normal(path: Path) -> bytes:
    """Output without its measured times."""
    content = path.read_bytes()
    if path.name == "out.txt":
        return b"\n".join(line for line in content.splitlines() if b"runtime" not in line and b"per_second" not in line)
    return content


if __name__ == "__main__":
    main()
