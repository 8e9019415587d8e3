"""This machine, and its best square matrix products: the peak that every throughput is compared with."""

import time
from datetime import date

import torch

from tenor.model.device import instruction_sets, native_bf16
from tenor.runs.environment import hardware


def best_product(size: int, repeats: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of the quickest of some products of two square matrices. PyTorch's random state is not changed."""
    random = torch.Generator().manual_seed(0)
    one, other = (torch.randn(size, size, generator=random).to(dtype) for _ in range(2))
    one @ other
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        one @ other
        best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def types() -> dict[str, torch.dtype]:
    """The number types that this processor multiplies in hardware."""
    return {"fp32": torch.float32, **({"bf16": torch.bfloat16} if native_bf16() else {})}


def machine() -> str:
    """One line: date, processor and instruction sets."""
    return f"{date.today()}, {hardware()['cpu']}: {' '.join(instruction_sets())}"


def main() -> None:
    print(machine())
    for name, dtype in types().items():
        for size in (2048, 4096):
            speed = best_product(size, dtype=dtype)
            print(f"{name}, {size}: {speed:.0f} GFLOP/s with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
