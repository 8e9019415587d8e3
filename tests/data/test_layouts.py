"""Layouts of files and folders as people have them: read as they are meant, or refused with a fix that works."""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.data.dataset import LabelledText
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.inference import file_inputs
from tenor.inference.file_job import survey

GOOD = (
    "The kettle is quiet, and quick",
    "Best rye bread in town",
    "I finished it in one night",
    "Clean rooms, soft pillows",
)
BAD = (
    "The handle snapped off on day three",
    "Cold noodles, and a shrug",
    "Dry cake, sour coffee",
    "It hums and flickers",
)
ROWS = [row for pair in zip(GOOD, BAD, strict=True) for row in ((pair[0], "good"), (pair[1], "bad"))]
TEXTS = [text for text, _ in ROWS]
LABELS = [label for _, label in ROWS]


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def labels_of(rows: LabelledText) -> list[str]:
    return [rows.class_names[label] for label in rows.labels]


def texts_to_predict(path: Path | str, column: str = "text") -> list[str]:
    found = survey(Path(path), column)
    assert not found.faults, found.first_fault
    return [text for chunk in file_inputs.read_chunks(found.file, column) for text in chunk.texts]


def refusal(path: Path | str, **columns: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, **columns)
    return str(caught.value)


def option(told: str, name: str) -> str:
    """The value of a printed option, as a shell reads it."""
    told = told.removesuffix(".")
    words = shlex.split(told[told.index("Set ") if "Set " in told else told.index("Name one: ") :].replace("(", " ( "))
    return next(word.partition("=")[2] for word in words if word.startswith(f"data.{name}="))


def table(header: str, rows: list[tuple[Any, ...]]) -> str:
    cells = [[f'"{value}"' if "," in str(value) else str(value) for value in row] for row in rows]
    return "\n".join([header, *map(",".join, cells), ""])


# A column that marks splits.


def split_rows() -> list[tuple[str, str, str]]:
    return [(text, label, ("train", "train", "val", "test")[at // 2]) for at, (text, label) in enumerate(ROWS)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_of_several_splits_are_not_trained_on_together(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"the reviews{suffix}"
    records = [dict(zip(("text", "label", "Split"), row, strict=True)) for row in split_rows()]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        put(path, table("text,label,Split", split_rows()) if suffix == ".csv" else "\n".join(map(json.dumps, records)))
    told = refusal(path)
    assert "'train' (4), 'val' (2), 'test' (2)" in told
    train, test = option(told, "path"), option(told, "test_path")
    assert list(read_table(train).texts) == TEXTS[:4]
    assert list(read_table(test).texts) == TEXTS[6:]
    assert texts_to_predict(test) == TEXTS[6:]
    assert list(read_table(f"{path}#Split!=test").texts) == TEXTS[:6]
    assert len(read_table(re.findall(r"all rows: data.path='(.*)'", told)[0])) == 8
    assert "selects no row. Values of the column, with rows: 'train' (4)" in refusal(f"{path}#Split=Train")
    if suffix != ".jsonl":
        assert "no column 'splt' (did you mean 'Split'?)" in refusal(f"{path}#splt=train")


def test_a_split_may_be_marked_within_objects(tmp_path: Path) -> None:
    """Vertex AI's import files: the name of the field has dots and a slash itself."""
    field = "aiplatform.googleapis.com/ml_use"
    uses = ["training"] * 4 + ["validation"] * 2 + ["test"] * 2
    rows = [
        {"text": text, "label": label, "labels": {field: use}} for (text, label), use in zip(ROWS, uses, strict=True)
    ]
    told = refusal(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert f"'labels.{field}' marks the rows of several splits, 'training' (4), 'validation' (2), 'test' (2)" in told
    assert list(read_table(option(told, "path")).texts) == TEXTS[:4]
    assert list(read_table(option(told, "test_path")).texts) == TEXTS[6:]


@pytest.mark.parametrize(
    "values",
    [["train"] * 8, ["test"] * 8, ["warm", "cold"] * 4, ["train", "plane"] * 4, ["0", "1"] * 4, ["test", "val"] * 4],
)
def test_a_column_that_only_has_the_name_of_a_split_is_no_fault(values: list[str], tmp_path: Path) -> None:
    rows = [(*row, value) for row, value in zip(ROWS, values, strict=True)]
    assert len(read_table(put(tmp_path / "a.csv", table("text,label,set", rows)))) == 8


def test_a_split_may_be_the_label(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", table("text,label,split", split_rows()))
    assert Counter(labels_of(read_table(path, label_column="split"))) == {"train": 4, "val": 2, "test": 2}


def test_chosen_rows_keep_their_numbers_and_their_faults(tmp_path: Path) -> None:
    rows = [*split_rows(), ("a", "", "train"), ("b", "good", "train", "more")]
    told = refusal(f"{put(tmp_path / 'a.csv', table('text,label,split', rows))}#split=train")
    assert "row 9 (not counting the header): label is missing" in told
    assert "row 10 (not counting the header): has 4 fields" in told
    name = tmp_path / "a#b=c.csv"
    assert len(read_table(put(name, table("text,label", ROWS)))) == 8, "a path that exists has no selection"


# Answers that were rejected.


@pytest.mark.parametrize(
    ("header", "row", "rejected"),
    [
        ("HITId,AssignmentId,Input.text,Answer.label,AssignmentStatus", "h,a,{},{},Approved", "h,a,{},{},Rejected"),
        ("ASSIGNMENT:status,INPUT:text,OUTPUT:label", "APPROVED,{},{}", "REJECTED,{},{}"),
        ("_unit_id,_tainted,text,label", "1,false,{},{}", "1,true,{},{}"),
        ("_task_hash,_input_hash,text,label,answer", "1,2,{},{},accept", "1,2,{},{},reject"),
    ],
    ids=["Mechanical Turk", "Toloka", "Appen", "Prodigy, as CSV"],
)
def test_rejected_answers_are_not_taught(header: str, row: str, rejected: str, tmp_path: Path) -> None:
    lines = [row.format(f'"{text}"', label) for text, label in ROWS]
    lines[3] = rejected.format(f'"{TEXTS[3]}"', "good")
    path = put(tmp_path / "a.csv", "\n".join([header, *lines]))
    columns = {}
    if "text" not in header.split(","):
        told = refusal(path)
        columns = {"text_column": option(told, "text_column"), "label_column": option(told, "label_column")}
    read = read_table(path, **columns)
    assert list(read.texts) == TEXTS[:3] + TEXTS[4:]
    assert labels_of(read) == LABELS[:3] + LABELS[4:]
    assert "left out, and not used: 1 row: " in " ".join(read.notes)


# Dictionaries as labels.


def test_a_dictionary_of_0_and_1_is_the_key_that_has_1(tmp_path: Path) -> None:
    """As in spaCy's `cats`; with many keys, too."""
    for more in (0, 40):
        others = {f"class_{at}": 0.0 for at in range(more)}
        lines = [{"text": t, "cats": {"good": float(k == "good"), "bad": float(k == "bad"), **others}} for t, k in ROWS]
        read = read_table(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines))), label_column="cats")
        assert labels_of(read) == LABELS
        assert "read as the key that has 1 (8 rows)" in " ".join(read.notes)
    for scores in ({"good": 1, "bad": 1}, {"good": 0, "bad": 0}, {"good": 0.7, "bad": 0.3}):
        path = put(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": t, "label": scores}) for t in TEXTS))
        assert "write the class with the highest score into a column" in refusal(path)


def test_a_field_of_a_dictionary_is_named_by_an_option_for_the_shell(tmp_path: Path) -> None:
    """As `mongoexport --jsonFormat=canonical` writes numbers."""
    lines = [{"text": text, "stars": {"$numberInt": str(at % 2)}} for at, text in enumerate(TEXTS)]
    path = put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    told = refusal(path, label_column="stars")
    column = subprocess.run(f"printf %s {told.split('Set ')[1]}", shell=True, capture_output=True, text=True).stdout
    assert labels_of(read_table(path, label_column=column.partition("=")[2])) == ["0", "1"] * 4
    lines = [{"text": text, "label": {"id": at % 2, "slug": label}} for at, (text, label) in enumerate(ROWS)]
    told = refusal(put(tmp_path / "b.jsonl", "\n".join(map(json.dumps, lines))))
    assert "Its fields: 'id', 'slug'. Set data.label_column=label.NAME" in told


def test_stars_with_a_decimal_comma_are_integers(tmp_path: Path) -> None:
    """As spreadsheets write 4.0 in many countries."""
    lines = [f"{text};{at % 5 + 1},0" for at, text in enumerate(TEXTS * 5)]
    path = put(tmp_path / "a.csv", "\n".join(["text;label", *lines]))
    read = read_table(path)
    assert labels_of(read)[:6] == ["1", "2", "3", "4", "5", "1"]
    assert "numbers with a decimal comma are read as integers, such as '1,0' as '1'" in " ".join(read.notes)
    for relabel in ({"5,0": None}, {"5": None}):
        read = read_table(path, relabel=relabel)
        assert read.class_names == ("1", "2", "3", "4")
        assert "data.relabel: no row" not in " ".join(read.notes)
    lines = [line.replace("5,0", "4,5") for line in lines]
    told = refusal(put(tmp_path / "b.csv", "\n".join(["text;label", *lines])))
    assert """'data.class_names=["1,0", "2,0", "3,0", "4,0", "4,5"]'""" in told
    lines = [f'"{text}";"{at % 2},{1 - at % 2}"' for at, text in enumerate(TEXTS)]
    refusal(put(tmp_path / "c.csv", "\n".join(["text;label", *lines])))


# Folders.


def test_folders_of_a_partition_are_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "a.parquet"
    rows = pa.Table.from_pylist([{"text": text, "mood": label} for text, label in ROWS])
    pq.write_to_dataset(rows, folder, partition_cols=["mood"])
    put(folder / "_SUCCESS", "")
    read = read_table(folder, label_column="mood")
    assert dict(zip(read.texts, labels_of(read), strict=True)) == dict(ROWS)
    assert "the column 'mood' is that of the folders' names, mood=bad, mood=good" in " ".join(read.notes)
    assert sorted(texts_to_predict(folder)) == sorted(TEXTS)
    other = tmp_path / "csv"
    put(other / "year=2024" / "mood=so%2Fso" / "part-0.csv", "text\na fine film\n")
    put(other / "year=2025" / "mood=good" / "part-0.csv", "text\nanother\n")
    assert labels_of(read_table(other, label_column="mood")) == ["so/so", "good"]
    put(other / "year=2025" / "mood=__HIVE_DEFAULT_PARTITION__" / "part-0.csv", "text\na third\n")
    assert len(read_table(other, label_column="mood", faulty_rows="leave_out")) == 2
    put(other / "year=2026" / "part-0.csv", "text,stars\na,1\n")
    assert "expected" in refusal(other, label_column="mood")


def test_class_folders_may_have_files_without_a_suffix(tmp_path: Path) -> None:
    """As 20 Newsgroups and `sklearn.datasets.load_files`."""
    for at, (text, label) in enumerate(ROWS):
        put(tmp_path / "all" / label / (f"{at}.txt" if at == 3 else f"{51000 + at}"), text)
    read = read_table(tmp_path / "all")
    assert dict(zip(read.texts, labels_of(read), strict=True)) == dict(ROWS)
    put(tmp_path / "binary" / "good" / "1", b"\x89PNG\0")
    put(tmp_path / "binary" / "bad" / "2", "text")
    assert "has no files to read" in refusal(tmp_path / "binary")
    for label in ("good", "bad"):
        put(tmp_path / "other" / label / "1.review", label)
        put(tmp_path / "hadoop" / label / "part-00000", "one\ntwo\n")
    assert "has no files to read" in refusal(tmp_path / "hadoop"), "its lines may be rows"
    command = refusal(tmp_path / "other").split("rename them: ")[1]
    subprocess.run(command, shell=True, check=True)
    assert list(read_table(tmp_path / "other").texts) == ["bad", "good"]


@pytest.mark.parametrize("spoiled", [[3], [0, 5]])
def test_a_text_that_is_not_utf8_is_named_with_the_command_that_converts_it(spoiled: list[int], tmp_path: Path) -> None:
    folder = tmp_path / "of films"
    for at, (text, label) in enumerate(ROWS):
        put(folder / label / f"{at}.txt", f"{text} Ça va, café.".encode("latin-1" if at in spoiled else "utf-8"))
    paths = [str(folder / ROWS[at][1] / f"{at}.txt") for at in spoiled]
    told = refusal(folder)
    assert all(f"  {path}: contains bytes that are not UTF-8" in told for path in paths)
    found = survey(folder, "text")
    assert found.faults == len(spoiled)
    assert min(paths) in found.first_fault
    commands = told.split("for instance: ")[1]
    assert sorted(commands.split("; ")) == sorted(found.fix.split("for instance: ")[1].split("; "))
    assert {word for word in shlex.split(commands) if word.endswith(".txt") and ".utf8." not in word} == set(paths)
    subprocess.run(commands, shell=True, check=True)
    read = read_table(folder)
    assert sorted(read.texts) == sorted(f"{text} Ça va, café." for text, _ in ROWS)
    assert survey(folder, "text").faults == 0


def test_a_file_per_class_is_told_with_the_command_that_joins_them(tmp_path: Path) -> None:
    """As rt-polarity.pos and rt-polarity.neg (Pang and Lee 2005), in Latin-1."""
    folder = tmp_path / "rt polarity"
    put(folder / "rt.pos", "\n".join([*GOOD, "", "très café"]).encode("latin-1"))
    put(folder / "rt.neg", "\n".join(BAD))
    put(folder / "README.txt", "Each line is a review.")
    command = refusal(folder).split(", for instance: ")[1]
    subprocess.run(command, shell=True, check=True)
    read = read_table(tmp_path / "rt polarity_labelled.txt")
    assert dict(zip(read.texts, labels_of(read), strict=True)) == {
        **dict.fromkeys(BAD, "neg"),
        **dict.fromkeys((*GOOD, "très café"), "pos"),
    }
    for name in ("pos", "neg"):
        put(tmp_path / "texts" / f"train_{name}.txt", f"{name} one\n{name} two\n")
    assert refusal(tmp_path / "texts").count("__label__") == 2
    assert refusal(tmp_path / "texts" / "train_*.txt").count("__label__") == 2


def test_the_only_folder_within_a_folder_is_read(tmp_path: Path) -> None:
    """As a dataset's repository on the hub: README.md and data/."""
    put(tmp_path / "README.md", "x")
    put(tmp_path / ".git" / "config", "x")
    put(tmp_path / "data" / "a.csv", table("text,label", ROWS))
    read = read_table(tmp_path)
    assert list(read.texts) == TEXTS
    assert "the rows are those of" in " ".join(read.notes)
    put(tmp_path / "data" / "test.csv", table("text,label", ROWS))
    put(tmp_path / "data" / "train.csv", table("text,label", ROWS))
    assert option(refusal(tmp_path), "test_path") == f"{tmp_path}/data/test.csv"


def test_splits_are_told_among_other_files(tmp_path: Path) -> None:
    """As Zhang, Zhao and LeCun's data (2015): train.csv, test.csv, classes.txt, readme.txt."""
    for name in ("train.csv", "test.csv"):
        put(tmp_path / name, "".join(f'"{at % 2 + 1}","{text}"\n' for at, text in enumerate(TEXTS)))
    put(tmp_path / "classes.txt", "bad\ngood\n")
    told = refusal(tmp_path)
    assert option(told, "path") == f"{tmp_path}/train.csv"
    assert "data.test_size=null" in told
    command = refusal(tmp_path / "train.csv").split("for instance: ")[1]
    subprocess.run(command, shell=True, check=True)
    assert list(read_table(tmp_path / "train_with_header.csv").texts) == TEXTS
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train_with_header.csv").unlink()
    assert f"Give the path of one file, or a pattern: '{tmp_path}/*.csv'" in refusal(tmp_path)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_header_is_added_to_all_files_at_once(is_packed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "my shards"
    for at in range(2):
        content = "".join(f"{text}\t{label}\n" for text, label in ROWS[at * 4 : at * 4 + 4])
        put(folder / f"{'ab'[at]}.txt{'.gz' * is_packed}", gzip.compress(content.encode()) if is_packed else content)
    put(folder / "readme.txt", "text TAB label")
    told = refusal(folder)
    subprocess.run(told.split(", for instance: ")[1], shell=True, check=True)
    (path,) = (word for word in shlex.split(told.partition(", for instance: ")[0]) if word.startswith("data.path="))
    read = read_table(path.removeprefix("data.path="))
    assert (list(read.texts), labels_of(read)) == (TEXTS, LABELS)


def test_folders_with_the_same_columns_are_told_as_a_pattern(tmp_path: Path) -> None:
    for year in ("2024", "2025"):
        put(tmp_path / year / "a.csv", table("text,label", ROWS))
    pattern = shlex.split(refusal(tmp_path).split("give all of them: ")[1].removesuffix("."))[0]
    assert len(read_table(pattern)) == 16


# Tables.


def test_row_names_of_r_are_no_texts(tmp_path: Path) -> None:
    """`write.table(frame, sep = "\\t")`: the header has no name for the row names."""
    lines = ['"text"\t"label"', *(f'"{at}"\t"{text}"\t"{label}"' for at, (text, label) in enumerate(ROWS, start=1))]
    lines[3] = lines[3].replace("rye", '\\"rye\\"')
    path = put(tmp_path / "a.tsv", "\n".join(lines))
    read = read_table(path)
    assert list(read.texts) == [text.replace("rye", '"rye"') for text in TEXTS]
    assert "the first is the name of the row, as R writes it" in " ".join(read.notes)
    assert texts_to_predict(path) == list(read.texts)


def test_a_delimiter_at_the_end_of_each_row_moves_no_column(tmp_path: Path) -> None:
    lines = ["text;label", *(f"{text};{label};" for text, label in ROWS)]
    read = read_table(put(tmp_path / "a.csv", "\n".join(lines)))
    assert (list(read.texts), labels_of(read)) == (TEXTS, LABELS)


@pytest.mark.parametrize("header", ["text,label", "id,text,label"])
def test_a_text_with_a_comma_in_each_row_is_no_row_name(header: str, tmp_path: Path) -> None:
    lines = [f"{at}, and a comma,{label}" for at, label in enumerate(LABELS)]
    lines = [f"{at},{line}" if header.startswith("id") else line for at, line in enumerate(lines)]
    told = refusal(put(tmp_path / "b.csv", "\n".join([header, *lines])))
    assert "8 of 8 rows have more fields than the header, because their texts contain ','" in told


def test_a_name_of_several_lines_can_be_typed(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", table('"Why?\r\n(No names, please)",label', ROWS))
    assert "'Why? (No names, please)'" in refusal(path)
    read = read_table(path, text_column="Why? (No names, please)")
    assert list(read.texts) == TEXTS
    assert "line breaks in the names of columns" in " ".join(read.notes)


def php_my_admin(*tables: str) -> str:
    rows = [{"id": str(at), "text": text, "label": label} for at, (text, label) in enumerate(ROWS)]
    head = [{"type": "header", "version": "5.2.1", "comment": "Export to JSON plugin for PHPMyAdmin"}]
    named = [{"type": "table", "name": name, "database": "shop", "data": rows} for name in tables]
    return json.dumps([*head, {"type": "database", "name": "shop"}, *named])


def test_the_rows_of_phpmyadmin_are_those_of_the_table(tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", php_my_admin("reviews"))
    read = read_table(path)
    assert (list(read.texts), labels_of(read)) == (TEXTS, LABELS)
    assert "those of the table 'reviews'" in " ".join(read.notes)
    assert texts_to_predict(path) == TEXTS
    command = refusal(put(tmp_path / "b.json", php_my_admin("reviews", "users"))).split("for instance: ")[1]
    subprocess.run(command.replace("python ", "python3 ", 1), shell=True, check=True)
    assert list(read_table(tmp_path / "reviews.jsonl").texts) == TEXTS
    rows = [{"text": f"phpMyAdmin: {text}", "label": label} for text, label in ROWS]
    assert len(read_table(put(tmp_path / "c.json", json.dumps(rows)))) == 8


# Files that are nearly a table of texts and labels: the printed command writes one.


def followed(told: str) -> str:
    """Run the printed command, and return the path that the message tells to give."""
    command = told.partition(", for instance: ")[2]
    assert command, told
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, env=environment)
    return option(told.replace(" set data", " Set data").replace(", for instance: ", " ( "), "path")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_names_of_files_are_no_texts(suffix: str, tmp_path: Path) -> None:
    rows = [(f"doc_{at}.txt", label) for at, (_, label) in enumerate(ROWS)]
    records = "\n".join(json.dumps({"text": name, "label": label}) for name, label in rows)
    path = put(tmp_path / f"list{suffix}", records if suffix == ".jsonl" else table("text,label", rows))
    told = refusal(path)
    assert "'text' are names of files, such as 'doc_0.txt'" in told
    assert "the files into one folder per class" in told
    for at, text in enumerate(TEXTS):
        put(tmp_path / "reviews" / f"doc_{at}.txt", text)
    assert list(read_table(followed(refusal(path))).texts) == TEXTS
    assert len(read_table(put(tmp_path / "a.csv", table("text,label", [*rows[1:], ROWS[0]])))) == len(ROWS)


@pytest.mark.parametrize("has_index", [False, True])
def test_a_header_of_several_rows_is_told(has_index: bool, tmp_path: Path) -> None:
    """As pandas writes columns of two levels."""
    pandas = pytest.importorskip("pandas")
    names = [("review", "text"), ("review", "lang"), ("label", "mood"), ("label", "score")]
    frame = pandas.DataFrame(
        [(t, "en", label, len(t)) for t, label in ROWS], columns=pandas.MultiIndex.from_tuples(names)
    )
    frame.index.name = "id"
    frame.to_csv(tmp_path / "a.csv", index=has_index)
    told = refusal(tmp_path / "a.csv", text_column="review", label_column="mood")
    assert "the header has several rows" in told
    rows = read_table(followed(told), label_column="mood")
    assert (list(rows.texts), labels_of(rows)) == (TEXTS, LABELS)


def test_a_name_that_two_columns_have_is_no_header_of_several_rows(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", table("text,label,label", [(*row, "good") for row in ROWS]))
    assert "2 columns are called 'label'" in refusal(path)


@pytest.mark.parametrize("header", ["text,label", "label,text", "id,text,label"])
def test_unquoted_commas_are_enclosed_by_the_printed_command(header: str, tmp_path: Path) -> None:
    texts = [f"{text}, as I said, more or less" if at % 4 else "no comma here" for at, text in enumerate(TEXTS)]
    columns = {"text": texts, "label": LABELS, "id": [str(at) for at in range(8)]}
    lines = [",".join(cells) for cells in zip(*(columns[name] for name in header.split(",")), strict=True)]
    path = put(tmp_path / "a.csv", "\n".join([header, *lines, ""]))
    rows = read_table(followed(refusal(path)))
    assert (list(rows.texts), labels_of(rows)) == (texts, LABELS)
    shown = put(tmp_path / "b.csv", "\n".join([header.replace("label", "note"), *lines, ""]))
    assert "no column 'label'" in refusal(shown)


def test_most_rows_of_a_file_are_not_left_out_because_they_cannot_be_read(tmp_path: Path) -> None:
    lines = [f"{text},more,{at}" for at, text in enumerate(GOOD * 4)]
    path = put(tmp_path / "a.csv", "\n".join(["text,label", *lines, "fine,good", "dull,bad", ""]))
    assert "data.faulty_rows=leave_out is refused" in refusal(path, faulty_rows="leave_out")
    unlabelled = [(text, "") for text in TEXTS * 2] + ROWS[:2]
    path = put(tmp_path / "a.csv", table("text,label", unlabelled))
    assert len(read_table(path, faulty_rows="leave_out")) == 2


@pytest.mark.parametrize(
    "line",
    ["{text}@{label}", "{label};{text}", "17{at}\t{label}\t{text}", "17{at}\t{label}\t{text}\t", "{label}: {text}"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_lines_with_labels_are_written_by_the_printed_command(line: str, encoding: str, tmp_path: Path) -> None:
    """Financial PhraseBank, SemEval and files by hand: texts may contain the delimiter, and quotes."""
    texts = [f'"é{text}, {line[-8]}or not: a' if at == 3 else f"é {text}" for at, text in enumerate(TEXTS)]
    texts = [text.strip().replace("}", "").replace("{", "") for text in texts]
    lines = [
        line.format(text=text, label=label, at=at) for at, (text, label) in enumerate(zip(texts, LABELS, strict=True))
    ]
    lines[1] = lines[1].removesuffix("\t")
    path = put(tmp_path / "the reviews.txt", "\r\n".join([*lines, ""]).encode(encoding))
    rows = read_table(followed(refusal(path)))
    assert (list(rows.texts), labels_of(rows)) == (texts, LABELS)
    if encoding == "utf-8" and "\t" not in line:
        assert len(texts_to_predict(path)) == 8, "lines to predict may end as they like"


def test_labels_of_numbers_are_printed_with_the_names_of_the_classes(tmp_path: Path) -> None:
    lines = [f"{text}\t{4 * (label == 'good')}" if at else f"{text}\t0\t" for at, (text, label) in enumerate(ROWS)]
    told = refusal(put(tmp_path / "a.txt", "\n".join(lines)), text_column="review", label_column="mood")
    assert all(f"data.{role}_column={role}" in told for role in ("text", "label"))
    assert """'data.class_names=["0", "4"]'""" in told
    assert len(read_table(followed(told), class_names=("0", "4"))) == 8


def test_texts_whose_lines_begin_alike_have_no_labels(tmp_path: Path) -> None:
    for lines in (TEXTS, [f"{at}. {text}" for at, text in enumerate(TEXTS)], [f"The film, {text}" for text in TEXTS]):
        assert "has one text per line and no labels" in refusal(put(tmp_path / "a.txt", "\n".join(lines)))


@pytest.mark.parametrize("given", [".", "train_text.txt", "train_labels.txt"])
def test_texts_and_labels_in_two_files_are_joined_by_the_printed_command(given: str, tmp_path: Path) -> None:
    texts = [f'"{text}' for text in TEXTS]
    for split in ("train", "val", "test"):
        put(tmp_path / f"{split}_text.txt", "\n".join([*texts, ""]))
        put(tmp_path / f"{split}_labels.txt", "\n".join(["01"[label == "good"] for label in LABELS]))
    put(tmp_path / "mapping.txt", "0\tbad\n1\tgood\n")
    told = refusal(tmp_path / given)
    rows = read_table(followed(told))
    assert (list(rows.texts), labels_of(rows)) == (texts, ["01"[label == "good"] for label in LABELS])
    if given == ".":
        assert len(read_table(option(told.replace(" set data", " Set data"), "test_path"))) == 8


def test_files_of_another_length_are_no_pair(tmp_path: Path) -> None:
    put(tmp_path / "text.txt", "\n".join(TEXTS))
    put(tmp_path / "labels.txt", "0\n1\n")
    assert "has one text per line and no labels" in refusal(tmp_path / "text.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_records_of_keys_and_values_are_written_by_the_printed_command(encoding: str, tmp_path: Path) -> None:
    """As SNAP publishes Amazon's reviews."""
    records = [
        f"product/id: {at}\nreview/score: {1 + 4 * (label == 'good')}.0\nreview/summary: \nreview/text: é: {text}\n"
        for at, (text, label) in enumerate(ROWS)
    ]
    path = put(tmp_path / "a.txt.gz", gzip.compress("\n".join([*records, ""]).encode(encoding)))
    told = refusal(path)
    assert """data.text_column=review/text data.label_column=review/score 'data.class_names=["1", "5"]'""" in told
    rows = read_table(followed(told), "review/text", "review/score", class_names=("1", "5"))
    assert list(rows.texts) == [f"é: {text}" for text in TEXTS]


def test_an_arff_file_is_written_by_the_printed_command(tmp_path: Path) -> None:
    head = "% Weka\n@relation r\n\n@attribute 'the review' string\n@attribute class {good,bad}\n\n@data\n% below\n"
    texts = [f"{text}, isn't it" for text in TEXTS]
    rows = ["'{}',{}".format(text.replace("'", "\\'"), label) for text, label in zip(texts, LABELS, strict=True)]
    told = refusal(put(tmp_path / "a.arff", "\n".join([head, *rows, ""])))
    assert "data.label_column=class" in told
    read = read_table(followed(told), "the review", "class")
    assert (list(read.texts), labels_of(read)) == (texts, LABELS)
    assert "Save it in Weka as CSV" in refusal(put(tmp_path / "b.arff", f"{head}{{0 fine, 1 good}}\n"))


@pytest.mark.parametrize("suffix", [".cls", ".json"])
@pytest.mark.parametrize("is_archive", [True, False])
def test_a_label_next_to_each_text_is_joined_by_the_printed_command(
    is_archive: bool, suffix: str, tmp_path: Path
) -> None:
    """As in WebDataset's shards."""
    for at, (text, label) in enumerate(ROWS):
        put(tmp_path / "shard" / f"{at:06}.txt", text)
        put(
            tmp_path / "shard" / f"{at:06}{suffix}", json.dumps({"label": label}) if suffix == ".json" else f"{label}\n"
        )
    path = tmp_path / ("shard-0.tar" if is_archive else "shard")
    if is_archive:
        with tarfile.open(path, "w") as archive:
            for file in sorted((tmp_path / "shard").iterdir()):
                archive.add(file, file.name)
    rows = read_table(followed(refusal(path)))
    assert (list(rows.texts), labels_of(rows)) == (TEXTS, LABELS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("label", ["label", "p_good"])
def test_probabilities_per_class_become_labels_by_the_printed_command(label: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = [
        {"text": text, "p_bad": 0.7 - 0.5 * (one == "good"), "p_good": 0.3 + 0.5 * (one == "good")}
        for text, one in ROWS
    ]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        put(path, "\n".join(map(json.dumps, rows)))
    else:
        mark = ";" if suffix == ".csv" else "\t"
        put(path, "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]))
    if suffix == ".jsonl":
        known = [dict(row, mood=one) if at else row for at, (row, (_, one)) in enumerate(zip(rows, ROWS, strict=True))]
        other = put(tmp_path / "b.jsonl", "\n".join(map(json.dumps, known)))
        assert len(read_table(other, label_column="mood", faulty_rows="leave_out")) == 7
    told = refusal(path, label_column=label)
    assert "has one column per class ('p_bad', 'p_good') with probabilities" in told
    read = read_table(followed(told))
    assert (list(read.texts), labels_of(read)) == (TEXTS, LABELS)


def test_columns_of_marks_are_several_labels_per_row(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    marks = [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 0)] * 2
    rows = [(text, *of) for text, of in zip(TEXTS, marks, strict=True)]
    path = put(tmp_path / "a.csv", table("text,joy,anger,fear", rows))
    told = refusal(path)
    assert "3 columns of 0 and 1 ('joy', 'anger', 'fear'): it looks like several labels per row (multi-label" in told
    assert labels_of(read_table(path, label_column="joy")) == ["1", "0", "1", "0"] * 2
    one = read_table(followed(told))
    assert labels_of(one) == ["joy", "anger"] * 2
    others = put(
        tmp_path / "b.csv", table("text,mood,a,b,c,d", [(*row, *of, 1) for row, of in zip(ROWS, marks, strict=True)])
    )
    assert "Set data.label_column=mood" in refusal(others, label_column="mod")


@pytest.mark.parametrize("form", ["lines", "array"])
@pytest.mark.parametrize(
    "names", [("messages", "role", "content", "user"), ("conversations", "from", "value", "human")]
)
def test_chats_become_rows_by_the_printed_command(names: tuple[str, str, str, str], form: str, tmp_path: Path) -> None:
    column, role, content, user = names
    answerer = "assistant" if user == "user" else "gpt"
    rows = [
        {column: [{role: who, content: said} for who, said in (("system", "Judge."), (user, text), (answerer, label))]}
        for text, label in ROWS
    ]
    written = "\n".join(map(json.dumps, rows)) if form == "lines" else json.dumps(rows, indent=1)
    path = put(tmp_path / "a.json", written)
    for text_column in ("text", column):
        told = refusal(path, text_column=text_column)
        assert f"has chats in the column '{column}'" in told
        read = read_table(followed(told))
        assert (list(read.texts), labels_of(read)) == (TEXTS, LABELS)
