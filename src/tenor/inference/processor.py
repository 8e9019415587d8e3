"""What a processor has of the instructions that matrix products use, and whether int8 was checked on such a one."""

from collections.abc import Sequence

import torch

MATRIX_INSTRUCTIONS = ("sse", "avx", "fma", "f16c", "amx", "neon", "asimd", "sve", "sme", "i8mm", "bf16", "dot")
"""How the names of these instruction sets begin."""

INT8_INSTRUCTIONS = (
    *("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"),
    *("neon", "dot", "i8mm"),
)
"""By which ONNX Runtime chooses how it multiplies 8-bit numbers."""


def instruction_sets() -> tuple[str, ...]:
    """What this processor has of the instructions that matrix products use, such as avx2 or avx512_vnni."""
    there = torch.cpu.get_capabilities()
    return tuple(sorted(name for name in there if there[name] is True and name.startswith(MATRIX_INSTRUCTIONS)))


def other_processor(checked_on: Sequence[str]) -> str | None:
    """In words, where int8 was checked on a processor that multiplies in another way than this one.

    None where it was on such a one, or where it is not known on which.
    """
    then, here = (set(names) & set(INT8_INSTRUCTIONS) for names in (checked_on, instruction_sets()))
    if not then or then == here:
        return None
    lacking, further = (", ".join(sorted(names)) for names in (then - here, here - then))
    told = f"no {lacking}, but {further}" if lacking and further else f"no {lacking}" if lacking else f"also {further}"
    return (
        f"checked on another kind of processor (this one has {told}), so probabilities may differ a little more; "
        "to see by how much, export again here"
    )
