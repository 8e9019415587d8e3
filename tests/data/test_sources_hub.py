"""Hub datasets, shown on local folders: never the network."""

import socket
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import read_source
from tenor.errors import UserError
from tenor.runs.missing import Missing

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def dataset_folder(path: Path, class_label: bool = True, **splits: dict[str, list[object]]) -> Path:
    path.mkdir()
    for name, columns in splits.items():
        table = pa.table(columns)
        if class_label:
            features = datasets.Features.from_arrow_schema(table.schema)
            features["label"] = datasets.ClassLabel(names=["neg", "pos"])
            table = datasets.Dataset.from_dict(columns, features=features).data.table
        pq.write_table(table, path / f"{name}-00000-of-00001.parquet")
    return path


def splits(source: SourceData) -> tuple[LabelledText, LabelledText]:
    assert isinstance(source.train, LabelledText)
    assert isinstance(source.test, LabelledText)
    return source.train, source.test


ROWS: dict[str, list[object]] = {"text": ["a", "b", "c"], "label": [1, 0, 1], "film": ["x", "y", "x"]}


def test_a_class_label_names_the_classes(tmp_path: Path) -> None:
    path = dataset_folder(tmp_path / "set", train=ROWS, test={"text": ["d"], "label": [1], "film": ["z"]})
    train, test = splits(read_source(Data(source="hub", hub_name=str(path), group_column="film")))
    assert train.class_names == test.class_names == ("neg", "pos")
    assert (list(train.texts), train.labels.tolist(), train.ids) == (["a", "b", "c"], [1, 0, 1], ["1", "2", "3"])
    assert train.groups is not None
    assert train.groups.tolist() == ["x", "y", "x"]
    assert test.labels.tolist() == [1]
    assert datasets.config.HF_HUB_OFFLINE is datasets.config.HF_DATASETS_OFFLINE


def test_class_names_rename_or_reorder_a_class_label(tmp_path: Path) -> None:
    path = dataset_folder(tmp_path / "set", train=ROWS, test=ROWS)
    renamed = splits(read_source(Data(source="hub", hub_name=str(path), class_names=("bad", "good"))))
    reordered = splits(read_source(Data(source="hub", hub_name=str(path), class_names=("pos", "neg"))))
    for split in (0, 1):
        assert renamed[split].labels.tolist() == [1, 0, 1]
        assert renamed[split].class_names == ("bad", "good")
        assert reordered[split].labels.tolist() == [0, 1, 0]


def test_plain_labels_are_read_as_those_of_a_file(tmp_path: Path) -> None:
    path = dataset_folder(tmp_path / "set", False, train={"text": ["a", "b"], "label": ["y", "x"]})
    source = read_source(Data(source="hub", hub_name=str(path), test_split=None))
    assert isinstance(source.train, LabelledText)
    assert source.train.class_names == ("x", "y")
    assert source.test == Missing("data.test_split is null")


@pytest.mark.parametrize("class_label", [True, False])
def test_an_unlabelled_split_is_refused_by_name(tmp_path: Path, class_label: bool) -> None:
    hidden: dict[str, list[object]] = {"text": ["d", "e"], "label": [-1, -1]}
    shown: dict[str, list[object]] = {"text": ["a", "b"], "label": [0, 1]}
    path = dataset_folder(tmp_path / "set", class_label, train=shown, test=hidden)
    with pytest.raises(UserError, match=r"split test: 2 of 2 rows have the label -1.*data\.test_split.*null"):
        read_source(Data(source="hub", hub_name=str(path)))


def test_sst2_is_tested_on_its_validation_split(tmp_path: Path) -> None:
    rows: dict[str, list[object]] = {"sentence": ["a", "b"], "label": [0, 1]}
    hidden: dict[str, list[object]] = {"sentence": ["hidden"], "label": [-1]}
    path = dataset_folder(tmp_path / "sst2", train=rows, validation={"sentence": ["v"], "label": [1]}, test=hidden)
    train, test = splits(read_source(Data(source="sst2", hub_name=str(path))))
    assert list(train.texts) == ["a", "b"]
    assert list(test.texts) == ["v"]


def test_a_missing_split_or_column_names_what_is_there(tmp_path: Path) -> None:
    path = str(dataset_folder(tmp_path / "set", train=ROWS, validation=ROWS))
    with pytest.raises(UserError, match=r"no split 'test'.*Available splits: train, validation.*data\.test_split"):
        read_source(Data(source="hub", hub_name=path))
    with pytest.raises(UserError, match=r"no column 'txt' \(did you mean 'text'\?\)"):
        read_source(Data(source="hub", hub_name=path, test_split="validation", text_column="txt"))


def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match=r"could not be loaded: (.|\n)*data\.source=embedded"):
        read_source(Data(source="hub", hub_name=str(tmp_path / "set")))


def test_an_unreachable_hub_names_the_dataset_and_the_ways_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for data in (Data(source="hub", hub_name="someone/reviews"), Data(source="sst2")):
        name = data.hub_name or "stanfordnlp/sst2"
        with pytest.raises(UserError, match=rf"'{name}' could not be loaded(.|\n)*data\.source=imdb data\.path="):
            read_source(data)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'tenor\[hub\]'"):
        read_source(Data(source="hub", hub_name="someone/reviews"))
