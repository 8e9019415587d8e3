"""What every test gets: no hub, a cache of this session, and PyTorch's settings restored afterwards."""

import os
from collections.abc import Iterator
from pathlib import Path

# `huggingface_hub` reads this once, when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# Fork-shy and of no use to texts this short; the tests with two processes would warn.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models and matrices are tiny: more threads only wait for one another. Read when NumPy and PyTorch are imported, here
# and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from small_models import save_small_model
from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tiny_models import KINDS, save_tiny_model

THREADS = 1
"""Tests run in a process for each core; a test that needs more threads sets them."""

settings.register_profile("tenor", deadline=None, max_examples=50)  # No test fails because the machine is busy.
settings.load_profile("tenor")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that all tests of a session share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def isolated(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tenor's cache in the session's own folder, no hub, and one thread and the same random state afterwards."""
    monkeypatch.setenv("TENOR_CACHE", str(session_cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(THREADS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(THREADS)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer DistilBERT, 32 wide, with random weights and without a head."""
    return save_tiny_model("distilbert", tmp_path_factory.mktemp("models") / "tiny-distilbert")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a BERT, with a pooler."""
    return save_tiny_model("bert", tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a DistilBERT that knows a few hundred words: quicker to load and to keep than the tiny ones."""
    return save_small_model("distilbert", tmp_path_factory.mktemp("models") / "small-distilbert")


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a BERT."""
    return save_small_model("bert", tmp_path_factory.mktemp("models") / "small-bert")


@pytest.fixture(scope="session")
def small_masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as small, whose tokenizer has a mask token."""
    return save_small_model("bert", tmp_path_factory.mktemp("models") / "small-masked", masks=True)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tiny_distilbert: Path, tiny_bert: Path) -> dict[str, Path]:
    """Folders of tiny encoders, by kind."""
    made = {"distilbert": tiny_distilbert, "bert": tiny_bert}
    others = tmp_path_factory.mktemp("models")
    return made | {kind: save_tiny_model(kind, others / f"tiny-{kind}") for kind in KINDS if kind not in made}


@pytest.fixture(scope="session")
def real_reviews() -> LabelledText:
    """24 of the embedded reviews, half of each class, from a few words to many hundreds."""
    rows = read_source(Data()).train
    assert isinstance(rows, LabelledText)
    by_length = np.argsort([len(text) for text in rows.texts], kind="stable")
    return rows.select(
        np.concatenate([of_class[:: len(of_class) // 11][:12] for of_class in _by_class(rows.labels, by_length)])
    )


def _by_class(labels: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    return [order[labels[order] == label] for label in (0, 1)]
