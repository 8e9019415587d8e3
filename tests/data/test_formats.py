"""What people have: every format is read in the same way for training and prediction, or refused with the way on."""

import bz2
import gzip
import io
import json
import lzma
import shlex
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tenor.data.files import json_scanner, opening
from tenor.data.files.json_records import parse_record
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference import file_inputs
from tenor.inference.file_job import survey

ROWS: list[dict[str, Any]] = [
    {
        "text": f'a "fine" film, é {number}\nin two lines' if number % 3 else f"dull {number}",
        "label": ("good", "bad")[number % 2],
    }
    for number in range(20)
]
TEXTS = [row["text"] for row in ROWS]


@dataclass(frozen=True)
class Read:
    """What a reader made of a file."""

    texts: list[object]
    labels: list[str]
    notes: str


def trained(path: Path | str, **columns: str) -> Read:
    rows = read_table(path, **columns)  # type: ignore[arg-type]
    return Read(list(rows.texts), [rows.class_names[label] for label in rows.labels], " ".join(rows.notes))


def predicted(path: Path | str, text_column: str = "text", label_column: str = "label") -> Read:
    found = survey(Path(path), text_column)
    assert not found.faults, found.first_fault
    chunks = list(file_inputs.read_chunks(found.file, text_column))
    texts = [text for chunk in chunks for text in chunk.texts]
    kept = [row for chunk in chunks for row in chunk.kept.to_pylist()]
    if found.has_records:
        kept = [json.loads(row["record"]) for row in kept]
    return Read(texts, [str(row.get(label_column)) for row in kept], " ".join(found.notes))


Reader = Callable[..., Read]
readers = pytest.mark.parametrize("reader", [trained, predicted])


def refusal(reader: Reader, path: Path | str, **columns: str) -> str:
    with pytest.raises(UserError) as caught:
        reader(path, **columns)
    return str(caught.value)


def csv_of(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    cells = [[str(value).replace('"', '""') for value in row.values()] for row in rows]
    lines = [delimiter.join(rows[0]), *(delimiter.join(f'"{cell}"' for cell in row) for row in cells)]
    return "".join(f"{line}\n" for line in lines).encode()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def zipped(content: bytes, name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(f"folder/{name}", content)
        archive.writestr(f"__MACOSX/folder/._{name}", b"x")
    return sink.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


FILES: dict[str, bytes] = {
    "a.csv": csv_of(ROWS),
    "a.tsv": csv_of(ROWS, "\t"),
    "a.tab": csv_of(ROWS, "\t"),
    "semicolons.csv": csv_of(ROWS, ";"),
    "tabs.csv": csv_of(ROWS, "\t"),
    "commas.tsv": csv_of(ROWS),
    "mark.csv": b"\xef\xbb\xbf" + csv_of(ROWS),
    "utf16.csv": csv_of(ROWS).decode().encode("utf-16"),
    "utf16.jsonl": json_lines(ROWS).decode().encode("utf-16"),
    "a.jsonl": json_lines(ROWS),
    "lines.json": json_lines(ROWS),
    "array.json": json.dumps(ROWS).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "utf16.json": json.dumps(ROWS).encode("utf-16"),
    "pretty array.json": json.dumps(ROWS, indent=2).encode(),
    "pretty.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "nested.json": json.dumps({"info": {"of": [1, 2]}, "reviews": ROWS, "n": 20}).encode(),
    "pretty nested.json": json.dumps({"reviews": ROWS}, indent=1).encode(),
    "a.csv.gz": gzip.compress(csv_of(ROWS)[:50]) + gzip.compress(csv_of(ROWS)[50:]),
    "a.jsonl.zst": zstd(json_lines(ROWS)),
    "a.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "a.tsv.xz": lzma.compress(csv_of(ROWS, "\t")),
    "a.zip": zipped(csv_of(ROWS), "reviews.csv"),
}


@readers
@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rows(name: str, reader: Reader, tmp_path: Path) -> None:
    read = reader(put(tmp_path / name, FILES[name]))
    assert read.texts == TEXTS
    assert read.labels == [row["label"] for row in ROWS]
    is_other = name in ("semicolons.csv", "tabs.csv", "commas.tsv")
    assert ("as its suffix implies" in read.notes) == is_other
    assert ("under the key 'reviews'" in read.notes) == ("nested" in name)
    assert is_other or "nested" in name or not read.notes


@readers
@pytest.mark.parametrize(
    "name", ["a.parquet", "a.pq", "a.feather", "a.arrow", "stream.arrow", "a.parquet.gz", "a.arrow.zip"]
)
def test_arrow_files_give_the_same_rows(
    name: str, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_inputs, "PARQUET_ROWS", 3)
    table, plain = pa.Table.from_pylist(ROWS), tmp_path / name.removesuffix(".gz").removesuffix(".zip")
    if name == "stream.arrow":
        arrow_stream(plain)
    elif "parquet" in name or name == "a.pq":
        pq.write_table(table, plain)
    else:
        feather.write_feather(table, plain, chunksize=6)
    if name.endswith(".gz"):
        put(tmp_path / name, gzip.compress(plain.read_bytes()))
    elif name.endswith(".zip"):
        put(tmp_path / name, zipped(plain.read_bytes(), plain.name))
    read = reader(tmp_path / name)
    assert (read.texts, read.labels) == (TEXTS, [row["label"] for row in ROWS])


@readers
def test_an_inconsistent_arrow_file_is_refused(reader: Reader, tmp_path: Path) -> None:
    """Its last text ends two bytes beyond the texts, which Arrow itself reads from the padding."""
    pairs = {"text": ["ab", "cd", "ef"], "label": ["x", "y", "x"]}
    feather.write_feather(pa.table(pairs), tmp_path / "a.feather", compression="uncompressed")
    sound = (tmp_path / "a.feather").read_bytes()
    offsets, wrong = struct.pack("<4i", 0, 2, 4, 6), struct.pack("<4i", 0, 2, 4, 8)
    assert sound.count(offsets) == 1
    path = put(tmp_path / "b.feather", sound.replace(offsets, wrong))
    assert "is not a valid Arrow file" in refusal(reader, path)
    spoiled = put(tmp_path / "c.feather", sound.replace(b"abcdef", b"ab\xffdef"))
    assert survey(spoiled, "text").first_fault == "row 2 has bytes that are not UTF-8 in column 'text'"


@readers
def test_a_saved_dataset_is_read_in_its_order(reader: Reader, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(str(tmp_path / "splits"))
    assert reader(tmp_path / "saved").texts == TEXTS
    assert f"data.path={tmp_path / 'splits' / 'train'}" in refusal(reader, tmp_path / "splits")
    (tmp_path / "saved" / "data-00001-of-00003.arrow").unlink()
    assert "data-00001-of-00003.arrow is missing" in refusal(reader, tmp_path / "saved")


WORKBOOK = Path(__file__).parent / "workbooks"


@readers
def test_a_sheet_is_read_by_its_own_row_numbers(reader: Reader) -> None:
    pytest.importorskip("python_calamine")
    read = reader(WORKBOOK / "reviews.xlsx")
    assert read.texts == ["a fine film", "dull", "superb"]
    assert read.labels == ["1", "0", "1"]
    assert "'faults.xlsx#Reviews'" in refusal(reader, WORKBOOK / "faults.xlsx").replace(f"{WORKBOOK}/", "")
    assert "no sheet 'Other'. Its sheets: 'Reviews', 'Notes', 'Empty'" in refusal(
        reader, f"{WORKBOOK}/faults.xlsx#Other"
    )
    with pytest.raises((UserError, AssertionError), match=r"row 5"):
        reader(f"{WORKBOOK}/faults.xlsx#Reviews")


@readers
def test_an_excel_file_that_is_none_is_refused(reader: Reader, tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    assert "is not a valid Excel file" in refusal(reader, put(tmp_path / "a.xlsx", zipped(b"x", "y")))
    assert "is not a valid Excel file" in refusal(reader, put(tmp_path / "a.xls", "text,label\n"))


@readers
def test_fasttext_lines_have_labels_that_are_no_text(reader: Reader, tmp_path: Path) -> None:
    path = put(tmp_path / "train.txt", "__label__good a fine film\n\n__label__bad  dull\n__label__good so so\n")
    read = reader(path)
    assert read.texts == ["a fine film", "dull", "so so"]
    assert read.labels == ["good", "bad", "good"]
    assert "fastText's format" in read.notes
    path = put(tmp_path / "many.ft.txt", "__label__1 a\n__label__0 b\n" * 3 + "__label__1 __label__2 c\n")
    with pytest.raises((UserError, AssertionError), match=r"line 7.*has 2 labels, expected one: '1', '2'"):
        reader(path)


def test_a_fault_that_quotes_bytes_outside_utf_8_can_be_written(tmp_path: Path) -> None:
    """The fault of a row is a column of the output, and Arrow's strings are UTF-8."""
    path = tmp_path / "train.txt"
    path.write_bytes(b"__label__1 a\n__label__0 b\n__label__1 __label__\xff\xfe c\n")
    chunks = file_inputs.read_chunks(survey(path, "text").file, "text")
    faults = [fault for chunk in chunks for fault in chunk.faults.values()]
    assert any("has 2 labels" in fault for fault in faults)
    for fault in faults:
        fault.encode()


def test_a_text_per_line_is_predicted_and_has_no_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "fine\ndull\n")
    assert predicted(path).texts == ["fine", "dull"]
    assert "one text per line and no labels" in refusal(trained, path)
    assert predicted(put(tmp_path / "a.json", '["fine", "dull"]')).texts == ["fine", "dull"]


@readers
@pytest.mark.parametrize("name", ["labelled", "Anna's $HOME reviews"])
def test_lines_of_text_and_label_are_not_texts(reader: Reader, name: str, tmp_path: Path) -> None:
    """As in "From Group to Individual Labels using Deep Features" (Kotzias et al. 2015): no header, in .txt files."""
    path = put(tmp_path / f"{name}.txt", "A fine film.\t1\nDull.\t0\nSo so, really.\t0\n")
    command = refusal(reader, path).split(", for instance: ")[1]
    subprocess.run(command, shell=True, check=True)
    assert reader(tmp_path / f"{name}.tsv").labels == ["1", "0", "0"]


@readers
def test_folders_are_classes(reader: Reader, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        for name in ("pos", "neg"):
            put(tmp_path / "train" / name / f"{number}_7.txt", f"{name} é {number}\nand more\n")
            put(tmp_path / "test" / name / f"{number}.txt", "x")
    put(tmp_path / "train" / "unsup" / "1.txt", "x")
    put(tmp_path / "train" / "pos" / ".DS_Store", b"\0")
    read = reader(tmp_path / "train")
    assert read.texts == [f"{name} é {number}\nand more\n" for name in ("neg", "pos") for number in (1, 2, 10)]
    assert read.labels == ["neg"] * 3 + ["pos"] * 3
    assert "unsup: is left out" in read.notes
    told = refusal(reader, tmp_path)
    assert f"data.path={tmp_path}/train data.test_path={tmp_path}/test " in told
    put(tmp_path / "train" / "pos" / "notes.pdf", b"x")
    assert "notes.pdf: is not a .txt file" in refusal(reader, tmp_path / "train")


@readers
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".csv.gz"])
def test_shards_follow_one_another_in_natural_order(suffix: str, reader: Reader, tmp_path: Path) -> None:
    for part, start in enumerate(range(0, 20, 2), start=1):
        rows = ROWS[start : start + 2]
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"part-{part}.parquet")
        else:
            content = {".csv": csv_of, ".csv.gz": csv_of, ".jsonl": json_lines}.get(suffix, json_array)(rows)
            put(tmp_path / f"part-{part}{suffix}", gzip.compress(content) if suffix.endswith(".gz") else content)
    put(tmp_path / "_SUCCESS", b"")
    put(tmp_path / "README.md", b"x")
    assert reader(tmp_path).texts == TEXTS
    assert reader(tmp_path / f"part-*{suffix}").texts == TEXTS
    assert reader(f"{tmp_path}/part-[12]{suffix}").texts == TEXTS[:4]
    assert "no file matches" in refusal(reader, tmp_path / "other-*")


def json_array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def test_a_fault_in_a_shard_names_the_shard_and_its_own_row(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "text,label\nfine,1\ndull,0\n")
    put(tmp_path / "b.csv", "label,text\n1,fine\n0,\n1,2,3\n")
    assert survey(tmp_path, "text").first_fault == "b.csv, row 2 has a text that is empty"
    assert "b.csv, row 3 (not counting the header): has 3 fields" in refusal(trained, tmp_path)
    put(tmp_path / "c.csv", "text,mood\nfine,1\n")
    told = refusal(trained, tmp_path)
    assert "c.csv: " in told
    assert "no column 'label'" in told or "expected 'text', 'label'" in told


@readers
def test_folders_that_need_a_choice_name_it(reader: Reader, tmp_path: Path) -> None:
    for name in ("train-0.csv", "train-1.csv", "test.csv"):
        put(tmp_path / "splits" / name, csv_of(ROWS))
    assert f"data.path='{tmp_path}/splits/train*' data.test_path={tmp_path}/splits/test.csv" in refusal(
        reader, tmp_path / "splits"
    )
    assert len(reader(f"{tmp_path}/splits/train*").texts) == 40
    put(tmp_path / "mixed" / "a.csv", csv_of(ROWS))
    put(tmp_path / "mixed" / "a.jsonl", json_lines(ROWS))
    assert "several formats" in refusal(reader, tmp_path / "mixed")
    put(tmp_path / "texts" / "a.txt", "x")
    assert "If each line is a text, give a pattern" in refusal(reader, tmp_path / "texts")
    (tmp_path / "none").mkdir()
    assert "has no files to read" in refusal(reader, tmp_path / "none")


REFUSED: dict[str, tuple[bytes, str]] = {
    "a.pkl": (b"\x80\x04", "pandas.read_pickle('a.pkl').to_parquet('a.parquet')"),
    "a.xml": (b"<a/>", "pandas.read_xml('a.xml').to_parquet('a.parquet')"),
    "a.sav": (b"$FL2", "pandas.read_spss"),
    "a.sas7bdat": (b"x", "encoding='utf-8'"),
    "a.db": (b"SQLite format 3\0", "sqlite3 -header -csv 'a.db'"),
    "a.tar.gz": (gzip.compress(b"x"), "tar -xf a.tar.gz"),
    "a.gz": (gzip.compress(b"text,label\n"), "rename it: mv a.gz a.csv.gz"),
    "a": (b"text,label\n", "mv a a.csv"),
    "a.dat": (b'{"text": "a"}\n', "mv a.dat a.jsonl"),
    "a.cvs": (b"text,label\n", "did you mean '.csv'"),
    "a.csv": (
        gzip.compress(b"text,label\n"),
        "is compressed with gzip, unlike its suffix '.csv'. Rename it to 'a.csv.gz'",
    ),
    "b.csv": (b"PAR1xxxx", "is a Parquet file, unlike its suffix '.csv'. Rename it to 'b.parquet'"),
    "c.csv": (b"PK\x03\x04xxxx", "is an Excel workbook or a zip archive"),
    "a.csv.gz": (b"text,label\n", "is not compressed"),
    "b.csv.gz": (gzip.compress(csv_of(ROWS) * 50)[:-30], "is not a valid gzip file"),
    "a.csv.zst": (zstd(csv_of(ROWS) * 50)[:-9], "is not a valid zstd file"),
    "a.csv.xz": (lzma.compress(csv_of(ROWS) * 50)[:-30], "is not a valid xz file"),
    "a.zip": (b"PK\x03\x04 and nothing", "is not a valid zip file"),
    "a.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a.arrow": (b"ARROW1 and nothing", "is not a valid Arrow file"),
    "b.arrow": (b"", "is empty"),
    "a.json": (b'{"text": ["a"], "label": [1]}', 'orient="columns").to_csv("a.csv"'),
    "b.json": (b'{"columns": ["text"], "data": [["a"]]}', 'orient="split"'),
    "e.json": (b'{"x1": {"text": "a"}, "x2": {"text": "b"}}', 'orient="index"'),
    "f.json": (b'{"text": {"0": "a"}, "label": {"0": 1}}', 'orient="columns"'),
    "sep.csv": (b"sep=;\ntext;label\na;1\n", "tail -n +2 sep.csv > sep_without_sep.csv"),
    "title.csv": (b"Reviews of 2024\n\ntext,label\na,1\n", "names of the columns are in row 1 below the first one"),
    "single.csv": (b"'text','label'\n'a','1'\n", "quotechar=chr(39)"),
    "csv.txt": (b"text,label\na,1\nb, or c,0\n", "cat csv.txt > csv.csv"),
    "c.json": (b'{"train": [{"a": 1}], "dev": [{"a": 1}]}', "records under several keys, 'train' (1), 'dev' (1)"),
    "d.json": (b'[{"text": "a", "label": 1}, {"text": "b"', "is not JSON from character 29, after 1 values"),
}


@readers
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_says_how_to_get_there(name: str, reader: Reader, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    told = refusal(reader, put(tmp_path / name, content))
    assert str(tmp_path / name) in told
    assert words in told.replace(f"{tmp_path}/", "")


@readers
def test_a_bomb_is_refused(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ALWAYS_ALLOWED", 1000)
    path = put(tmp_path / "a.csv.zst", zstd(b"text,label\n" + b"a" * 50_000_000))
    assert "more than 1,000 times its size" in refusal(reader, path)


@readers
@pytest.mark.parametrize(
    ("header", "option"),
    [
        ("id,review,sentiment", "data.text_column=review data.label_column=sentiment"),
        ("Sentence,Rating", "data.text_column=Sentence data.label_column=Rating"),
        ("content,text,mood", "data.label_column=mood"),
        ("a,text,c", "data.label_column=NAME, with names of these columns"),
        ("text,is_offensive", "data.label_column=is_offensive"),
        ("TEXT,LABEL", "data.text_column=TEXT data.label_column=LABEL"),
        ("my review,sentiment", "data.text_column='my review' data.label_column=sentiment"),
    ],
)
def test_the_option_that_works_is_printed(header: str, option: str, reader: Reader, tmp_path: Path) -> None:
    values = ["a fine film" if number == 1 else str(number) for number in range(header.count(",") + 1)]
    path = put(tmp_path / "a.csv", f"{header}\n{','.join(values)}\n")
    if reader is trained:
        told = refusal(reader, path)
        assert told.endswith((f"Set {option}.", f"; set: {option}"))
        if "NAME" not in option:
            columns = dict(part.removeprefix("data.").split("=") for part in shlex.split(option))
            names = {"class_names": ("0", "1", "2", "a fine film")}
            assert len(reader(path, **columns, **names).texts) == 1
    elif "text" not in header.split(","):
        name = shlex.split(option)[0].split("=")[1]
        assert told_option(refusal(reader, path)) == name


def told_option(told: str) -> str:
    return shlex.split(told.split("--text-column ")[1].removesuffix("."))[0]


@readers
def test_a_header_that_is_a_row_is_told_with_the_command_that_adds_one(reader: Reader, tmp_path: Path) -> None:
    lines = [f"{number % 2},a film of number {number}\n" for number in range(12)]
    path = put(tmp_path / "a.csv", "".join(lines))
    command = refusal(reader, path).split("for instance: ")[1]
    subprocess.run(command, shell=True, check=True)
    read = reader(tmp_path / "a_with_header.csv")
    assert read.texts == [f"a film of number {number}" for number in range(12)]
    assert read.labels == [str(number % 2) for number in range(12)]
    told = refusal(reader, path, text_column="a film of number 0", label_column="0")
    assert "the first line seems to be a row of data" in told, "the first row would be lost"


@readers
def test_names_of_pandas_are_a_header(reader: Reader, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", ",0,1\n" + "".join(f"{n},a film of {n},{n % 2}\n" for n in range(12)))
    assert len(reader(path, text_column="0", label_column="1").texts) == 12


@readers
def test_columns_without_a_name_and_blanks_around_names(reader: Reader, tmp_path: Path) -> None:
    assert reader(put(tmp_path / "a.csv", ",text,label\n0,a,1\n1,b,0\n")).notes == ""
    read = reader(put(tmp_path / "a.csv", "text\u00a0,label ,,\na,1,,\nb,0,,\n"))
    assert (read.texts, read.labels) == (["a", "b"], ["1", "0"])
    assert "columns without a name are called 'Unnamed: 2', 'Unnamed: 3'" in read.notes
    assert "blanks around the names of columns are left out" in read.notes


@readers
def test_a_header_among_the_rows_is_told(reader: Reader, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "text,label\na,1\nb,0\ntext,label\nc,1\n")
    with pytest.raises((UserError, AssertionError), match=r"row 3.*repeats the header; were files joined"):
        reader(path)


@readers
def test_a_delimiter_that_does_not_separate_the_whole_file_is_not_taken(reader: Reader, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "text;label\n" + "fine;1\n" * 5 + "dull; or not; 0\n" * 5)
    assert "seems to be separated by ';'" in refusal(reader, path)
    path = put(tmp_path / "a.csv", "text; or title,label\n" + "fine; really,1\ndull,0\n" * 5)
    assert reader(path, text_column="text; or title").texts == ["fine; really", "dull"] * 5


ENCODED = {
    "WINDOWS-1252": "Le café était fermé, déçu",
    "WINDOWS-1251": "Очень плохой фильм",
    "KOI8-R": "Очень плохой фильм",
    "CP932": "①この映画は髙評価、とても面白かったです。",
    "EUC-JP": "この映画はとても面白かったです。残念！",
    "EUC-JISX0213": "①「この映画」はとても面白かったです。",
    "GB18030": "这个电影真的不好看我不喜欢",
    "BIG5": "這個電影真的不好看，我們不喜歡",
    "EUC-KR": "이 영화는 정말 재미있었어요",
    "CP949": "이 영화는 정말 뷁 같았어요",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_another_encoding_is_named_with_the_command_that_works(encoding: str, tmp_path: Path) -> None:
    text = ENCODED[encoding]
    path = put(tmp_path / "a.csv", ("text,label\n" + f'"{text}",1\n"{text}",0\n' * 5).encode(encoding))
    command = refusal(trained, path).split("for instance: ")[1]
    assert survey(path, "text").fix.endswith(command)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert trained(tmp_path / "a.utf8.csv").texts == predicted(tmp_path / "a.utf8.csv").texts == [text] * 10


@pytest.mark.parametrize("rest", [b"caf\xe9 \x81", b"\x82\xb1\x82\xcc\xff", "плохо".encode("cp1251") + b" \x98"])
def test_the_command_for_an_encoding_does_not_fail_on_bytes_that_it_lacks(rest: bytes, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", b"text,label\n" + b"".join(b"%s %d,%d\n" % (rest, at, at % 2) for at in range(4)))
    subprocess.run(refusal(trained, path).split("for instance: ")[1], shell=True, check=True, cwd=tmp_path)
    assert len(trained(tmp_path / "a.utf8.csv").texts) == 4


def test_the_longest_array_of_a_json_file_is_printed_first(tmp_path: Path) -> None:
    rows = [{"text": "fine", "label": 1}, {"text": "dull", "label": 0}, {"text": "dim", "label": 0}]
    content = {"classes": [{"name": "a"}], "assets": {"documents": rows, "kinds": [{"name": "a"}]}}
    told = refusal(trained, put(tmp_path / "a.json", json.dumps(content, indent=1)))
    assert "several keys, 'assets.documents' (3), 'classes' (1), 'assets.kinds' (1)" in told
    subprocess.run(told.split("for instance: ")[1].replace("python ", f"{sys.executable} ", 1), shell=True, check=True)
    assert trained(tmp_path / "assets.documents.jsonl").texts == ["fine", "dull", "dim"]


def test_json_values_are_read_as_if_the_file_were_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the part that is read at once, and with what ends other readers: long numbers, deep nesting."""
    records = [
        {"text": 'a "quoted" \\ text]}', "n": 10**50, "x": [{"y": []}, {}], "e": 1e-7},
        {"text": "", "n": -1.5, "é": None, "t": True, "u": "\U0001f600"},
        {"text": "z" * 300},
    ]
    for layout in (json.dumps(records), json.dumps({"k": [], "rows": records}, indent=3)):
        path = put(tmp_path / "a.json", layout)
        for size in (1, 2, 3, 7, 100, 10_000):
            monkeypatch.setattr(json_scanner, "PART_CHARACTERS", size)
            chunks = list(file_inputs.read_chunks(file_inputs.open_input(path)))
            assert [json.loads(line) for chunk in chunks for line in chunk.kept["record"].to_pylist()] == records
    path = put(
        tmp_path / "a.json", '[{"text": "a", "n": 1e999}, {"text": "b", "n": ' + "9" * 5000 + '}, {"text": "c"}]'
    )
    found = survey(path, "text")
    assert (found.rows, found.faults) == (3, 2)
    assert found.first_fault == "row 1 is not JSON (1e999 is beyond the largest number)"


def test_nan_in_json_is_missing(tmp_path: Path) -> None:
    assert parse_record('{"text": "a", "label": NaN}') == ({"text": "a", "label": None}, None)


@readers
def test_quotes_as_letters_and_spaces_after_commas_as_people_write_them(reader: Reader, tmp_path: Path) -> None:
    lines = [
        f'it is "{number}" film , and {"`` good" if number % 2 else chr(34)}\t{number % 2}' for number in range(60)
    ]
    lines[11] = '"viewers of the ring are more likely\t0'
    lines[31] = 'ends there"\t1'
    path = put(tmp_path / "glue.tsv", "sentence\tlabel\n" + "\n".join(lines) + "\n")
    assert reader(path, text_column="sentence").texts == [line.split("\t")[0] for line in lines]
    rows = "".join(f'"{number % 2}", "a film, of {number}"\n' for number in range(60))
    read = reader(put(tmp_path / "spaces.csv", f'"is_offensive", "text"\n{rows}'), label_column="is_offensive")
    assert read.texts == [f"a film, of {number}" for number in range(60)]
    assert read.labels == [str(number % 2) for number in range(60)]
