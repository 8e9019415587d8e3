"""An inference thread of Tenor's server is killed: how soon it is noticed, and what clients hear."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from serve.bench import Bench, met
from serve.hostile import CLIENTS, PATH, PATIENCE
from serve.http_client import Connection, json_request, request
from serve.servers import Server, tenor


def killed_threads(bench: Bench) -> None:
    """Under load, one inference thread is killed three times, seconds apart, then all of them again and again."""
    program = "serve.tenor_killable"
    with tenor(bench.model, bench.folder, bench.threads, name="Tenor, killable", program=program) as server:
        trials, answers = asyncio.run(_kill_under_load(server, bench.mixed))
        again = Counter(bench.closed(server, bench.mixed[:64]).status)
        gave_up = _kill_all(server)
    bench.results["killed_threads"] = {
        "trials": trials,
        "answers": dict(Counter(answers)),
        "afterwards": dict(again),
        "gave_up_after": gave_up,
    }


async def _kill_under_load(server: Server, texts: list[str]) -> tuple[list[dict[str, Any]], list[int]]:
    answers: list[int] = []
    end = asyncio.Event()

    async def client(number: int) -> None:
        connection = await Connection.to(server.port)
        while not end.is_set():
            number += CLIENTS
            sent = json_request(PATH, {"texts": texts[number % len(texts)]})
            answers.append((await asyncio.wait_for(connection.ask(sent), PATIENCE)).status)
        connection.close()

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    trials = []
    for _ in range(3):
        await asyncio.sleep(2.0)
        trials.append(await _kill_one(server))
    end.set()
    await asyncio.gather(*clients)
    return trials, answers


async def _kill_one(server: Server) -> dict[str, Any]:
    """Seconds until the server is not ready, or its replacement is counted; and until it is ready again."""
    connection = await Connection.to(server.port)
    before = await _restarts(connection)
    server.process.send_signal(signal.SIGUSR1)
    killed = time.perf_counter()
    noticed = None
    while (waited := time.perf_counter() - killed) < PATIENCE:
        ready = (await connection.ask(request("/readyz", b"", "GET"))).status == 200
        replaced = await _restarts(connection) > before
        if noticed is None and (not ready or replaced):
            noticed = time.perf_counter() - killed
        if ready and replaced:
            connection.close()
            return {"noticed": noticed, "recovered": waited}
        await asyncio.sleep(0.01)
    return {"noticed": noticed, "recovered": None}


async def _restarts(connection: Connection) -> float:
    lines = (await connection.ask(request("/metrics", b"", "GET"))).body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("tenor_thread_restarts_total"))


def _kill_all(server: Server) -> float | None:
    """Seconds until the process ends by itself."""
    started = time.perf_counter()
    while time.perf_counter() - started < PATIENCE:
        if not server.alive:
            return time.perf_counter() - started
        server.process.send_signal(signal.SIGUSR2)
        with suppress(OSError, TimeoutError):
            server.ask("a good film")  # A thread that waits dies when it wakes.
        time.sleep(0.1)
    return None


def show_killed_threads(results: dict[str, Any]) -> None:
    print(f"\nAn inference thread is killed under load, {len(results['trials'])} times")
    noticed = [one["noticed"] for one in results["trials"]]
    recovered = [one["recovered"] for one in results["trials"]]
    quick = all(one is not None and one <= 1.0 for one in noticed) and None not in recovered
    print(
        f"  not ready, or replaced, after {_milliseconds(noticed)}; ready again after {_milliseconds(recovered)}; "
        f"target 1,000 ms: {met(quick)}"
    )
    statuses = {int(status) for status in results["answers"]}
    print(f"  every request is answered, by 200 or 503: {met(statuses <= {200, 503})} {results['answers']}")
    print(f"  afterwards: {results['afterwards']}")
    gave_up = results["gave_up_after"]
    ended = "still running" if gave_up is None else f"ended after {gave_up:.1f} s"
    print(f"  all threads killed again and again: {ended}")


def _milliseconds(seconds: list[float | None]) -> str:
    return ", ".join("never" if one is None else f"{1000 * one:.0f}" for one in seconds) + " ms"
