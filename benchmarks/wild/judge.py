"""One case under Tenor: what it reported, and for a healthy program whether it changed anything."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from wild.cases import Case
from wild.workplace import Ran, command, environment, run, workplace

TENOR = [sys.executable, "-m", "tenor.cli.main"]
RECORD = "diagnosis.json"
SEVERITIES = ("note", "warning", "error")
TIMES = re.compile(r"runtime|per_second|seconds|elapsed|\btime\b|it/s|\d\s?m?s\b|\d\d:\d\d", re.IGNORECASE)
"""A line of output that holds a time, which differs from run to run."""
KEPT = 2000
"""Characters of the standard error of a program that failed."""


def judge(case: Case, materials: Path) -> dict[str, Any]:
    """Plain data for one line of results."""
    if case.kind == "folder":
        return _diagnosed(case, materials)
    watched, records = _watched(case, materials)
    result = {**_ended(watched), **_said(records)}
    if case.kind == "healthy":
        with workplace(case, materials) as folder:
            plain = run(command(case), folder, environment(folder))
        result |= {"plain_status": plain.status, "same": _same(plain, watched)}
        if not result["same"]:
            # A program may differ from itself: then nothing follows from the difference.
            with workplace(case, materials) as folder:
                again = run(command(case), folder, environment(folder))
            result |= {"same_as_itself": _same(plain, again), "difference": _difference(plain, watched)}
    return result


def _watched(case: Case, materials: Path) -> tuple[Ran, list[dict[str, Any]]]:
    with workplace(case, materials) as folder:
        output = folder.parent / "watch"
        words = [*TENOR, "watch", "--output", str(output), "--", *command(case)]
        ran = run(words, folder, environment(folder))
        files = sorted(output.rglob(RECORD), key=lambda path: (len(path.parts), str(path)))
        return ran, [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _diagnosed(case: Case, materials: Path) -> dict[str, Any]:
    with workplace(case, materials) as folder:
        made = run(command(case), folder, environment(folder))
        if made.status != 0:
            return {**_ended(made), **_said([])}
        ran = run([*TENOR, "diagnose", "--json", "run"], folder, environment(folder))
    records = [json.loads(ran.out)] if ran.status in (0, 3) else []
    return {**_ended(ran), **_said(records), "made_in": made.seconds}


def _ended(ran: Ran) -> dict[str, Any]:
    failed = {} if ran.status == 0 else {"stderr": ran.err[-KEPT:]}
    return {"status": ran.status, "seconds": ran.seconds, **failed}


def _said(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Findings and causes of all processes of a program, those of the first process first."""
    findings: dict[str, str] = {}
    for one in (finding for record in records for finding in record["findings"]):
        known = findings.setdefault(one["code"], one["severity"])
        findings[one["code"]] = max(known, one["severity"], key=SEVERITIES.index)
    return {
        "records": len(records),
        "findings": list(findings.items()),
        "causes": list(dict.fromkeys(one["code"] for record in records for one in record["causes"])),
        "checked": len({code for record in records for code in record["checked"]}),
        "notes": list(dict.fromkeys(note for record in records for note in record["notes"])),
    }


def _same(plain: Ran, other: Ran) -> bool:
    return plain.status == other.status and timeless(plain.out) == timeless(other.out)


def timeless(output: str) -> list[str]:
    """The lines of an output that hold no time."""
    return [line for line in output.splitlines() if not TIMES.search(line)]


def _difference(plain: Ran, other: Ran) -> list[Any]:
    """The exit statuses, or the first lines that differ."""
    if plain.status != other.status:
        return [plain.status, other.status]
    left, right = timeless(plain.out), timeless(other.out)
    for first, second in zip(left, right, strict=False):
        if first != second:
            return [first, second]
    return [f"{len(left)} lines", f"{len(right)} lines"]
