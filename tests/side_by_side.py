"""The options with which pytest runs tests in several processes, for `make test` and `make test-slow`.

    python tests/side_by_side.py [PROCESSES]

PROCESSES is a number or `auto`: one process for each core that this one may use. What is chosen, and why, goes to
stderr; one process is this one, with no options.
"""

import os
import sys
from importlib.util import find_spec

MOST_PROCESSES = 8
"""Each imports PyTorch and collects the tests: seconds of time and a gigabyte."""


def options(wanted: str, cores: int, can_distribute: bool) -> tuple[list[str], str]:
    """Options of pytest, and what they do, in words."""
    count = min(cores, MOST_PROCESSES) if wanted == "auto" else int(wanted)
    if count < 2:
        return [], f"one test after the other ({cores} core{'s' if cores > 1 else ''})"
    if not can_distribute:
        return [], "one test after the other (pytest-xdist is not installed)"
    # Tests go to the processes in order, so that most files stay whole; a process that is done takes over others' last.
    return ["--numprocesses", str(count), "--dist", "worksteal"], f"in {count} processes ({cores} cores)"


def cores_of_this_process() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    chosen, words = options(next(iter(sys.argv[1:]), "auto"), cores_of_this_process(), find_spec("xdist") is not None)
    print(f"tests: {words}", file=sys.stderr)
    print(*chosen)
