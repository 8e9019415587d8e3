"""Models at full size with random weights, real reviews, and their work: shared by the speed benchmarks."""

import statistics
from collections.abc import Iterable
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
)

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.data.sources.imdb import imdb_source
from tenor.runs.missing import Missing


@dataclass(frozen=True)
class Shape:
    """What decides a model's work."""

    name: str
    layers: int
    width: int
    heads: int


MINILM = Shape("MiniLM-L6", 6, 384, 12)
DISTILBERT = Shape("DistilBERT", 6, 768, 12)
SHAPES = (MINILM, DISTILBERT)


def save_random(shape: Shape, folder: Path, length: int) -> None:
    """A classifier of this shape below `folder`, as `transformers` saves one, with the embedded tokenizer."""
    torch.manual_seed(0)
    model: Any
    if shape is DISTILBERT:
        model = DistilBertForSequenceClassification(DistilBertConfig(num_labels=2))
    else:
        sizes = {"hidden_size": shape.width, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads}
        model = BertForSequenceClassification(BertConfig(intermediate_size=4 * shape.width, num_labels=2, **sizes))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_encoder_folder(), model_max_length=length).save_pretrained(folder)


def reviews(path: str, split: str, count: int) -> LabelledText:
    """`count` reviews of the official IMDb drawn at random, always the same ones. Raises SystemExit without a test."""
    source = imdb_source(Data(source="imdb", path=path))
    rows = source.train if split == "train" else source.test
    if isinstance(rows, Missing):
        raise SystemExit(f"{path} lacks a test split")
    return rows.select(np.random.default_rng(0).permutation(len(rows))[:count])


def forward_work(shape: Shape, lengths: Iterable[int]) -> float:
    """GFLOP of a forward pass over texts of these lengths, in real tokens.

    A whole layer costs 24·d² + 4·n·d per token; the last one, of which only the first token's state is used, 4·heads·d.
    """
    whole, last = shape.layers - 1, 4 * shape.heads * shape.width
    return sum(n * (whole * (24 * shape.width**2 + 4 * n * shape.width) + last) for n in lengths) / 1e9


def spread(values: list[float], width: int = 7, digits: int = 2) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):{width}.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
