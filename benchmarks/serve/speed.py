"""Throughput at saturation, and latency at half load, of all servers in turn."""

import statistics
from typing import Any

from serve.bench import LITSERVE, PLAIN, TENOR, Bench, OtherLoad, met, quantile, ratios, say, spread
from serve.load import CONNECTIONS
from serve.servers import Setting, litserve

SETTINGS = (Setting(8, 0.005), Setting(16, 0.01), Setting(32, 0.01), Setting(32, 0.01, "fast"), Setting(64, 0.05))
SERVERS = (TENOR, LITSERVE, PLAIN)
GROUPED, GROUP = "Tenor, 16 a request", 16
OFFLINE_TARGET, PEER_TARGET, PLAIN_TARGET = 0.85, 1.3, 2.0

HALF_SECONDS = 8.0
LONE_SECONDS = 2.0
THROUGHPUT_SECONDS, LATENCY_SECONDS = 270.0, 170.0
"""Of a whole part: on a slow machine it has fewer rounds."""
LATENCY_TARGET = 3.0


def settings(bench: Bench) -> None:
    """Try LitServe's settings on short texts and texts of 128 tokens, and keep the best."""
    tried: dict[str, Any] = {}
    rates = {}
    assert bench.offline
    for setting in SETTINGS:
        with litserve(bench.model, bench.folder, bench.threads, setting) as server:
            bench.closed(server, bench.texts["short"][:64])
            of_kinds = {
                kind: bench.closed(server, bench.texts[kind][: len(bench.texts[kind]) // 3]).rate()
                for kind in ("short", "128")
            }
        tried[str(setting)] = of_kinds
        rates[setting] = statistics.geometric_mean(of_kinds.values())
        say(f"LitServe, {setting}: {', '.join(f'{kind} {rate:.1f}/s' for kind, rate in of_kinds.items())}")
    bench.setting = max(rates, key=rates.__getitem__)
    bench.results["settings"] = {"tried": tried, "chosen": str(bench.setting)}


def show_settings(results: dict[str, Any]) -> None:
    print("\nLitServe's batching, texts/s at saturation")
    for setting, rates in results["tried"].items():
        chosen = "  <- chosen" if setting == results["chosen"] else ""
        print(f"  {setting:60} " + "  ".join(f"{kind} {rate:7.1f}" for kind, rate in rates.items()) + chosen)


def throughput(bench: Bench) -> None:
    """Every text once, from CONNECTIONS clients; each round measures all, beginning with another."""
    results: dict[str, Any] = {}
    assert bench.offline
    for kind in bench.kinds:
        names = _measured(kind)
        results[kind] = {name: [] for name in names} | {
            "errors": dict.fromkeys(names, 0),
            "generator": [],
            "others": [],
        }
    for number in bench.rounds_within(THROUGHPUT_SECONDS):
        for kind, of_kind in results.items():
            names = _measured(kind)
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order:
                with OtherLoad() as others:
                    rate = _offline(bench, kind) if name == "offline" else _served(bench, kind, name, of_kind)
                of_kind[name].append(rate)
                of_kind["others"].append(others.cores)
            say(f"round {number + 1}, {kind}: " + ", ".join(f"{name} {of_kind[name][-1]:.1f}/s" for name in order))
    bench.results["throughput"] = {
        kind: {**of_kind, "texts": len(bench.texts[kind])} for kind, of_kind in results.items()
    }


def _measured(kind: str) -> tuple[str, ...]:
    return ("offline", *SERVERS, *([GROUPED] if kind == "short" else []))


def _offline(bench: Bench, kind: str) -> float:
    seconds, _ = bench.offline.predict(bench.texts[kind])
    return len(bench.texts[kind]) / seconds


def _served(bench: Bench, kind: str, name: str, results: dict[str, Any]) -> float:
    group = GROUP if name == GROUPED else 1
    # The plain server takes one text at a time, so its speed does not depend on their count.
    texts = bench.texts[kind][: len(bench.texts[kind]) // 3] if name == PLAIN else bench.texts[kind]
    with bench.active(TENOR if name == GROUPED else name) as server:
        record = bench.closed(server, texts, CONNECTIONS // group, group)
    results["errors"][name] += len(record.status) - record.statuses.get(200, 0)
    if name == TENOR:
        results["generator"].append(record.cpu_share)
    return group * record.rate()


def show_throughput(results: dict[str, Any]) -> None:
    print(f"\nThroughput at saturation, {CONNECTIONS} texts at a time; texts/s, median (smallest to largest)")
    for kind, one in results.items():
        print(
            f"  {kind}: {one['texts']} texts; generator {100 * statistics.median(one['generator']):.0f}% of a core, "
            f"other processes at most {100 * max(one['others']):.0f}%"
        )
        better = max((LITSERVE, PLAIN), key=lambda name: statistics.median(one[name]))
        for name in _measured(kind):
            by = ratios(one[TENOR], one[name])
            targets = _targets(name, better)
            judged = ", ".join(f"target {target:g}: {met(statistics.median(by) >= target)}" for target in targets)
            ratio = "" if name in (TENOR, GROUPED) else f"Tenor / this {spread(by, 2)}"
            if name == GROUPED:
                ratio = f"this / offline {spread(ratios(one[name], one['offline']), 2)}"
            failed = f"; {one['errors'][name]} failed" if one["errors"].get(name) else ""
            print(f"    {name:20} {spread(one[name]):28} {ratio:34} {judged}{failed}")


def _targets(name: str, better: str) -> list[float]:
    own = {"offline": [OFFLINE_TARGET], PLAIN: [PLAIN_TARGET]}.get(name, [])
    return [*own, *([PEER_TARGET] if name == better else [])]


def half_load(bench: Bench) -> None:
    """A lone client, then arrivals at half of the rate of saturation; the peers with texts of 128 tokens only."""
    assert bench.offline
    jobs = [(TENOR, kind) for kind in bench.kinds]
    jobs += [(name, "128") for name in (LITSERVE, PLAIN) if "128" in bench.kinds]
    rates = {(name, kind): bench.capacity(kind, name) / 2 for name, kind in jobs}
    results: dict[str, Any] = {name: {} for name, _ in jobs}
    for name, kind in jobs:
        results[name][kind] = {
            "rate": rates[name, kind],
            "lone": [],
            "half": [],
            "lateness_p99": [],
            "generator": [],
            "failed": 0,
        }
    for number in bench.rounds_within(LATENCY_SECONDS):
        for name, kind in jobs:
            one, texts = results[name][kind], bench.texts[kind]
            with bench.active(name) as server:
                few = texts[: max(20, int(LONE_SECONDS * rates[name, kind]))]
                lone = bench.closed(server, few, connections=1)
                half = bench.open(server, texts, rates[name, kind], HALF_SECONDS, seed=number)
            one["lone"].append(lone.latencies())
            one["half"].append(half.latencies())
            one["lateness_p99"].append(
                quantile([sent - due for sent, due in zip(half.sent, half.due, strict=True)], 0.99)
            )
            one["generator"].append(half.cpu_share)
            one["failed"] += len(half.status) - half.statuses.get(200, 0)
            of_lone, of_half = one["lone"][-1], one["half"][-1]
            say(
                f"round {number + 1}, {name}, {kind}: p99 {1000 * quantile(of_half, 0.99):.0f} ms at "
                f"{rates[name, kind]:.1f}/s, alone {1000 * quantile(of_lone, 0.5):.0f} ms"
            )
    bench.results["half_load"] = {
        name: {kind: _summary(one) for kind, one in of_server.items()} for name, of_server in results.items()
    }


def _summary(one: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds, round by round."""
    return {
        **{key: one[key] for key in ("rate", "lateness_p99", "generator", "failed")},
        "requests": sum(len(latencies) for latencies in one["half"]),
        **{
            f"{load}_{name}_ms": [1000 * quantile(latencies, share) for latencies in one[load]]
            for load in ("lone", "half")
            for name, share in (("p50", 0.5), ("p99", 0.99))
        },
    }


def show_half_load(results: dict[str, Any]) -> None:
    print("\nLatency at half load, from the time at which a request was due; ms, median of the rounds (smallest to ")
    print("largest); target: p99 at most 3 times the median of a lone client")
    for name, of_server in results.items():
        for kind, one in of_server.items():
            by = ratios(one["half_p99_ms"], one["lone_p50_ms"])
            judged = met(statistics.median(by) <= LATENCY_TARGET) if name == TENOR else ""
            failed = f"; {one['failed']} failed" if one["failed"] else ""
            print(f"  {name}, {kind}, {one['rate']:.1f} requests/s, {one['requests']} requests{failed}")
            print(f"    alone p50 {spread(one['lone_p50_ms'])}, p99 {spread(one['lone_p99_ms'])}")
            print(f"    half  p50 {spread(one['half_p50_ms'])}, p99 {spread(one['half_p99_ms'])}")
            print(f"    p99 at half load / p50 alone {spread(by, 2)} {judged}")
