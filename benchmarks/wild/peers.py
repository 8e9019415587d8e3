"""What other checkers report on the same cases: `python -m wild.peers [--peer NAME] [--only TEXT] [--part K/N]`.

Each in its best mode, without an edit of the program:

- torch-preflight reads the source: `check` on the Python file of the case.
- trainproof reads logs: `doctor` on a folder with every file that the program wrote, and the losses that it printed.
- torch-audit looks into the program: `autopatch` with every step audited, put in at the first optimizer step.

TrainCheck, which learns invariants from healthy programs, is in `traincheck.py`.
"""

import argparse
import ast
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wild.cases import HERE, Case, all_cases
from wild.freeze import refuse_if_changed
from wild.show import PEER_RESULTS, read
from wild.traincheck import said_by_traincheck
from wild.workplace import MATERIALS, command, environment, room, run, workplace

INJECT = HERE / "inject"
BIN = Path(sys.executable).parent
LOSS = re.compile(r"(\w*[ _/]?)loss\W{0,3}(-?\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)", re.IGNORECASE)
HELD_OUT = re.compile(r"val|test|eval|dev", re.IGNORECASE)


def said_by_torch_preflight(case: Case, materials: Path) -> dict[str, Any]:
    source = next(case.folder.glob("*.py"))
    with workplace(case, materials) as folder:
        words = [str(BIN / "torch-preflight"), "check", "--format", "json", "--jobs", "1", source.name]
        ran = run(words, folder, environment(folder))
    found = json.loads(ran.out)["diagnostics"]
    said = sorted({(one["code"], one["severity"]) for one in found})
    return {"status": ran.status, "seconds": ran.seconds, "said": said}


def said_by_trainproof(case: Case, materials: Path) -> dict[str, Any]:
    with workplace(case, materials) as folder:
        before = {path.name for path in folder.iterdir()}
        ran = run(command(case), folder, environment(folder))
        left = folder.parent / "left"
        left.mkdir()
        for path in folder.iterdir():
            if path.name not in before and path.name not in MATERIALS:
                shutil.move(path, left / path.name)
        (left / "printed.jsonl").write_text(as_records(ran.out + "\n" + ran.err), encoding="utf-8")
        doctor = run([str(BIN / "trainproof"), "doctor", "--json", str(left)], folder, environment(folder))
    text = doctor.out.strip()
    reports = json.loads(text) if text.startswith(("{", "[")) else {"runs": []}
    said = sorted({(one["id"], one["level"]) for one in _findings(reports)})
    return {
        "status": ran.status,
        "seconds": ran.seconds,
        "said": said,
        "answer": doctor.status,
        **({} if text.startswith(("{", "[")) else {"stderr": (doctor.out + doctor.err)[-500:]}),
    }


def as_records(printed: str) -> str:
    """JSON lines of what a program printed, which is what trainproof reads: its own words are not tied to a format.

    A line is a record if it is a dictionary with a loss, or has numbers after the word loss.
    """
    records = []
    for line in printed.splitlines():
        try:
            record = ast.literal_eval(line.strip()) if line.lstrip().startswith("{") else {}
        except (ValueError, SyntaxError):
            record = {}
        for before, number in LOSS.findall("" if record else line):
            record["eval_loss" if HELD_OUT.search(before) else "loss"] = float(number)
        if record:
            records.append(json.dumps(record, default=str))
    return "".join(f"{record}\n" for record in records)


def _findings(reports: Any) -> list[dict[str, Any]]:
    """Everything with a rule and a level, wherever it is in the report."""
    if isinstance(reports, dict):
        own = [reports] if {"id", "level"} <= set(reports) else []
        return [*own, *(one for value in reports.values() for one in _findings(value))]
    return [one for value in reports for one in _findings(value)] if isinstance(reports, list) else []


def said_by_torch_audit(case: Case, materials: Path) -> dict[str, Any]:
    with workplace(case, materials) as folder:
        env = environment(folder, WILD_TORCH_AUDIT=str(folder.parent / "audit"))
        env["PYTHONPATH"] = f"{INJECT}:{env['PYTHONPATH']}"
        ran = run(command(case), folder, env)
        records = [json.loads(file.read_text()) for file in folder.parent.glob("audit-*.json")]
    said = sorted({(rule, level) for one in records for rule, level in one["said"]})
    failed = {} if ran.status == 0 else {"stderr": ran.err[-1000:]}
    optimizers = {key: sum(one[key] for one in records) for key in ("optimizers", "without_model")}
    return {"status": ran.status, "seconds": ran.seconds, "said": said, **optimizers, **failed}


PEERS: dict[str, Callable[[Case, Path], dict[str, Any]]] = {
    "torch-preflight": said_by_torch_preflight,
    "trainproof": said_by_trainproof,
    "torch-audit": said_by_torch_audit,
    "TrainCheck": said_by_traincheck,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m wild.peers")
    parser.add_argument("--peer", choices=tuple(PEERS), action="append", help="default: all but TrainCheck")
    parser.add_argument("--only", default="")
    parser.add_argument("--part", default="1/1", metavar="K/N")
    parser.add_argument("--room", type=Path)
    options = parser.parse_args()
    refuse_if_changed()
    materials = room(options.room)
    part, parts = map(int, options.part.split("/"))
    cases = [one for one in all_cases() if options.only in one.name][part - 1 :: parts]
    done = {(one["peer"], one["case"]) for one in read(PEER_RESULTS)}
    for peer in options.peer or [name for name in PEERS if name != "TrainCheck"]:
        for case in cases:
            if (peer, case.name) in done:
                continue
            result = {"peer": peer, "case": case.name, "kind": case.kind, **PEERS[peer](case, materials)}
            with PEER_RESULTS.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(peer, case.name, result["seconds"], sorted(map(str, result["said"])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
