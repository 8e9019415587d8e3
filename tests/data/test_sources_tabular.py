"""Files and data frames: what is read back is what was written, and what cannot be read says why."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.labels import from_dataframe, read_table
from tenor.errors import UserError
from tenor.runs.missing import Missing

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
shared_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    names = list(rows[0])
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerow(names)
            writer.writerows([row[name] for name in names] for row in rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in names}), path)
    return path


def message(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def csv_file(folder: Path, content: str | bytes, name: str = "reviews.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@shared_folder
@given(rows=st.lists(st.tuples(texts, st.sampled_from(["good", "bad", "so, so"])), min_size=1, max_size=8))
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str, rows: list[tuple[str, str]]) -> None:
    path = write(tmp_path / f"rows{suffix}", [{"label": label, "text": text} for text, label in rows])
    read = read_table(path)
    assert list(read.texts) == [text for text, _ in rows]
    assert [read.class_names[label] for label in read.labels] == [label for _, label in rows]
    assert read.class_names == tuple(sorted({label for _, label in rows}))
    assert read.ids == [str(number) for number in range(1, len(rows) + 1)]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".ndjson", ".json"])
@shared_folder
@given(
    start=st.sampled_from([b"", b"text,label\n", b"text\tlabel\n", b'{"text": "a", "label": ']),
    rest=st.binary(max_size=60),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, start: bytes, rest: bytes) -> None:
    path = csv_file(tmp_path, start + rest, f"rows{suffix}")
    with contextlib.suppress(UserError):
        assert isinstance(read_table(path), LabelledText)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_or_damaged_anywhere_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [{"text": f'a "quoted", \n text {n}', "label": n % 2} for n in range(6)]
    whole = write(tmp_path / f"rows{suffix}", rows).read_bytes()
    random = np.random.default_rng(0)
    cut = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 60))]
    damaged = [
        whole[:at] + bytes([random.integers(256)]) + whole[at + 1 :] for at in random.integers(len(whole), size=60)
    ]
    for content in cut + damaged:
        with contextlib.suppress(UserError):
            read_table(csv_file(tmp_path, content, f"damaged{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_integers_and_integers_as_strings_are_the_same_classes(tmp_path: Path, suffix: str) -> None:
    numbers = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    strings = [{**row, "label": str(row["label"])} for row in numbers]
    first = read_table(write(tmp_path / f"numbers{suffix}", numbers))
    second = read_table(write(tmp_path / f"strings{suffix}", strings))
    assert first.table.equals(second.table)
    assert first.class_names == second.class_names == ("0", "1")
    assert first.labels.tolist() == [1, 0]


def test_the_table_has_the_promised_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": "a", "label": 0, "key": 7, "film": "x"}])
    table = read_table(path, id_column="key", group_column="film").table
    assert table.schema == pa.schema(
        {"id": pa.string(), "text": pa.large_string(), "label": pa.int64(), "group": pa.string()}
    )
    assert table.to_pylist() == [{"id": "7", "text": "a", "label": 0, "group": "x"}]


def test_class_names_give_the_order_and_take_names_or_positions(tmp_path: Path) -> None:
    names = ("negative", "positive")
    by_name = csv_file(tmp_path, "text,label\na,positive\nb,negative\n")
    assert read_table(by_name, class_names=names[::-1]).labels.tolist() == [0, 1]
    by_position = csv_file(tmp_path, "text,label\na,1\nb,0\n")
    assert read_table(by_position, class_names=names).labels.tolist() == [1, 0]
    one_class = csv_file(tmp_path, "text,label\na,0\nb,0\n")
    assert read_table(one_class, class_names=names).label_counts().tolist() == [2, 0]


def test_stars_named_as_classes_are_matched_by_name_not_by_position(tmp_path: Path) -> None:
    stars = ("1", "2", "3")
    assert read_table(csv_file(tmp_path, "text,label\na,1\nb,2\n"), class_names=stars).labels.tolist() == [0, 1]
    as_numbers = write(tmp_path / "stars.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    assert read_table(as_numbers, class_names=stars).labels.tolist() == [0, 1]


@pytest.mark.parametrize("labels", ["2,3", "0,2", "-1,0,1", "1,5,2,1"])
def test_integers_with_a_gap_need_class_names(tmp_path: Path, labels: str) -> None:
    path = csv_file(tmp_path, "text,label\n" + "".join(f"a,{label}\n" for label in labels.split(",")))
    found = message(path)
    assert "0 … K-1" in found
    assert ("If -1 marks rows without a label" in found) == ("-1" in labels)
    names = json.loads(found.split("data.class_names=")[1].removesuffix("'."))
    assert [names[label] for label in read_table(path, class_names=tuple(names)).labels] == labels.split(",")


def test_of_many_integers_with_a_gap_only_the_range_is_shown(tmp_path: Path) -> None:
    labels = [*range(1, 90)] * 10
    found = message(csv_file(tmp_path, "text,label\n" + "".join(f"a,{label}\n" for label in labels)))
    assert "all 890 labels in column 'label' are whole numbers from 1 to 89 (89 different)" in found
    assert "they look like a score, a year or an id" in found


def test_only_text_that_was_written_as_missing_is_missing(tmp_path: Path) -> None:
    read = read_table(csv_file(tmp_path, 'text,label\n,x\nNA,y\nnull,x\n"",y\n'))
    assert list(read.texts) == ["", "NA", "null", ""]


def test_faulty_rows_are_reported_together_with_their_number(tmp_path: Path) -> None:
    rows = ["fine,good", "a,", *["b,god"] * 2, *["c,bad"] * 9, "d"]
    found = message(csv_file(tmp_path, "text,label\n" + "\n".join(rows) + "\n"), class_names=("good", "bad"))
    assert "4 of 14 rows" in found
    assert "row 2 (not counting the header): label is missing" in found
    assert "row 3 (not counting the header): label is 'god', expected one of good, bad (did you mean 'good'?)" in found
    assert 'data.relabel={"god": "good"}' in found


def test_json_lines_name_the_physical_line(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "label": "x"}',
        "",
        '{"label": "x"}',
        '{"text": 3, "label": null}',
        '{"text": "b", "label": [1, 2]}',
    ]
    found = message(csv_file(tmp_path, "\n".join(lines), "rows.jsonl"))
    assert "3 of 4 rows" in found
    assert "line 3 (row 2): text is missing" in found
    assert "line 4 (row 3): text is 3 (int), expected a string; label is missing" in found
    assert "line 5 (row 4): label is '[1, 2]', several values (2 labels), expected one label" in found


def test_half_a_surrogate_pair_is_refused_by_row(tmp_path: Path) -> None:
    assert "surrogate" in message(csv_file(tmp_path, '{"text": "\\ud800", "label": 0}', "rows.jsonl"))


def test_a_name_among_integers_is_a_fault_and_not_a_third_class(tmp_path: Path) -> None:
    found = message(csv_file(tmp_path, "text,label\na,0\nb,1\nc,NA\nd,0\n"))
    assert "1 of 4 rows" in found
    assert "'NA', expected an integer as in the other rows" in found


def test_a_missing_column_names_the_columns_and_the_nearest(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        found = message(write(tmp_path / f"rows{suffix}", [{"Text ": "a", "label": 0}]))
        name = "Text" if suffix in (".csv", ".tsv") else "Text "
        assert f"no column 'text' (did you mean {name!r}?)" in found
        assert f"Set data.text_column={name if name == 'Text' else repr(name)}." in found
        assert "'label'" in found
        assert "data.text_column" in found
    assert "data.group_column" in message(csv_file(tmp_path, "text,label\na,0\n"), group_column="film")
    assert "2 columns are called 'text'" in message(csv_file(tmp_path, "text,text,label\na,b,0\n"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.jsonl", "\n\n", "no rows"),
        ("a.csv", "text;label\na;0\nb;1;2\n", "separated by ';'"),
        ("a.csv", "text,label\nA b\0c,0\n", "line 2) is NUL"),
        ("a.csv", "text,label\ncafé,0\n".encode("latin-1"), "byte 14 (line 2) is 0xE9"),
        ("a.csv", "text,label\na,0\n".encode("utf-16")[:-1], "UTF-16"),
        ("a.csv", "text,label\na,0\n".encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("a.csv", "text,label\na,0\n".encode("utf-32"), "UTF-32"),
        ("a.csv", 'text,label\n"never closed,0\n', "malformed"),
        ("a.csv", 'text,label\n"fine" he said,0\n', "malformed"),
        ("a.csv", "text,label\nGood, really,1\n", "has 3 fields, expected 2"),
        ("a.csv", "text,label\na,0.5\nb,1.0\n", "decimal numbers"),
        ("a.json", '[["a", 0]]', "is a JSON array of other values"),
        ("a.json", '[{"text": "a", "label": 0}', "after 1 values on: expected one of , ]"),
        ("a.json", '{\n"text": "a",\n"label"\n}', "is not JSON from character 24"),
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": "b', "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}", "is not JSON"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, "is not JSON"),
        ("a.json", '[{"text": ' + "[" * 100_000, "nested too deeply"),
        ("a.parquet", "PAR1 is not enough PAR1", "not a valid Parquet file"),
        ("a.txt", "a text\nanother\n", "has one text per line and no labels"),
        ("a", "text,label\na,0\n", "unknown suffix ''"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    found = message(csv_file(tmp_path, content, name))
    assert expected in found
    assert name in found


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "none.csv")
    assert "no such file" in message(Path("~nobody-of-this-name/none.csv"))
    (tmp_path / "folder.csv").mkdir()
    assert "has no files to read" in message(tmp_path / "folder.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a regular file" in message(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        ([1, 2], [0, 1], "column 'text' has the type int64"),
        ([b"a", b"\xff"], [0, 1], "column 'text' has the type binary, and its bytes are not UTF-8"),
        ([1, None], [0, 1], "(1 of its 2 values are missing)"),
        (["a", "b"], [0.0, None], "row 2: label is missing"),
        (["a", None], [0, 1], "row 2: text is missing"),
        ([None, None], [0, 1], "column 'text' is missing in all 2 rows"),
    ],
)
def test_parquet_columns_of_another_type_are_refused(
    tmp_path: Path, text: list[object], label: list[object], expected: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": text, "label": label}), path)
    assert expected in message(path)


def test_parquet_strings_of_every_kind_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array(["y", "x"]).cast(kind)}), path, row_group_size=1)
        assert read_table(path).labels.tolist() == [1, 0]


def test_parquet_with_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"text": broken, "label": [0]}), tmp_path / "rows.parquet")
    assert "not a valid Parquet file" in message(tmp_path / "rows.parquet")


def test_a_byte_order_mark_and_any_line_ending_are_accepted(tmp_path: Path) -> None:
    content = '\ufefftext,label\r\n"two\r\nlines",0\r\nb,1\r\n'
    assert read_table(csv_file(tmp_path, content)).texts[:] == ["two\r\nlines", "b"]
    assert read_table(csv_file(tmp_path, '\ufeff{"text": "a\u2028b", "label": 0}\r\n', "a.jsonl")).texts[:] == [
        "a\u2028b"
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_very_long_text_is_read(tmp_path: Path, suffix: str) -> None:
    limit = csv.field_size_limit()
    long = "word, " * 500_000
    assert read_table(write(tmp_path / f"rows{suffix}", [{"text": long, "label": 0}])).texts[:] == [long]
    assert csv.field_size_limit() == limit


def test_the_test_file_uses_the_classes_of_the_training_file(tmp_path: Path) -> None:
    train = csv_file(tmp_path, "text,label\na,x\nb,y\nc,z\n", "train.csv")
    test = csv_file(tmp_path, "text,label\nd,z\n", "test.csv")
    source = read_source(Data(source="file", path=str(train), test_path=str(test)))
    assert isinstance(source.test, LabelledText)
    assert source.test.class_names == ("x", "y", "z")
    assert source.test.labels.tolist() == [2]
    assert source.test.origin == "test.csv"
    csv_file(tmp_path, "text,label\nd,1\n", "test.csv")
    with pytest.raises(
        UserError, match=r"test\.csv: all 1 labels .* '1' \(1 row\); another scale than x, y, z\. Convert"
    ):
        read_source(Data(source="file", path=str(train), test_path=str(test)))


def test_without_a_test_path_the_test_split_is_absent(tmp_path: Path) -> None:
    source = read_source(Data(source="file", path=str(csv_file(tmp_path, "text,label\na,x\n"))))
    assert source.test == Missing("data.test_path is not set")


def test_repeated_class_names_are_refused(tmp_path: Path) -> None:
    assert "more than once" in message(csv_file(tmp_path, "text,label\na,0\n"), class_names=("x", "x"))


def test_a_data_frame_is_read_as_the_same_file_is(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows: list[dict[str, object]] = [{"text": "a", "label": "y", "film": 1}, {"text": "b", "label": "x", "film": 2}]
    frame = pandas.DataFrame(rows, index=[5, 3])
    from_file = read_table(write(tmp_path / "rows.csv", rows), group_column="film")
    assert from_dataframe(frame, group_column="film").table.equals(from_file.table)
    assert from_dataframe(frame.astype({"label": "category"}), group_column="film").table.equals(from_file.table)


def test_a_data_frame_without_a_header_is_read_by_its_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    rows = [["a", 1], ["b", 0]]
    named = from_dataframe(pandas.DataFrame(rows, columns=["text", "label"]))
    assert from_dataframe(pandas.DataFrame(rows), text_column="0", label_column="1").table.equals(named.table)
    with pytest.raises(UserError, match="2 columns are called '0'"):
        from_dataframe(pandas.DataFrame([["a", 1, 2]], columns=[0, "1", "0"]), text_column="0", label_column="1")


def test_a_data_frame_names_the_faulty_rows() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None, "c", 4], "label": [0, 1, None, 1]})
    with pytest.raises(UserError) as caught:
        from_dataframe(frame)
    assert "3 of 4 rows" in str(caught.value)
    assert "row 2: text is missing" in str(caught.value)
    assert "row 3: label is missing" in str(caught.value)
    assert "row 4: text is 4 (int)" in str(caught.value)
    with pytest.raises(UserError, match=r"decimal numbers from 0\.5 to 0\.5 .*: scores, not classes"):
        from_dataframe(pandas.DataFrame({"text": ["a"], "label": [0.5]}))
    with pytest.raises(UserError, match="no column 'label'"):
        from_dataframe(pandas.read_csv(io.StringIO("text,labels\na,0\n")))
