"""The processes of one training, started by a launcher such as torchrun: which one this is, and what they exchange.

Process 0 decides everything that is not a pure function of the settings; it writes, prints and checks. The others
compute their shares, and end when it ends, with its exit status and without a message of their own.

Everything but the gradients of a GPU travels through gloo, on the CPU: as JSON or as arrays, never as pickles. How a
process ended is left in the launcher's key-value store, which outlives it: who then finds the connection closed reads
the reason there.
"""

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tenor.errors import InterruptedRunError, TenorError, UserError, first_line, system_refusal

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What every launcher sets."""

STEP_LIMIT = timedelta(minutes=30)
"""After this time in one exchange of a training step, a process that does not answer counts as lost. A process that
ends closes its connections, and is missed at once."""
NO_LIMIT = timedelta(days=30)
"""While process 0 reads rows, runs checks or writes, the others wait."""
REASON_LIMIT = timedelta(seconds=10)
"""How long another process waits for process 0 to say why the run ended, once a connection is closed."""


class LostProcessError(TenorError):
    """Another process of the run ended, or does not answer."""


@dataclass(frozen=True, eq=False)
class Processes:
    """One process's place among all, and its connections; alone by default, when every exchange returns at once."""

    rank: int = 0
    """0 is the main process."""
    count: int = 1
    on_this_host: int = 1
    store: Any = None
    patient: Any = None
    """The group for exchanges that wait for process 0's own work."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """The main process's JSON value, in every process."""
        if self.count == 1:
            return value
        data = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8).copy() if self.is_main else np.zeros(0)
        size = torch.tensor([len(data)])
        self._exchange(partial(dist.broadcast, size, 0, self.patient))
        content = torch.from_numpy(data) if self.is_main else torch.empty(int(size), dtype=torch.uint8)
        self._exchange(partial(dist.broadcast, content, 0, self.patient))
        return json.loads(content.numpy().tobytes())

    def gather(self, value: Any) -> list[Any]:
        """The JSON values of all processes by rank, in every process."""
        if self.count == 1:
            return [value]
        arrays = self.gather_arrays(np.frombuffer(json.dumps(value).encode(), dtype=np.uint8))
        return [json.loads(array.tobytes()) for array in arrays]

    def gather_arrays(self, array: np.ndarray) -> list[np.ndarray]:
        """The arrays of all processes by rank, in every process: shape (rows, …), equal but for the rows."""
        if self.count == 1:
            return [array]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        self._exchange(lambda: dist.all_gather(sizes, torch.tensor([len(array)]), self.patient))
        padded = np.zeros((max(int(size) for size in sizes), *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        parts = [torch.from_numpy(np.zeros_like(padded)) for _ in range(self.count)]
        self._exchange(lambda: dist.all_gather(parts, torch.from_numpy(padded), self.patient))
        return [part.numpy()[: int(size)] for part, size in zip(parts, sizes, strict=True)]

    def add(self, numbers: torch.Tensor) -> None:
        """Replace the numbers by their sums over all processes, in place, the same bits in each."""
        if self.count > 1:
            self._exchange(lambda: dist.all_reduce(numbers))

    def copy_from_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace the content of each tensor by the main process's, in place; they may be on a GPU."""
        if self.count == 1:
            return
        for tensor in tensors:
            content = tensor.detach().cpu().contiguous()
            self._exchange(partial(dist.broadcast, content, 0, self.patient))
            with torch.no_grad():
                tensor.copy_(content)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block first and writes the caches that the others then read."""
        if not self.is_main:
            self.share()
        yield
        if self.is_main:
            self.share()

    def _exchange(self, exchange: Callable[[], Any]) -> None:
        try:
            exchange()
        except RuntimeError as error:  # The backends' errors share no narrower class.
            raise self._loss(error) from error

    def _loss(self, error: RuntimeError) -> BaseException:
        """Why an exchange failed: as the process that ended has left it in the store; else all that can be said."""
        if self.is_main:
            for rank in range(1, self.count):
                if (left := _read(self.store, _failed(rank))) is not None:
                    _leave(self.store, ENDED, {"status": left["status"]})
                    lost = LostProcessError(f"process {rank} on {left['host']}: {left['message']}")
                    lost.exit_code = left["status"]
                    return lost
            _leave(self.store, ENDED, {"status": TenorError.exit_code})
        elif (left := _read(self.store, ENDED, REASON_LIMIT)) is not None:
            return SystemExit(left["status"])
        elif not _is_first(self.store):
            return SystemExit(TenorError.exit_code)
        if "imed out" in str(error):
            limit = STEP_LIMIT.total_seconds() / 60
            return LostProcessError(
                f"a process of this run has not answered for {limit:.0f} minutes ({first_line(error)[:200]})"
            )
        who = "another process of this run" if self.is_main else "the main process of this run"
        return LostProcessError(
            f"{who} ended without a message: it was killed, or its machine or the connection failed; the launcher "
            f"prints which one"
        )


ALONE = Processes()

ENDED = "ended"
"""Key under which the main process leaves the status with which it ends."""


def _failed(rank: int) -> str:
    return f"failed/{rank}"


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1").isdecimal() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch_words() -> str:
    """The words before `train …` with which these processes were started, as far as they are known."""
    if not is_launched():
        return "tenor"
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    machines = os.environ.get("GROUP_WORLD_SIZE", "1")
    nodes = "" if machines == "1" else f"--nnodes {machines} --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
    return f"torchrun {nodes}--nproc-per-node {here} -m tenor"


def hint_on_gpus(processes: Processes, device: str, words: Sequence[str]) -> str:
    """The command that uses all GPUs of this machine, if it has several and the run uses one; else empty. `words` are
    those of the present command after `tenor`, if it is one."""
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    if gpus < 2 or processes.count > 1 or is_launched():
        return ""
    program = f"-m tenor {shlex.join(words)}" if words[:1] == ["train"] and "--seeds" not in words else "PROGRAM.py"
    return f"this run uses one of {gpus} GPUs; to use all: torchrun --nproc-per-node {gpus} {program}"


def require_one_process(what: str) -> None:
    """Raises UserError if a launcher started several processes, each of which would do the same work."""
    if is_launched():
        raise UserError(
            f"{what} runs in one process, and a launcher started {os.environ['WORLD_SIZE']}: start it without a "
            "launcher. `tenor train CONFIG` and `tenor train --resume RUN` can run in several processes"
        )


_connected_before: list[int] = []
"""Not empty once this process was connected: a second training would wait for processes that have ended."""


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those of the launcher, connected within the block; alone without a launcher.

    In all processes but the main one the block ends with SystemExit: with the main process's status, or with the status
    of an error of its own, which the main process then reports.

    Raises:
        UserError: the launcher's variables are incomplete, or this process is connected already.
    """
    if not is_launched():
        yield ALONE
        return
    processes = _connect()
    try:
        yield processes
        with suppress(LostProcessError):  # The work is done.
            processes.share({"status": 0})
    except BaseException as error:
        if processes.is_main:
            _leave(processes.store, ENDED, {"status": _status(error)})
            raise
        _end(processes, error)
    finally:
        with suppress(RuntimeError):  # The other processes may be gone.
            dist.destroy_process_group()
        _forget_in_accelerate()
    if not processes.is_main:
        raise SystemExit(0)


def _end(processes: Processes, error: BaseException) -> None:
    """End another process than the main one after an error, which the main process reports."""
    if isinstance(error, SystemExit | LostProcessError):
        raise error
    status = _status(error)
    if isinstance(error, KeyboardInterrupt):
        raise SystemExit(status) from error
    message = str(error) if isinstance(error, TenorError) else system_refusal(error)
    told = {"status": status, "host": platform.node(), "message": message or f"{type(error).__name__}: {error}"}
    is_left = _leave(processes.store, _failed(processes.rank), told)
    if message is None or not is_left:
        raise error  # A defect keeps its traceback.
    raise SystemExit(status) from error


def _status(error: BaseException) -> int:
    """The exit status of an error."""
    usual = InterruptedRunError.exit_code if isinstance(error, KeyboardInterrupt) else TenorError.exit_code
    return int(getattr(error, "exit_code", usual))


def _connect() -> Processes:
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set: start with torchrun or "
            "accelerate launch, or remove WORLD_SIZE from the environment"
        )
    if dist.is_initialized() or _connected_before:
        raise UserError(
            "this process is connected to others already (torch.distributed is initialized), or has trained before: "
            "tenor.train connects the processes itself, once per launch"
        )
    _connected_before.append(os.getpid())
    store, rank, count = next(dist.rendezvous("env://", timeout=STEP_LIMIT))
    store = dist.PrefixStore("tenor", store)
    local = int(os.environ.get("LOCAL_RANK", rank))
    has_gpus = torch.cuda.is_available()
    if has_gpus and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=STEP_LIMIT)
        patient = dist.new_group(backend="gloo", timeout=NO_LIMIT)
    except RuntimeError as error:
        raise TenorError(
            f"process {rank} on {platform.node()} cannot connect to the {count - 1} others: {first_line(error)}. "
            "If the host has several networks, set GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the right interface"
        ) from error
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    return Processes(rank, count, here, dist.PrefixStore("ends", store), patient)


def _forget_in_accelerate() -> None:
    """Accelerate keeps the place among the processes for the whole program."""
    if (state := getattr(sys.modules.get("accelerate.state"), "AcceleratorState", None)) is not None:
        state._reset_state(reset_partial_state=True)


def _leave(store: Any, key: str, value: dict[str, Any]) -> bool:
    """Write a value into the store, unless there is one already; False where the store is gone."""
    try:
        if not store.check([key]):
            store.set(key, json.dumps(value))
    except RuntimeError:
        return False
    return True


def _read(store: Any, key: str, limit: timedelta | None = None) -> dict[str, Any] | None:
    """A value of the store, waiting for it up to `limit`; None if there is none, or the store is gone."""
    try:
        if limit is not None:
            store.wait([key], limit)
        return json.loads(store.get(key)) if store.check([key]) else None
    except RuntimeError:
        return None


def _is_first(store: Any) -> bool:
    """Whether no other process has asked this before; True if the store is gone."""
    try:
        return int(store.add("reporter", 1)) == 1
    except RuntimeError:
        return True
