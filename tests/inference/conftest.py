"""Classifiers with a head, as folders."""

from pathlib import Path

import pytest

from classifiers import save_classifier
from tenor.inference.predictor import Predictor


@pytest.fixture(scope="session")
def small_classifier(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows a few hundred words and reads 16 tokens."""
    return save_classifier(small_model, tmp_path_factory.mktemp("classifiers") / "small", length=16)


@pytest.fixture(scope="session")
def tiny_classifier(tiny_distilbert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows the embedded encoder's vocabulary and reads 512 tokens."""
    return save_classifier(tiny_distilbert, tmp_path_factory.mktemp("classifiers") / "tiny")


@pytest.fixture(scope="session")
def small_predictor(small_classifier: Path) -> Predictor:
    return Predictor.load(small_classifier, engine="torch", device="cpu", threads=1)


@pytest.fixture(scope="session")
def tiny_predictor(tiny_classifier: Path) -> Predictor:
    return Predictor.load(tiny_classifier, engine="torch", device="cpu", threads=1)
