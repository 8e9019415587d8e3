"""`make bench-serve`: `tenor serve` beside LitServe and a plain FastAPI server, each a process of its own on loopback.

Same model folder, same texts, same truncation, same number of threads. Rounds run all servers one after the other, the
others paused; ratios are taken within a round. The load generator is a process of its own on the same cores, and its
share of them is printed.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from peak import machine
from serve import hostile, killing, overload, speed
from serve.bench import Bench, say
from serve.material import KINDS

Part = tuple[Callable[[Bench], None], Callable[[dict[str, Any]], None]]
PARTS: dict[str, Part] = {
    "settings": (speed.settings, speed.show_settings),
    "throughput": (speed.throughput, speed.show_throughput),
    "half_load": (speed.half_load, speed.show_half_load),
    "overload": (overload.overload, overload.show_overload),
    "hostile": (hostile.hostile, hostile.show_hostile),
    "hang_ups": (hostile.hang_ups, hostile.show_hang_ups),
    "killed_threads": (killing.killed_threads, killing.show_killed_threads),
    "equality": (hostile.equality, hostile.show_equality),
}
SOAK: dict[str, Part] = {"soak": (overload.soak, overload.show_soak)}


def main() -> int:
    options = _options()
    if options.show:
        show(json.loads(options.show.read_text()))
        return 0
    # So that an ended benchmark ends its servers too, which are in sessions of their own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [*options.parts, *(SOAK if options.soak else ())]
    parts = {name: part for name, part in (PARTS | SOAK).items() if name in wanted}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        with Bench(options.run, Path(name), options.threads, options.rounds, options.kinds) as bench:
            bench.soak_seconds = 60 * options.soak_minutes
            for part, (measure, _) in parts.items():
                say(part)
                measure(bench)
            minutes = (time.monotonic() - started) / 60
            about = {
                "machine": machine(),
                "threads": options.threads,
                "minutes": minutes,
                "litserve": str(bench.setting),
            }
        results = {"about": about, **bench.results}
    file = options.results or Path("runs") / f"bench-serve-{datetime.now():%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1))
    show(json.loads(file.read_text()))
    print(f"\n{file}: all figures")
    return 0


def show(results: dict[str, Any]) -> None:
    """The tables of a JSON file."""
    about = results["about"]
    print(
        f"{about['machine']}; {about['threads']} threads; {about['minutes']:.1f} minutes; LitServe: {about['litserve']}"
    )
    for part, (_, print_table) in (PARTS | SOAK).items():
        if part in results:
            print_table(results[part])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-serve")
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run; default: the encoder, a random head")
    parser.add_argument("--parts", choices=[*PARTS, *SOAK], nargs="+", default=list(PARTS))
    parser.add_argument("--soak", action="store_true", help="mixed load for minutes too; alone: --parts soak")
    parser.add_argument("--soak-minutes", type=float, default=10.0, metavar="N", help="default: 10")
    parser.add_argument(
        "--kinds", choices=list(KINDS), nargs="+", default=list(KINDS), help="of texts, where a part has"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="FILE", help="default: runs/bench-serve-TIME.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the tables of an earlier run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
