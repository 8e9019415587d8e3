"""What the parts of the benchmark share: the model, the texts, the servers, the results."""

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from serve.load import CONNECTIONS, Job, Record, generate
from serve.material import KINDS, mixed, plain_folder, texts_by_kind
from serve.servers import Offline, Server, Setting, litserve, plain, tenor

TENOR, LITSERVE, PLAIN = "Tenor", "LitServe", "FastAPI + pipeline"
BEST = Setting(32, 0.01)
"""LitServe's setting unless the part `settings` tries some on this machine."""
MOST_SECONDS = 25.0
"""Of one measurement."""
OFFLINE_SECONDS = 4.0
"""Of one measurement offline; on a slow machine fewer texts are measured."""


@dataclass
class Bench:
    """One run of the benchmark; servers are started when they are first needed, and paused while not in use."""

    run: Path | None
    folder: Path
    threads: int
    rounds: int
    kinds: Sequence[str] = tuple(KINDS)
    setting: Setting = BEST
    soak_seconds: float = 600.0
    results: dict[str, Any] = field(default_factory=dict)
    """What goes to the JSON file, by part."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _servers: dict[str, Server] = field(default_factory=dict)
    _offline: Offline | None = None

    def __enter__(self) -> "Bench":
        self.model = plain_folder(self.run, Path("runs"), self.folder / "model")
        self.texts = texts_by_kind(self.model)
        self.mixed = mixed(self.texts, 400)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def offline(self) -> Offline:
        """Started and warm; the texts of each kind are reduced to what it predicts in OFFLINE_SECONDS."""
        if self._offline is None:
            self._offline = self._stack.enter_context(Offline(self.model, self.threads))
            for kind, texts in self.texts.items():
                self._offline.predict(texts[:16])
                seconds, _ = self._offline.predict(texts[: len(texts) // 10])
                most = int(len(texts) / 10 / seconds * OFFLINE_SECONDS)
                self.texts[kind] = texts[: max(16, most)]
        return self._offline

    @contextmanager
    def active(self, name: str) -> Iterator[Server]:
        """The server with this name, warm, which runs until the end of the block."""
        if name not in self._servers:
            say(f"starting {name}")
            server = self._stack.enter_context(self._start(name))
            for texts in self.texts.values():
                self.closed(server, texts[: len(texts) // 8])
            self._servers[name] = server
            server.pause()
        server = self._servers[name]
        server.resume()
        try:
            yield server
        finally:
            if server.alive:
                server.pause()

    def _start(self, name: str) -> AbstractContextManager[Server]:
        if name == TENOR:
            return tenor(self.model, self.folder, self.threads)
        if name == LITSERVE:
            return litserve(self.model, self.folder, self.threads, self.setting)
        return plain(self.model, self.folder, self.threads)

    def closed(
        self, server: Server, texts: Sequence[str], connections: int = CONNECTIONS, group: int = 1, keep: bool = False
    ) -> Record:
        """Each text once, `group` texts per request, from as many clients as connections."""
        words = server.port, server.path, server.field, list(texts), connections
        return generate(Job(*words, seconds=MOST_SECONDS, group=group, keep=keep))

    def open(self, server: Server, texts: Sequence[str], rate: float, seconds: float, seed: int) -> Record:
        """Requests at the times of a Poisson process."""
        words = server.port, server.path, server.field, list(texts)
        return generate(Job(*words, rate=rate, seconds=seconds, seed=seed))

    def rounds_within(self, seconds: float) -> Iterator[int]:
        """The numbers of the rounds; none begins that would not end within the time, except the first."""
        started = time.monotonic()
        for number in range(self.rounds):
            if number and time.monotonic() - started > seconds * number / (number + 1):
                say(f"{number} rounds of {self.rounds}, because {seconds:.0f} s are not enough for more")
                return
            yield number

    def capacity(self, kind: str, name: str = TENOR) -> float:
        """Texts per second at saturation: as measured by the part `throughput`, or measured now."""
        measured = self.results.get("throughput", {}).get(kind, {}).get(name)
        if measured:
            return statistics.median(measured)
        with self.active(name) as server:
            return self.closed(server, self.texts[kind]).rate()


class OtherLoad:
    """Cores that processes outside this benchmark use while the block runs, stolen time included."""

    cores = float("nan")

    def __enter__(self) -> "OtherLoad":
        self.before = self._times()
        return self

    def __exit__(self, *_: object) -> None:
        (at, busy, own), now = self.before, self._times()
        self.cores = max(0.0, (now[1] - busy - (now[2] - own)) / (now[0] - at))

    def _times(self) -> tuple[float, float, float]:
        """Clock, processor seconds of all processes, and of this one with all below it, ended ones included."""
        whole = psutil.cpu_times()
        idle = whole.idle + getattr(whole, "iowait", 0.0) + getattr(whole, "guest", 0.0)
        tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return time.monotonic(), sum(whole) - idle, sum(sum(one.cpu_times()[:4]) for one in tree)


class MemoryWatch:
    """Resident bytes of a server once a second, while the block runs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seconds: list[float] = []
        self.bytes: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._end.is_set() and self.server.alive:
            self.bytes.append(self.server.memory)
            self.seconds.append(time.monotonic() - started)
            self._end.wait(1.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)] if ordered else float("nan")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def met(condition: bool) -> str:
    return "met" if condition else "MISSED"


def say(message: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} load {os.getloadavg()[0]:.1f}: {message}", file=sys.stderr, flush=True)
