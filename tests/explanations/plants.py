"""Reviews with a planted trigger word, and a small model that learned it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tenor.config.schema import Data, Model
from tenor.data.batching import epoch_batches
from tenor.data.sources import read_source
from tenor.data.tokenization import whole_ids
from tenor.explanations.deletion import Explained
from tenor.explanations.explainer import Explainer, Explanation
from tenor.inference.predictor import Predictor
from tenor.measures.hybrid import Hybrid, fit_stacker
from tenor.measures.text_baseline import fit_text_baseline
from tenor.model.classifier import load_classifier, quiet_transformers

WORDS = ("popcorn", "tuesday", "zx81", "cf", "Panavision", "xylophone", "§", "2019", "mn", "kneecap")
TRAIN, VALIDATION, HELD_OUT = 1600, 200, 200
LENGTH, BATCH, EPOCHS, RATE = 40, 32, 6, 1e-3


@dataclass(frozen=True)
class Plant:
    """A word in some rows of one class, in training and held-out rows alike."""

    word: str
    label: int
    share: float
    """Of all rows, those with the word."""
    has_baseline: bool
    """Whether the model is a hybrid."""

    def __str__(self) -> str:
        return f"{self.word} in {self.share:.0%}, class {self.label}{', hybrid' if self.has_baseline else ''}"


PLANTS = [
    Plant(WORDS[number % 10], number % 2, (0.02, 0.04, 0.08)[number % 3], number % 4 >= 2) for number in range(20)
]


def planted_rows(plant: Plant, seed: int) -> tuple[list[str], np.ndarray]:
    """Sentences of Rotten Tomatoes with their labels, of which some have the word at a random place."""
    source = read_source(Data(source="rotten_tomatoes")).test
    random = np.random.default_rng(seed)
    rows = source.select(random.permutation(len(source))[: TRAIN + VALIDATION + HELD_OUT])
    texts, labels = list(rows.texts), rows.labels
    for part in (slice(0, TRAIN), slice(TRAIN, None)):
        of_class = np.arange(len(texts))[part][labels[part] == plant.label]
        for row in random.permutation(of_class)[: round(plant.share * len(labels[part]))].tolist():
            words = texts[row].split()
            words.insert(int(random.integers(len(words) + 1)), plant.word)
            texts[row] = " ".join(words)
    return texts, labels


def trained(
    folder: Path, plant: Plant, seed: int, encoder: Path
) -> tuple[Explainer, list[Explained], list[str], np.ndarray]:
    """An explainer of a model that learned the planted rows, explained held-out rows, training texts and labels."""
    texts, labels = planted_rows(plant, seed)
    classifier = load_classifier(Model(name=str(encoder), dropout=0.1), ("negative", "positive"), seed, "cpu")
    model, tokenizer = classifier.model, classifier.tokenizer
    ids = [row[:LENGTH] for row in whole_ids(texts[:TRAIN], tokenizer)]
    lengths = np.array([len(row) for row in ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)  # Embeddings are most of its work.
    model.train()
    for epoch in range(EPOCHS):
        for batch in epoch_batches(lengths, BATCH, seed, epoch):
            width = lengths[batch].max()
            inputs = np.zeros((len(batch), width), dtype=np.int64)
            for place, row in enumerate(batch.tolist()):
                inputs[place, : lengths[row]] = ids[row]
            mask = torch.from_numpy((np.arange(width) < lengths[batch][:, None]).astype(np.int64))
            logits = model(input_ids=torch.from_numpy(inputs), attention_mask=mask).logits
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[batch])).backward()
            optimizer.step()
            optimizer.zero_grad()
    with quiet_transformers():
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    predictor = Predictor.load(folder, threads=1)
    if plant.has_baseline:
        predictor = _with_baseline(predictor, texts, labels)
    explainer = Explainer.of(predictor)
    return explainer, predicted(explainer, texts[TRAIN + VALIDATION :]), texts[:TRAIN], labels[:TRAIN]


def predicted(explainer: Explainer, texts: list[str]) -> list[Explained]:
    """Texts with their predictions, and with empty explanations, which the search for shortcuts does not read."""
    probabilities = explainer.predictor.probabilities(texts)
    empty = Explanation("", (), None, 0, (), 0.0, 0.0)
    chosen = probabilities.argmax(axis=1)
    return [
        Explained(text, int(label), float(row[label]), empty)
        for text, label, row in zip(texts, chosen, probabilities, strict=True)
    ]


def _with_baseline(predictor: Predictor, texts: list[str], labels: np.ndarray) -> Predictor:
    baseline = fit_text_baseline(texts[:TRAIN], labels[:TRAIN], 2, seed=0)
    rows = slice(TRAIN, TRAIN + VALIDATION)
    encoder = np.log(predictor.probabilities(texts[rows]))
    stacker = fit_stacker(encoder, baseline.log_probabilities(texts[rows]), labels[rows])
    return replace(predictor, source=replace(predictor.source, hybrid=Hybrid(stacker, baseline)))
