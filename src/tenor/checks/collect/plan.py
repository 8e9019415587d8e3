"""Evidence from a live schedule and from the device."""

import copy
import time
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.checks.collect.model import peak_rate
from tenor.checks.evidence import PrecisionEvidence, ScheduleEvidence
from tenor.checks.finding import CannotTell
from tenor.data.sequences import array_of
from tenor.model.device import DTYPES, native_bf16
from tenor.runs.process_state import warnings_ignored

WIDTH_TIMED = 256
"""Of the matrices that time an emulated type: 0.03 s at 1 GFLOP/s."""


def schedule_evidence(
    schedule: Any,
    total_steps: int,
    steps_per_epoch: int,
    *,
    batches_per_epoch: int | None = None,
    accumulation: int = 1,
    declared_warmup_steps: int | None = None,
    stepped: Literal["step", "batch", "epoch"] = "step",
) -> ScheduleEvidence:
    """The plan of rates, from an array of factors or from a copy of a `torch` scheduler that is run ahead.

    `stepped` says when the loop calls `scheduler.step()`: after each optimizer step, forward pass or epoch.
    Raises CannotTell for a scheduler that waits for a metric.
    """
    if hasattr(schedule, "step"):
        every = {"step": 1, "batch": 1, "epoch": steps_per_epoch}[stepped]
        rates, peak = _simulated(schedule, total_steps, every, accumulation if stepped == "batch" else 1)
        factors = rates / peak if peak > 0 else rates
    else:
        factors = array_of(schedule, "schedule").astype(np.float64)
    return ScheduleEvidence(
        factors, steps_per_epoch, total_steps / steps_per_epoch, batches_per_epoch, accumulation, declared_warmup_steps
    )


def planned_rates(scheduler: Any, total_steps: int) -> np.ndarray:
    """Rates of the next steps of the group with the largest peak, shape (steps,), stepped once after each.

    Raises CannotTell for a scheduler that waits for a metric.
    """
    return _simulated(scheduler, total_steps, 1, 1)[0]


def precision_evidence(
    device: torch.device | str,
    kind: Literal["fp32", "bf16", "fp16"],
    *,
    weights_kind: str = "fp32",
    loss_scaling: bool = False,
) -> PrecisionEvidence:
    """Whether the device computes the type itself; where it does not, how many times longer a product takes.

    Raises CannotTell where the device is not there.
    """
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise CannotTell(f"there is no {place} here")
    hardware = _computed_in_hardware(place.type, kind)
    slowdown = None if hardware else _slowdown(place, kind)
    return PrecisionEvidence(kind, str(device), hardware, weights_kind, loss_scaling, slowdown)


def _simulated(scheduler: Any, total_steps: int, every: int, times: int) -> tuple[np.ndarray, float]:
    """Rates of the next steps and their peak, from a copy with an optimizer of its own; the original is untouched."""
    scheduler = getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper.
    optimizer = getattr(scheduler, "optimizer", None)
    if optimizer is None or isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise CannotTell(f"the plan of a {type(scheduler).__name__} can't be told ahead")
    stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    stand_in.param_groups = [
        {**{key: copy.deepcopy(value) for key, value in group.items() if key != "params"}, "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]
    ahead = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    peaks = np.array([peak_rate(group) for group in stand_in.param_groups])
    rates = np.zeros((total_steps, len(peaks)))
    with warnings_ignored():  # That no optimizer step comes between is meant so.
        for step in range(total_steps):
            rates[step] = [float(group["lr"]) for group in stand_in.param_groups]
            if (step + 1) % every == 0:
                for _ in range(times):
                    ahead.step()
    group = int(peaks.argmax())
    peak = max(peaks[group], rates[:, group].max())
    return rates[:, group], float(peak)


def _computed_in_hardware(device: str, kind: str) -> bool:
    if kind == "fp32":
        return True
    if device == "cuda":
        return kind == "fp16" or bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        capable = torch.cpu.get_capabilities()
        halves = any(capable.get(name, False) for name in ("amx_fp16", "avx512_fp16", "fp16_arith"))
        return native_bf16() if kind == "bf16" else halves
    return True


def _slowdown(device: torch.device, kind: str) -> float:
    """Time of a product of two small matrices over that in float32, the fastest of three each."""
    seconds = {}
    for name in ("fp32", kind):
        matrix = torch.full((WIDTH_TIMED, WIDTH_TIMED), 0.5, dtype=DTYPES[name], device=device)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            times.append(time.perf_counter() - started)
        seconds[name] = min(times)
    return seconds[kind] / seconds["fp32"]
