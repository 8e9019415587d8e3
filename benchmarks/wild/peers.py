"""What other checkers report on the same cases: `python -m wild.peers [--only TEXT] [--part K/N]`.

Each in its best mode, without an edit of the program:

- torch-preflight reads the source: `check` on the Python file of the case.
- torch-audit looks into the program: `autopatch` with every step audited, put in at the first optimizer step.
- trainproof reads logs: `doctor` on a folder with every file that the program wrote, and the losses that it printed.

TrainCheck 0.2.0 learns invariants from traces of healthy programs and is left out, because its traces take longer than
the limit of 300 s, and what it reports does not separate faulty from healthy programs here. What was tried, on two busy
cores:

- `traincheck-collect --models-to-track net` on `healthy/onecycle_sgd`, the smallest style, with one epoch of ten: 91 of
  125 steps in 400 s (123 s of processor time; all ten epochs alone take 33 s and 14 s). With `--sampling-interval 10
  --warm-up-steps 10` one epoch took 238 s (73 s of processor time).
- `traincheck-infer` on that one trace: 474 s (73 s), 1,226 invariants.
- `traincheck-collect --invariants` and `traincheck-check` on the same program without `zero_grad`: 157 s (70 s), 101
  invariants violated, 314 not triggered. On the same healthy program with another seed: 120 s (62 s), 61 violated. Any
  violation would be an alarm about both.
- `healthy/trainer_early_stopping` with the same sampling: not finished after 420 s, and no call traced: a script that
  imports only `transformers`, not `torch`, is not instrumented.
"""

import argparse
import ast
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wild.cases import HERE, Case, all_cases
from wild.freeze import refuse_if_changed
from wild.show import PEER_RESULTS, read
from wild.workplace import MATERIALS, Ran, command, environment, room, run, workplace

INJECT = HERE / "inject"
BIN = Path(sys.executable).parent
KEPT = 1000
"""Characters of the standard error of a program that failed."""
LOSS = re.compile(r"(\w*[ _/]?)loss\W{0,3}(-?\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)", re.IGNORECASE)
HELD_OUT = re.compile(r"val|test|eval|dev", re.IGNORECASE)

Said = dict[str, Any]
"""`said`: pairs of rule and level; `seconds` and exit `status` of the program or of the checker."""


def said_by_peers(case: Case, materials: Path) -> Iterator[tuple[str, Said]]:
    """The peers and what they say; the case runs once, and again without torch-audit if it failed with it."""
    yield "torch-preflight", said_by_torch_preflight(case, materials)
    with workplace(case, materials) as folder:
        env = environment(folder, WILD_TORCH_AUDIT=str(folder.parent / "audit"))
        env["PYTHONPATH"] = f"{INJECT}:{env['PYTHONPATH']}"
        ran = run(command(case), folder, env)
        yield "torch-audit", {**_ended(ran), **said_by_torch_audit(folder.parent)}
        if ran.status == 0:
            yield "trainproof", said_by_trainproof(ran, folder)
            return
    with workplace(case, materials) as folder:
        yield "trainproof", said_by_trainproof(run(command(case), folder, environment(folder)), folder)


def _ended(ran: Ran) -> Said:
    return {"status": ran.status, "seconds": ran.seconds, **({} if ran.status == 0 else {"stderr": ran.err[-KEPT:]})}


def said_by_torch_preflight(case: Case, materials: Path) -> Said:
    source = next(case.folder.glob("*.py"))
    with workplace(case, materials) as folder:
        words = [str(BIN / "torch-preflight"), "check", "--format", "json", "--jobs", "1", source.name]
        ran = run(words, folder, environment(folder))
    found = json.loads(ran.out)["diagnostics"]
    return {
        "status": ran.status,
        "seconds": ran.seconds,
        "said": sorted({(one["code"], one["severity"]) for one in found}),
    }


def said_by_torch_audit(folder: Path) -> Said:
    """From the files that the injected hook wrote, one per process."""
    records = [json.loads(file.read_text()) for file in folder.glob("audit-*.json")]
    return {
        "said": sorted({(rule, level) for one in records for rule, level in one["said"]}),
        **{key: sum(one[key] for one in records) for key in ("optimizers", "without_model")},
    }


def said_by_trainproof(ran: Ran, folder: Path) -> Said:
    """From what the program left in its folder, and what it printed."""
    left = folder.parent / "left"
    left.mkdir()
    for path in [path for path in folder.iterdir() if path.name not in MATERIALS and path.suffix not in (".py", ".sh")]:
        shutil.move(path, left / path.name)
    (left / "printed.jsonl").write_text(as_records(f"{ran.out}\n{ran.err}"), encoding="utf-8")
    doctor = run([str(BIN / "trainproof"), "doctor", "--json", str(left)], folder, environment(folder))
    text = doctor.out.strip()
    is_report = text.startswith(("{", "["))
    return {
        "status": ran.status,
        "seconds": ran.seconds,
        "said": sorted({(one["id"], one["level"]) for one in _findings(json.loads(text))}) if is_report else [],
        **({} if is_report else {"answer": (doctor.out + doctor.err)[-KEPT:]}),
    }


def as_records(printed: str) -> str:
    """The losses of a program's output as JSON lines, a format that trainproof reads.

    A line is a record if it is a dictionary with a loss, as `transformers` prints, or has numbers after the word loss.
    """
    records = []
    for line in printed.splitlines():
        try:
            record = ast.literal_eval(line.strip()) if line.lstrip().startswith("{") else {}
        except (ValueError, SyntaxError):
            record = {}
        for before, number in LOSS.findall("" if record else line):
            record["eval_loss" if HELD_OUT.search(before) else "loss"] = float(number)
        if any("loss" in str(name) for name in record):
            records.append(json.dumps(record, default=str))
    return "".join(f"{record}\n" for record in records)


def _findings(reports: Any) -> list[dict[str, Any]]:
    """Everything with a rule and a level, wherever it is in the report."""
    if isinstance(reports, dict):
        own = [reports] if {"id", "level"} <= set(reports) else []
        return [*own, *(one for value in reports.values() for one in _findings(value))]
    return [one for value in reports for one in _findings(value)] if isinstance(reports, list) else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m wild.peers")
    parser.add_argument("--only", default="")
    parser.add_argument("--part", default="1/1", metavar="K/N")
    parser.add_argument("--room", type=Path)
    options = parser.parse_args()
    refuse_if_changed()
    PEER_RESULTS.parent.mkdir(exist_ok=True)
    materials = room(options.room)
    part, parts = map(int, options.part.split("/"))
    # In a mixed order, so that an interrupted run has both kinds.
    cases = sorted(all_cases(), key=lambda case: hashlib.sha256(case.name.encode()).digest())
    done = {one["case"] for one in read(PEER_RESULTS) if one["peer"] == "trainproof"}
    for case in [one for one in cases if options.only in one.name][part - 1 :: parts]:
        if case.name in done:
            continue
        lines = [
            {"peer": peer, "case": case.name, "kind": case.kind, **said}
            for peer, said in said_by_peers(case, materials)
        ]
        with PEER_RESULTS.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            print(line["peer"], case.name, line["seconds"], line["said"], file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
