"""The folder that the cases run in: `python -m wild.materials FOLDER` writes its data and models, always the same.

- `data/`: film sentences of 8 to 24 word pieces (train, valid, test, and the training rows sorted by label), rows of
  four classes, and whole IMDb reviews.
- `models/`: the first layer of MiniLM, taught on such sentences for a minute; three encoders with random weights; all
  of MiniLM.
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

from faults.encoder import save_random_encoder, save_small_encoder
from faults.texts import Split, drawn, longer_sentences
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|<br\s*/?>")
REVIEWS_PER_CLASS = 300
SENTENCES_PER_CLASS = 500

unordered_vocabulary = BertTokenizer.get_vocab


def vocabulary_by_id(tokenizer: BertTokenizer) -> dict[str, int]:
    """`get_vocab` lists a hash table, in another order every time."""
    return dict(sorted(unordered_vocabulary(tokenizer).items(), key=lambda item: item[1]))


BertTokenizer.get_vocab = vocabulary_by_id


def make_data(folder: Path) -> None:
    folder.mkdir(parents=True)
    # There are 2,872 such sentences: the test split gets the remaining 372.
    train, valid, test = drawn((2000, 500, 1000), 0)
    for name, split in (("train", train), ("valid", valid), ("test", test)):
        write(folder / f"{name}.csv", zip(split.texts, split.labels, strict=True))
    order = np.argsort(train.labels, kind="stable")
    write(folder / "sorted.csv", [(train.texts[i], train.labels[i]) for i in order])
    make_reviews(folder, train)


def make_reviews(folder: Path, train: Split) -> None:
    """Whole reviews, and the first sentences of other ones as two of four classes."""
    imdb = embedded_reviews().train
    rng = np.random.default_rng(0)
    reviews: dict[int, list[str]] = {0: [], 1: []}
    firsts: dict[int, list[str]] = {0: [], 1: []}
    seen: set[str] = set()
    for i in rng.permutation(len(imdb)):
        text, label = imdb.texts[i], int(imdb.labels[i])
        if text in seen:
            continue
        seen.add(text)
        if len(reviews[label]) < REVIEWS_PER_CLASS:
            reviews[label].append(text)
            continue
        sentence = SENTENCE_END.split(text.strip())[0].strip()
        usable = 4 <= len(sentence.split()) <= 30 and sentence not in seen
        if usable and len(firsts[label]) < SENTENCES_PER_CLASS:
            seen.add(sentence)
            firsts[label].append(sentence)
    rows = [(text, label) for label in (0, 1) for text in reviews[label]]
    write(folder / "reviews.csv", [rows[i] for i in rng.permutation(len(rows))])
    rows = [(text, label) for label in (0, 1) for text in firsts[label]]
    # The small encoder was taught on the longer sentences, so the other two classes are training rows too.
    for label in (0, 1):
        rows += [(train.texts[i], 2 + label) for i in np.flatnonzero(train.labels == label)[:SENTENCES_PER_CLASS]]
    write(folder / "four.csv", [rows[i] for i in rng.permutation(len(rows))])


def write(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    table = pd.DataFrame([(text, int(label)) for text, label in rows], columns=["text", "label"])
    table.to_csv(path, index=False, lineterminator="\n")


def make_models(folder: Path) -> None:
    folder.mkdir(parents=True)
    unneeded = shutil.ignore_patterns(".*", "__pycache__", "README.md", "data_config.json")
    shutil.copytree(embedded_encoder_folder(), folder / "minilm", ignore=unneeded)
    taught = longer_sentences()
    small = folder / "small-bert"
    torch.manual_seed(0)
    save_small_encoder(small, taught.texts, taught.labels)
    for kind in ("distilbert", "bert"):
        save_random_encoder(kind, small, folder / f"tiny-{kind}")
    make_roberta(folder / "tiny-roberta", taught)


def make_roberta(folder: Path, taught: Split) -> None:
    """Random weights, and a byte-level vocabulary of its own."""
    folder.mkdir()
    vocabulary = ByteLevelBPETokenizer(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary.train_from_iterator(
        list(taught.texts), vocab_size=5000, min_frequency=2, special_tokens=special, show_progress=False
    )
    vocabulary.save_model(str(folder))
    tokenizer = RobertaTokenizer.from_pretrained(folder, model_max_length=512)
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(7)
    RobertaModel(config).save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    make_data(Path(sys.argv[1]) / "data")
    make_models(Path(sys.argv[1]) / "models")
