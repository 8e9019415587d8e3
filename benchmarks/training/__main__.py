"""`make bench-train`: training beside `transformers.Trainer`, on real reviews and full-size models with random weights.

Every round runs all peers one after the other, each in a process of its own, so that what disturbs the machine disturbs
all; ratios are taken within a round. Work counts the matrix products and the attention that Tenor really computes, on
real tokens.
"""

import argparse
import os
import tempfile
from pathlib import Path

PARTS = ("throughput", "frozen", "memory", "start-up")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TENOR_CACHE"] = str(folder / "cache")  # The frozen path must find no features of an earlier run.
        import torch

        from shapes import SHAPES
        from training.frozen import compare_frozen
        from training.memory import compare_memory
        from training.start_up import measure_start_up
        from training.throughput import compare

        torch.set_num_threads(options.threads)
        shapes = [shape for shape in SHAPES if options.model in ("both", shape.name)]
        if "throughput" in options.parts:
            for shape in shapes:
                for length in options.lengths:
                    compare(shape, length, options.imdb, folder / str(length), options.rounds, options.threads)
        if "frozen" in options.parts:
            for shape in shapes:
                compare_frozen(shape, min(options.lengths), options.imdb, folder, options.threads)
        if "memory" in options.parts:
            for shape in shapes:
                compare_memory(shape, options.imdb, folder / "memory", options.threads)
        if "start-up" in options.parts:
            measure_start_up(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-train")
    parser.add_argument("imdb", help="a folder of Parquet files, an extracted aclImdb folder, or the official archive")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--model", choices=("both", "MiniLM-L6", "DistilBERT"), default="both")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=list(PARTS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
