"""`tenor` commands in processes of their own that can be killed at a chosen point, without their seconds of imports.

A warmed process forks a child for each command. The child is a process like any other: SIGKILL takes all that it holds
in memory, and what it wrote stays as it was at that moment. Faults are put in from here; Tenor knows nothing of them.
"""

import errno
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """Get a signal at one call of one function."""

    function: str
    """Where it is looked up, such as `tenor.training.loop.measure`."""
    call: int = 1
    """Which call, from 1, among those whose arguments name `about`."""
    when: str = "before"
    """`before` or `after` the call; `half`: after it, with half of the file that it wrote; `full`: no signal, but the
    error of a full disk; `other`: another result, the text other."""
    about: str = ""
    number: int = signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    status: int
    """Exit status, or minus the number of the signal that ended the process."""
    output: str
    """Stdout and stderr."""


class Commands:
    """The warmed process, as tests see it."""

    def __init__(self) -> None:
        folder = Path(__file__).parent
        paths = [str(folder), *(path for path in sys.path if path)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def run(self, cwd: Path, *arguments: str, fault: Fault | None = None) -> Ended:
        """`tenor ARGUMENTS` in the folder `cwd`."""
        return self._request(cwd, arguments, [{"fault": fault and asdict(fault), "environment": {}}])[0]

    def run_group(
        self, cwd: Path, *arguments: str, count: int = 2, faults: Mapping[int, Fault] | None = None
    ) -> list[Ended]:
        """`tenor ARGUMENTS` in `count` processes, with what a launcher sets for each; faults by rank."""
        port = free_port()
        processes = [
            {
                "fault": asdict(faults[rank]) if faults and rank in faults else None,
                "environment": launched(rank, count, port),
            }
            for rank in range(count)
        ]
        return self._request(cwd, arguments, processes)

    def _request(self, cwd: Path, arguments: tuple[str, ...], processes: list[dict[str, Any]]) -> list[Ended]:
        outputs = [cwd / f"output{rank or ''}.txt" for rank in range(len(processes))]
        for process, output in zip(processes, outputs, strict=True):
            process["output"] = str(output)
        request = {"cwd": str(cwd), "arguments": arguments, "processes": processes}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        statuses = json.loads(self._process.stdout.readline())
        return [
            Ended(status, output.read_text(encoding="utf-8")) for status, output in zip(statuses, outputs, strict=True)
        ]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def launched(rank: int, count: int, port: int) -> dict[str, str]:
    """What a launcher sets for one of its processes."""
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return {**world, "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}


def warm(folder: Path) -> None:
    """Load all that a run needs, by running one; no thread is left behind, so that forking is safe."""
    import threading

    from tqdm import tqdm

    from small_models import save_small_model
    from small_runs import small_run

    tqdm.monitor_interval = 0  # Else its progress bars keep a thread.
    small_run(folder, save_small_model("distilbert", folder / "model"), "training.trackers=[tensorboard]")
    assert threading.active_count() == 1, threading.enumerate()


def fork(
    cwd: Path,
    arguments: list[str],
    output: Path,
    fault: Fault | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start `tenor ARGUMENTS` as a child of this process and return its number."""
    child = os.fork()
    if child:
        return child
    status = 70  # What is not caught below is a defect.
    try:
        # A shell that starts the tests in the background has its children ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(written, descriptor)
        sys.argv = ["tenor", *arguments]
        os.environ.update(environment or {})
        if fault is not None:
            put_in(fault)
        from tenor.cli.main import main

        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def put_in(fault: Fault) -> None:
    """Wrap the fault's function for the rest of this process."""
    owner, name = _owner(fault.function)
    real, seen = getattr(owner, name), 0

    def faulty(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += fault.about in f"{arguments} {options}"
        if seen != fault.call:
            return real(*arguments, **options)
        if fault.when == "other":
            return "other"
        if fault.when == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        seen += 1  # Only once: a handler may continue.
        if fault.when == "before":
            os.kill(os.getpid(), fault.number)
        result = real(*arguments, **options)
        if fault.when == "half":
            os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
        if fault.when != "before":
            os.kill(os.getpid(), fault.number)
        return result

    setattr(owner, name, faulty)


def _owner(function: str) -> tuple[Any, str]:
    """The module or class that holds the function, and the name that it has there."""
    *path, name = function.split(".")
    for length in range(len(path), 0, -1):
        try:
            owner = importlib.import_module(".".join(path[:length]))
        except ModuleNotFoundError:
            continue
        for part in path[length:]:
            owner = getattr(owner, part)
        return owner, name
    raise AssertionError(f"no {function}")


def _serve() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        warm(Path(folder))
    for line in sys.stdin:
        request = json.loads(line)
        children = [
            fork(
                Path(request["cwd"]),
                request["arguments"],
                Path(process["output"]),
                Fault(**process["fault"]) if process["fault"] else None,
                process["environment"],
            )
            for process in request["processes"]
        ]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)


if __name__ == "__main__":
    _serve()
