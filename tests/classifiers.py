"""Classifiers with a random head, as folders: anyone's model."""

from pathlib import Path

from tenor.config.schema import Model
from tenor.model.classifier import load_classifier


def save_classifier(encoder: Path, folder: Path, length: int = 512) -> Path:
    """Give an encoder a random head and save both with the tokenizer, as anyone's model."""
    classifier = load_classifier(Model(name=str(encoder)), ("negative", "positive"), 3, "cpu")
    classifier.tokenizer.model_max_length = length
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder
