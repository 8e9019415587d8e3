"""This machine's best square float32 matrix product: the peak that every throughput is compared with."""

import time

import torch


def best_product(size: int, repeats: int = 5) -> float:
    """GFLOP/s of the quickest of some products of two square matrices."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    one @ other
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        one @ other
        best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def main() -> None:
    for size in (2048, 4096):
        print(f"{size}: {best_product(size):.0f} GFLOP/s with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
