"""Several processes: rows, weights and gradients are compared, without any process waiting for another."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import rank_faults
from process_group import run_group
from tenor.checks.catalogue import find_rule
from tenor.checks.evidence.process_evidence import AgreementEvidence
from tenor.checks.gather.ranks import checksums, compare

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "torchrun_loop.py"


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_group(Path(rank_faults.__file__), str(folder))
    return json.loads((folder / "codes.json").read_text())


@pytest.mark.slow
@pytest.mark.alone
def test_faults_of_distributed_loops_are_reported_and_a_healthy_one_passes(codes: dict[str, dict[str, str]]) -> None:
    assert codes == {
        "healthy": {},
        "the wrapper is bypassed": {"DST008": "error"},
        "not wrapped": {"DST008": "error"},
        "no pass is averaged": {"DST008": "error"},
        "a head initialized after wrapping": {"DST008": "error"},
        "every process reads all rows": {"DST001": "error"},
        "divided by a wrong number of processes": {"DST002": "warning"},
        "a watchdog in process 0 only": {},  # Without evidence of the other one, and without waiting for it.
    }


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("bypassed", [False, True])
def test_the_example_with_torchrun_runs_and_reports_a_bypassed_wrapper(bypassed: bool, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    program = tmp_path / "loop.py"
    program.write_text(text.replace("ddp(**batch)", "model(**batch)") if bypassed else text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ("DST008 The weights or gradients of the processes differ" in done.stderr) == bypassed
    assert (done.returncode == 0) == (not bypassed), done.stderr
    assert ("rules checked" in done.stdout) == (not bypassed)


def notes(weights: Mapping[str, Any], gradients: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "weights": checksums({name: torch.tensor(value) for name, value in weights.items()}),
        "gradients": checksums({name: torch.tensor(value) for name, value in gradients.items()}),
    }


def test_one_changed_bit_of_a_weight_or_gradient_is_found() -> None:
    values = torch.linspace(-1, 1, 1000)
    changed = values.clone()
    changed.view(torch.int32)[501] ^= 1
    for kind in ("weights", "gradients"):
        same = {"weights": checksums({"w": values}), "gradients": checksums({"w": values})}
        found = compare([same, {**same, kind: checksums({"w": changed})}], step=3)
        assert {"weights": found.weights_differ, "gradients": found.gradients_differ}[kind] == ("w",)
        assert compare([same, same], step=3) == AgreementEvidence(2, 3, 1)


def test_a_gradient_in_one_process_only_is_found() -> None:
    weights = {"a": [1.0, 2.0], "b": [3.0]}
    found = compare([notes(weights, weights), notes(weights, {"a": [1.0, 2.0]})], step=0)
    assert found.gradient_in_some == ("b",)
    assert found.weights_differ == found.gradients_differ == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8])
def test_tensors_of_every_type_and_shape_have_a_checksum(dtype: torch.dtype) -> None:
    tensors = {"matrix": torch.ones(3, 5, dtype=dtype).T, "scalar": torch.ones((), dtype=dtype)}
    sums = checksums({**tensors, "empty": torch.empty(0, dtype=dtype)})
    assert sums.keys() == tensors.keys()
    assert sums["scalar"][1] == [1.0]


@pytest.mark.parametrize(
    ("changed", "severity"),
    [
        ({}, None),
        ({"weights_differ": ("w",), "weight_gap": 0.01}, "error"),
        ({"gradients_differ": ("w",), "gradient_gap": 1.0}, "error"),
        ({"gradient_in_some": ("w",)}, "error"),
        # None of the samples differs: not what rounding looks like, which touches nearly all values.
        ({"weights_differ": ("w",), "weight_gap": 0.0}, "error"),
        ({"weights_differ": ("w",), "weight_gap": 1e-7, "gradients_differ": ("w",), "gradient_gap": 3e-6}, "note"),
    ],
)
def test_differences_are_errors_unless_they_are_rounding(changed: dict[str, Any], severity: str | None) -> None:
    rule = find_rule("DST008")
    found = rule(AgreementEvidence(2, 10, 5, **changed))
    assert (None if found is None else found.severity or rule.severity) == severity
