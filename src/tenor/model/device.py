"""Device, precision, threads and tokens per forward pass."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from tenor.errors import UserError

MATRIX_INSTRUCTIONS = ("sse", "avx", "fma", "f16c", "amx", "neon", "asimd", "sve", "sme", "i8mm", "bf16", "dot")
"""Prefixes of the names of instruction sets for matrix products."""

INT8_INSTRUCTIONS = (
    *("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"),
    *("neon", "dot", "i8mm"),
)
"""Instruction sets by which ONNX Runtime chooses its 8-bit kernels."""


def instruction_sets() -> tuple[str, ...]:
    """This processor's instruction sets for matrix products, such as avx2 or avx512_vnni."""
    available = torch.cpu.get_capabilities()
    return tuple(sorted(name for name in available if available[name] is True and name.startswith(MATRIX_INSTRUCTIONS)))


def other_processor(checked_on: Sequence[str]) -> str | None:
    """A message if int8 was checked on a processor with other 8-bit instructions than this one.

    None if the instructions are the same, or if the processor of the check is unknown.
    """
    then, here = (set(names) & set(INT8_INSTRUCTIONS) for names in (checked_on, instruction_sets()))
    if not then or then == here:
        return None
    lacking, further = (", ".join(sorted(names)) for names in (then - here, here - then))
    here_has = (
        f"no {lacking}, but {further}" if lacking and further else f"no {lacking}" if lacking else f"also {further}"
    )
    return (
        f"checked on another kind of processor (this one has {here_has}), so probabilities may differ slightly more; "
        "to measure the difference, export again on this machine"
    )


TRAINING_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}
"""Padded tokens per forward pass in training: on a CPU the fewest that use its matrix units fully, on a GPU enough to
fill it."""

PREDICTION_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 65536}
"""The same without gradients. On a CPU small batches are fastest (two rows of 512 tokens per thread)."""

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class DevicePlan:
    """The chosen settings, and why."""

    device: str
    precision: Precision
    threads: int
    training_tokens: int
    prediction_tokens: int
    why: str

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the accelerators; none on a CPU."""
        if self.device == "cuda":
            return (torch.cuda.get_device_name(),)
        return ("Apple MPS",) if self.device == "mps" else ()

    @property
    def rounds_lengths(self) -> bool:
        """Whether the padded lengths of training passes are rounded up.

        In bfloat16 on a CPU oneDNN compiles a kernel for every new shape and keeps up to 1,024 of them, and tensors of
        ever new sizes leave gaps in the heap: shapes that recur are worth some padding.
        """
        return self.device == "cpu" and self.precision == "bf16"

    @property
    def passes_side_by_side(self) -> int:
        """Count of passes without gradients that may run at a time: on a CPU one per thread."""
        return self.threads if self.device == "cpu" else 1

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in the chosen precision, for estimates and probes of a training step."""
        with torch.autocast(self.device, DTYPES[self.precision], enabled=self.precision != "fp32"):
            yield


def plan_device(
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    training_tokens: int | str = "auto",
    prediction_tokens: int | str = "auto",
) -> DevicePlan:
    """Resolve `auto` settings, and set PyTorch's CPU threads.

    On a CPU `auto` means float32 here; `tenor.training.precision` compares the `candidate` on the run's own batches.

    Raises:
        UserError: a device that is not available, or a precision that it does not support.
    """
    chosen = _device(device)
    if precision == "auto":
        kind, why = _precision(chosen)
    else:
        kind, why = precision, f"{precision} as configured"  # type: ignore[assignment]
    if kind == "fp16" and chosen == "cpu":
        raise UserError("training.precision: fp16 requires a GPU, and the device is cpu. Use auto, fp32 or bf16")
    count = threads or _cores()
    torch.set_num_threads(count)
    return DevicePlan(
        device=chosen,
        precision=kind,
        threads=count,
        training_tokens=TRAINING_TOKENS[chosen] if training_tokens == "auto" else int(training_tokens),
        prediction_tokens=PREDICTION_TOKENS[chosen] if prediction_tokens == "auto" else int(prediction_tokens),
        why=why,
    )


def full_precision(device: str) -> torch.autocast:
    """Matrix products in float32, even within a caller's autocast: predictions never depend on training precision."""
    return torch.autocast(device, enabled=False)


def _device(wanted: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[wanted]:
        raise UserError(
            f"training.device: {wanted} is not available here, expected one of "
            f"{', '.join(name for name, ok in available.items() if ok)}. Set training.device=auto"
        )
    return wanted


def _cores() -> int:
    """Count of physical cores, or of the cores that this process may use if these are fewer."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return min(physical, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else physical


def _precision(device: str) -> tuple[Precision, str]:
    """The precision that the device computes in hardware, and why; an emulated one can be a hundred times slower."""
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "bf16: this GPU computes it in hardware, and it needs no loss scaling"
        return "fp16", "fp16: this GPU has no bf16"
    if device == "mps":
        return "fp32", "fp32: half precision on MPS is not verified by Tenor"
    if native_bf16():
        return "fp32", "fp32: not compared with bf16"
    return "fp32", "fp32: this processor only emulates 16-bit types"


def candidate(plan: DevicePlan) -> Precision | None:
    """A number type that may be faster than the plan's, so that only a measurement can tell; None if there is none."""
    return "bf16" if plan.device == "cpu" and plan.precision == "fp32" and native_bf16() else None


def native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
