"""One bad request fails alone, a client that leaves frees its place, a dead thread is replaced, and nothing is logged
that a client sent."""

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from served import Answer, Gate, Running, running, served_by
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.inference.texts import LongText
from tenor.serving import workers
from tenor.serving.limits import ServerLimits
from tenor.serving.row_queue import now
from tenor.serving.workers import RESTARTS

SECRET = "xylophone"


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; a minute is an error and never reached by a server that works."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def gate(predictor: Predictor) -> Iterator[Gate]:
    gate = Gate(predictor)
    yield gate
    gate.opened.set()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as clients:
        yield clients


def predict(server: Running, clients: ThreadPoolExecutor, *texts: str, **headers: str) -> Future[Answer]:
    return clients.submit(server.post, "/v1/predict", {"texts": list(texts)}, **headers)


def test_what_exceeds_the_queue_is_answered_429_and_what_was_accepted_is_answered(
    gate: Gate, clients: ThreadPoolExecutor
) -> None:
    with running(served_by(gate.predictor, ServerLimits(queue_tokens=100))) as server:
        accepted = [predict(server, clients, "good " * 62)]
        gate.entered.acquire()
        accepted.append(predict(server, clients, "bad " * 62))
        gate.entered.acquire()
        accepted.append(predict(server, clients, "fine " * 62))
        wait_until(lambda: server.service.queue.tokens == 64)
        refused = predict(server, clients, "more " * 62).result()
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.body["error_type"] == "overloaded"
        small = predict(server, clients, "more")
        wait_until(lambda: server.service.queue.tokens == 67)
        gate.opened.set()
        assert [one.result().status for one in [*accepted, small]] == [200] * 4
        assert server.service.queue.tokens == 0


def test_a_client_that_leaves_frees_its_place(gate: Gate, clients: ThreadPoolExecutor) -> None:
    with running(served_by(gate.predictor)) as server:
        busy = [predict(server, clients, "good"), predict(server, clients, "good film")]
        gate.entered.acquire()
        gate.entered.acquire()
        leaving = http.client.HTTPConnection("127.0.0.1", server.port)
        body = json.dumps({"texts": ["bad"] * 20})
        leaving.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
        wait_until(lambda: server.service.queue.tokens > 0)
        leaving.close()
        wait_until(lambda: server.service.queue.tokens == 0)
        gate.opened.set()
        assert [one.result().status for one in busy] == [200, 200]
        assert sum(gate.batches) == 2
        assert b"tenor_clients_left_total 1.0" in server.get("/metrics").body


def test_what_waits_for_the_tokenizer_counts_and_is_dropped_when_its_client_leaves(
    gate: Gate, clients: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(served_by(gate.predictor, ServerLimits(queue_tokens=140))) as server:
        gate.opened.set()
        service, free, prepare, tokenized = server.service, threading.Event(), server.service._prepare, []

        def slowly(texts: Sequence[str], long_text: LongText) -> Any:
            free.wait(60)
            tokenized.append(texts)
            return prepare(texts, long_text)

        monkeypatch.setattr(service, "_prepare", slowly)
        first = predict(server, clients, "good")
        wait_until(lambda: service._tokenizing > 0)
        leaving = http.client.HTTPConnection("127.0.0.1", server.port)
        body = json.dumps({"texts": ["bad " * 62] * 2})
        leaving.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
        wait_until(lambda: service._tokenizing > 100)
        assert predict(server, clients, "more " * 62).result().status == 429
        leaving.close()
        wait_until(lambda: service._tokenizing < 100)
        free.set()
        assert first.result().status == 200
        assert predict(server, clients, "more").result().status == 200
        assert tokenized == [["good"], ["more"]]


def test_a_request_is_not_computed_after_its_deadline(gate: Gate, clients: ThreadPoolExecutor) -> None:
    with running(served_by(gate.predictor)) as server:
        busy = [predict(server, clients, "good"), predict(server, clients, "good film")]
        gate.entered.acquire()
        gate.entered.acquire()
        late = predict(server, clients, "bad", Prefer="wait=1").result()
        assert (late.status, late.body["error_type"]) == (504, "deadline")
        assert server.service.queue.tokens == 0
        gate.opened.set()
        assert [one.result().status for one in busy] == [200, 200]


def test_what_cannot_be_ready_in_time_is_refused_at_once(predictor: Predictor) -> None:
    with running(served_by(predictor)) as server:
        server.service.throughput.add(1_000, 1_000_000.0)
        answer = server.post("/v1/predict", {"texts": "good " * 50}, Prefer="wait=2")
        assert (answer.status, answer.body["error_type"]) == (413, "too_large")


def test_a_row_that_cannot_be_computed_fails_alone(
    gate: Gate, clients: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    (row,) = gate.predictor.prepare([SECRET]).tokens.rows
    bad = row[1]

    def refuse(ids: np.ndarray) -> None:
        if bad in ids:
            raise UserError("too short") if len(ids[0]) > len(row) else ValueError(f"broken by {SECRET}")

    gate.before = refuse
    with running(served_by(gate.predictor)) as server:
        busy = [predict(server, clients, "good"), predict(server, clients, "film")]
        gate.entered.acquire()
        gate.entered.acquire()
        mixed = [predict(server, clients, text) for text in ("good film", SECRET, "film", f"{SECRET} film", "good")]
        wait_until(lambda: server.service.queue.tokens >= 16)
        gate.opened.set()
        assert [one.result().status for one in mixed] == [200, 500, 200, 422, 200]
        assert [one.result().status for one in busy] == [200, 200]
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_a_dead_thread_is_replaced_and_its_requests_hear_of_it(gate: Gate, clients: ThreadPoolExecutor) -> None:
    def die(ids: np.ndarray) -> None:
        gate.before = lambda ids: None
        raise SystemExit

    gate.before = die
    with running(served_by(gate.predictor)) as server:
        assert server.get("/readyz").status == 200
        lost = predict(server, clients, "good")
        gate.entered.acquire()
        gate.opened.set()
        answer = lost.result()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        wait_until(lambda: server.service.workers.restarts == 1)
        wait_until(lambda: server.get("/readyz").status == 200)
        assert predict(server, clients, "good").result().status == 200
        assert b"tenor_thread_restarts_total 1.0" in server.get("/metrics").body


def test_a_thread_that_dies_before_it_computes_leaves_nobody_waiting(
    predictor: Predictor, clients: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> float:
        if threading.current_thread().name.startswith("tenor-inference"):
            monkeypatch.setattr(workers, "now", now)
            raise SystemExit
        return now()

    monkeypatch.setattr(workers, "now", die)
    with running(served_by(predictor)) as server:
        assert predict(server, clients, "good").result().status == 503
        wait_until(lambda: server.service.workers.restarts == 1)
        assert server.service.queue.busy == 0
        assert predict(server, clients, "good").result().status == 200


def test_threads_that_die_again_and_again_end_the_server(gate: Gate, clients: ThreadPoolExecutor) -> None:
    def die(ids: np.ndarray) -> None:
        raise SystemExit

    gate.before = die
    gate.opened.set()
    with running(served_by(gate.predictor)) as server:
        for number in range(RESTARTS + 1):
            wait_until(lambda: server.service.workers.alive)
            assert predict(server, clients, "good").result().status == 503
            wait_until(lambda number=number: server.service.workers.restarts == number + 1)  # type: ignore[misc]
        wait_until(lambda: bool(server.faults))
        assert "threads died" in server.faults[0]
        assert server.get("/livez").status == server.get("/readyz").status == 503


def test_a_server_that_stops_is_not_ready_and_finishes_what_it_accepted(
    gate: Gate, clients: ThreadPoolExecutor
) -> None:
    with running(served_by(gate.predictor)) as server:
        accepted = predict(server, clients, "good")
        gate.entered.acquire()
        server.service.stopping = True
        assert server.get("/readyz").status == 503
        assert server.get("/livez").status == 200
        assert server.post("/v1/predict", {"texts": "good"}).status == 503
        gate.opened.set()
        assert accepted.result().status == 200


def test_an_error_of_the_server_says_nothing_of_the_text(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(served_by(predictor)) as server:
        monkeypatch.setattr(type(predictor), "prepare", lambda self, texts, long: 1 / len(texts[0][:0]))
        answer = server.post("/v1/predict", {"texts": SECRET})
        assert (answer.status, answer.body["error_type"]) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text
    assert SECRET not in caplog.text + json.dumps(answer.body)
