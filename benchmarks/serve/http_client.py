"""A client of HTTP/1.1 that costs as little as possible: keep-alive, one request at a time on a connection."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)\r\n", re.IGNORECASE)
END = b"\r\n\r\n"
GONE = 0
"""The status of a request whose connection ended without an answer."""


@dataclass(frozen=True)
class Answer:
    """The answer to one request."""

    status: int
    body: bytes
    retry_after: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


def request(path: str, body: bytes, method: str = "POST", headers: str = "") -> bytes:
    """A request as it is sent; `headers` are further lines, each with its end."""
    start = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}"
    kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if method == "POST" else ""
    return f"{start}{kind}\r\n".encode() + body


def json_request(path: str, payload: Any) -> bytes:
    return request(path, json.dumps(payload, ensure_ascii=False).encode())


def parsed(received: bytes | bytearray) -> Answer | None:
    """The answer once it is complete, else None.

    Raises:
        ValueError: an answer without a length.
    """
    end = received.find(END)
    if end < 0:
        return None
    head = bytes(received[: end + 2])
    length = LENGTH.search(head)
    if length is None:
        raise ValueError(f"an answer without content-length: {head[:200]!r}")
    body = received[end + len(END) :]
    if len(body) < int(length[1]):
        return None
    return Answer(int(head[9:12]), bytes(body), b"\r\nretry-after:" in head.lower())


class Connection(asyncio.Protocol):
    """One connection; `ask` sends a request and waits for its answer."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.waiting: asyncio.Future[Answer] | None = None
        self.transport: Any = None
        self.open = True

    @classmethod
    async def to(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        answer = parsed(self.received)
        if answer is not None:
            self.received.clear()
            self._finish(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._finish(Answer(GONE, str(error or "closed").encode()))

    def _finish(self, answer: Answer) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(answer)

    async def ask(self, sent: bytes) -> Answer:
        """The answer; its status is GONE if the connection ends before."""
        self.waiting = asyncio.get_running_loop().create_future()
        if not self.open:
            self._finish(Answer(GONE, b"closed before"))
        else:
            self.transport.write(sent)
        return await self.waiting

    def hang_up(self) -> None:
        """Leave at once, whether or not an answer is due."""
        self.transport.abort()

    def close(self) -> None:
        if self.open:
            self.transport.close()


async def ask_once(port: int, sent: bytes, seconds: float = 60.0) -> Answer:
    """One request on a connection of its own. Raises TimeoutError."""
    connection = await Connection.to(port)
    try:
        return await asyncio.wait_for(connection.ask(sent), seconds)
    finally:
        connection.close()
