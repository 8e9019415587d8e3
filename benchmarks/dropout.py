"""What dropout costs on this CPU: PyTorch's own against Tenor's words, forward and backward, interleaved."""

import statistics
import time

import torch

from tenor.model.speed import WordDropout

ROWS, TOKENS, WIDTH, P, REPEATS = 8, 256, 384, 0.1, 20


def main() -> None:
    hidden = torch.randn(ROWS, TOKENS, WIDTH, requires_grad=True)
    peers = {"torch.nn.Dropout": torch.nn.Dropout(P), "WordDropout": WordDropout(P)}
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(REPEATS):
        for name, dropout in peers.items():
            started = time.perf_counter()
            dropout(hidden).sum().backward()
            times[name].append(1e3 * (time.perf_counter() - started))
    print(f"{ROWS} x {TOKENS} x {WIDTH}, p = {P}, {torch.get_num_threads()} threads, {REPEATS} repeats")
    for name, found in times.items():
        print(f"{name:18} {statistics.median(found):6.2f} ms  ({min(found):.2f} to {max(found):.2f})")
    print(f"ratio {statistics.median(times['torch.nn.Dropout']) / statistics.median(times['WordDropout']):.1f}")


if __name__ == "__main__":
    main()
