"""Results as tables: per fault, per control, and totals with their intervals."""

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from faults.catalogue import BY_NAME
from faults.fault import STAGES
from faults.peers import PEERS
from tenor.measures.intervals import wilson_interval

ORDER = {"preflight": 0, "training": 1, "evaluation": 2, "diagnosis": 2}


def show(results: list[dict[str, Any]], minutes: float) -> None:
    """Print everything."""
    console = Console(width=150)
    faults = [one for one in results if one["job"][0] == "fault"]
    controls = [one for one in results if one["job"][0] == "control"]
    peers = {one["job"][1]: one for one in results if one["job"][0] == "peers"}
    console.print(faults_table(faults, peers))
    console.print(controls_table(controls))
    for line in totals(faults, controls, peers):
        console.print(line, highlight=False)
    console.print(f"{minutes:.0f} minutes for what was not there yet", highlight=False)


def detected(result: dict[str, Any]) -> tuple[str, str] | None:
    """Stage and severity at which a rule that names the fault spoke first; None: it never did."""
    fault = BY_NAME[result["job"][1]]
    codes = (*fault.causes, *fault.signs)
    spoke = [(stage, severity) for stage, code, severity in result["found"] if code in codes]
    return min(spoke, key=lambda one: ORDER[one[0]], default=None)


def in_time(result: dict[str, Any]) -> bool:
    """Whether that was no later than declared."""
    found = detected(result)
    return found is not None and ORDER[found[0]] <= STAGES.index(BY_NAME[result["job"][1]].stage)


def top_is_right(result: dict[str, Any]) -> bool:
    return result["top"] in BY_NAME[result["job"][1]].causes


def peer_found(result: dict[str, Any], peer: str, peers: dict[str, Any]) -> bool:
    name = result["job"][1]
    return name in peers and bool(set(peers[name][peer]) - set(peers["healthy"][peer]))


def faults_table(faults: list[dict[str, Any]], peers: dict[str, Any]) -> Table:
    table = Table(title="Faults", title_justify="left", box=None)
    for title in ("fault", "declared", "found", "as", "top cause", *PEERS):
        table.add_column(title, no_wrap=True)
    for one in faults:
        fault, found = BY_NAME[one["job"][1]], detected(one)
        table.add_row(
            fault.name,
            fault.stage,
            found[0] if found else "[red]not found[/red]",
            found[1] if found else "",
            one["top"] if top_is_right(one) else f"[red]{one['top'] or 'none'}[/red]",
            *(("found" if peer_found(one, peer, peers) else "") for peer in PEERS),
        )
    return table


def controls_table(controls: list[dict[str, Any]]) -> Table:
    table = Table(title="Healthy programs in which something was found", title_justify="left", box=None)
    for title in ("control", "runs", "errors", "warnings", "notes", "stopped by itself"):
        table.add_column(title)
    by_name = defaultdict(list)
    for one in controls:
        by_name[one["job"][1]].append(one)
    for name, runs in by_name.items():
        if any(one["found"] or one["crash"] for one in runs):
            codes = {level: _codes(runs, level) for level in ("error", "warning", "note")}
            crashes = next((one["crash"][:60] for one in runs if one["crash"]), "")
            table.add_row(name, str(len(runs)), *codes.values(), crashes)
    return table


def totals(faults: list[dict[str, Any]], controls: list[dict[str, Any]], peers: dict[str, Any]) -> list[str]:
    levels = [found[1] for one in faults if (found := detected(one))]
    errors, warnings = (
        sum(severity == level for one in controls for _, _, severity in one["found"]) for level in ("error", "warning")
    )
    in_loop = [one for one in faults if one["job"][1] in peers]
    runs = max(1, len(controls))
    return [
        f"faults found:          {_share(len(levels), len(faults))}, "
        + ", ".join(f"{levels.count(level)} as {level}s" for level in ("error", "warning", "note")),
        f"… when declared:       {_share(sum(map(in_time, faults)), len(faults))}",
        f"top cause right:       {_share(sum(map(top_is_right, faults)), len(faults))}",
        *(
            f"{peer + ':':22} {_share(sum(peer_found(one, peer, peers) for one in in_loop), len(in_loop))} "
            "of the faults in hand-written loops, in some way"
            for peer in PEERS
        ),
        f"false errors:          {errors} in {len(controls)} healthy runs, "
        f"{_share(sum(any(s == 'error' for _, _, s in one['found']) for one in controls), len(controls))} of runs",
        f"false warnings:        {warnings} in {len(controls)} healthy runs, {warnings / runs:.3f} per run",
    ]


def _codes(runs: list[dict[str, Any]], level: str) -> str:
    codes = [code for one in runs for _, code, severity in one["found"] if severity == level]
    return ", ".join(f"{code} {codes.count(code)}x" for code in dict.fromkeys(codes))


def _share(count: int, total: int) -> str:
    if not total:
        return "none were run"
    interval = wilson_interval(count, total)
    return f"{count}/{total} = {count / total:.1%} (95% interval {interval.low:.1%} to {interval.high:.1%})"
