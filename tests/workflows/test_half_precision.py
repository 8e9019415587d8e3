"""A run in 16 bits on a GPU: what can be told of it on a processor."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from small_runs import small_config
from tenor.errors import UserError
from tenor.model.device import plan_device
from tenor.training.loop import make_accelerator
from tenor.workflows.preflight import run_preflight
from tenor.workflows.prepare import prepare


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_the_loop_scales_fp16_itself_and_is_not_refused_for_it(
    precision: str, small_model: Path, tmp_path: Path
) -> None:
    prepared = prepare(small_config(tmp_path, small_model))
    report = run_preflight(replace(prepared, plan=replace(prepared.plan, precision=precision)))  # type: ignore[arg-type]
    assert "PRC002" in report.ran
    assert "PRC002" not in {finding.code for finding in report.findings}


def test_another_device_than_the_planned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the environment sets ACCELERATE_USE_CPU, or here, where there is no GPU."""
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match="Accelerate would train on cpu, not on cuda"):
        make_accelerator(replace(plan_device("cpu", threads=1), device="cuda"))
    assert make_accelerator(plan_device("cpu", threads=1)).device.type == "cpu"
