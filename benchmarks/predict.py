"""Prediction beside `transformers`' pipeline: IMDb's reviews at 512 tokens, full-size models with random weights.

Every round runs all peers one after the other on the same reviews, so that what disturbs the machine disturbs all;
ratios are taken within a round. Work counts the matrix products and the attention that Tenor really computes, on real
tokens: the last layer, which it computes for the first token alone, counts almost nothing.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    pipeline,
)

from peak import best_product
from tenor.config.schema import Data
from tenor.data.dataset import Absent
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.sources.imdb import imdb_source
from tenor.inference.engines import run_rows
from tenor.inference.predictor import Predictor
from tenor.inference.texts import token_rows

LENGTH = 512
BATCH_SIZES = (1, 4, 8, 16)


@dataclass(frozen=True)
class Shape:
    """What decides a model's work."""

    name: str
    layers: int
    width: int
    heads: int


SHAPES = (Shape("MiniLM-L6", 6, 384, 12), Shape("DistilBERT", 6, 768, 12))


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    texts = _reviews(options.imdb, options.reviews)
    for shape in SHAPES:
        if options.model in ("both", shape.name):
            with tempfile.TemporaryDirectory() as folder:
                _save(shape, Path(folder))
                _compare(shape, Path(folder), texts, options.rounds, options.threads)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("imdb", help="a folder of Parquet files, an extracted aclImdb folder, or the official archive")
    parser.add_argument("--reviews", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=("both", *(shape.name for shape in SHAPES)), default="both")
    return parser.parse_args()


def _reviews(path: str, count: int) -> list[str]:
    test = imdb_source(Data(source="imdb", path=path)).test
    if isinstance(test, Absent):
        raise SystemExit(f"{path} lacks a test split")
    return test.select(np.random.default_rng(0).permutation(len(test))[:count]).texts


def _save(shape: Shape, folder: Path) -> None:
    torch.manual_seed(0)
    model: Any
    if shape.name == "DistilBERT":
        model = DistilBertForSequenceClassification(DistilBertConfig(num_labels=2))
    else:
        sizes = {"hidden_size": shape.width, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads}
        model = BertForSequenceClassification(BertConfig(intermediate_size=4 * shape.width, num_labels=2, **sizes))
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(embedded_encoder_folder(), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)


def _compare(shape: Shape, folder: Path, texts: list[str], rounds: int, threads: int) -> None:
    predictor = Predictor.load(folder, engine="torch", device="cpu", threads=threads)
    piped = pipeline("text-classification", model=str(folder), device="cpu")
    # The pipeline would warn of its own batches; that is what is measured here.
    peers: dict[str, Callable[[], list[str]]] = {
        "Tenor": lambda: [one.label for one in predictor.predict(texts)],
        **{f"pipeline, batch {size}": _piped(piped, texts, size) for size in BATCH_SIZES},
    }
    peers["Tenor"](), peers["pipeline, batch 1"]()
    rows = token_rows(
        texts, predictor.source.tokenizer, predictor.framing, predictor.source.truncation, "truncate"
    ).rows
    work = sum(_work(shape, len(row)) for row in rows)
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
    _report(shape, seconds, labels, peaks, work, len(texts), threads)


def _piped(piped: Any, texts: list[str], size: int) -> Callable[[], list[str]]:
    return lambda: [one["label"] for one in piped(texts, batch_size=size, truncation=True)]


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def _work(shape: Shape, tokens: int) -> float:
    """GFLOP of one text: 24·d² + 4·n·d per token in a whole layer, 8·heads·d per token in the shortened last one."""
    whole = (shape.layers - 1) * (24 * shape.width**2 + 4 * tokens * shape.width)
    return tokens * (whole + 4 * shape.heads * shape.width) / 1e9


def _report(
    shape: Shape,
    seconds: dict[str, list[float]],
    labels: dict[str, list[str]],
    peaks: list[float],
    work: float,
    count: int,
    threads: int,
) -> None:
    print(f"\n{shape.name}, {count} reviews at {LENGTH} tokens, {threads} threads, {len(peaks)} rounds")
    print(f"{'':20} {'reviews/s':>9}  (spread)        Tenor is faster by")
    for name in labels:
        rates = [count / taken for taken in seconds[name]]
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["Tenor"], strict=True)]
        same = sum(one == other for one, other in zip(labels[name], labels["Tenor"], strict=True))
        print(f"{name:20} {_spread(rates, 9)}  {_spread(ratios, 5)}  {same}/{count} labels as Tenor's")
    shares = [100 * work / taken / peak for taken, peak in zip(seconds["Tenor"], peaks, strict=True)]
    cost = [100 * (whole / model - 1) for whole, model in zip(seconds["Tenor"], seconds["model alone"], strict=True)]
    alone = [100 * tokens / whole for tokens, whole in zip(seconds["tokens alone"], seconds["Tenor"], strict=True)]
    print(f"peak {_spread(peaks, 5)} GFLOP/s; Tenor reaches {_spread(shares, 5)} % of it")
    print(f"beside the model: {_spread(cost, 5)} %; tokenization alone would take {_spread(alone, 5)} % of the time")


def _spread(values: list[float], width: int) -> str:
    return f"{statistics.median(values):{width}.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
