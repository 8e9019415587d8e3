"""Exports of annotation tools and public datasets: recognized, read with the printed options, nothing rejected taught.

The records have the form that Argilla 2.8's `GenericIO.to_list` and Label Studio's converter 2.1 wrote for such tasks.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.config import load_config
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.exports import recognize
from tenor.errors import UserError

ANNOTATED = {"annotator": 1, "annotation_id": 3, "created_at": "2024", "updated_at": "2024", "lead_time": 1.0}


def studio(review: str, *answers: list[str] | None) -> dict[str, Any]:
    """A task of Label Studio with one annotation per answer; None: skipped."""
    annotations = [
        {
            "was_cancelled": answer is None,
            "result": [{"type": "choices", "value": {"choices": answer}, "from_name": "mood", "to_name": "review"}]
            if answer
            else [],
        }
        for answer in answers
    ]
    return {"id": 1, "data": {"review": review, "source": "web"}, "annotations": annotations, "predictions": []}


def argilla(text: str, **answers: str) -> dict[str, Any]:
    """A flat record of Argilla 2: status and value of each response."""
    return {
        "id": text,
        "status": "completed",
        "_server_id": None,
        "text": text,
        "mood.responses": list(answers.values()),
        "mood.responses.users": list(answers),
        "mood.responses.status": list(answers),
        "mood.suggestion": "bad",
        "mood.suggestion.score": 0.9,
    }


def nested(text: str, status: str, *values: str) -> dict[str, Any]:
    answers = {"mood": [{"value": value, "user_id": "1"} for value in values]} if values else {}
    return {"id": text, "fields": {"text": text}, "suggestions": {}, "responses": answers, "status": status}


PRODIGY = {"_task_hash": 1, "_input_hash": 2}
GOOD_AND_BAD: dict[str, list[dict[str, Any]]] = {
    "Prodigy": [
        {"text": "a", "label": "good", "answer": "accept", **PRODIGY},
        {"text": "x", "label": "bad", "answer": "reject", **PRODIGY},
        {"text": "x", "label": "bad", "answer": "ignore", **PRODIGY},
        {"text": "b", "label": "bad", "answer": "accept", **PRODIGY},
    ],
    "Prodigy (choice)": [
        {"text": "a", "options": [{"id": "good"}], "accept": ["good"], "answer": "accept", **PRODIGY},
        {"text": "x", "options": [{"id": "good"}], "accept": [], "answer": "accept", **PRODIGY},
        {"text": "x", "options": [{"id": "good"}], "accept": ["bad"], "answer": "reject", **PRODIGY},
        {"text": "b", "options": [{"id": "good"}], "accept": ["bad"], "answer": "accept", **PRODIGY},
    ],
    "Label Studio (JSON)": [
        studio("a", ["good"]),
        studio("x", None),
        studio("x"),
        studio("x", ["good"], ["bad"]),
        studio("b", None, ["bad"], ["bad"]),
    ],
    "Label Studio": [
        {"review": "a long one", "id": 1, "mood": "good", **ANNOTATED},
        {"review": "b is long, too", "id": 2, "mood": "bad", **ANNOTATED},
    ],
    "Argilla": [
        argilla("a", submitted="good"),
        argilla("x"),
        argilla("x", draft="good"),
        argilla("x", discarded="good"),
        argilla("b", discarded="good", submitted="bad"),
    ],
    "Argilla 1": [
        {"text": "a", "annotation": "good", "prediction": None, "status": "Validated"},
        {"text": "x", "annotation": "good", "prediction": None, "status": "Discarded"},
        {"text": "x", "annotation": None, "prediction": [{"label": "bad", "score": 0.9}], "status": "Default"},
        {"text": "b", "annotation": "bad", "prediction": None, "status": "Validated"},
    ],
    "doccano": [
        {"id": 1, "text": "a", "label": ["good"], "Comments": []},
        {"id": 2, "text": "x", "label": [], "Comments": []},
        {"id": 3, "text": "b", "label": ["bad"], "Comments": []},
    ],
}
GOOD_AND_BAD["Argilla, nested"] = [
    nested("a", "completed", "good"),
    nested("x", "pending", "good"),
    nested("x", "completed", "good", "bad"),
    nested("x", "pending"),
    nested("b", "completed", "bad"),
]


def read(path: Path, options: str) -> LabelledText:
    """The rows of a file, read with settings as they are pasted into a shell."""
    overrides = ["data.source=file", f"data.path={json.dumps(str(path))}", *shlex.split(options)]
    rows = read_source(load_config("demo", overrides).data).train
    assert isinstance(rows, LabelledText)
    return rows


@pytest.mark.parametrize("kind", GOOD_AND_BAD)
def test_an_export_is_read_with_its_options_and_only_what_was_accepted(kind: str, tmp_path: Path) -> None:
    records = GOOD_AND_BAD[kind]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    export = recognize(list(records[0]), records)
    assert export is not None
    assert export.name == kind.removesuffix(", nested")
    rows = read(tmp_path / "a.jsonl", export.options)
    assert [(text[0], rows.class_names[label]) for text, label in zip(rows.texts, rows.labels, strict=True)] == [
        ("a", "good"),
        ("b", "bad"),
    ]
    assert rows.ids == ["1", str(len(records))], "the row numbers are the file's own"
    assert bool(rows.notes) == (len(records) > 2)
    if export.options:
        with pytest.raises(UserError) as caught:
            read(tmp_path / "a.jsonl", "")
        assert f"This looks like {export.name}. Set {export.options}." in str(caught.value)


@pytest.mark.parametrize("kind", ["Argilla", "Argilla 1", "doccano"])
def test_an_export_to_parquet_is_read_alike(kind: str, tmp_path: Path) -> None:
    records = GOOD_AND_BAD[kind]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    export = recognize(list(records[0]), records)
    assert export is not None
    rows = read(tmp_path / "a.parquet", export.options)
    assert (list(rows.texts), [rows.class_names[label] for label in rows.labels]) == (["a", "b"], ["good", "bad"])
    assert rows.ids == ["1", str(len(records))]


def test_a_json_array_of_tasks_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD_AND_BAD["Label Studio (JSON)"], indent=1))
    rows = read(tmp_path / "a.json", "data.text_column=review data.label_column=mood")
    assert list(rows.texts) == ["a", "b"]
    assert "2 rows: no annotation, or only skipped ones" in rows.notes[-1]


def test_the_default_name_of_a_column_is_printed_if_another_was_given(tmp_path: Path) -> None:
    task = {**studio("a", ["good"]), "data": {"text": "a"}}
    other = {**studio("b", ["bad"]), "data": {"text": "b"}}
    (tmp_path / "a.json").write_text(json.dumps([task, other]))
    with pytest.raises(UserError) as caught:
        read(tmp_path / "a.json", "data.text_column=data.text")
    options = str(caught.value).split(". Set ")[1].removesuffix(".")
    assert list(read(tmp_path / "a.json", f"data.text_column=data.text {options}").texts) == ["a", "b"]


def test_several_choices_are_several_labels(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(studio(t, ["good", "bad"])) + "\n" for t in "abc"))
    with pytest.raises(UserError, match=r"looks like 2 labels; expected one label per row\. Several labels per row"):
        read(tmp_path / "a.jsonl", "data.text_column=review data.label_column=mood")
    lines = ["id,annotator,annotation_id,lead_time,review,mood", *['1,1,1,2.0,fine,"{""choices"":[""a"",""b""]}"'] * 3]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="looks like 2 labels"):
        read(tmp_path / "a.csv", "data.text_column=review data.label_column=mood")


@pytest.mark.parametrize(
    ("header", "rows", "classes"),
    [
        ("review,sentiment", ["fine,positive", "dull,negative"], ("negative", "positive")),
        ("reviewerID,reviewText,overall", ["1,fine,5.0", "2,dull,1.0"], ("1", "2", "3", "4", "5")),
        ("business_id,stars,text", ["1,5.0,fine", "2,1.0,dull"], ("1", "2", "3", "4", "5")),
        ("reviewId,userName,content,score", ["1,me,fine,5", "2,me,dull,1"], ("1", "2", "3", "4", "5")),
        ("Id,ProductId,Score,Summary,Text", ["1,1,5,ok,fine", "2,1,1,no,dull"], ("1", "2", "3", "4", "5")),
        (
            "Package Name,Star Rating,Review Title,Review Text",
            ["a.b,2,ok,fine", "a.b,1,,dull", "a.b,1,,"],
            ("1", "2", "3", "4", "5"),
        ),
        ("target,ids,date,flag,user,text", ["4,1,x,x,x,fine", "0,1,x,x,x,dull"], ("negative", "positive")),
    ],
)
def test_a_public_dataset_is_read_with_the_options_of_the_first_message(
    header: str, rows: list[str], classes: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "a.csv", "")
    assert "This looks like " in str(caught.value)
    read_again = read(tmp_path / "a.csv", str(caught.value).split(". Set ")[1].removesuffix("."))
    assert read_again.class_names == classes
    assert sorted(read_again.texts) == ["dull", "fine"]


def test_reviews_of_the_app_store_connect_api_are_read_with_the_options_of_the_first_message(tmp_path: Path) -> None:
    reviews = [
        {
            "type": "customerReviews",
            "id": text,
            "attributes": {"rating": stars, "title": "x", "body": text, "reviewerNickname": "me", "territory": "USA"},
        }
        for text, stars in (("fine", 5), ("dull", 1))
    ]
    (tmp_path / "a.json").write_text(json.dumps({"data": reviews, "links": {"self": "x"}}))
    with pytest.raises(UserError) as caught:
        read(tmp_path / "a.json", "")
    assert "This looks like App Store Connect reviews" in str(caught.value)
    rows = read(tmp_path / "a.json", str(caught.value).split(". Set ")[1].removesuffix("."))
    assert (list(rows.texts), [rows.class_names[label] for label in rows.labels]) == (["fine", "dull"], ["5", "1"])


@pytest.mark.parametrize(
    "columns", [["text", "label"], ["a", "b"], ["text", "label", "answer"], ["text", "review", "label"], ["status"], []]
)
def test_other_tables_are_none_of_them(columns: list[str]) -> None:
    assert recognize(columns, []) is None
    assert recognize(columns, [dict.fromkeys(columns)]) is None
