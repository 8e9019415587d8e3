"""The results as tables: Tenor's first run and later ones, and the peers, with Wilson's 95% intervals."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tenor.measures.intervals import wilson_interval
from wild.cases import HERE, Expected, all_cases, expectations

RUNS = ("first_run", "after_fixes")
PEER_RESULTS = HERE / "results" / "peers.jsonl"
LOUD = {"warning", "error", "warn", "fail", "fatal"}
"""Levels above information, in the words of Tenor and the peers."""

Results = dict[str, dict[str, Any]]
"""By name of the case."""


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show() -> None:
    """Print everything that is there."""
    console = Console(width=160)
    runs = {name: _by_case(read(HERE / "results" / f"{name}.jsonl")) for name in RUNS}
    runs = {name: results for name, results in runs.items() if results}
    peers = peer_results()
    expected = {name: expectations(with_later_rules=name == "after_fixes") for name in runs}
    console.print(faults_table(runs, peers, expected))
    console.print(healthy_table(runs, peers))
    console.print(totals_table(runs, peers, expected))
    if peers:
        console.print(
            "A peer has found a fault if it reports anything that it does not report on most healthy programs."
        )
        console.print("TrainCheck 0.2.0 is left out; why, and what was tried, is in benchmarks/wild/peers.py.")


# Tenor


def is_found(result: Mapping[str, Any], expected: Expected) -> bool:
    """Whether an error or a warning reports the cause or a sign of it, in a case that was not killed."""
    named = {*expected.causes, *expected.signs}
    return result["status"] is not None and any(
        code in named for code, severity in result["findings"] if severity != "note"
    )


def is_loud(result: Mapping[str, Any]) -> bool:
    """Whether there is any error or warning."""
    return result["status"] is not None and any(severity != "note" for _, severity in result["findings"])


def top(result: Mapping[str, Any]) -> str:
    """The first-ranked cause, otherwise the first finding; empty if there is none."""
    return next(iter(result["causes"]), next((code for code, _ in result["findings"]), ""))


def is_right(result: Mapping[str, Any], expected: Expected) -> bool:
    """Whether the top cause states the true cause."""
    return result["status"] is not None and top(result) in expected.causes


def false_codes(result: Mapping[str, Any], severity: str) -> list[str]:
    return [code for code, level in result["findings"] if level == severity]


# Peers


def peer_results() -> dict[str, Results]:
    """Per peer: what it says of each case, without what it says of most healthy programs."""
    lines = read(PEER_RESULTS)
    return {peer: _distinct([one for one in lines if one["peer"] == peer]) for peer in dict.fromkeys(_peers(lines))}


def _peers(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    return [one["peer"] for one in lines]


def _distinct(lines: list[dict[str, Any]]) -> Results:
    said = {one["case"]: {rule for rule, level in one["said"] if level.lower() in LOUD} for one in lines}
    healthy = [one["case"] for one in lines if one["kind"] == "healthy"]
    counts = Counter(rule for name in healthy for rule in said[name])
    usual = {rule for rule, count in counts.items() if count > len(healthy) / 2}
    return {one["case"]: {**one, "said": sorted(said[one["case"]] - usual)} for one in lines}


# Tables


def faults_table(
    runs: Mapping[str, Results], peers: Mapping[str, Results], expected: Mapping[str, Mapping[str, Expected]]
) -> Table:
    table = Table(title="Faults (found, top cause)", title_justify="left", box=None)
    for title in ("case", "group", *(name.replace("_", " ") for name in runs), *peers):
        table.add_column(title, no_wrap=True)
    for case in all_cases():
        if case.kind != "healthy":
            cells = [_cell(results.get(case.name), expected[name][case.name]) for name, results in runs.items()]
            others = [
                ", ".join(results[case.name]["said"]) if case.name in results else "-" for results in peers.values()
            ]
            table.add_row(case.name, case.report["group"], *cells, *(text[:24] for text in others))
    return table


def _cell(result: Mapping[str, Any] | None, expected: Expected) -> str:
    if result is None:
        return "-"
    if result["status"] is None:
        return "[red]killed[/red]"
    found = "found" if is_found(result, expected) else "[red]missed[/red]"
    return f"{found} {top(result)}" if is_right(result, expected) else f"{found} [red]{top(result) or 'none'}[/red]"


def _peer_cell(result: Mapping[str, Any] | None) -> str:
    return "-" if result is None else ", ".join(result["said"])


def healthy_table(runs: Mapping[str, Results], peers: Mapping[str, Results]) -> Table:
    table = Table(title="Healthy programs about which something was said", title_justify="left", box=None)
    for title in ("case", *(name.replace("_", " ") for name in runs), *peers):
        table.add_column(title)
    for case in all_cases():
        if case.kind == "healthy":
            cells = [_healthy_cell(results.get(case.name)) for results in runs.values()]
            others = [
                ", ".join(results[case.name]["said"]) if case.name in results else "-" for results in peers.values()
            ]
            if any(text not in ("", "-") for text in (*cells, *others)):
                table.add_row(case.name, *cells, *others)
    return table


def _healthy_cell(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "-"
    said = [f"[red]{code}[/red]" for code in false_codes(result, "error")] + false_codes(result, "warning")
    if result["status"] is None:
        said.append("[red]killed[/red]")
    elif not result["same"]:
        said.append("differs from itself" if not result["same_as_itself"] else "[red]output changed[/red]")
    return ", ".join(said)


def totals_table(
    runs: Mapping[str, Results], peers: Mapping[str, Results], expected: Mapping[str, Mapping[str, Expected]]
) -> Table:
    table = Table(title="Shares with 95% intervals (Wilson)", title_justify="left", box=None)
    for title in ("", "cases", "count", "share", "interval"):
        table.add_column(title, no_wrap=True)
    for name, results in runs.items():
        faulty = [one for one in results.values() if one["kind"] != "healthy"]
        healthy = [one for one in results.values() if one["kind"] == "healthy"]
        title = f"Tenor, {name.replace('_', ' ')}"
        _add(table, f"{title}: found", [is_found(one, expected[name][one["case"]]) for one in faulty])
        _add(table, f"{title}: top cause right", [is_right(one, expected[name][one["case"]]) for one in faulty])
        _add(table, f"{title}: any error or warning", [is_loud(one) for one in faulty])
        for severity in ("error", "warning"):
            _add(
                table,
                f"{title}: healthy with a false {severity}",
                [bool(false_codes(one, severity)) for one in healthy],
            )
        _add(
            table,
            f"{title}: healthy with another output or status",
            [not one["same"] and one["same_as_itself"] for one in healthy],
        )
    for peer, results in peers.items():
        for title, is_healthy in (("found", False), ("healthy with a false alarm", True)):
            lines = [one for one in results.values() if (one["kind"] == "healthy") == is_healthy]
            _add(table, f"{peer}: {title}", [bool(one["said"]) for one in lines])
    return table


def _add(table: Table, title: str, outcomes: list[bool]) -> None:
    if outcomes:
        count, total = sum(outcomes), len(outcomes)
        interval = wilson_interval(count, total)
        bounds = f"{interval.low:.1%} to {interval.high:.1%}"
        table.add_row(title, str(total), str(count), f"{count / total:.1%}", bounds)


def _by_case(lines: list[dict[str, Any]]) -> Results:
    """The latest line of each case, by its name."""
    return {one["case"]: one for one in lines}
