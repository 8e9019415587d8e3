"""A server in a thread of the test's process, and a client for it."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tenor.explanations.verdict import Verdict
from tenor.inference.predictor import Predictor
from tenor.serving.exchange import Served
from tenor.serving.http_server import Server, _configuration, bind
from tenor.serving.limits import ServerLimits
from tenor.serving.model_facts import model_facts
from tenor.serving.routes import application
from tenor.serving.service import Service

UNTESTED = Verdict(False, "the explanations were not tested")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """Parsed JSON, or bytes."""


@dataclass
class Running:
    """A server that answers."""

    port: int
    served: Served
    faults: list[str]
    """Why it gave up."""

    @property
    def service(self) -> Service:
        return self.served.service

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Answer:
        """One request on a connection of its own; anything but bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if content is not None else {}
        try:
            connection.request(method, path, content, {**kind, **(headers or {})})
            response = connection.getresponse()
            raw = response.read()
            names = {name.lower(): value for name, value in response.getheaders()}
            is_json = names.get("content-type", "").startswith("application/json")
            return Answer(response.status, names, json.loads(raw) if is_json else raw)
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.send("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})


def served_by(predictor: Predictor, limits: ServerLimits | None = None, **how: Any) -> Served:
    """A service that is not started yet."""
    facts = how.pop("facts", None) or model_facts(str(predictor.source.origin), predictor, Path("runs"), UNTESTED)
    return Served(Service(predictor, limits or ServerLimits()), facts, **how)


@contextmanager
def running(served: Served) -> Iterator[Running]:
    """The server, until the block ends."""
    listener = bind("127.0.0.1", 0)
    server = Server(_configuration(application(served), served.service.limits.seconds))
    faults: list[str] = []
    served.service.start()

    async def serve() -> None:
        supervision = asyncio.create_task(served.service.supervise(faults.append))
        await server.serve(sockets=[listener])
        supervision.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    port = listener.getsockname()[1]
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        yield Running(port, served, faults)
    finally:
        served.service.stopping = server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
        served.service.close()


class Gate:
    """A predictor whose engine waits until it is opened, and does what a test wants with a batch."""

    def __init__(self, predictor: Predictor) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        """Released whenever a batch is about to be computed."""
        self.batches: list[int] = []
        """Rows of each batch."""
        self.before: Callable[[np.ndarray], None] = lambda ids: None
        """Called with the ids (rows, longest) of each batch."""
        self._run = predictor.engine.run
        self.predictor = replace(predictor, engine=replace(predictor.engine, run=self._through))

    def _through(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        if threading.current_thread().name.startswith("tenor-inference"):
            self.entered.release()
            assert self.opened.wait(60)
            self.batches.append(len(inputs["input_ids"]))
            self.before(inputs["input_ids"])
        return self._run(inputs)
