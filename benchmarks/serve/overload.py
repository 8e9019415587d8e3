"""A minute of ten times the load that Tenor's server can answer, and minutes of mixed load (`soak`)."""

import asyncio
import statistics
from typing import Any

import numpy as np

from serve.bench import TENOR, Bench, MemoryWatch, met, quantile, say
from serve.hostile import disturb
from serve.http_client import GONE, ask_once, request

KIND = "128"
TIMES = 10.0
SECONDS = 60.0
REFUSED_MS, GOODPUT, MEMORY = 100.0, 0.9, 0.05

SOAK_PIECE = 20.0
SOAK_LOADS = (0.5, 0.5, 0.9, 0.2, 3.0)
"""Shares of the capacity, piece after piece: mostly what a server sees, and an overload in between."""
WARM_SECONDS = 60.0
"""At the start of the soak, without weight in the slope of the memory."""


def overload(bench: Bench) -> None:
    """Texts of 128 tokens, one per request."""
    assert bench.offline
    texts = bench.texts[KIND]
    with bench.active(TENOR) as server:
        capacity = statistics.median(bench.closed(server, texts).rate() for _ in range(2))
        say(f"overload: {TIMES * capacity:.0f} requests/s for {SECONDS:.0f} s")
        before, cpu = server.memory, server.cpu
        with MemoryWatch(server) as memory:
            record = bench.open(server, texts, TIMES * capacity, SECONDS, seed=0)
        cpu = server.cpu - cpu
        ready = asyncio.run(ask_once(server.port, request("/readyz", b"", "GET"), 5.0)).status
        again = bench.closed(server, texts[: len(texts) // 4])
        alive = server.alive
    # Latencies of the generator's own delay apart: both share the cores.
    refused = [
        1000 * (done - sent)
        for done, sent, status in zip(record.done, record.sent, record.status, strict=True)
        if status == 429
    ]
    bench.results["overload"] = {
        "capacity": capacity,
        "rate": TIMES * capacity,
        "statuses": record.statuses,
        "goodput": record.rate(until=SECONDS),
        "goodput_share": record.rate(until=SECONDS) / capacity,
        "refused_p50_ms": quantile([1000 * value for value in record.latencies(429)], 0.5),
        "refused_p99_ms": quantile([1000 * value for value in record.latencies(429)], 0.99),
        "refused_p99_from_sending_ms": quantile(refused, 0.99),
        "answered_p50_ms": quantile([1000 * value for value in record.latencies()], 0.5),
        "answered_p99_ms": quantile([1000 * value for value in record.latencies()], 0.99),
        "with_retry_after": record.retry_after,
        "server_cpu": cpu / record.wall,
        "generator_cpu": record.cpu_share,
        "lateness_p99_ms": 1000
        * quantile([sent - due for sent, due in zip(record.sent, record.due, strict=True)], 0.99),
        "memory_before": before,
        "memory": memory.bytes,
        "memory_growth": max(memory.bytes, default=before) / before - 1,
        "alive": alive,
        "ready_after": ready,
        "statuses_after": again.statuses,
    }


def show_overload(results: dict[str, Any]) -> None:
    statuses = {int(status): count for status, count in results["statuses"].items()}
    failures = {status: count for status, count in statuses.items() if status not in (200, 429)}
    sound = results["alive"] and not failures and results["ready_after"] == 200
    print(f"\n{TIMES:.0f} times the capacity for {SECONDS:.0f} s: {results['rate']:.0f} requests/s, {KIND} tokens each")
    print(f"  answers by status: {statuses} (0: connection ended); after it ready: {results['ready_after']}")
    print(f"  no crash, no 5xx, nothing but 200 and 429: {met(sound)}")
    print(f"  Retry-After on {results['with_retry_after']} of {statuses.get(429, 0)} answers with 429")
    print(
        f"  429 in p50 {results['refused_p50_ms']:.1f}, p99 {results['refused_p99_ms']:.1f} ms from the time due "
        f"({results['refused_p99_from_sending_ms']:.1f} ms from sending), target {REFUSED_MS:.0f}: "
        f"{met(results['refused_p99_ms'] <= REFUSED_MS)}"
    )
    print(
        f"  goodput {results['goodput']:.1f}/s = {100 * results['goodput_share']:.0f}% of the capacity of "
        f"{results['capacity']:.1f}/s, target {100 * GOODPUT:.0f}%: {met(results['goodput_share'] >= GOODPUT)}"
    )
    print(f"  answered in p50 {results['answered_p50_ms']:.0f}, p99 {results['answered_p99_ms']:.0f} ms")
    print(
        f"  memory {results['memory_before'] / 1e6:.0f} MB before, grew by at most "
        f"{100 * results['memory_growth']:.1f}%, target {100 * MEMORY:.0f}%: {met(results['memory_growth'] <= MEMORY)}"
    )
    print(
        f"  cores used: server {results['server_cpu']:.2f}, generator {results['generator_cpu']:.2f} "
        f"(late by {results['lateness_p99_ms']:.1f} ms at the p99)"
    )


def soak(bench: Bench) -> None:
    """Minutes of mixed texts at changing loads, with malformed and huge requests and clients that hang up."""
    assert bench.offline
    statuses: dict[int, int] = {}
    with bench.active(TENOR) as server:
        capacity = bench.closed(server, bench.mixed).rate()
        with MemoryWatch(server) as memory, disturb(server) as disturbances:
            for number in range(int(bench.soak_seconds / SOAK_PIECE)):
                rate = SOAK_LOADS[number % len(SOAK_LOADS)] * capacity
                record = bench.open(server, bench.mixed, rate, SOAK_PIECE, seed=number)
                for status, count in record.statuses.items():
                    statuses[status] = statuses.get(status, 0) + count
                say(f"soak {number + 1}: {rate:.0f}/s, {record.statuses}, {memory.bytes[-1] / 1e6:.0f} MB")
        alive = server.alive
    bench.results["soak"] = {
        "seconds": memory.seconds[-1],
        "capacity": capacity,
        "statuses": statuses,
        "disturbances": disturbances,
        "alive": alive,
        "memory": memory.bytes,
        **_slope(memory.seconds, memory.bytes),
    }


def _slope(seconds: list[float], sizes: list[int]) -> dict[str, float]:
    """Of the memory after the warm-up: bytes per minute by Theil and Sen, and the growth in ten minutes."""
    after = [(at, size) for at, size in zip(seconds, sizes, strict=True) if at >= WARM_SECONDS]
    at, size = (np.array(column, dtype=float) for column in zip(*after, strict=True))
    first, second = np.triu_indices(len(at), 1)
    slope = float(np.median((size[second] - size[first]) / (at[second] - at[first])))
    return {
        "bytes_per_minute": 60 * slope,
        "growth_in_ten_minutes": 600 * slope / float(np.median(size)),
        "largest_over_median": float(size.max() / np.median(size) - 1),
    }


def show_soak(results: dict[str, Any]) -> None:
    statuses = {int(status): count for status, count in results["statuses"].items()}
    failures = sum(count for status, count in statuses.items() if status >= 500 or status == GONE)
    print(f"\nMixed load for {results['seconds'] / 60:.1f} minutes, 0.2 to 3 times the capacity")
    print(f"  answers by status: {statuses}; no crash, no 5xx: {met(results['alive'] and not failures)}")
    print(f"  disturbances: {results['disturbances']}")
    print(
        f"  memory: slope {results['bytes_per_minute'] / 1e6:+.2f} MB per minute, "
        f"{100 * results['growth_in_ten_minutes']:+.1f}% in ten minutes, target {100 * MEMORY:.0f}%: "
        f"{met(results['growth_in_ten_minutes'] <= MEMORY)}; largest {100 * results['largest_over_median']:.1f}% "
        "above the median"
    )
