"""The servers, each in processes of its own on loopback: started, paused while others are measured, watched, ended."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from serve.http_client import ask_once, json_request

START_SECONDS = 120.0
END_SECONDS = 20.0


@dataclass
class Server:
    """A running server."""

    name: str
    port: int
    path: str
    field: str
    """The key of the text in a request."""
    process: psutil.Process
    log: Path

    @property
    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def memory(self) -> int:
        """Resident bytes of all its processes; 0 once it has ended."""
        try:
            return sum(one.memory_info().rss for one in self.tree)
        except psutil.NoSuchProcess:
            return 0

    @property
    def cpu(self) -> float:
        """Processor seconds of all its processes until now."""
        return sum(sum(one.cpu_times()[:2]) for one in self.tree)

    @property
    def alive(self) -> bool:
        return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE

    def pause(self) -> None:
        """Nothing of it runs until `resume`: some servers poll while they wait."""
        for one in self.tree:
            one.suspend()

    def resume(self) -> None:
        for one in self.tree:
            one.resume()

    def ask(self, text: str) -> int:
        """The status of one request. Raises OSError and TimeoutError."""
        return asyncio.run(ask_once(self.port, json_request(self.path, {self.field: text}), 5.0)).status


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass(frozen=True)
class Setting:
    """LitServe's batching."""

    size: int
    wait: float
    """Seconds."""
    queue: str = "plain"

    def __str__(self) -> str:
        return f"max_batch_size={self.size}, batch_timeout={self.wait:g}" + (
            ", fast_queue=True" if self.queue == "fast" else ""
        )


@contextmanager
def tenor(
    reference: Path | str, folder: Path, threads: int, *more: str, name: str = "Tenor", program: str = "tenor.cli.main"
) -> Iterator[Server]:
    """`program` is the module that understands the words of the command line."""
    port = free_port()
    words = [sys.executable, "-m", program, "serve", str(reference), "--port", str(port), "--threads", str(threads)]
    with _started(name, [*words, *more], port, "/v1/predict", "texts", folder, threads) as server:
        yield server


@contextmanager
def litserve(model: Path, folder: Path, threads: int, setting: Setting) -> Iterator[Server]:
    port = free_port()
    words = [sys.executable, "-m", "serve.peer_litserve", str(model), str(port)]
    words += [str(setting.size), str(setting.wait), setting.queue]
    with _started("LitServe", words, port, "/predict", "text", folder, threads) as server:
        yield server


@contextmanager
def plain(model: Path, folder: Path, threads: int) -> Iterator[Server]:
    port = free_port()
    words = [sys.executable, "-m", "serve.peer_plain", str(model), str(port)]
    with _started("FastAPI + pipeline", words, port, "/predict", "text", folder, threads) as server:
        yield server


@contextmanager
def _started(
    name: str, words: list[str], port: int, path: str, key: str, folder: Path, threads: int
) -> Iterator[Server]:
    log = folder / f"{name.replace(' ', '_')}-{port}.log"
    with log.open("w") as file:
        process = _spawn(words, file, threads)
        server = Server(name, port, path, key, psutil.Process(process.pid), log)
        try:
            _wait_until_ready(server, process)
            yield server
        finally:
            _end(process)


def _spawn(words: list[str], log: IO[str], threads: int) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that all its processes can be ended together."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, start_new_session=True)


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Raises SystemExit with the end of the log if the server ends or gives no answer in time."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if server.ask("a good film") == 200:
                return
        except (OSError, TimeoutError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"{server.name} did not start:\n{server.log.read_text()[-3000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if number == signal.SIGTERM:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    process.wait()


class Offline:
    """`Predictor.predict`, which `tenor predict` calls, in a process of its own that waits between measurements."""

    def __init__(self, model: Path, threads: int) -> None:
        words = [sys.executable, "-m", "serve.offline", str(model), str(threads)]
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def __enter__(self) -> "Offline":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def predict(self, texts: list[str]) -> tuple[float, list[list[float]]]:
        """Seconds, and the probabilities of each text."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the process that predicts offline ended; its message is above")
        answer = json.loads(line)
        return answer["seconds"], answer["probabilities"]
