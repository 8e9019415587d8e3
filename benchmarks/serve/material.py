"""What every server gets: one model folder as `transformers` saves it, and real texts of three lengths."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews, rotten_tomatoes
from tenor.inference.source import saved_model
from tenor.runs.directory import find_run
from tenor.runs.missing import Missing

MAX_LENGTH = 512
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
KINDS = {"short": 2400, "128": 640, "512": 160}
"""Texts of each kind in one measurement: several seconds each on two cores."""
LENGTHS = {"short": (1, 100), "128": (112, 128), "512": (MAX_LENGTH, 4 * MAX_LENGTH)}
"""Tokens of a text, with the two special ones, before truncation."""


def plain_folder(run: Path | None, root: Path, folder: Path) -> Path:
    """A model folder that every server reads: no text baseline, no temperature, truncated at 512 tokens.

    From a run's model, or the embedded encoder with a head of random weights, which is as fast.
    """
    folder.mkdir()
    if run is None:
        _with_random_head(folder)
    else:
        model = run if (run / "config.json").is_file() else saved_model(find_run(root, str(run)))
        for name in FILES:
            shutil.copy(model / name, folder / name)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "model_max_length": MAX_LENGTH, "max_length": MAX_LENGTH}))
    return folder


def _with_random_head(folder: Path) -> None:
    """The head is large enough that probabilities are spread out: the same answer for every text would hide mix-ups."""
    torch.manual_seed(0)
    source = embedded_encoder_folder()
    model = BertForSequenceClassification.from_pretrained(source, num_labels=2)
    with torch.no_grad():
        model.classifier.weight.normal_(std=0.5)
    model.config.id2label = {0: "negative", 1: "positive"}
    model.config.label2id = {"negative": 0, "positive": 1}
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def texts_by_kind(folder: Path) -> dict[str, list[str]]:
    """`KINDS` texts of each kind, always the same: sentences of Rotten Tomatoes, reviews of IMDb."""
    sentences, reviews = rotten_tomatoes().test, embedded_reviews().train
    assert not isinstance(sentences, Missing)
    assert not isinstance(reviews, Missing)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return {
        kind: _of_length(list(sentences.texts if kind == "short" else reviews.texts), tokenizer, *LENGTHS[kind], count)
        for kind, count in KINDS.items()
    }


def _of_length(texts: list[str], tokenizer: object, least: int, most: int, count: int) -> list[str]:
    chosen: list[str] = []
    order = np.random.default_rng(0).permutation(len(texts))
    for start in range(0, len(order), 1000):
        some = [texts[at] for at in order[start : start + 1000]]
        # Characters bound the tokens roughly: most texts need no tokenization.
        some = [text for text in some if least * 3 <= len(text) <= most * 8]
        lengths = [len(ids) for ids in tokenizer(some, verbose=False)["input_ids"]] if some else []  # type: ignore[operator]
        chosen += [text for text, length in zip(some, lengths, strict=True) if least <= length <= most]
        if len(chosen) >= count:
            return chosen[:count]
    # Fewer texts than asked for (of 112 to 128 tokens there are some hundreds) are repeated.
    return [chosen[at % len(chosen)] for at in range(count)]


def mixed(texts: dict[str, list[str]], count: int, seed: int = 0) -> list[str]:
    """`count` texts: mostly short, some of 128 tokens, few of 512, in a random order."""
    draw = np.random.default_rng(seed)
    kinds = draw.choice(list(KINDS), count, p=(0.6, 0.3, 0.1))
    return [texts[kind][draw.integers(len(texts[kind]))] for kind in kinds]
