"""The load generator, a process of its own: `python -m serve.load`, a job as JSON on stdin, its record on stdout.

Closed loop: each connection sends its next request when the answer to the last one is there, each text once, as long as
the time allows.
Open loop: requests are due at the times of a Poisson process, whether or not earlier ones were answered. A latency
counts from the time at which a request was due, so waiting for a connection or for this process counts too
(coordinated omission).
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from serve.http_client import Answer, Connection, json_request

CONNECTIONS = 128
"""Of a closed loop: enough for full batches of every server."""
MOST_CONNECTIONS = 900
"""Of an open loop; below the usual limit of 1,024 open files."""


@dataclass(frozen=True)
class Job:
    """What to send."""

    port: int
    path: str
    field: str
    """The key of the text in the request."""
    texts: list[str]
    connections: int = CONNECTIONS
    rate: float = 0.0
    """Requests per second of an open loop; 0: a closed loop."""
    seconds: float = 60.0
    """For so long requests are sent."""
    seed: int = 0
    group: int = 1
    """Texts of one request."""
    keep: bool = False
    """Whether to return the bodies of the answers."""


@dataclass
class Record:
    """What came back. Times in seconds since the start; lists have one entry per request, in the order of sending."""

    wall: float = 0.0
    """From the start to the last answer."""
    cpu: float = 0.0
    """Processor time of the generator."""
    due: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    text: list[int] = field(default_factory=list)
    retry_after: int = 0
    """Answers with this header."""
    bodies: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> dict[int, int]:
        return dict(sorted(Counter(self.status).items()))

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu / self.wall

    def latencies(self, status: int = 200) -> list[float]:
        """Seconds from the time due to the answer."""
        return [done - due for done, due, one in zip(self.done, self.due, self.status, strict=True) if one == status]

    def rate(self, status: int = 200, until: float | None = None) -> float:
        """Answers of this status per second, until the last one or until a time."""
        end = self.wall if until is None else until
        return sum(one == status and done <= end for one, done in zip(self.status, self.done, strict=True)) / end


def generate(job: Job) -> Record:
    """Run the job in a process of its own. Raises SystemExit if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "serve.load"],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise SystemExit(f"the load generator failed:\n{done.stderr}")
    return Record(**json.loads(done.stdout))


class Sender:
    """Sends the requests of a job and records the answers."""

    def __init__(self, job: Job) -> None:
        self.job = job
        size = job.group
        texts = job.texts if size == 1 else [job.texts[at : at + size] for at in range(0, len(job.texts), size)]
        self.requests = [json_request(job.path, {job.field: text}) for text in texts]
        self.record = Record()
        self.started = 0.0
        self.cpu_before = time.process_time()
        self.free: list[Connection] = []
        self.opened = 0
        """Connections of the open loop, free or not."""
        self.late: deque[tuple[float, int]] = deque()
        """What is due and not sent: time and text."""

    async def ask(self, connection: Connection, text: int, due: float | None = None) -> None:
        sent = time.perf_counter() - self.started
        answer = await connection.ask(self.requests[text])
        self._note(sent if due is None else due, sent, answer, text)

    def _note(self, due: float, sent: float, answer: Answer, text: int) -> None:
        record = self.record
        record.due.append(due)
        record.sent.append(sent)
        record.done.append(time.perf_counter() - self.started)
        record.status.append(answer.status)
        record.text.append(text)
        record.retry_after += answer.retry_after
        if self.job.keep:
            record.bodies.append(answer.body.decode())

    async def closed_loop(self) -> None:
        connections = [await Connection.to(self.job.port) for _ in range(self.job.connections)]
        texts = iter(range(len(self.requests)))
        self.started = time.perf_counter()
        await asyncio.gather(*(self._one_by_one(connection, texts) for connection in connections))
        self._end(connections)

    async def _one_by_one(self, connection: Connection, texts: Any) -> None:
        for text in texts:
            if time.perf_counter() - self.started > self.job.seconds:
                break
            if not connection.open:
                connection = await Connection.to(self.job.port)
            await self.ask(connection, text)
        connection.close()

    async def open_loop(self) -> None:
        self.free = [await Connection.to(self.job.port) for _ in range(16)]
        self.opened = len(self.free)
        arrivals = arrival_times(self.job.rate, self.job.seconds, self.job.seed)
        tasks: set[asyncio.Task[None]] = set()
        self.started = time.perf_counter()
        for number, due in enumerate(arrivals):
            wait = due - (time.perf_counter() - self.started)
            if wait > 0:
                await asyncio.sleep(wait)
            elif not number % 16:
                await asyncio.sleep(0)  # Behind the schedule: read answers all the same.
            self.late.append((due, number % len(self.requests)))
            if self.free or self.opened < MOST_CONNECTIONS:
                self.opened += not self.free
                task = asyncio.create_task(self._work(self.free.pop() if self.free else None))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.gather(*tasks)
        self._end(self.free)

    async def _work(self, connection: Connection | None) -> None:
        """Send what is due on one connection, until nothing is."""
        while self.late:
            due, text = self.late.popleft()
            if connection is None or not connection.open:
                try:
                    connection = await Connection.to(self.job.port)
                except OSError as error:
                    now = time.perf_counter() - self.started
                    self._note(due, now, Answer(0, str(error).encode()), text)
                    continue
            await self.ask(connection, text, due)
        if connection is not None and connection.open:
            self.free.append(connection)
        else:
            self.opened -= 1

    def _end(self, connections: list[Connection]) -> None:
        self.record.wall = time.perf_counter() - self.started
        self.record.cpu = time.process_time() - self.cpu_before
        for connection in connections:
            connection.close()

    async def run(self) -> Record:
        self.cpu_before = time.process_time()
        await (self.open_loop() if self.job.rate else self.closed_loop())
        return self.record


def arrival_times(rate: float, seconds: float, seed: int) -> list[float]:
    """The times of a Poisson process with this rate, in seconds, ascending; the same for the same seed."""
    draw = random.Random(seed)
    times = [draw.expovariate(rate)]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1]


def main() -> None:
    import uvloop

    job = Job(**json.load(sys.stdin))
    record = uvloop.run(Sender(job).run())
    json.dump(asdict(record), sys.stdout)


if __name__ == "__main__":
    main()
