"""What every test gets: no hub, a cache of its own session, PyTorch left as it was found."""

import os
from collections.abc import Iterator
from pathlib import Path

# `huggingface_hub` reads this once, when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# Fork-shy and of no use to texts this short; the tests with two processes would warn.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from tiny_models import save_tiny_model

THREADS = 2


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that all tests of a session share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def isolated(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tenor's cache in the session's own folder, no hub, and two threads and the same random state afterwards."""
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
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a RoBERTa."""
    return save_tiny_model("roberta", tmp_path_factory.mktemp("models") / "tiny-roberta")
