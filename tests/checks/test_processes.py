"""Several processes: gradients that are not averaged, and a loss multiplied by their number."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import two_processes
from tenor.checks.catalogue import find_rule
from tenor.checks.evidence.process_evidence import ProcessEvidence
from tenor.checks.finding import CannotTell


def run_two(folder: Path) -> dict[str, Any]:
    """What `two_processes` writes when two processes run it, connected by gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, str(folder)],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = folder / "results.json"
    assert results.is_file(), "\n".join(error[-3000:] for error in errors)
    return json.loads(results.read_text())


@pytest.mark.slow
def test_what_two_processes_do_in_a_trainer_is_told(tmp_path: Path) -> None:
    results = run_two(tmp_path)
    codes = {name: result["codes"] for name, result in results.items()}
    # Processes that are not averaged do not wait for each other: the notes of one may come too late.
    codes["evaluated before"].pop("DST008", None)
    assert codes == {
        "as it is": {"DST006": "warning"},
        "not averaged across devices": {},
        "evaluated before": {"DST005": "error"},
        "a copy evaluated before": {},
        "a model that divides": {},
        "a loss of its own": {},
    }
    # The property behind it: without averaged gradients, each process has a model of its own.
    assert {name for name, result in results.items() if not result["same"]} == {"evaluated before"}
    assert results["as it is"]["loss"] == pytest.approx(2 * results["not averaged across devices"]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("code", "processes", "severity"),
    [
        ("DST005", ProcessEvidence(2, gradients_averaged=True), None),
        ("DST005", ProcessEvidence(2, gradients_averaged=False), "warning"),
        ("DST005", ProcessEvidence(2, gradients_averaged=False, is_trainer=True), "error"),
        ("DST006", ProcessEvidence(4, loss_factor=1.0), None),
        ("DST006", ProcessEvidence(4, loss_factor=4.0), "warning"),
    ],
)
def test_processes_are_judged_by_what_they_do(code: str, processes: ProcessEvidence, severity: str | None) -> None:
    rule = find_rule(code)
    finding = rule(processes)
    assert (finding and (finding.severity or rule.severity)) == severity


def test_what_is_not_known_is_not_judged() -> None:
    for code in ("DST005", "DST006"):
        with pytest.raises(CannotTell, match="compute_loss"):
            find_rule(code)(ProcessEvidence(2, loss_unknown="compute_loss failed"))
