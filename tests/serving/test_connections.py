"""What raw connections may do to a server, and what they may not."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from starlette.applications import Starlette
from uvicorn.server import ServerState

from served import Gate, Running, running, served_by
from tenor.inference.predictor import Predictor
from tenor.serving import exchange, http_server

BODY = b'{"texts": "good"}'
KIND = b"Host: x\r\nContent-Type: application/json\r\n"
PREDICT = b"POST /v1/predict HTTP/1.1\r\n" + KIND + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def connected(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def answers(client: socket.socket, count: int) -> list[int]:
    """The statuses of the next answers, which have a length and nothing after them."""
    statuses = []
    with client.makefile("rb") as stream:
        for _ in range(count):
            statuses.append(int(stream.readline().split()[1]))
            length = int(http.client.parse_headers(stream)["Content-Length"])
            assert len(stream.read(length)) == length
    return statuses


def is_closed(client: socket.socket) -> bool:
    """Waits for the server to close the connection, and reads what it sent before."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.fixture(scope="module")
def brief(predictor: Predictor) -> Iterator[Running]:
    """A server that waits for clients only a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "READ_SECONDS", 0.05)
        with running(served_by(predictor)) as server:
            yield server


@pytest.mark.parametrize("size", [50_000, 8_000_000])
@pytest.mark.parametrize("ending", ["keep-alive", "close"])
def test_a_client_that_is_still_sending_gets_its_early_answer(server: Running, size: int, ending: str) -> None:
    for path, status in (("/v1/predict", 415), ("/v1/nothing", 404), ("/livez", 405)):
        headers = {"Content-Type": "text/plain", "Connection": ending}
        assert server.send("POST", path, b"x" * size, headers).status == status


def test_a_connection_goes_on_after_an_early_answer(server: Running) -> None:
    refused = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 3000000\r\n\r\n"
    with connected(server) as client:
        client.sendall(refused)
        assert answers(client, 1) == [415]  # Before the body is sent.
        client.sendall(b"x" * 3_000_000 + PREDICT)
        assert answers(client, 1) == [200]


def test_a_body_without_an_end_is_not_read_forever(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "DRAINED_BYTES", 100_000)
    with connected(server) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        assert answers(client, 1) == [415]
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * 100_000_000)


def test_a_second_request_must_arrive_in_time_too(brief: Running) -> None:
    for part in (b"GET /li", b"\r\n"):
        with connected(brief) as client:
            client.sendall(PREDICT)
            assert answers(client, 1) == [200]
            client.sendall(part)
            assert is_closed(client)


def test_an_idle_connection_is_kept(brief: Running) -> None:
    with connected(brief) as client:
        for _ in range(3):
            client.sendall(PREDICT)
            assert answers(client, 1) == [200]
            time.sleep(0.1)


@pytest.mark.parametrize("is_closing", [False, True])
def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch, is_closing: bool) -> None:
    monkeypatch.setattr(http_server, "READ_SECONDS", 60.0)
    monkeypatch.setattr(http_server, "WRITE_SECONDS", 0.01)

    async def serve_nobody() -> None:
        config = http_server._configuration(Starlette(), 1)
        config.load()
        protocol, transport = http_server.BoundedProtocol(config, ServerState(), {}), Mock(spec=asyncio.Transport)
        transport.get_extra_info.return_value = None
        transport.is_closing.return_value = False
        protocol.connection_made(transport)
        protocol.pause_writing()
        protocol.resume_writing()  # It reads after all.
        await asyncio.sleep(0.05)
        transport.abort.assert_not_called()
        gone = asyncio.Event()
        transport.abort.side_effect = gone.set
        if is_closing:
            protocol.timeout_keep_alive_handler()
            transport.close.assert_called_once()
        else:
            protocol.pause_writing()
        await asyncio.wait_for(gone.wait(), 60)
        protocol.connection_lost(None)

    asyncio.run(serve_nobody())


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    with connected(server) as client:
        client.sendall(PREDICT + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + PREDICT)
        assert answers(client, 3) == [200, 404, 200]


def test_no_client_sends_any_number_of_requests_ahead(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PIPELINED", 2)
    gate = Gate(predictor)
    with running(served_by(gate.predictor)) as server, connected(server) as client:
        client.sendall(PREDICT * 5)
        assert is_closed(client)
        gate.opened.set()


def test_a_pipelining_client_that_leaves_frees_its_place(predictor: Predictor) -> None:
    gate = Gate(predictor)
    with running(served_by(gate.predictor)) as server, ThreadPoolExecutor(2) as clients:
        busy = [clients.submit(server.post, "/v1/predict", {"texts": text}) for text in ("good", "good film")]
        gate.entered.acquire()
        gate.entered.acquire()
        with connected(server) as client:
            client.sendall(PREDICT + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            while not server.service.queue.tokens:
                time.sleep(0.005)
        until = time.monotonic() + 60
        while server.service.queue.tokens:
            assert time.monotonic() < until
            time.sleep(0.005)
        gate.opened.set()
        assert [one.result().status for one in busy] == [200, 200]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_a_wish_for_another_protocol_is_ignored(server: Running, protocol: bytes) -> None:
    """Java's HTTP client asks for HTTP/2 with its first request."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQA\r\n" % protocol
    head, body = PREDICT.split(b"\r\n\r\n")
    asking = head + b"\r\n" + wish + b"\r\n" + body
    for pieces in ((asking,), (asking[:60], asking[60:150], asking[150:-5], asking[-5:]), (asking + asking, PREDICT)):
        with connected(server) as client:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.01)
            count = b"".join(pieces).count(b"POST")
            assert answers(client, count) == [200] * count


def test_tunnels_are_refused(server: Running) -> None:
    with connected(server) as client:
        client.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
        assert answers(client, 1) == [400]


def test_nobody_is_sent_to_another_host(server: Running) -> None:
    for host in ("evil.example", "["):
        answer = server.send("POST", "/v1/predict/", {"texts": "good"}, {"Host": host})
        assert (answer.status, answer.body["error_type"]) == (404, "not_found")
        assert "location" not in answer.headers


def test_texts_that_wait_for_the_tokenizer_are_bounded(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenor.serving.service.WAITING_CHARACTERS", 100)
    with running(served_by(predictor)) as server:
        service = server.service
        service._characters = 60
        assert server.post("/v1/predict", {"texts": "g" * 50}).status == 429
        assert server.post("/v1/predict", {"texts": "g" * 40}).status == 200
        service._characters = 100
        refused = server.post("/v1/predict", b"not even JSON")
        assert (refused.status, refused.body["error_type"]) == (429, "overloaded")
        service._characters = 0
        assert server.post("/v1/predict", {"texts": "g" * 150}).status == 200
        assert service._characters == 0


def test_a_text_that_waits_for_the_tokenizer_is_dropped_at_its_deadline(predictor: Predictor) -> None:
    with running(served_by(predictor)) as server:
        is_free = threading.Event()
        server.service._tokenizer.submit(is_free.wait, 60)
        try:
            late = server.post("/v1/predict", {"texts": "good"}, Prefer="wait=1")
            assert (late.status, late.body["error_type"]) == (504, "deadline")
            assert server.service._tokenizer._work_queue.qsize() == 1  # Cancelled: it is skipped.
            assert server.service._characters == 0
        finally:
            is_free.set()
        assert server.post("/v1/predict", {"texts": "good"}).status == 200


def test_a_deadline_of_nothing_is_missed(server: Running) -> None:
    answer = server.post("/v1/predict", {"texts": "good"}, Prefer="wait=0")
    assert (answer.status, answer.body["error_type"]) == (504, "deadline")


@pytest.mark.parametrize("prefer", ["wait=x", "wait", "wait=-1", "wait=1e3", "wait=²", "respond-async", '=,;,"', ""])
def test_a_preference_that_cannot_be_understood_is_ignored(server: Running, prefer: str) -> None:
    assert server.post("/v1/predict", {"texts": "good"}, Prefer=prefer).status == 200


def test_the_body_is_json_whatever_its_headers_look_like(server: Running) -> None:
    assert server.post("/v1/predict", {"texts": "good"}, Content_Encoding="Identity").status == 200
    assert server.post("/v1/predict", {"texts": "good"}, Content_Type="Application/JSON; charset=utf-8").status == 200
    assert server.post("/v1/predict", b"\xef\xbb\xbf" + json.dumps({"texts": "good"}).encode()).status == 422
