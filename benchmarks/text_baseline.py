"""The text baseline on IMDb's official split: trained on 25,000 reviews, read once on the 25,000 test reviews."""

import sys
import time

from tenor.config.schema import Data
from tenor.data.sources.imdb import imdb_source
from tenor.measures.intervals import wilson_interval
from tenor.measures.text_baseline import fit_text_baseline
from tenor.runs.missing import Missing


def main(path: str) -> None:
    source = imdb_source(Data(source="imdb", path=path))
    if isinstance(source.train, Missing) or isinstance(source.test, Missing):
        raise SystemExit(f"{path} lacks a split")
    started = time.perf_counter()
    baseline = fit_text_baseline(source.train.texts, source.train.labels, 2, seed=42)
    fitted = time.perf_counter()
    right = int((baseline.probabilities(source.test.texts).argmax(axis=1) == source.test.labels).sum())
    interval = wilson_interval(right, len(source.test))
    print(f"accuracy {right / len(source.test):.2%} (95% interval {interval.low:.2%} to {interval.high:.2%})")
    print(f"fitted in {fitted - started:.1f} s, scored in {time.perf_counter() - fitted:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1])
