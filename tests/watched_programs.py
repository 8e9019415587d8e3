"""Training programs under the hooks of `tenor watch`, each in a fork of a process that has the libraries imported.

The programs are text, as other people would write them; nothing in them calls Tenor.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

START = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(96, 8)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
"""
"""A task that is learned in a few steps: the sign of the first of eight numbers."""

LOOP = """
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for inputs, labels in loader:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
"""


@dataclass(frozen=True)
class Watched:
    """What a program did, and what was said of it."""

    status: int
    out: str
    err: str
    record: Mapping[str, Any] | None
    """The diagnosis; None if nothing was written."""
    folder: Path

    @property
    def codes(self) -> dict[str, str]:
        """Severity by code."""
        return {one["code"]: one["severity"] for one in (self.record or {"findings": ()})["findings"]}


class Programs:
    """The process that is forked."""

    def __init__(self) -> None:
        paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def run(self, folder: Path, program: str, *, watched: bool = True, **settings: Any) -> Watched:
        """Run a program in `folder`; `settings` are those of `WatchSettings`."""
        folder.mkdir(parents=True, exist_ok=True)
        request = {"folder": str(folder), "program": program, "watched": watched, "settings": settings}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        record = folder / "watch" / "diagnosis.json"
        return Watched(
            status,
            (folder / "out.txt").read_text(),
            (folder / "err.txt").read_text(),
            json.loads(record.read_text()) if record.exists() else None,
            folder / "watch",
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def _run(request: Mapping[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70  # What is not caught below is a defect.
    try:
        from tenor.watch.observer import OBSERVER
        from tenor.watch.patches import own_work
        from tenor.watch.settings import WatchSettings

        folder = Path(request["folder"])
        os.chdir(folder)
        for name, descriptor in (("out.txt", 1), ("err.txt", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        OBSERVER.begin(WatchSettings(folder / "watch", **request["settings"]))
        main = ModuleType("__main__")
        sys.modules["__main__"] = main
        with contextlib.nullcontext() if request["watched"] else own_work():
            status = _outcome_of(request["program"], vars(main))
        OBSERVER.session.conclude()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _outcome_of(program: str, names: dict[str, Any]) -> int:
    """Run as Python runs a script; its exit status."""
    try:
        exec(compile(program, "train.py", "exec"), names)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _serve() -> None:
    import tempfile

    from tenor.watch.settings import WatchSettings
    from tenor.watch.start import start

    start(WatchSettings(Path(tempfile.gettempdir()) / "not-used"))
    import torch

    for name in ("sklearn.metrics", "transformers.trainer"):
        import_module(name)
    torch.set_num_threads(1)
    for line in sys.stdin:
        os.write(1, f"{_run(json.loads(line))}\n".encode())


if __name__ == "__main__":
    _serve()
