"""`make bench-wild`: faults that others reported, in programs of others, under `tenor watch` and `tenor diagnose`.

    python -m wild --run first_run|after_fixes [--only TEXT] [--kind program|folder|healthy] [--part K/N] [--show]

Results are kept line by line in `results/`, so an interrupted run resumes. Lines of the first run are never replaced.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tenor
from wild.cases import HERE, Case, all_cases
from wild.freeze import refuse_if_changed
from wild.judge import judge
from wild.show import RUNS, read, show
from wild.workplace import room


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-wild", description=__doc__.splitlines()[0])
    parser.add_argument("--run", choices=RUNS, default="after_fixes", help="which results these are")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--kind", default="", choices=("", "program", "folder", "healthy"))
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every Nth case, from the Kth")
    parser.add_argument("--room", type=Path, help="folder with data and models; default: made in the cache")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results after the fixes")
    parser.add_argument("--show", action="store_true", help="only print the results")
    options = parser.parse_args()
    refuse_if_changed()
    results = HERE / "results" / f"{options.run}.jsonl"
    results.parent.mkdir(exist_ok=True)
    if options.fresh and options.run == "first_run":
        parser.error("the results of the first run are never replaced")
    if options.fresh:
        results.unlink(missing_ok=True)
    if not options.show:
        run(chosen(options), results, room(options.room))
    show()
    return 0


def chosen(options: argparse.Namespace) -> list[Case]:
    part, parts = map(int, options.part.split("/"))
    cases = [one for one in all_cases() if options.only in one.name and options.kind in ("", one.kind)]
    return cases[part - 1 :: parts]


def run(cases: list[Case], results: Path, materials: Path) -> None:
    done = {one["case"] for one in read(results)}
    waiting = [one for one in cases if one.name not in done]
    for number, case in enumerate(waiting, start=1):
        result: dict[str, Any] = {"case": case.name, "kind": case.kind, **judge(case, materials), "tenor": commit()}
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{number} of {len(waiting)}  {case.name}: {result['seconds']} s", file=sys.stderr)


def commit() -> str:
    """Of Tenor's sources."""
    words = ["git", "-C", str(Path(tenor.__file__).parent), "describe", "--always", "--dirty"]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
