"""A column of labels: what is read as a class, what is reported as another kind of column, and what to set."""

import csv
import json
import shlex
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.config import load_config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.labels import from_dataframe, read_table
from tenor.data.sources.rows import stored_class_names
from tenor.errors import UserError

pandas = pytest.importorskip("pandas")
POLAR = ("negative", "positive")


def table(folder: Path, labels: list[object], name: str = "rows.csv") -> Path:
    path = folder / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"film {n}", label) for n, label in enumerate(labels))])
    return path


def read(folder: Path, labels: list[object], *options: str) -> LabelledText:
    """The rows of a CSV file with these labels, read with settings as the command line takes them."""
    overrides = ["data.source=file", f"data.path={json.dumps(str(table(folder, labels)))}", *options]
    rows = read_source(load_config("demo", overrides).data).train
    assert isinstance(rows, LabelledText)
    return rows


def refusal(folder: Path, labels: list[object], *options: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, labels, *options)
    return str(caught.value)


def pasted(message: str, key: str) -> str:
    """The setting that a message prints, as a shell would pass it on."""
    return next(word for word in shlex.split(message.replace("(", " ")) if word.startswith(f"data.{key}=")).rstrip(".")


def names_of(rows: LabelledText) -> list[str]:
    return [rows.class_names[label] for label in rows.labels]


@pytest.mark.parametrize(
    "labels",
    [
        ["+1", "0", "1"],
        ["01", "00", "1"],
        ["1", "-0", "1.0"],
        ["1e0", "0.000e+00", "1."],
        ["１", "0", "1\u200b"],
        ["tensor(1)", "tensor(0)", "np.int64(1)"],
        ["['1']", "[0]", "(1,)"],
    ],
)
def test_one_number_in_any_notation_is_one_class(labels: list[object], tmp_path: Path) -> None:
    rows = read(tmp_path, labels)
    assert (rows.class_names, rows.labels.tolist()) == (("0", "1"), [1, 0, 1])


def test_invisible_characters_make_no_class(tmp_path: Path) -> None:
    rows = read(tmp_path, ["positive", "posi\u00adtive", "\ufeffpositive", "positive\u200b\u200e", "negative"])
    assert names_of(rows) == ["positive"] * 4 + ["negative"]
    assert "'positive\\u200b\\u200e' (1 row)" in rows.notes[0]
    family, man = "👨\u200d👩\u200d👧", "👨"
    assert set(read(tmp_path, [family, man, family, man]).class_names) == {family, man}, "joiners are part of emoji"


def scalars() -> dict[str, list[object]]:
    torch = pytest.importorskip("torch")
    return {
        "numpy": [np.int8(1), np.float32(0), np.bool_(True)][:2],
        "booleans": [np.True_, np.False_],
        "tensors": [torch.tensor(1), torch.tensor(0.0)],
        "vectors of one": [torch.tensor([1]), np.array([0])],
        "arrow": [pa.scalar(1), pa.scalar(0)],
        "decimals": [Decimal("1"), Decimal("0.0")],
        "bytes": [b"1", b"0"],
    }


def test_scalars_of_every_library_are_labels() -> None:
    for kind, labels in scalars().items():
        frame = pandas.DataFrame({"text": ["a", "b"], "label": pandas.Series(labels, dtype=object)})
        rows = from_dataframe(frame)
        assert rows.class_names == (("False", "True") if kind == "booleans" else ("0", "1")), kind
        assert rows.labels.tolist() == [1, 0], kind


def test_class_names_in_the_metadata_of_datasets_are_used(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"names": ["bad", "ok", "good"], "_type": "ClassLabel"}}}}
    for split, labels in (("train", [0, 2, 2]), ("test", [2, 0, 1])):
        of_split = pa.table({"text": list("abc"), "label": labels})
        pq.write_table(
            of_split.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / f"{split}.parquet"
        )
    paths = [f"data.{key}={json.dumps(str(tmp_path / name))}" for key, name in (("path", "train.parquet"),)]
    paths += [f"data.test_path={json.dumps(str(tmp_path / 'test.parquet'))}", "data.source=file"]
    plain = read_source(load_config("demo", paths).data)
    assert isinstance(plain.train, LabelledText)
    assert isinstance(plain.test, LabelledText)
    assert plain.train.class_names == ("bad", "ok", "good"), "the order of the indices, and a class without rows"
    assert names_of(plain.train) == ["bad", "good", "good"]
    moved = read_source(load_config("demo", [*paths, 'data.class_names=["good", "ok", "bad"]']).data)
    assert isinstance(moved.test, LabelledText)
    assert names_of(moved.test) == names_of(plain.test) == ["good", "bad", "ok"]
    assert moved.test.labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize("metadata", [None, {"huggingface": "no JSON"}, {"huggingface": '{"info": null}'}, {"a": "b"}])
def test_other_metadata_has_no_class_names(metadata: dict[str, str] | None) -> None:
    assert stored_class_names(pa.schema([("label", pa.int64())], metadata), "label") is None


def test_minus_one_is_unlabelled_where_labels_are_indices_and_asked_about_elsewhere(tmp_path: Path) -> None:
    found = refusal(tmp_path, [0, 1, -1, 0])
    assert "If -1 marks rows without a label, leave them out" in found
    rows = read(tmp_path, [0, 1, -1, 0], pasted(found, "relabel"))
    assert (rows.ids, rows.labels.tolist()) == (["1", "2", "4"], [0, 1, 0])
    assert "'-1' (1 row) left out" in rows.notes[0]
    assert read(tmp_path, [0, 1, -1, 0], pasted(found, "class_names")).labels.tolist() == [1, 2, 0, 1]
    assert "all 4 labels in column 'label' are -1, which marks unlabelled rows" in refusal(tmp_path, [-1] * 4)


@pytest.mark.parametrize(
    ("labels", "looks"),
    [
        (["[1, 0]", "[0, 1]"], "a one-hot vector"),
        (["0 1 0", "1 0 0"], "a one-hot vector"),
        (["tensor([1, 0])", "tensor([0, 1])"], "a one-hot vector"),
        (["[1. 1. 0.]", "[0. 1. 1.]"], "one value per class"),
        (["[0.2, 0.8]", "[0.7, 0.3]"], "probabilities"),
        (["['joy', 'anger']", "['joy']"] * 3 + ["['sad', 'joy']"], "2 labels"),
        (["joy, anger", "anger, sad", "sad, joy"], "2 labels"),
        (["joy|anger|sad", "anger|sad", "sad|joy"], "3 labels"),
        (["{'label': 'joy'}", "{'label': 'sad'}"], "dictionaries"),
    ],
)
def test_several_values_per_row_are_told_by_what_they_look_like(
    labels: list[object], looks: str, tmp_path: Path
) -> None:
    found = refusal(tmp_path, labels)
    assert f"which looks like {looks}" in found or f"has {looks} in" in found
    assert "expected one label per row" in found


def test_a_few_rows_with_several_labels_can_be_left_out(tmp_path: Path) -> None:
    labels: list[object] = ["joy", "anger"] * 5 + ["joy, anger"]
    assert "row 11 (not counting the header): label is 'joy, anger', which looks like several labels" in refusal(
        tmp_path, labels
    )
    rows = read(tmp_path, labels, "data.faulty_rows=leave_out")
    assert (len(rows), rows.class_names) == (10, ("anger", "joy"))
    for names in (["Arts, crafts", "Sport, leisure"], ["a/b", "a/c"], ["[unknown]", "(other)"]):
        assert set(read(tmp_path, [*names, *names]).class_names) == set(names), "names with punctuation are names"


def test_scores_and_columns_of_ids_or_texts_are_no_classes(tmp_path: Path) -> None:
    assert "decimal numbers from 0.11 to 1 (4 different in 4 rows): scores" in refusal(tmp_path, [0.37, 1, 0.11, 0.9])
    assert "decimal comma" in refusal(tmp_path, ["4,5", "3,0"])
    labels: list[object] = ["5,0", "2,5", "1,0", "10,5"]
    found = refusal(tmp_path, labels * 5)
    assert read(tmp_path, labels * 5, pasted(found, "class_names")).class_names == ("1,0", "2,5", "5,0", "10,5")
    assert "class_names" not in refusal(tmp_path, [f"{at},5" for at in range(100)])
    ids = [f"tt{n}" for n in range(60)]
    assert "60 different values in 60 rows, such as 'tt0', 'tt1'; expected a few classes" in refusal(tmp_path, ids)
    assert "60 different values in 60 rows" in refusal(tmp_path, list(range(60)))
    assert "has up to 500 characters per row, expected a class name" in refusal(tmp_path, ["x" * 500] * 3)
    banking = [f"intent {n}" for n in range(77)] * 13
    assert len(read(tmp_path, banking).class_names) == 77


def test_swapped_columns_are_told_with_the_settings_that_swap_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,text\n" + "".join(f"film {n} is long,{'good' if n % 2 else 'bad'}\n" for n in range(20)))
    with pytest.raises(UserError) as caught:
        read_table(path)
    assert "set data.text_column=label data.label_column=text" in str(caught.value)
    assert read_table(path, text_column="label", label_column="text").class_names == ("bad", "good")


@pytest.mark.parametrize(
    ("labels", "meaning"),
    [
        ([1, 2, 3, 4, 5], ["negative", "negative", "positive", "positive"]),
        ([-1, 1], ["negative", "positive"]),
        ([-1.0, 0.0, 1.0], ["negative", "positive"]),
        ([0, 4], ["negative", "positive"]),
        ([1, 2], ["negative", "positive"]),
        ([1, 4, 7, 10], ["negative", "negative", "positive", "positive"]),
        (["pos", "NEG", "Pos"], ["positive", "negative", "positive"]),
        (["LABEL_1", "LABEL_0"], ["positive", "negative"]),
        (["good", "bad", "mixed"], ["positive", "negative"]),
        (["true", "false"], ["positive", "negative"]),
    ],
)
def test_labels_on_another_scale_than_the_classes_are_told_with_a_mapping(
    labels: list[object], meaning: list[str], tmp_path: Path
) -> None:
    names = f"data.class_names={json.dumps(POLAR)}"
    found = refusal(tmp_path, labels * 9, names)
    assert "remove these rows" not in found
    assert names_of(read(tmp_path, labels * 9, names, pasted(found, "relabel"))) == meaning * 9


def test_a_mapping_that_would_change_the_training_file_is_not_proposed(tmp_path: Path) -> None:
    train, test = table(tmp_path, [0, 1] * 9, "train.csv"), table(tmp_path, [1, 3, 5] * 9, "test.csv")
    paths = ["data.source=file", f"data.path={json.dumps(str(train))}", f"data.test_path={json.dumps(str(test))}"]
    with pytest.raises(UserError, match="Convert this file's labels to the class names first"):
        read_source(load_config("demo", [*paths, f"data.class_names={json.dumps(POLAR)}"]).data)


def test_numbers_among_names_are_told_with_the_mapping_that_they_seem_to_have(tmp_path: Path) -> None:
    labels: list[object] = ["true", "false", "1", "true", "0", "false"]
    found = refusal(tmp_path, labels)
    assert names_of(read(tmp_path, labels, pasted(found, "relabel"))) == [
        *("true", "false", "true", "true", "false", "false")
    ]


def test_a_row_that_is_left_out_defines_no_class(tmp_path: Path) -> None:
    """A row of totals below the data has a label and no text."""
    frame = pandas.DataFrame({"text": ["fine", "dull", None, " "], "label": ["good", "bad", "total", "blank"]})
    rows = from_dataframe(frame, faulty_rows="leave_out")
    assert (rows.class_names, len(rows)) == (("bad", "good"), 2)
    with pytest.raises(UserError, match="no rows are left"):
        from_dataframe(frame[3:], faulty_rows="leave_out")


def test_missing_labels_are_told_by_column_and_can_be_left_out(tmp_path: Path) -> None:
    assert "column 'label' is missing in all 9 rows" in refusal(tmp_path, [""] * 9)
    found = refusal(tmp_path, [*[""] * 50, "nan", *["good", "bad"] * 10])
    assert "51 of 71 rows cannot be used" in found
    assert "label is missing: 50 rows (row 1 (not counting the header); row 2" in found
    assert "label is 'nan', which marks a missing value: 1 row (row 51" in found
    rows = read(tmp_path, ["good", "", "bad", "nan", "good"], "data.faulty_rows=leave_out")
    assert (rows.ids, list(rows.texts)) == (["1", "3", "5"], ["film 0", "film 2", "film 4"])
    assert "2 of 5 rows are left out" in rows.notes[-1]
    assert read(tmp_path, ["nan", "grandma"], 'data.class_names=["nan", "grandma"]').labels.tolist() == [0, 1]
    assert "'none' (1 row). To leave them out" in read(tmp_path, ["none", "good", "good"]).notes[0]


def test_many_faulty_rows_are_listed_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    found = refusal(tmp_path, [*[""] * 20, *["good"] * 40])
    listed = Path(found.split("All of these rows are listed in ")[1].removesuffix("."))
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(1, 21))
    assert rows[6] == {"row": "7", "place": "row 7 (not counting the header)", "fault": "label is missing"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "file"))
    assert "could not be written" in refusal(tmp_path, [*[""] * 20, *["good"] * 40])


def test_relabel_says_what_it_did_and_which_key_matched_nothing(tmp_path: Path) -> None:
    relabel = 'data.relabel={"neautral": "neutral", "5.0": "positive", "Skip": null, "absent": "x"}'
    rows = read(tmp_path, ["neutral", "Neautral ", "5", "skip", "positive"], relabel)
    assert names_of(rows) == ["neutral", "neutral", "positive", "positive"]
    assert "'Neautral ' (1 row) as 'neutral'" in rows.notes[0]
    assert "no row has the label 'absent'" in rows.notes[1]
    with pytest.raises(UserError, match="no rows are left"):
        read(tmp_path, ["a", "a"], 'data.relabel={"a": null}')


@pytest.mark.parametrize("scale", [2, 3, 5, 10])
def test_stars_from_1_on_are_classes_of_these_names(tmp_path: Path, scale: int) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("text,label\n" + "".join(f"film {row},{row % scale + 1}.0\n" for row in range(3 * scale)))
    rows = read_table(path)
    assert rows.class_names == tuple(str(star) for star in range(1, scale + 1))
    assert [rows.class_names[label] for label in rows.labels] == [str(row % scale + 1) for row in range(3 * scale)]
    assert any(f"the integers 1 … {scale} are read as the names of {scale} classes" in note for note in rows.notes)


def test_integers_beyond_a_scale_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "years.csv"
    path.write_text("text,label\n" + "".join(f"film {row},{row % 12 + 1}\n" for row in range(60)))
    with pytest.raises(UserError, match=r"expected the integers 0 … K-1"):
        read_table(path)


def test_a_label_with_many_brackets_is_not_parsed() -> None:
    from tenor.data.sources.label_advice import MOST_BRACKETS, unpacked

    flat = ["joy"] * MOST_BRACKETS
    assert unpacked(str(flat)) == flat
    nested = "[" + "(1,)," * MOST_BRACKETS + "]"
    assert unpacked(nested) == nested


STARS = ["1"] * 12 + ["2"] * 2 + ["3"] * 5 + ["4"] * 6 + ["5"] * 15


@pytest.mark.parametrize(
    ("labels", "names", "read_as"),
    [
        (STARS, ("0", "1"), ["0"] * 14 + ["1"] * 21),
        (STARS, ("1", "2"), ["1"] * 14 + ["2"] * 21),
        (STARS, ("0", "1", "2"), ["0"] * 14 + ["1"] * 5 + ["2"] * 21),
        (STARS, ("0", "1", "2", "3", "4"), [str(int(star) - 1) for star in STARS]),
        (STARS, POLAR, ["negative"] * 14 + ["positive"] * 21),
        (["1", "4", "5", "7", "10", "10"] * 2, ("1", "2", "3", "4", "5"), ["1", "2", "3", "4", "5", "5"] * 2),
        (["0", "4"] * 5, ("0", "1"), ["0", "1"] * 5),
    ],
)
def test_another_scale_is_told_as_one_with_a_mapping_that_works(
    labels: list[str], names: tuple[str, ...], read_as: list[str], tmp_path: Path
) -> None:
    """As `tenor evaluate` reads a file: the classes of the run are given."""
    given = f"data.class_names={json.dumps(names)}"
    told = refusal(tmp_path, [*labels], given)
    numbers = sorted(map(int, labels))
    assert f"all {len(labels)} labels in column 'label' are whole numbers from {numbers[0]} to {numbers[-1]}" in told
    assert "; another scale than " in told
    assert ("assumes" in told) == (names != POLAR)
    assert names_of(read(tmp_path, [*labels], given, pasted(told, "relabel"))) == read_as


def test_a_mapping_to_what_is_no_class_is_told_with_the_classes(tmp_path: Path) -> None:
    given = 'data.class_names=["joy", "anger"]'
    told = refusal(tmp_path, ["x", "y"] * 5, given)
    assert "with one of joy, anger for each CLASS" in told
    again = refusal(tmp_path, ["x", "y"] * 5, given, pasted(told, "relabel").rstrip(","))
    assert "data.relabel reads labels as 'CLASS', expected one of joy, anger, or null" in again


def test_a_stray_number_is_not_told_as_a_scale(tmp_path: Path) -> None:
    told = refusal(tmp_path, ["0", "1", "9"] * 5, 'data.class_names=["0", "1"]')
    assert "5 of 15 labels in column 'label' are not classes: '9'" in told


def test_several_labels_in_some_rows_are_told_before_the_numbers_of_the_others(tmp_path: Path) -> None:
    labels = ["0", "2", "4", "27"] * 5 + ["2,4", "0,27", "4,27", "2,27", "0,2", "0,4"]
    told = refusal(tmp_path, labels)
    assert "several values per row in 6 of 26 rows, such as '2,4'" in told
    assert told.endswith("data.faulty_rows=leave_out.")
    leave_out = "data.faulty_rows=leave_out"
    names = pasted(refusal(tmp_path, labels, leave_out), "class_names")
    rows = read(tmp_path, labels, leave_out, names)
    assert (len(rows), rows.class_names) == (20, ("0", "2", "4", "27"))
    assert "one label. Fix" in refusal(tmp_path, [*["0", "2"] * 20, "0,2"], 'data.class_names=["0", "2"]')
    assert ".." not in refusal(tmp_path, labels, names)


def test_a_test_split_whose_labels_are_hidden_is_for_prediction(tmp_path: Path) -> None:
    train, test = table(tmp_path, ["0", "1"] * 20), table(tmp_path, ["-1"] * 8, "test.csv")
    overrides = ["data.source=file", f"data.path={train}", f"data.test_path={test}"]
    with pytest.raises(UserError, match=r"all 8 labels in column 'label' are -1, .* leave data\.test_path out"):
        read_source(load_config("demo", overrides).data)
    assert "which marks unlabelled rows" in refusal(tmp_path, ["-1"] * 8)
    named = read(tmp_path, ["-1", "1"] * 4, 'data.class_names=["-1", "1"]')
    assert named.class_names == ("-1", "1")
