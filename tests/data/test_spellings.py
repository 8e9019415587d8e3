"""Spellings of labels: case, blanks and Unicode's forms make no new classes, and whoever reads the rows is told."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.embedded import embedded_reviews
from tenor.data.sources.labels import from_dataframe, read_table
from tenor.data.sources.spellings import folded, near_note, tidied
from tenor.errors import UserError

pandas = pytest.importorskip("pandas")

SPELLINGS = [
    "positive",
    "Positive",
    "POSITIVE",
    "positive ",
    " positive",
    "positive\u00a0",
    "\u2003positive",
    "positive\t",
]
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", "data frame")


def read(folder: Path, labels: list[object], kind: str = ".parquet", **options: object) -> LabelledText:
    """Rows with these labels, written in a format and read from it."""
    frame = pandas.DataFrame({"text": [f"film {n}" for n in range(len(labels))], "label": labels})
    path = folder / f"rows{kind}"
    match kind:
        case "data frame":
            return from_dataframe(frame, **options)  # type: ignore[arg-type]
        case ".csv" | ".tsv":
            frame.to_csv(path, index=False, sep="," if kind == ".csv" else "\t")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
        case ".parquet":
            pq.write_table(pa.table({"text": frame["text"].tolist(), "label": labels}), path)
    return read_table(path, **options)  # type: ignore[arg-type]


def refusal(folder: Path, labels: list[object], **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, labels, **options)  # type: ignore[arg-type]
    return str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_every_spelling_of_a_name_is_folded_alike(name: str) -> None:
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    spellings = [*forms, f" {name}\u00a0", name.casefold(), f"\u2003{name}\n"]
    assert len({folded(one) for one in spellings}) == 1
    assert tidied(tidied(name)) == tidied(name)
    assert folded(folded(name)) == folded(name)


@pytest.mark.parametrize("kind", FORMATS)
def test_spellings_are_one_class_in_every_format(kind: str, tmp_path: Path) -> None:
    labels: list[object] = [*SPELLINGS, "positive", "positive", *["negative"] * 5, "NEGATIVE"]
    rows = read(tmp_path, labels, kind)
    assert rows.class_names == ("negative", "positive")
    assert rows.labels.tolist() == [1] * 10 + [0] * 6
    (note,) = rows.notes
    assert "'positive' is written 'positive' (3 rows), " in note
    for spelling in SPELLINGS[1:]:
        assert f"{spelling!r} (1 row)" in note or "more" in note
    assert "'negative' is written 'negative' (5 rows), 'NEGATIVE' (1 row)" in note
    assert "column 'label'" in note


def test_the_most_frequent_spelling_names_the_class_and_the_first_of_equals(tmp_path: Path) -> None:
    assert read(tmp_path, ["Good", "good", "good", "bad"]).class_names == ("bad", "good")
    assert read(tmp_path, ["Good", "good", "bad"]).class_names == ("Good", "bad")
    assert read(tmp_path, ["good", "Good", "bad"]).class_names == ("bad", "good")
    rows = read(tmp_path, ["so  so ", "so so", "so  so ", "fine"])
    assert rows.class_names == ("fine", "so so"), "needless blanks make no name"
    assert "'so so' is written 'so  so ' (2 rows), 'so so' (1 row)" in rows.notes[0]
    assert read(tmp_path, ["cafe\u0301", "caf\u00e9", "bar"]).class_names == ("bar", "caf\u00e9")


def test_what_is_spelled_alike_has_no_note_and_its_names_as_before(tmp_path: Path) -> None:
    for labels in (["b", "a", "B-1"], [1, 0], ["Positive", "negative"], ["star 1", "star 2"], ["True", "False"]):
        rows = read(tmp_path, labels)
        assert rows.class_names == tuple(sorted(map(str, labels)))
        assert rows.notes == ()


def test_given_names_are_the_names_and_labels_are_matched_to_them(tmp_path: Path) -> None:
    names = ("Positive", "Negative")
    rows = read(tmp_path, ["positive", "NEGATIVE ", "Negative"], class_names=names)
    assert (rows.class_names, rows.labels.tolist()) == (names, [0, 1, 1])
    assert "'Negative' is written 'NEGATIVE ' (1 row), 'Negative' (1 row)" in rows.notes[0]
    found = refusal(tmp_path, ["positive", "negativ"], class_names=names)
    assert "label is 'negativ', expected one of Positive, Negative (did you mean 'Negative'?)" in found


def test_given_names_that_differ_in_case_are_two_classes_and_in_blanks_an_error(tmp_path: Path) -> None:
    assert read(tmp_path, ["US", "us", "us "], class_names=("US", "us")).labels.tolist() == [0, 1, 1]
    found = refusal(tmp_path, ["US", "us", "Us"], class_names=("US", "us"))
    assert "label is 'Us', which matches several class names except for case: US, us" in found
    notes = read(tmp_path, ["US", "us", "uk"]).notes
    assert "Spellings that data.class_names lists separately stay separate classes" in notes[0]
    for names in (("us", "us "), ("caf\u00e9", "cafe\u0301"), ("so so", "so  so")):
        assert "which are one class" in refusal(tmp_path, ["x"], class_names=names)


@pytest.mark.parametrize("kind", FORMATS)
def test_truth_values_are_the_same_classes_in_every_format(kind: str, tmp_path: Path) -> None:
    rows = read(tmp_path, [True, False, True], kind)
    assert rows.class_names == ("False", "True")
    assert rows.labels.tolist() == [1, 0, 1]
    assert read(tmp_path, [True, False, True], kind, class_names=("false", "true")).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_decimal_without_a_fraction_is_the_integer(kind: str, tmp_path: Path) -> None:
    assert read(tmp_path, [1.0, 0.0, 1.0], kind).class_names == ("0", "1")
    stars = ("1", "2", "3", "4", "5")
    assert read(tmp_path, [5.0, 1.0, 3.0], kind, class_names=stars).labels.tolist() == [4, 0, 2]
    named = read(tmp_path, [1.0, 0.0], kind, class_names=("bad", "good"))
    assert named.labels.tolist() == [1, 0]
    found = refusal(tmp_path, [1.0, 5.0], kind=kind)
    assert "all 2 labels in column 'label' are 1 (1 row), 5 (1 row), expected" in found
    assert 'data.class_names=["1", "5"]' in found
    refusal(tmp_path, [1.5, 5.0], kind=kind)


def test_other_decimals_are_names_where_they_are_given_as_such(tmp_path: Path) -> None:
    versions = read(tmp_path, ["1.0", "1.5", "2.0"], class_names=("1.0", "1.5", "2.0"))
    assert versions.labels.tolist() == [0, 1, 2]
    assert read(tmp_path, ["1.0", "beta"]).class_names == ("1.0", "beta")


def test_a_label_of_blanks_of_any_kind_is_missing(tmp_path: Path) -> None:
    assert "row 2: label is missing" in refusal(tmp_path, ["x", "\u2003\u00a0", "y"])


def test_the_test_file_is_matched_to_the_classes_of_the_training_file(tmp_path: Path) -> None:
    for name, labels in (("train", ["good", "bad", "good"]), ("test", ["GOOD", "Bad ", "bad"])):
        pandas.DataFrame({"text": list("abc"), "label": labels}).to_csv(tmp_path / f"{name}.csv", index=False)
    paths = {"path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    source = read_source(Data(source="file", **paths))
    assert isinstance(source.test, LabelledText)
    assert source.test.labels.tolist() == [1, 0, 0]
    assert "'good' is written 'GOOD' (1 row)" in source.test.notes[0]


def test_a_source_that_names_its_classes_is_matched_regardless_of_case() -> None:
    own = embedded_reviews().test
    swapped = embedded_reviews(Data(class_names=("Positive", "Negative"))).test
    assert isinstance(own, LabelledText)
    assert isinstance(swapped, LabelledText)
    assert swapped.class_names == ("Positive", "Negative")
    assert swapped.labels.tolist() == (1 - own.labels).tolist()
    same = embedded_reviews(Data(class_names=("Negative", "Positive"))).test
    assert isinstance(same, LabelledText)
    assert same.labels.tolist() == own.labels.tolist()
    with pytest.raises(UserError, match="one of these names would be given to another class"):
        embedded_reviews(Data(class_names=("positive", "bad")))


def test_plain_labels_of_a_hub_dataset_are_merged_too(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    for split, labels in (("train", ["good", "Good", "bad"]), ("test", ["BAD", "good", "good"])):
        table = pa.table({"text": list("abc"), "label": labels})
        pq.write_table(table, tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    source = read_source(Data(source="hub", hub_name=str(tmp_path / "set")))
    assert isinstance(source.train, LabelledText)
    assert isinstance(source.test, LabelledText)
    assert source.train.class_names == source.test.class_names == ("bad", "good")
    assert source.test.labels.tolist() == [0, 1, 1]


def counted(**rows: int) -> Counter[str]:
    return Counter(rows)


def test_names_that_are_nearly_the_same_are_asked_about_and_stay_two(tmp_path: Path) -> None:
    rows = read(tmp_path, [*["neutral"] * 9, "neautral", "positive"])
    assert rows.class_names == ("neautral", "neutral", "positive")
    assert "'neautral' (1 row) and 'neutral' (9 rows)" in rows.notes[0]
    scanned = read(tmp_path, [*["neutral"] * 9, "neutra1", "p0sitive", *["positive"] * 9])
    assert """'data.relabel={"neutra1": "neutral", "p0sitive": "positive"}'""" in scanned.notes[0]
    assert not read(tmp_path, ["label1", "label2", "grade5", "grade4"]).notes
    names = ("neautral", "neutral", "positive")
    assert read(tmp_path, ["neutral", "neautral", "positive"], class_names=names).notes == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [("very negative", "very_negative"), ("positve", "positive"), ("netural", "neutral"), ("positive", "positive.")],
)
def test_near_names(one: str, other: str) -> None:
    assert near_note(counted(**{one: 3, other: 20})) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("positive", "negative"),
        ("like", "love"),
        ("hate", "rate"),
        ("star1", "star2"),
        ("class a", "class b"),
        ("level I", "level II"),
        ("typical", "atypical"),
        ("very positive", "positive"),
        ("ham", "spam"),
        ("toxic", "severe toxic"),
        ("🙂", "🙁"),
        ("1", "-1"),
        ("1.5", "15"),
        ("3-4", "34"),
    ],
)
def test_names_of_their_own(one: str, other: str) -> None:
    assert near_note(counted(**{one: 3, other: 20})) is None


@pytest.mark.parametrize(
    "counts",
    [
        {"Negative": 33, "neg": 25, "pos": 7, "positive": 43},
        {"pos": 20, "positive": 3, "negative": 9},
        {"neutral": 5, "neu": 5, "positive": 5},
        {"p": 3, "positive": 9, "n": 4, "negative": 9},
        {"sci": 9, "science": 9, "pol": 9, "politics": 9, "sport": 9},
        {"Pos.": 2, "Positive": 9, "mixed": 4},
    ],
)
def test_abbreviated_names_are_asked_about_with_a_setting_that_merges_them(
    counts: dict[str, int], tmp_path: Path
) -> None:
    labels: list[object] = [label for label, count in counts.items() for _ in range(count)]
    note = read(tmp_path, labels).notes[-1]
    assert "nearly the same" in note
    relabel = json.loads(note.partition("'data.relabel=")[2].partition("'")[0])
    merged = read(tmp_path, labels, relabel=relabel)
    assert len(merged.class_names) == len(counts) - len(relabel) < len(counts)
    assert not any("nearly the same" in one for one in merged.notes)


@pytest.mark.parametrize(
    "names",
    [
        ("neutral", "neutral_positive", "neutral_negative", "positive"),
        ("n", "negative", "neutral", "positive"),
        ("low", "lower", "high", "higher"),
        ("joy", "joyful", "fear", "fearful"),
        ("art", "article", "news"),
        ("bee", "beetle", "sea", "seal", "seafood", "man", "manatee", "wolf", "cat", "dog", "rose", "tank"),
        ("positive", "positively"),
        ("1", "12", "123"),
    ],
)
def test_names_that_begin_alike_are_names_of_their_own(names: tuple[str, ...]) -> None:
    assert near_note(Counter(dict.fromkeys(names, 50))) is None


# Labels of other programs.


@pytest.mark.parametrize("kind", FORMATS)
def test_several_labels_per_row_are_refused_as_such(kind: str, tmp_path: Path) -> None:
    lists: list[object] = [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    for labels in (lists, [str(one) for one in lists], ["['joy', 'anger']", "['joy']", "neutral"]):
        for names in (None, ("joy", "anger")):
            found = refusal(tmp_path, labels, kind=kind, class_names=names)
            assert "Several labels per row (multi-label classification) are not supported" in found
    assert read(tmp_path, ["[unknown]", "good", "bad"], kind).class_names == ("[unknown]", "bad", "good")


def prodigy(path: Path, answers: list[str], **keys: object) -> Path:
    rows = [
        {"text": f"film {n}", "label": ["good", "bad"][n % 2], "answer": answer, **keys}
        for n, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_only_accepted_answers_of_prodigy_are_read(tmp_path: Path) -> None:
    answers = ["accept", "reject", "ignore", "accept", "reject"]
    rows = read_table(prodigy(tmp_path / "a.jsonl", answers, _task_hash=3))
    assert list(rows.texts) == ["film 0", "film 3"]
    assert rows.ids == ["1", "4"], "the row numbers are the file's own"
    assert "2 rows: Prodigy's answer 'reject' (Prodigy), 1 row: Prodigy's answer 'ignore' (Prodigy)" in rows.notes[0]
    assert read_table(prodigy(tmp_path / "b.jsonl", ["accept"] * 4, _input_hash=3)).notes == ()
    others = read_table(prodigy(tmp_path / "c.jsonl", answers))
    assert (len(others), others.notes) == (5, ()), "an answer alone may mean anything"
    answered = read_table(prodigy(tmp_path / "d.jsonl", answers, _task_hash=3), label_column="answer")
    assert answered.class_names == ("accept", "ignore", "reject")
    with pytest.raises(UserError, match="no rows"):
        read_table(prodigy(tmp_path / "e.jsonl", ["reject"], _task_hash=3))


def test_a_fault_of_a_prodigy_record_names_its_own_line(tmp_path: Path) -> None:
    path = prodigy(tmp_path / "a.jsonl", ["reject", "accept", "reject", "accept"], _task_hash=3)
    path.write_text(path.read_text().replace('"film 3"', "null"))
    with pytest.raises(UserError, match=r"line 4 \(row 4\): text is missing"):
        read_table(path)
