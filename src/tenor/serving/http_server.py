"""The HTTP server: uvicorn, with connections that cannot be held open for nothing, and an orderly end."""

import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tenor.errors import TenorError, UserError
from tenor.serving.exchange import Served
from tenor.serving.limits import READ_SECONDS
from tenor.serving.routes import application

HEAD_BYTES = 65_536
"""Of a request line with its headers, and of a body that arrives after its answer."""
PIPELINED = 32
"""Requests that a client may send before the answer to its first one."""
CONNECTIONS = 2_000
BACKLOG = 512
WRITE_SECONDS = 30.0
"""Time that a client may take without reading enough of its answers."""
FINISH_SECONDS = 5.0
"""Beyond the deadline of the requests, after which a shutdown no longer waits."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that a client can neither fill nor hold open for nothing.

    It is closed if a request's head, or a body that is answered already, does not end in time or is too large; if a
    client does not read its answers; and if it sends too many requests at once. A wish to upgrade (HTTP/2) is ignored.
    """

    _in_head = _in_body = _is_upgrade = _is_lost = False
    _answering: RequestResponseCycle | None = None
    _messages = 0
    """Heads and bodies that were read completely …"""
    _unread = 0
    """… and bytes since the last of them that no handler reads."""
    _arrival: asyncio.TimerHandle | None = None
    """Ends the connection unless what is arriving arrives in time."""
    _departure: asyncio.TimerHandle | None = None
    """The same for what is being sent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._expect_end()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arrival, self._departure):
            if timer is not None:
                timer.cancel()
        self._is_lost = True
        super().connection_lost(exc)
        # uvicorn tells only the last one of pipelined requests, which is not the one that is being answered.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        before = self._messages
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        if self._in_body and not self._is_answered:
            self._unread = 0  # A handler reads it, with limits of its own.
        elif self._messages != before:
            self._unread = 0
            if self._in_head:
                self._expect_end()
        else:
            self._unread += len(data)
            self._expect_end()
            if self._unread > HEAD_BYTES:
                self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_upgrade = self.parser.should_upgrade()
        if self._is_upgrade:
            return  # `_feed` reads it again.
        self._in_head, self._in_body = False, True
        self._messages += 1
        self._expect_nothing()
        if len(self.pipeline) >= PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError  # Ends the parser.
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        self._in_body = False
        self._messages += 1
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_nothing()
        if self._in_head or (self._in_body and self._is_answered):
            self._expect_end()
        if self.transport.is_closing():
            self._expect_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._departure is not None and not self.transport.is_closing():
            self._departure.cancel()
            self._departure = None

    @property
    def _is_answered(self) -> bool:
        """Whether the last request that began is answered."""
        return self.cycle is None or self.cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        """Parse; a request with a wish to upgrade is parsed again without it (RFC 9110, 7.8).

        The parser treats what follows such a head as another protocol, and the body would be lost.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError("CONNECT") from upgrade
            lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            version = self.parser.get_http_version().encode()
            head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines))
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._feed(head + data[upgrade.args[0] :])

    def _expect_end(self) -> None:
        """Close the connection unless a head or body ends soon."""
        if self._arrival is None and not self._is_lost:
            self._arrival = self.loop.call_later(READ_SECONDS, self._close_unfinished)

    def _expect_nothing(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _close_unfinished(self) -> None:
        self._arrival = None
        # While a request is answered, it is the client's turn to wait; `on_response_complete` looks again.
        if self._is_answered:
            self.transport.abort()

    def _expect_reader(self) -> None:
        """Close the connection unless the client reads its answers."""
        if self._departure is None and not self._is_lost:
            self._departure = self.loop.call_later(WRITE_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: `serve_until_stopped` has others."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address cannot be used."""
    if not host:  # To the system it means every address.
        raise UserError("--host is empty. Give an address: 127.0.0.1 (this machine only) or 0.0.0.0 (any)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Only a socket that listens keeps another server from the port.
        listener.listen(BACKLOG)
    # The last two: a name that no host can have.
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
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
    service.close(at_once=server.force_exit)
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
        timeout_graceful_shutdown=math.ceil(deadline + FINISH_SECONDS),
        backlog=BACKLOG,
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
