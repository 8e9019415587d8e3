"""Prediction compared with `transformers`' pipeline: IMDb's reviews at 512 tokens, or short sentences, by full-size
models with random weights.

Every round runs all peers one after the other on the same reviews, so that what disturbs the machine disturbs all;
ratios are taken within a round. Work counts the matrix products and the attention that Tenor really computes, on real
tokens: the last layer, which it computes for the first token alone, counts almost nothing.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from peak import best_product, machine, types
from shapes import SHAPES, Shape, forward_work, reviews, save_random, spread
from tenor.data.sources.embedded import rotten_tomatoes
from tenor.inference.engines import run_rows
from tenor.inference.predictor import Predictor
from tenor.inference.texts import token_rows
from tenor.runs.missing import Missing

LENGTH = 512
BATCH_SIZES = {"reviews": (1, 4, 8, 16), "sentences": (1, 8, 32, 64)}
PIPELINE_SENTENCES = 1000
"""Sentences that the pipeline gets of all, since its speed does not depend on their count."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if options.texts == "reviews":
        texts = list(reviews(options.imdb, "test", options.reviews).texts)
    else:
        sentences = rotten_tomatoes().test
        assert not isinstance(sentences, Missing)
        texts = [text for _, text in zip(range(options.reviews), cycle(sentences.texts), strict=False)]
    for shape in SHAPES:
        if options.model in ("both", shape.name):
            with tempfile.TemporaryDirectory() as folder:
                save_random(shape, Path(folder), LENGTH)
                _compare(shape, Path(folder), texts, options.texts, options.rounds, options.threads)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("imdb", help="a folder of Parquet files, an extracted aclImdb folder, or the official archive")
    parser.add_argument("--reviews", type=int, default=64)
    parser.add_argument("--texts", choices=tuple(BATCH_SIZES), default="reviews")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=("both", *(shape.name for shape in SHAPES)), default="both")
    return parser.parse_args()


def _compare(shape: Shape, folder: Path, texts: list[str], kind: str, rounds: int, threads: int) -> None:
    predictor = Predictor.load(folder, engine="torch", device="cpu", threads=threads)
    piped = pipeline("text-classification", model=str(folder), device="cpu")
    few = texts if kind == "reviews" else texts[:PIPELINE_SENTENCES]
    # The pipeline would warn of its own batches; that is what is measured here.
    peers: dict[str, Callable[[], list[str]]] = {
        "Tenor": lambda: [one.label for one in predictor.predict(texts)],
        **{f"pipeline, batch {size}": _piped(piped, few, size) for size in BATCH_SIZES[kind]},
    }
    if "bf16" in types():
        half = Predictor.load(folder, engine="torch-bf16", device="cpu", threads=threads)
        half_piped = pipeline("text-classification", model=str(folder), device="cpu", dtype=torch.bfloat16)
        peers["Tenor in bf16"] = lambda: [one.label for one in half.predict(texts)]
        peers |= {f"… bf16, batch {size}": _piped(half_piped, few, size) for size in BATCH_SIZES[kind]}
    peers["Tenor"](), peers["pipeline, batch 1"]()
    rows = token_rows(
        texts, predictor.source.tokenizer, predictor.framing, predictor.source.truncation, "truncate"
    ).rows
    work = forward_work(shape, [len(row) for row in rows])
    seconds: dict[str, list[float]] = {name: [] for name in (*peers, "tokens alone", "model alone")}
    labels: dict[str, list[str]] = {}
    peaks = []
    for _ in range(rounds):
        peaks.append(best_product(2048, 3))
        for name, run in peers.items():
            taken, labels[name] = _timed(run)
            seconds[name].append(taken)
        taken, _ = _timed(lambda: run_rows(predictor.engine, rows, predictor.framing, predictor.plan.prediction_tokens))
        seconds["model alone"].append(taken)
        taken, _ = _timed(lambda: predictor.source.tokenizer(texts, truncation=False, verbose=False))
        seconds["tokens alone"].append(taken)
    _report(shape, seconds, labels, peaks, work, kind, threads)


def _piped(piped: Any, texts: list[str], size: int) -> Callable[[], list[str]]:
    return lambda: [one["label"] for one in piped(texts, batch_size=size, truncation=True)]


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def _report(
    shape: Shape,
    seconds: dict[str, list[float]],
    labels: dict[str, list[str]],
    peaks: list[float],
    work: float,
    kind: str,
    threads: int,
) -> None:
    count = len(labels["Tenor"])
    amount = f"{count:,} {kind}, at most {LENGTH} tokens, {threads} threads, {len(peaks)} rounds"
    print(f"\n{shape.name}, {amount}; {machine()}")
    print(f"{'':20} {kind + '/s':>9}  (spread)      Tenor is faster by   … in bf16")
    rates = {name: [len(labels[name]) / taken for taken in seconds[name]] for name in labels}
    for name in labels:
        by = [
            spread([own / theirs for own, theirs in zip(rates[ours], rates[name], strict=True)], 5)
            for ours in ("Tenor", "Tenor in bf16")
            if ours in rates
        ]
        same = sum(one == other for one, other in zip(labels[name], labels["Tenor"], strict=False))
        print(f"{name:20} {spread(rates[name], 9)}  {'  '.join(by)}  {same}/{len(labels[name])} labels as Tenor's")
    shares = [100 * work / taken / peak for taken, peak in zip(seconds["Tenor"], peaks, strict=True)]
    cost = [100 * (whole / model - 1) for whole, model in zip(seconds["Tenor"], seconds["model alone"], strict=True)]
    alone = [100 * tokens / whole for tokens, whole in zip(seconds["tokens alone"], seconds["Tenor"], strict=True)]
    print(f"peak {spread(peaks, 5)} GFLOP/s; Tenor reaches {spread(shares, 5)} % of it")
    print(f"beside the model: {spread(cost, 5)} %; tokenization alone would take {spread(alone, 5)} % of the time")


if __name__ == "__main__":
    main()
