"""This machine's best square float32 matrix product: the peak that every throughput is compared with."""

import time

import torch


def main() -> None:
    for size in (2048, 4096):
        one, other = torch.randn(size, size), torch.randn(size, size)
        one @ other
        best = 0.0
        for _ in range(5):
            started = time.perf_counter()
            one @ other
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
        print(f"{size}: {best:.0f} GFLOP/s with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
