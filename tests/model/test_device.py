"""`auto` never considers a number type that the processor only emulates."""

from pathlib import Path

import pytest
import torch

from tenor.errors import UserError
from tenor.model.device import DevicePlan, candidate, native_bf16, plan_device

CPUINFO = Path("/proc/cpuinfo")


def test_accelerators_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    names = {device: DevicePlan(device, "fp32", 1, 64, 64, "").accelerators for device in ("cpu", "cuda", "mps")}
    assert names == {"cpu": (), "cuda": ("NVIDIA H100 80GB HBM3",), "mps": ("Apple MPS",)}


@pytest.mark.skipif(not CPUINFO.exists(), reason="this system does not list its processor's features in a file")
def test_bf16_is_chosen_only_on_a_processor_that_reports_it() -> None:
    words = set(CPUINFO.read_text().split())
    has = bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
    assert not native_bf16() or has
    assert candidate(plan_device(device="cpu")) is None or has


@pytest.mark.parametrize(
    ("capabilities", "other"),
    [
        ({}, None),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, None),
        ({"avx512_fp16": True}, None),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"bf16": True}, "bf16"),
    ],
)
def test_bf16_is_a_candidate_on_a_cpu_exactly_where_hardware_computes_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], other: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    plan = plan_device(device="cpu")
    assert plan.precision == "fp32"
    assert plan.why.startswith("fp32")
    assert candidate(plan) == other
    assert candidate(plan_device(device="cpu", precision="bf16")) is None


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_auto_picks_no_emulated_bf16_on_a_gpu(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # An older GPU emulates bf16, and reports it as supported unless only hardware support is requested.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    plan = plan_device()
    assert (plan.device, plan.precision) == ("cuda", precision)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for missing in ("cuda", "mps"):
        with pytest.raises(UserError, match=rf"{missing} is not available here, expected one of cpu"):
            plan_device(device=missing)
    assert plan_device().device == "cpu"


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 requires a GPU"):
        plan_device(device="cpu", precision="fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_plan_is_as_requested(precision: str) -> None:
    plan = plan_device("cpu", precision, threads=1, training_tokens=100, prediction_tokens=200)
    assert (plan.precision, plan.threads, plan.training_tokens, plan.prediction_tokens) == (precision, 1, 100, 200)
    assert torch.get_num_threads() == 1
    assert plan.why == f"{precision} as configured"


def test_threads_stay_within_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_device(device="cpu").threads == torch.get_num_threads() >= 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert plan_device(device="cpu").threads == 1


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_products_in_the_planned_type_and_ends(precision: str, dtype: torch.dtype) -> None:
    plan: DevicePlan = plan_device("cpu", precision, threads=1)
    square = torch.ones(2, 2)
    with plan.autocast():
        assert (square @ square).dtype == dtype
    assert (square @ square).dtype == torch.float32
