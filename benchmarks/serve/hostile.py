"""Requests that are malformed, huge or left alone, among good ones; equality with offline."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.bench import TENOR, Bench, met, say
from serve.http_client import GONE, Answer, Connection, ask_once, json_request, request
from serve.servers import Offline, Server, tenor

PATH = "/v1/predict"
EQUAL = 1e-6
CLIENTS = 16
PATIENCE = 60.0
"""Seconds for any answer."""


@dataclass(frozen=True)
class Bad:
    """A request that must fail alone."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    """Those that are right; GONE: the server may also close the connection."""


def bad_requests(limits: dict[str, int]) -> list[Bad]:
    """`limits` as `/v1/info` gives them."""
    body = limits["max_body_bytes"]
    long_text = "good " * (limits["max_characters"] // 5 + 1)
    many = ["good"] * (limits["max_texts"] + 1)
    huge = json.dumps({"texts": "a" * body}).encode()
    return [
        Bad("not JSON", request(PATH, b"{texts: good"), (422,)),
        Bad("not UTF-8", request(PATH, b'{"texts": "\xff\xfe"}'), (422,)),
        Bad("not an object", json_request(PATH, ["good"]), (422,)),
        Bad("no texts", json_request(PATH, {}), (422,)),
        Bad("an empty list", json_request(PATH, {"texts": []}), (422,)),
        Bad("a number", json_request(PATH, {"texts": 5}), (422,)),
        Bad("an empty text among good ones", json_request(PATH, {"texts": ["good", "", "bad"]}), (422,)),
        Bad("a null among good ones", json_request(PATH, {"texts": ["good", None]}), (422,)),
        Bad("NUL", json_request(PATH, {"texts": "good\0bad"}), (422,)),
        Bad("a lone surrogate", request(PATH, b'{"texts": "\\ud800"}'), (422,)),
        Bad("unknown long_text", json_request(PATH, {"texts": "good", "long_text": "all"}), (422,)),
        Bad("abstain_below 2", json_request(PATH, {"texts": "good", "abstain_below": 2}), (422,)),
        Bad("too many texts", json_request(PATH, {"texts": many}), (413, 422)),
        Bad("too long a text", json_request(PATH, {"texts": long_text}), (413, 422)),
        Bad("too large a body", request(PATH, huge), (413, GONE)),
        Bad("a huge length, no body", _announced(1 << 40), (413,)),
        Bad("a huge body in chunks", _chunked(huge), (413, GONE)),
        Bad("a negative length", _announced(-1), (400, GONE)),
        Bad("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n", (400, GONE)),
        Bad("a wrong method", request(PATH, b"", "GET"), (405,)),
        Bad("a wrong path", json_request("/v1/predictions", {"texts": "good"}), (404,)),
    ]


def _announced(length: int) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}"
    return f"{head}\r\n\r\n".encode()


def _chunked(body: bytes) -> bytes:
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
    )
    size = 1 << 16
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return f"{head}\r\n".encode() + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def hostile(bench: Bench) -> None:
    """Good requests from CLIENTS clients, and each of the bad ones three times among them."""
    _, expected = bench.offline.predict(bench.mixed)
    with bench.active(TENOR) as server:
        limits = asyncio.run(ask_once(server.port, request("/v1/info", b"", "GET"))).json()["limits"]
        bad = bad_requests(limits)
        answers, said = asyncio.run(_together(server.port, bench.mixed, bad))
        alive = server.alive
    wrong = [
        at for at, (answer, row) in enumerate(zip(answers, expected, strict=True)) if _difference(answer, row) > EQUAL
    ]
    bench.results["hostile"] = {
        "good": len(answers),
        "wrong": len(wrong),
        "good_statuses": dict(Counter(answer.status for answer in answers)),
        "bad": [
            {
                "name": one.name,
                "statuses": [answer.status for answer in of_one],
                "right": all(_is_refusal(answer, one) for answer in of_one),
                "says": _message(of_one[0]),
            }
            for one, of_one in zip(bad, said, strict=True)
        ],
        "alive": alive,
    }


async def _together(port: int, good: list[str], bad: list[Bad]) -> tuple[list[Answer], list[list[Answer]]]:
    answers: dict[int, Answer] = {}
    positions = iter(range(len(good)))
    said: list[list[Answer]] = [[] for _ in bad]

    async def send_good() -> None:
        connection = await Connection.to(port)
        for at in positions:
            answers[at] = await asyncio.wait_for(connection.ask(json_request(PATH, {"texts": good[at]})), PATIENCE)
        connection.close()

    async def send_bad() -> None:
        for _ in range(3):
            for one, of_one in zip(bad, said, strict=True):
                of_one.append(await _patiently(port, one.sent))

    await asyncio.gather(send_bad(), *(send_good() for _ in range(CLIENTS)))
    return [answers[at] for at in range(len(good))], said


async def _patiently(port: int, sent: bytes) -> Answer:
    try:
        return await ask_once(port, sent, PATIENCE)
    except TimeoutError:
        return Answer(-1, b"no answer")


def _difference(answer: Answer, expected: list[float]) -> float:
    """The largest difference of a probability; infinite without an answer."""
    if answer.status != 200:
        return float("inf")
    (one,) = answer.json()["predictions"]
    return float(np.abs(np.array(list(one["probabilities"].values())) - expected).max())


def _is_refusal(answer: Answer, bad: Bad) -> bool:
    """Whether the status is right, and the body says why (the HTTP parser's own refusals apart)."""
    return answer.status in bad.statuses and (answer.status in (GONE, 400) or bool(_message(answer)))


def _message(answer: Answer) -> str:
    try:
        return str(answer.json()["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""


def show_hostile(results: dict[str, Any]) -> None:
    print(f"\n{len(results['bad'])} kinds of malformed and huge requests among {results['good']} good ones")
    sound = results["alive"] and not results["wrong"]
    print(f"  every good request is answered as offline: {met(sound)} {results['good_statuses']}")
    for one in results["bad"]:
        print(f"  {met(one['right']):6} {one['name']:30} {one['statuses']} {one['says'][:100]}")


def equality(bench: Bench) -> None:
    """Served probabilities against offline ones, for texts of all lengths from 64 clients: the plain model, and the run
    itself with its text baseline and temperature, if there is one."""
    with bench.active(TENOR) as server:
        compared = {"the plain model": _compare(bench, server, bench.offline)}
    if bench.run is not None:
        with (
            tenor(bench.run, bench.folder, bench.threads, "--allow-unverified", name="Tenor, the run") as server,
            Offline(bench.run, bench.threads) as offline,
        ):
            compared["the run"] = _compare(bench, server, offline)
    bench.results["equality"] = compared


def _compare(bench: Bench, server: Server, offline: Offline) -> dict[str, float]:
    _, expected = offline.predict(bench.mixed)
    records = [bench.closed(server, bench.mixed, keep=True) for _ in range(2)]
    differences = [
        _difference(Answer(status, body.encode()), expected[text])
        for one in records
        for status, text, body in zip(one.status, one.text, one.bodies, strict=True)
    ]
    return {"answers": len(differences), "largest": max(differences)}


def show_equality(results: dict[str, Any]) -> None:
    print("\nServed against offline, texts of all lengths in the same batches")
    for name, one in results.items():
        print(
            f"  {name}: {one['answers']} answers, probabilities differ by at most {one['largest']:.1e}, "
            f"target {EQUAL:g}: {met(one['largest'] <= EQUAL)}"
        )


def hang_ups(bench: Bench) -> None:
    """Fill the queue with long texts, hang up all clients, and time how soon a new client is answered."""
    assert bench.offline
    texts = bench.texts["512"]
    with bench.active(TENOR) as server:
        lone = bench.closed(server, texts[:10], connections=1).latencies()
        rate = bench.closed(server, texts[:40]).rate()
        trials = [asyncio.run(_hang_up(server.port, texts)) for _ in range(5)]
        alive = server.alive
    # On a CPU a batch is at most 1,024 tokens: two texts per thread, one batch for each thread.
    batch = 2 * bench.threads / rate
    bench.results["hang_ups"] = {
        "waiting": [one["waiting"] for one in trials],
        "answered_after": [one["seconds"] for one in trials],
        "refused_before": [one["refused"] for one in trials],
        "batch_seconds": batch,
        "lone_seconds": max(lone),
        "alive": alive,
    }


async def _hang_up(port: int, texts: list[str]) -> dict[str, Any]:
    waiting: list[Connection] = []
    tasks: list[asyncio.Task[Answer]] = []
    refused = False
    while not refused and len(waiting) < 900:
        connection = await Connection.to(port)
        sent = json_request(PATH, {"texts": texts[len(waiting) % len(texts)]})
        tasks.append(asyncio.create_task(connection.ask(sent)))
        waiting.append(connection)
        await asyncio.sleep(0)
        refused = any(task.done() and task.result().status == 429 for task in tasks)
    for connection in waiting:
        connection.hang_up()
    left = time.perf_counter()
    probe = json_request(PATH, {"texts": texts[0]})
    while (await ask_once(port, probe, PATIENCE)).status == 429:
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - left
    await asyncio.gather(*tasks)
    return {"waiting": len(waiting), "refused": refused, "seconds": seconds}


def show_hang_ups(results: dict[str, Any]) -> None:
    most = max(results["answered_after"])
    limit = results["batch_seconds"] + results["lone_seconds"]
    print(f"\n{results['waiting']} clients with texts of 512 tokens wait until the queue is full, and hang up")
    print(f"  the queue was full: {results['refused_before']}")
    print(
        f"  a new client is answered after {', '.join(f'{1000 * one:.0f}' for one in results['answered_after'])} ms; "
        f"target: one batch for each thread and its own text, {1000 * limit:.0f} ms: {met(most <= limit)}"
    )


@contextmanager
def disturb(server: Server) -> Iterator[dict[str, int]]:
    """Malformed requests, and clients that hang up, several per second, until the end of the block; counts by status.

    Any other status than that of a refusal is counted as `unexpected`.
    """
    counts: dict[str, int] = {"refused": 0, "hung up": 0, "unexpected": 0}
    limits = asyncio.run(ask_once(server.port, request("/v1/info", b"", "GET"))).json()["limits"]
    end = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_disturb(server.port, bad_requests(limits), counts, end)))
    thread.start()
    try:
        yield counts
    finally:
        end.set()
        thread.join()


async def _disturb(port: int, bad: list[Bad], counts: dict[str, int], end: threading.Event) -> None:
    draw = random.Random(0)
    while not end.is_set():
        one = draw.choice(bad)
        answer = await _patiently(port, one.sent)
        # An overloaded server refuses before it reads.
        is_refusal = _is_refusal(answer, one) or answer.status == 429
        counts["refused" if is_refusal else "unexpected"] += 1
        if not is_refusal:
            say(f"{one.name}: unexpected answer {answer.status} {answer.body[:200]!r}")
        connection = await Connection.to(port)
        task = asyncio.create_task(connection.ask(json_request(PATH, {"texts": ["a good film " * 100] * 4})))
        await asyncio.sleep(draw.uniform(0, 0.2))
        connection.hang_up()
        await task
        counts["hung up"] += 1
