"""Files of APIs, survey tools and annotators: columns within columns, rows that describe columns, remarks."""

import csv
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tenor.config import load_config
from tenor.console.run import show_labels
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import read_source
from tenor.data.splits import make_splits
from tenor.errors import UserError
from tenor.inference.file_inputs import open_input, read_chunks
from tenor.inference.file_job import survey

TEXTS = ("A film to remember.", "Dull, slow and far too long.", "Superb: I laughed twice.", "A waste of two hours.")
LABELS = ("positive", "negative", "positive", "negative")


def source(path: Path, *options: str) -> SourceData:
    return read_source(load_config("demo", ["data.source=file", f"data.path={path}", *options]).data)


def read(path: Path, *options: str) -> LabelledText:
    return source(path, *options).train


def refusal(path: Path, *options: str) -> str:
    with pytest.raises(UserError) as caught:
        source(path, *options)
    return str(caught.value)


def classes(rows: LabelledText) -> list[str]:
    return [rows.class_names[index] for index in rows.labels]


def options_in(message: str) -> list[str]:
    """The settings that a message says to set."""
    return [word.rstrip(".") for word in shlex.split(message.rpartition("Set ")[2]) if word.startswith("data.")]


def rows_of(kind: str, folder: Path) -> Path:
    """The texts in a field of an object, with the label next to it."""
    records = [
        {"review": {"lang": "en", "body": {"text": text}}, "user": {"id": 7}, "sentiment": label}
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    return written(kind, folder, records)


def written(kind: str, folder: Path, records: list[dict[str, object]]) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(records)
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    elif kind == "json":
        path.write_text(json.dumps({"status": "ok", "data": {"page": 1, "reviews": records}}))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


KINDS = pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "arrow"])


@KINDS
def test_a_refusal_names_the_fields_and_its_options_work(kind: str, tmp_path: Path) -> None:
    path = rows_of(kind, tmp_path)
    message = refusal(path)
    assert "'review.body.text'" in message
    rows = read(path, *options_in(message))
    assert list(rows.texts) == list(TEXTS)
    assert classes(rows) == list(LABELS)


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ({"name": "{}", "score": 0.9}, ["name"]),
        ({"score": 0.9, "value": "{}"}, ["value"]),
        ({"confidence": 0.9, "verdict_of_all": "{}"}, ["verdict_of_all"]),
        ({"id": 7, "class": "{}", "probability": 0.5}, ["class"]),
        ({"name": "{}", "value": "{}", "score": 0.9}, ["name", "value"]),
    ],
)
@KINDS
def test_a_label_within_an_object_is_its_name_and_no_score(
    kind: str, label: dict[str, object], options: list[str], tmp_path: Path
) -> None:
    def filled(name: str) -> dict[str, object]:
        return {key: name if value == "{}" else value for key, value in label.items()}

    path = written(
        kind, tmp_path, [{"text": text, "label": filled(name)} for text, name in zip(TEXTS, LABELS, strict=True)]
    )
    found = refusal(path)
    assert list(options_in(found)) == [f"data.label_column=label.{name}" for name in options]
    for option in options_in(found):
        assert classes(read(path, option)) == list(LABELS)
    plain = written(kind, tmp_path, [{"text": text, "label": name} for text, name in zip(TEXTS, LABELS, strict=True)])
    assert classes(read(plain)) == list(LABELS)


@KINDS
def test_no_option_is_printed_for_an_object_written_as_text(kind: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": text, "label": json.dumps({"name": name})} for text, name in zip(TEXTS, LABELS, strict=True)
    ]
    found = refusal(written(kind, tmp_path, rows))
    assert "has dictionaries in 4 of 4 rows" in found
    assert "Write the field with the class into a column of its own" in found
    assert "data.label_column" not in found


@KINDS
def test_a_list_of_one_object_is_read_as_the_object(kind: str, tmp_path: Path) -> None:
    def listed(*names: str) -> dict[str, object]:
        return {"labels": [{"label": name, "user": 1} for name in names]}

    rows = [{"review": {"text": text}, "annotation": listed(name)} for text, name in zip(TEXTS, LABELS, strict=True)]
    path = written(kind, tmp_path, rows)
    found = refusal(path)
    if kind in ("parquet", "arrow"):  # How many objects a list has is known once it is read.
        found = refusal(path, *options_in(found))
        assert "has dictionaries in 4 of 4 rows" in found
        assert classes(read(path, "data.text_column=review.text", *options_in(found))) == list(LABELS)
    else:
        assert classes(read(path, *options_in(found))) == list(LABELS)
    more = [{"review": {"text": "Fine"}, "annotation": listed(*names)} for names in (("positive", "negative"), ())]
    path = written(kind, tmp_path, [*rows * 9, *more])
    options = ("data.text_column=review.text", "data.label_column=annotation.labels.label")
    found = refusal(path, *options)
    assert "2 of 38 rows cannot be used" in found
    assert "looks like several" in found or "several values" in found
    assert "annotation.labels.label is missing" in found
    assert len(read(path, *options, "data.faulty_rows=leave_out").texts) == 36


@KINDS
def test_a_field_is_predicted_and_no_column_is_added(kind: str, tmp_path: Path) -> None:
    path = rows_of(kind, tmp_path)
    rows = open_input(path, "review.body.text")
    chunks = list(read_chunks(rows, "review.body.text"))
    assert [text for chunk in chunks for text in chunk.texts] == list(TEXTS)
    assert list(survey(path, "review.body.text").columns) == ["review", "user", "sentiment"]
    with pytest.raises(UserError, match=re.escape("Set --text-column review.body.text.")):
        survey(path, "text")


def test_a_column_with_a_dot_in_its_name_comes_first(tmp_path: Path) -> None:
    table = pa.table(
        {"review": [{"text": "inner"}, {"text": "inner"}], "review.text": list(TEXTS[:2]), "label": [0, 1]}
    )
    pq.write_table(table, tmp_path / "both.parquet")
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for name in ("both.parquet", "both.jsonl"):
        assert list(read(tmp_path / name, "data.text_column=review.text").texts) == list(TEXTS[:2])


def test_a_missing_object_is_a_missing_text(tmp_path: Path) -> None:
    records = [{"review": {"text": text}, "label": 1 - at % 2} for at, text in enumerate(TEXTS)]
    records[1]["review"] = None
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    for name in ("rows.parquet", "rows.jsonl"):
        assert "review.text is missing" in refusal(tmp_path / name, "data.text_column=review.text")


def test_records_under_several_nested_keys_need_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps({"data": {"reviews": [{"text": "a"}], "users": [{"name": "b"}]}, "page": 1}))
    message = refusal(path)
    assert "'data.reviews' (1), 'data.users' (1)" in message
    assert '["data"]["reviews"]' in message


HEADER = ["StartDate", "Progress", "ResponseId", "Q1", "Q2"]
QUALTRICS = [
    ["Start Date", "Progress", "Response ID", "Please describe your experience\nwith our product.", "Recommend it?"],
    [json.dumps({"ImportId": name, "timeZone": "UTC"}) for name in ("startDate", "progress", "_recordId", "Q1", "Q2")],
]
SURVEYMONKEY = [["Response", "", "", "Open-Ended Response", "Response"]]
ANSWERS = [["2025-03-01", "100", f"R_{n}", f"{text} {n}", LABELS[n % 4]] for n, text in enumerate(TEXTS * 5)]


def table(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("describing", [QUALTRICS, SURVEYMONKEY, []])
def test_rows_that_describe_the_columns_are_no_answers(
    describing: list[list[str]], encoding: str, tmp_path: Path
) -> None:
    path = table(tmp_path / "survey.csv", [HEADER, *describing, *ANSWERS], encoding)
    assert "no column 'text' and no column 'label'" in refusal(path)
    rows = read(path, "data.text_column=Q1", "data.label_column=Q2")
    assert (list(rows.texts), classes(rows)) == ([row[3] for row in ANSWERS], [row[4] for row in ANSWERS])
    found = survey(path, "Q1")
    assert (found.rows, found.faults) == (len(ANSWERS), 0)
    told = [note for note in (*rows.notes, *found.notes) if "below the header describe" in note]
    assert len(told) == (2 if describing else 0)
    assert all("left out" in note for note in told)


def test_rows_keep_their_numbers_below_rows_that_describe_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "survey.csv", [HEADER, *QUALTRICS, *ANSWERS, [*ANSWERS[0][:4], ""]])
    last = len(QUALTRICS) + len(ANSWERS) + 1
    assert f"row {last} (not counting the header): Q2 is missing" in refusal(
        path, "data.text_column=Q1", "data.label_column=Q2"
    )


QUESTION = "Overall sentiment (1 = very bad, 5 = very good)"
REVIEW = "What did you think of the film that you watched with us last week?"


@pytest.mark.parametrize("labels", [("1", "2", "4", "5"), LABELS])
@pytest.mark.parametrize("first", [["Timestamp", REVIEW, QUESTION], ["When", "Your review", QUESTION]])
def test_long_questions_are_names_of_columns(first: list[str], labels: tuple[str, ...], tmp_path: Path) -> None:
    """As Google Forms writes them."""
    rows = [["1/15/2021 10:11:12", f"{TEXTS[n % 4]} {n}", labels[n % 4]] for n in range(40)]
    path = table(tmp_path / "forms.csv", [first, *rows])
    assert f"Available columns: {first[0]!r}, {first[1]!r}, {QUESTION!r}" in refusal(path)
    names = json.dumps(sorted(set(labels)))
    options = [f"data.text_column={first[1]}", f"data.label_column={QUESTION}", f"data.class_names={names}"]
    assert len(read(path, *options)) == survey(path, first[1]).rows == 40


def test_columns_that_the_user_names_settle_what_the_header_is(tmp_path: Path) -> None:
    """Where the rows below could have such values, too."""
    second = "And what would you tell a friend about it, in a few of your own words?"
    path = table(tmp_path / "forms.csv", [[REVIEW, second], *([text, f"Not {text}"] for text in TEXTS)])
    assert survey(path, REVIEW).rows == survey(path, second).rows == 4
    assert "seems to be a row of data" in refusal(path)


@pytest.mark.parametrize("labels", [("1", "2", "4", "5"), LABELS])
def test_a_long_first_text_is_no_name(labels: tuple[str, ...], tmp_path: Path) -> None:
    rows = [["1/15/2021 10:11:12", f"{REVIEW} {TEXTS[n % 4]} {n}", labels[n % 4]] for n in range(40)]
    assert "seems to be a row of data" in refusal(table(tmp_path / "rows.csv", rows))


def labelled(folder: Path, labels: list[str]) -> Path:
    path = folder / "labelled.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"film {n}", label) for n, label in enumerate(labels))])
    return path


@pytest.mark.parametrize("odd", ["positive (sarcastic?)", "positive - see note", "positive, ask Maria", "positive?"])
def test_a_label_with_a_remark_is_told_and_the_setting_mends_it(odd: str, tmp_path: Path) -> None:
    path = labelled(tmp_path, ["positive", "negative"] * 10 + [odd])
    note = next(note for note in read(path).notes if odd in note)
    (setting,) = [word.rstrip(";.") for word in shlex.split(note.partition("other: ")[2]) if "relabel" in word]
    rows = read(path, setting)
    assert rows.class_names == ("negative", "positive")
    assert rows.labels[-1] == 1


def test_names_that_only_begin_alike_are_classes(tmp_path: Path) -> None:
    rows = read(labelled(tmp_path, ["very positive", "very negative", "positive", "positively", "sci-fi", "sci"] * 5))
    assert rows.notes == ()


def test_two_drawings_of_an_emoji_are_one_class(tmp_path: Path) -> None:
    rows = read(labelled(tmp_path, ["☹", "☹\ufe0f", "😀", "😀\ufe0f"] * 3))
    assert rows.class_names == ("☹", "😀")
    assert rows.notes


@pytest.mark.parametrize("of_several", ["plot;music", "['plot', 'music']"])
def test_rows_of_several_labels_are_left_out_also_if_they_are_most(of_several: str, tmp_path: Path) -> None:
    path = labelled(tmp_path, ["plot", "music", *[of_several] * 5] * 4)
    assert "data.faulty_rows=leave_out" in refusal(path)
    assert classes(read(path, "data.faulty_rows=leave_out")) == ["plot", "music"] * 4


def test_blank_texts_are_left_out_with_the_faulty_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\na fine film,1\n,1\n"  ",0\ndull,0\n')
    assert len(read(path)) == 4  # DAT016 judges them.
    places = "row 2 (not counting the header); row 3 (not counting the header)"
    assert any(f"column 'text': 2 rows without a text ({places})." in note for note in read(path).notes)
    assert list(read(path, "data.faulty_rows=leave_out").texts) == ["a fine film", "dull"]


def test_a_test_file_without_labels_is_for_prediction(tmp_path: Path) -> None:
    path = labelled(tmp_path, list(LABELS))
    (tmp_path / "test.csv").write_text("id,text\n1,a fine film\n2,dull\n")
    message = refusal(path, f"data.test_path={tmp_path / 'test.csv'}")
    assert "leave data.test_path out" in message
    assert "label_column=id" not in message


@pytest.mark.parametrize(("classes", "shown"), [(5, 5), (7, 7), (9, 6)])
def test_the_table_of_classes_hides_none_of_a_few(classes: int, shown: int, tmp_path: Path) -> None:
    path = labelled(tmp_path, [f"c{at % classes}" for at in range(90)])
    data = load_config("demo", ["data.source=file", f"data.path={path}", "data.subset.size=null"]).data
    data = data.model_copy(update={"validation": data.validation.model_copy(update={"size": 9})})
    console = Console(width=100, record=True)
    show_labels(console, make_splits(read_source(data), data, seed=1))
    header = next(line.split() for line in console.export_text().splitlines() if "labels" in line)
    assert header[2 : 2 + shown] == [f"c{at}" for at in range(shown)]
    assert header[2 + shown :] == ([] if shown == classes else ["+3", "more"])


def test_check_shows_the_rows_and_classes_that_were_read(tmp_path: Path) -> None:
    path = labelled(tmp_path, ["positive", "negative", "neutral", "neutral"] * 10)
    data = load_config("demo", ["data.source=file", f"data.path={path}", "data.subset.size=null"]).data
    data = data.model_copy(update={"validation": data.validation.model_copy(update={"size": 8})})
    console = Console(width=100, record=True)
    show_labels(console, make_splits(read_source(data), data, seed=1))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert ["labels", "rows", "negative", "neutral", "positive"] in lines
    assert ["train", "32", "8", "16", "8"] in lines
    assert ["validation", "8", "2", "4", "2"] in lines


# Files of other trainers.


def test_files_of_fasttext_are_read_under_its_own_names(tmp_path: Path) -> None:
    lines = [f"__label__{label} {text}" for text, label in zip(TEXTS, LABELS, strict=True)]
    path = tmp_path / "reviews.train"
    path.write_text("".join(f"{line}\n" for line in lines))
    assert classes(read(path)) == list(LABELS)
    path.write_text("".join(f"{line}\n" for line in [*lines, "__label__positive __label__negative Both of it."]))
    assert "has 2 labels, expected one" in refusal(path)
    path.write_text("Only a text.\n")
    assert "unknown suffix '.train'" in refusal(path)


def test_the_categories_of_spacy_are_named_as_one_column(tmp_path: Path) -> None:
    records = [
        {"text": text, "cats": {"POSITIVE": float(label == "positive"), "NEGATIVE": float(label != "positive")}}
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    path = written("jsonl", tmp_path, [dict(record) for record in records])
    (option,) = options_in(refusal(path))
    assert option == "data.label_column=cats"
    assert classes(read(path, option)) == [label.upper() for label in LABELS]


def test_what_is_left_out_is_told_by_its_reasons(tmp_path: Path) -> None:
    """A refusal for missing labels names the blank texts, too: the option that it prints leaves both out."""
    rows = [*zip(TEXTS, LABELS, strict=True), ("No label.", ""), ("", "positive"), ("Nor here.", "")]
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    message = refusal(path)
    assert "2 of 7 rows cannot be used" in message
    assert "1 row without a text (row 6" in message
    notes = " ".join(read(path, "data.faulty_rows=leave_out").notes)
    assert "3 of 7 rows are left out (2 rows: label is missing, 1 row: text is blank)" in notes
