"""Splits are disjoint, complete and reproducible, and a stratified part holds every class."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from tenor.config.schema import Data, Subset, ValidationSplit
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import read_source
from tenor.data.splits import Splits, limit_test, make_splits, split_rows, stratified_rows, subset_rows
from tenor.errors import UserError
from tenor.runs.missing import Missing
from tiny_rows import labelled

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "imdb"

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 250) | st.floats(0.001, 0.999)
class_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(lambda counts: sum(counts) >= 2)


@st.composite
def rows_with_labels(draw: st.DrawFn) -> LabelledText:
    counts = draw(class_sizes)
    labels = draw(st.permutations(np.repeat(np.arange(len(counts)), counts).tolist()))
    groups = draw(st.lists(st.sampled_from("abcdefg"), min_size=len(labels), max_size=len(labels)))
    return labelled(["x"] * len(labels), labels, tuple(f"class {k}" for k in range(len(counts))), groups)


def expected_refusal(rows: LabelledText, validation: ValidationSplit) -> bool:
    """Whether what is asked for is not there, told from the counts alone."""
    n, size = len(rows), validation.size
    share_rounds = np.ceil if validation.strategy == "random" else round
    count = size if isinstance(size, int) else max(1, int(share_rounds(size * n)))
    if count >= n:
        return True
    match validation.strategy:
        case "stratified":
            return count > np.maximum(rows.label_counts() - 1, 0).sum()
        case "group":
            return len(set(rows.groups)) == 1
    return False


@given(rows_with_labels(), sizes, st.sampled_from(["stratified", "random"]), seeds)
def test_a_split_is_disjoint_complete_and_reproducible(
    rows: LabelledText, size: float | int, strategy: str, seed: int
) -> None:
    validation = ValidationSplit(size=size, strategy=strategy)
    if expected_refusal(rows, validation):
        with pytest.raises(UserError):
            split_rows(rows, validation, seed)
        return
    train, held_out = split_rows(rows, validation, seed)
    assert len(train) > 0
    assert len(held_out) > 0
    assert sorted([*train, *held_out]) == list(range(len(rows)))
    assert len(held_out) == size or isinstance(size, float)
    again = split_rows(rows, validation, seed)
    assert (again[0].tolist(), again[1].tolist()) == (train.tolist(), held_out.tolist())


@given(rows_with_labels(), sizes, seeds)
def test_a_stratified_split_uses_no_class_up_and_keeps_the_order(
    rows: LabelledText, size: float | int, seed: int
) -> None:
    validation = ValidationSplit(size=size, strategy="stratified")
    if expected_refusal(rows, validation):
        return
    train, held_out = split_rows(rows, validation, seed)
    counts = rows.label_counts()
    assert set(rows.labels[train]) == set(rows.labels)
    if len(held_out) >= np.count_nonzero(counts > 1):
        assert set(rows.labels[held_out]) == set(np.flatnonzero(counts > 1))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()


@given(rows_with_labels(), sizes, seeds)
def test_no_group_stands_on_both_sides(rows: LabelledText, size: float | int, seed: int) -> None:
    validation = ValidationSplit(size=size, strategy="group")
    try:
        train, held_out = split_rows(rows, validation, seed)
    except UserError:
        wanted = size if isinstance(size, int) else max(1, round(size * len(rows)))
        largest = max(np.unique(rows.groups, return_counts=True)[1])
        assert wanted > len(rows) - largest  # Only then can the groups drawn before the last hold too few.
        return
    assert not expected_refusal(rows, validation)
    assert not set(rows.groups[train]) & set(rows.groups[held_out])
    assert sorted([*train, *held_out]) == list(range(len(rows)))
    assert len(held_out) >= (size if isinstance(size, int) else size * len(rows) - 0.5)
    np.testing.assert_array_equal(split_rows(rows, validation, seed)[1], held_out)


@given(st.integers(2, 400), st.floats(0.001, 0.999), seeds)
def test_random_is_scikit_learns_own_split(n: int, share: float, seed: int) -> None:
    rows = labelled(["x"] * n, [0] * n)
    if expected_refusal(rows, ValidationSplit(size=share, strategy="random")):
        return
    theirs = train_test_split(np.arange(n), test_size=share, random_state=seed)
    ours = split_rows(rows, ValidationSplit(size=share, strategy="random"), seed)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def sorted_labels(*counts: int) -> LabelledText:
    labels = np.repeat(np.arange(len(counts)), counts).tolist()
    return labelled(["x"] * len(labels), labels, tuple("abcdefg"[: len(counts)]))


def test_random_reproduces_the_splits_of_the_case() -> None:
    official = sorted_labels(12_500, 12_500)
    _, held_out = split_rows(official, ValidationSplit(size=0.1, strategy="random"), 42)
    assert np.bincount(official.labels[held_out]).tolist() == [1298, 1202]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.data(), seeds)
def test_of_a_label_sorted_set_a_stratified_subset_holds_every_class_and_a_head_one(
    counts: list[int], data: st.DataObject, seed: int
) -> None:
    labels = sorted_labels(*counts).labels
    size = data.draw(st.integers(len(counts), len(labels)))
    stratified = subset_rows(labels, Subset(size=size, strategy="stratified"), seed)
    assert set(labels[stratified]) == set(range(len(counts)))
    head_size = data.draw(st.integers(1, counts[0]))
    head = subset_rows(labels, Subset(size=head_size, strategy="head"), seed)
    assert set(labels[head]) == {0}
    for rows, wanted in ((stratified, size), (head, head_size)):
        assert len(set(rows.tolist())) == len(rows) == wanted
        assert (np.diff(rows) > 0).all()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.data(), seeds)
def test_stratified_rows_keep_the_proportions_to_one_row(counts: list[int], data: st.DataObject, seed: int) -> None:
    labels = sorted_labels(*counts).labels
    size = data.draw(st.integers(1, len(labels)))
    exact = np.array(counts) * size / len(labels)
    taken = np.bincount(labels[stratified_rows(labels, size, seed)], minlength=len(counts))
    assert taken.sum() == size
    assert (taken <= counts).all()
    if (exact >= 1).all():
        assert (abs(taken - exact) < 1 + 1e-9).all()


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_another_seed_draws_other_rows(strategy: str) -> None:
    rows = sorted_labels(200, 200)
    validation, subset = ValidationSplit(size=50, strategy=strategy), Subset(size=50, strategy=strategy)
    assert set(split_rows(rows, validation, 1)[1]) != set(split_rows(rows, validation, 2)[1])
    assert set(subset_rows(rows.labels, subset, 1)) != set(subset_rows(rows.labels, subset, 2))


def test_a_random_subset_draws_from_the_whole_set() -> None:
    rows = subset_rows(sorted_labels(500, 500).labels, Subset(size=200, strategy="random"), 3)
    assert len(set(rows.tolist())) == 200
    assert rows.min() < 100
    assert rows.max() >= 900


def numbered(prefix: str, labels: list[int]) -> LabelledText:
    return labelled([f"{prefix} {number}" for number in range(len(labels))], labels)


def make(rows: SourceData, seed: int = 42, **data: object) -> Splits:
    return make_splits(rows, Data.model_validate(data), seed)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1), st.data())
def test_the_three_splits_share_no_row(negatives: int, positives: int, seed: int, data: st.DataObject) -> None:
    labels = [0] * negatives + [1] * positives
    size = data.draw(st.integers(1, len(labels) - 2))
    subset = data.draw(st.none() | st.integers(1, len(labels) - size))
    source = SourceData(numbered("train", labels), numbered("test", labels))
    settings = {"validation": {"size": size}, "subset": {"size": subset}, "test_size": len(labels) // 2}
    splits = make(source, seed, **settings)
    assert isinstance(splits.test, LabelledText)
    train, validation, test = (set(part.texts) for part in (splits.train, splits.validation, splits.test))
    assert not train & validation
    assert not (train | validation) & test
    assert len(validation) == size
    assert len(train) == (len(labels) - size if subset is None else subset)
    assert splits.source_labels.tolist() == labels
    assert list(splits.train.texts) == [f"train {position}" for position in splits.train_positions]
    again = make(source, seed, **settings)
    assert splits.train.ids == again.train.ids
    assert splits.validation.ids == again.validation.ids


def test_the_test_rows_are_the_same_for_every_seed() -> None:
    test = numbered("test", [0] * 100 + [1] * 50)
    source = SourceData(numbered("train", [0, 1] * 20), test)
    first, second = (make(source, seed, test_size=30).test for seed in (1, 2))
    assert isinstance(first, LabelledText)
    assert isinstance(second, LabelledText)
    assert list(first.texts) == list(second.texts)
    assert first.label_counts().tolist() == [20, 10]
    assert limit_test(test, None) is test
    absent = Missing("none here")
    assert limit_test(absent, 5) is absent


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"validation": {"size": 40}}, "data.validation.size"),
        ({"subset": {"size": 37}}, "data.subset.size"),
        ({"test_size": 41}, "data.test_size"),
        ({"source": "given", "validation": {"strategy": "group"}, "group_column": "movie"}, "group"),
    ],
)
def test_more_than_there_is_is_refused_by_name(data: dict[str, object], named: str) -> None:
    source = SourceData(numbered("train", [0, 1] * 20), numbered("test", [0, 1] * 20))
    with pytest.raises(UserError, match=named):
        make(source, **data)


def test_a_source_without_training_rows_is_refused_with_its_reason() -> None:
    with pytest.raises(UserError, match="for evaluation only"):
        make(SourceData(Missing("for evaluation only"), Missing("no")), source="rotten_tomatoes")


@pytest.mark.skipif(not REAL.is_dir(), reason="the official IMDb files are not beside the checkout")
def test_no_movie_of_the_official_reviews_stands_on_both_sides() -> None:
    source = read_source(Data(source="imdb", path=str(REAL), group_column="movie"))
    data = Data(source="imdb", path=str(REAL), group_column="movie", validation=ValidationSplit(strategy="group"))
    splits = make_splits(source, data, 42)
    assert splits.train.groups is not None
    assert splits.validation.groups is not None
    assert not set(splits.train.groups) & set(splits.validation.groups)
    assert len(splits.train) + len(splits.validation) == 25_000
    assert 2500 <= len(splits.validation) < 2600
    random = make_splits(source, data.model_copy(update={"validation": ValidationSplit(strategy="random")}), 42)
    assert random.validation.label_counts().tolist() == [1298, 1202]
    assert set(random.train.groups) & set(random.validation.groups)  # What the grouped split is there to prevent.
