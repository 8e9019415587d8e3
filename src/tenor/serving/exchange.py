"""One request in, one answer out: the body with its limits, the key, the errors, the counters."""

import asyncio
import hmac
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tenor.inference.texts import LongText
from tenor.serving.limits import BUFFERED_REQUESTS, DRAINED_BYTES, READ_SECONDS, RequestError
from tenor.serving.messages import ErrorAnswer, readable
from tenor.serving.model_facts import ModelFacts
from tenor.serving.row_queue import now
from tenor.serving.service import ClientLeft, Service, retry_after

LOG = logging.getLogger("tenor.serve")
JSON = "application/json"
ARRIVAL, COMPLETE = "tenor.arrival", "tenor.complete"
"""Keys in the scope of a request: when it arrived, on the clock of `now`; whether its body was read completely."""
HEALTH = frozenset({"/livez", "/readyz", "/health"})


def page_files() -> dict[str, str]:
    """The files of the page by the path under which they are served."""
    names = [file.name for file in files("tenor.serving").joinpath("page").iterdir() if file.is_file()]
    return {"/" if name == "index.html" else f"/{name}": name for name in sorted(names)}


Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[["Exchange", Request], Awaitable[Response]]
ErrorWriter = Callable[[RequestError], bytes]
M = TypeVar("M", bound=BaseModel)


def answer(message: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A message as JSON."""
    return Response(message.model_dump_json(by_alias=True), status, headers, JSON)


def plain_error(error: RequestError) -> bytes:
    """An error as Tenor and Text Embeddings Inference write it."""
    # The kinds are those of the message's type; a wrong one is a bug that the tests find.
    return ErrorAnswer(error=error.message, error_type=error.kind).model_dump_json().encode()  # type: ignore[arg-type]


class EarlyAnswer(Response):
    """An answer to a request whose body may still be arriving: the rest is read and thrown away, within limits.

    A client that is still sending cannot read the answer, and loses it if the connection is closed meanwhile.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        size, is_complete = 0, scope.get(COMPLETE, False)
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                while not is_complete and size < DRAINED_BYTES:
                    message = await receive()
                    size += len(message.get("body", b""))
                    is_complete = not message.get("more_body", False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True)
class Served:
    """A service, and how it answers where a request does not say."""

    service: Service
    facts: ModelFacts
    long_text: LongText = "truncate"
    abstain_below: float = 0.0
    key: str | None = None


class Exchange:
    """What all routes of a server share."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._bytes = 0
        """Of the bodies of all requests that are being answered."""

    def route(self, name: str, handler: Handler, write_error: ErrorWriter = plain_error) -> Endpoint:
        """`handler` with errors as answers, counted and timed as `name`."""
        metrics = self.served.service.metrics
        # These say nothing about the model.
        is_open = name in HEALTH or name in page_files()

        async def handle(request: Request) -> Response:
            started = request.scope[ARRIVAL] = now()
            request.state.bytes = 0
            try:
                if not is_open:
                    self._require_key(request.headers)
                response = await handler(self, request)
            except RequestError as error:
                headers = {} if error.retry_after is None else {"Retry-After": retry_after(error.retry_after)}
                if error.status == 401:
                    headers["WWW-Authenticate"] = "Bearer"
                response = EarlyAnswer(write_error(error), error.status, headers, JSON)
            except (ClientLeft, ClientDisconnect):
                metrics.left.inc()
                return Response(status_code=499)  # Nobody reads it.
            except Exception as error:
                # A traceback with the error's own message might quote a text, so only its places are written.
                where = "".join(traceback.format_tb(error.__traceback__))
                LOG.error("%s failed: %s\n%s", name, type(error).__name__, where)
                failed = RequestError(500, "internal", "an error of the server; its log says where")
                response = Response(write_error(failed), 500, {}, JSON)
            finally:
                self._bytes -= request.state.bytes
            metrics.requests.labels(name, str(response.status_code)).inc()
            metrics.seconds.labels(name).observe(now() - started)
            return response

        return handle

    def deadline_of(self, request: Request) -> float:
        """When the answer must be ready, on the clock of `now`: by the server's limit after the request arrived, or as
        early as the client said by `Prefer: wait=SECONDS`."""
        return float(request.scope[ARRIVAL]) + _seconds(request, self.served.service.limits.seconds)

    async def read(self, request: Request, model: type[M]) -> M:
        """The request's body as a message.

        Raises:
            RequestError: overloaded, not JSON, too large, sent too slowly, or not such a message.
        """
        # Before the body is read: an overloaded server answers at once.
        self.served.service.require_room()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise RequestError(415, "validation", "expected JSON: send the header Content-Type: application/json")
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise RequestError(415, "validation", "expected a body that is not compressed (no Content-Encoding)")
        body = await self._body(request)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestError(422, "validation", readable(details)) from None

    async def _body(self, request: Request) -> bytes:
        limit = self.served.service.limits.body_bytes
        too_large = RequestError(413, "too_large", f"the body is above {limit:,} bytes. Send fewer texts per request")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(READ_SECONDS):
                async for part in request.stream():
                    parts.append(part)
                    self._bytes += len(part)
                    request.state.bytes += len(part)
                    if request.state.bytes > limit:
                        raise too_large
                    if self._bytes > BUFFERED_REQUESTS * limit:
                        raise RequestError(429, "overloaded", "too many large requests at once. Try again", 1.0)
        except TimeoutError:
            message = f"the request was not complete after {READ_SECONDS:.0f} s"
            raise RequestError(408, "deadline", message) from None
        request.scope[COMPLETE] = True
        return b"".join(parts)

    def _require_key(self, headers: Headers) -> None:
        expected = self.served.key
        if expected is None:
            return
        given = headers.get("authorization", "")
        scheme, _, key = given.partition(" ")
        # In constant time, so that the time of an answer says nothing about how much of a key was right.
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), expected.encode()):
            raise RequestError(401, "unauthorized", "send the API key: Authorization: Bearer KEY")


def _seconds(request: Request, most: float) -> float:
    """RFC 7240; of several preferences the first counts, and one that is not understood does not."""
    for value in request.headers.getlist("prefer"):
        for preference in value.split(","):
            name, _, seconds = preference.partition(";")[0].partition("=")
            seconds = seconds.strip().strip('"')
            if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdecimal():
                return min(most, float(seconds))
    return most


async def left(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
