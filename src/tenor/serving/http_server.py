"""The HTTP server: uvicorn, with connections that cannot be held open for nothing, and an orderly end."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenor.errors import TenorError, UserError
from tenor.serving.exchange import Served
from tenor.serving.limits import READ_SECONDS
from tenor.serving.routes import application

HEAD_BYTES = 65_536
"""Of a request line with its headers."""
CONNECTIONS = 2_000
FINISH_SECONDS = 5.0
"""Beyond the deadline of the requests, after which a shutdown no longer waits."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed if no complete request head arrives in time, or if the head is too large."""

    _head = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._timer = self.loop.call_later(READ_SECONDS, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._head += len(data)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = 0
        elif self._head > HEAD_BYTES:
            self.transport.abort()

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: `serve_until_stopped` has others."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{host}:{port} cannot be used: {reason}. Choose another --port (0: any free one)") from error
    listener.set_inheritable(False)
    return listener


def serve_until_stopped(served: Served, listener: socket.socket, on_ready: Callable[[], None]) -> int:
    """Serve until SIGTERM (returns 0) or SIGINT (returns 130); accepted requests are finished.

    Raises:
        TenorError: the server gave up because its threads died again and again, or hung.
    """
    return uvicorn_run(_serve(served, listener, on_ready))


def uvicorn_run(work: Any) -> int:
    """Run a coroutine in uvloop's event loop where it exists."""
    try:
        from uvloop import new_event_loop
    except ImportError:  # Not available on Windows.
        return int(asyncio.run(work))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return int(runner.run(work))


async def _serve(served: Served, listener: socket.socket, on_ready: Callable[[], None]) -> int:
    service, status, fault = served.service, 0, ""
    server = Server(_configuration(application(served), service.limits.seconds))

    def stop(number: int) -> None:
        nonlocal status
        status = 130 if number == signal.SIGINT else 0
        # A second signal does not wait for requests.
        server.force_exit = service.stopping
        service.stopping = server.should_exit = True

    def give_up(reason: str) -> None:
        nonlocal fault
        fault = reason
        server.should_exit = server.force_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        _on_signal(loop, number, stop)
    supervision = asyncio.create_task(service.supervise(give_up))
    announcement = asyncio.create_task(_announce(server, on_ready))
    try:
        await server.serve(sockets=[listener])
    finally:
        supervision.cancel()
        announcement.cancel()
    if fault:
        raise TenorError(f"the server ended: {fault}. Start it again; report it if it happens again")
    service.close()
    return status


def _configuration(app: ASGIApp, deadline: float) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(deadline + FINISH_SECONDS),
        backlog=512,
    )


async def _announce(server: uvicorn.Server, on_ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    on_ready()


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, stop: Callable[[int], None]) -> None:
    if sys.platform == "win32":
        signal.signal(number, lambda received, _: loop.call_soon_threadsafe(stop, received))
    else:
        loop.add_signal_handler(number, stop, number)
