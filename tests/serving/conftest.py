"""A served classifier, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from classifiers import save_classifier
from served import Running, running, served_by
from tenor.inference.predictor import Predictor


@pytest.fixture(scope="session")
def served_folder(tiny_distilbert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with random weights that reads 64 tokens."""
    return save_classifier(tiny_distilbert, tmp_path_factory.mktemp("served") / "tiny", length=64)


@pytest.fixture(scope="session")
def predictor(served_folder: Path) -> Predictor:
    return Predictor.load(served_folder, engine="torch", device="cpu", threads=2)


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[Running]:
    with running(served_by(predictor)) as server:
        yield server
