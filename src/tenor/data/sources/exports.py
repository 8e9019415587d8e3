"""Exports of annotation tools and public datasets: which settings read them, and which records must not be taught.

Formats, as their own programs write them: Argilla 2.8 (`records.to_list`, `to_datasets`) and 1.x, Label Studio (JSON,
and `label_studio_sdk.converter` 2.1 for JSON-MIN and CSV), Prodigy 1.x (textcat and choice tasks), doccano 1.8 (JSONL).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Record = Mapping[str, object]


def _used(_: Record) -> str | None:
    return None


def _unchanged(record: Record) -> Record:
    return record


@dataclass(frozen=True)
class Export:
    """A known export."""

    name: str
    options: str
    """The settings that read it, to be pasted after a command; empty if the default columns fit."""
    left_out: Callable[[Record], str | None] = _used
    """Why a record must not be taught, such as `skipped`; None: it may be."""
    flat: Callable[[Record], Record] = _unchanged
    """The record with the columns that `options` name, which some exports nest."""

    reads: tuple[str, ...] = ()
    """The columns that `left_out` looks at, if these are a table's own."""

    @property
    def is_nested(self) -> bool:
        """Whether the columns that `options` name exist only in `flat` records."""
        return self.flat is not _unchanged

    @property
    def needs_records(self) -> bool:
        """Whether each record must be looked at."""
        return self.is_nested or self.left_out is not _used


def recognize(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    """The export that has these columns; None if it is not known.

    `sample`: a few records, which nested exports and those with equal column names are recognized by; may be empty for
    a table.
    """
    for known in KNOWN:
        if (export := known(columns, sample)) is not None:
            return export
    return None


def _options(text: str, label: str, more: str = "") -> str:
    """Settings for the columns that are not the default ones."""
    pairs = (("text", text), ("label", label))
    words = [_quoted(f"data.{role}_column={name}") for role, name in pairs if name != role]
    return " ".join([*words, *([more] if more else [])])


def _quoted(word: str) -> str:
    return word if all(letter.isalnum() or letter in "._=-" for letter in word) else f"'{word}'"


# Prodigy: one JSON object per line.

PRODIGY_ANSWERS = ("accept", "reject", "ignore")


def _prodigy(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    if "answer" not in columns or not {"_task_hash", "_input_hash"} & set(columns):
        return None
    if "accept" in columns:
        return Export("Prodigy (choice)", _options("text", "accept"), _not_chosen)
    return Export("Prodigy", "", _not_accepted, reads=("answer",))


def _not_accepted(record: Record) -> str | None:
    answer = record.get("answer")
    return f"Prodigy's answer {answer!r}" if answer in PRODIGY_ANSWERS and answer != "accept" else None


def _not_chosen(record: Record) -> str | None:
    return _not_accepted(record) or (None if record.get("accept") else "no option is chosen")


# Crowdsourcing: one row per answer of a worker, which the requester may have rejected.


def _crowd(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    """Mechanical Turk's batch results (`AssignmentStatus`), Toloka's assignments (`ASSIGNMENT:status`), and the full
    reports of Appen, before Figure Eight and CrowdFlower (`_tainted`: judgments of workers that were removed)."""
    if {"HITId", "AssignmentId", "AssignmentStatus"} <= set(columns):
        options = _options(_first(columns, "Input."), _first(columns, "Answer."))
        return Export("Mechanical Turk", options, _status("AssignmentStatus"), reads=("AssignmentStatus",))
    if "ASSIGNMENT:status" in columns:
        options = _options(_first(columns, "INPUT:"), _first(columns, "OUTPUT:"))
        return Export("Toloka", options, _status("ASSIGNMENT:status"), reads=("ASSIGNMENT:status",))
    if {"_unit_id", "_tainted"} <= set(columns):
        return Export("Appen", "", _tainted, reads=("_tainted",))
    return None


def _first(columns: Sequence[str], start: str) -> str:
    """The first column that begins so, preferably one that is called like a text or a label."""
    found = [name for name in columns if name.startswith(start)]
    usual = [name for name in found if {*name.lower().replace(":", ".").split(".")} & {*TEXT_NAMES, *LABEL_NAMES}]
    return next(iter(usual or found), "NAME")


def _status(column: str) -> Callable[[Record], str | None]:
    def left_out(record: Record) -> str | None:
        return "answer rejected" if str(record.get(column)).strip().lower() == "rejected" else None

    return left_out


def _tainted(record: Record) -> str | None:
    return "judgment tainted" if str(record.get("_tainted")).strip().lower() in ("true", "1") else None


# Label Studio: nested tasks (JSON), or one row per annotation (JSON-MIN, CSV).


def _label_studio(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    if not {"data", "annotations"} <= set(columns) and not {"data", "completions"} <= set(columns):
        return None
    choices = [one for record in sample for annotation in _annotations(record) for one in _choices(annotation)]
    label = choices[0][0] if choices else "label"
    texts = [name for record in sample for name, value in _mapping(record.get("data")).items() if _is_text(value)]
    text = _text_of(texts, [_mapping(record.get("data")) for record in sample])

    def flat(record: Record) -> Record:
        found = _chosen(record, label)
        return {**_mapping(record.get("data")), "id": record.get("id"), label: found[0] if len(found) == 1 else None}

    def left_out(record: Record) -> str | None:
        found = _chosen(record, label)
        if not found:
            return "no annotation, or only skipped ones"
        return "annotators disagree" if len(found) > 1 else None

    return Export("Label Studio (JSON)", _options(text, label), left_out, flat)


def _annotations(record: Record) -> list[Record]:
    """The annotations of a task that were not skipped."""
    found = record.get("annotations") or record.get("completions")
    listed = [_mapping(one) for one in found] if isinstance(found, list) else []
    return [one for one in listed if not (one.get("was_cancelled") or one.get("skipped"))]


def _choices(annotation: Record) -> list[tuple[str, list[object]]]:
    """The name of each question with choices, and what was chosen."""
    results = annotation.get("result")
    found = []
    for result in map(_mapping, results if isinstance(results, list) else []):
        chosen = _mapping(result.get("value")).get("choices")
        if isinstance(chosen, list):
            found.append((str(result.get("from_name", "label")), chosen))
    return found


def _chosen(record: Record, label: str) -> list[object]:
    """The different answers to one question; several choices in one answer stay a list."""
    answers = [chosen for one in _annotations(record) for name, chosen in _choices(one) if name == label and chosen]
    return _distinct(chosen[0] if len(chosen) == 1 else chosen for chosen in answers)


STUDIO_COLUMNS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}


def _label_studio_table(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    if not {"annotation_id", "annotator", "lead_time"} <= set(columns):
        return None
    own = [name for name in columns if name not in STUDIO_COLUMNS]
    text = _text_of(own, sample)
    others = [name for name in own if name != text]
    label = next((name for name in others if name.lower() in LABEL_NAMES), others[-1] if others else "label")
    return Export("Label Studio", _options(text, label), lambda record: None if record.get(label) else "not annotated")


# Argilla: one column per question and kind of answer, or nested.


def _argilla(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    questions = [name.removesuffix(".responses") for name in columns if name.endswith(".responses")]
    if questions and f"{questions[0]}.responses.status" in columns:
        fixed = {"id", "status", "_server_id"}
        fields = [name for name in columns if name not in fixed and "." not in name]
        text = _text_of(fields, sample)
        return _argilla_export(questions[0], text, lambda record: record, _submitted)
    if {"fields", "responses", "suggestions"} <= set(columns):
        answered = [name for record in sample for name in _mapping(record.get("responses"))]
        fields = [name for record in sample for name in _mapping(record.get("fields"))]
        text = _text_of(fields, [_mapping(record.get("fields")) for record in sample])
        question = answered[0] if answered else "label"
        return _argilla_export(question, text, lambda record: _mapping(record.get("fields")), _completed)
    return None


def _argilla_export(
    question: str,
    text: str,
    fields: Callable[[Record], Record],
    answers: Callable[[Record, str], list[object]],
) -> Export:
    def flat(record: Record) -> Record:
        found = _distinct(answers(record, question))
        return {**fields(record), question: found[0] if len(found) == 1 else None}

    def left_out(record: Record) -> str | None:
        found = _distinct(answers(record, question))
        if not found:
            return "no submitted response"
        return "annotators disagree" if len(found) > 1 else None

    return Export("Argilla", _options(text, question), left_out, flat)


def _submitted(record: Record, question: str) -> list[object]:
    values, statuses = record.get(f"{question}.responses"), record.get(f"{question}.responses.status")
    if not isinstance(values, list) or not isinstance(statuses, list):
        return []
    return [value for value, status in zip(values, statuses, strict=False) if status == "submitted"]


def _completed(record: Record, question: str) -> list[object]:
    """The responses of a completed record: this form has no status per response, so others may be drafts."""
    answers = _mapping(record.get("responses")).get(question)
    if record.get("status") != "completed" or not isinstance(answers, list):
        return []
    return [_mapping(answer).get("value") for answer in answers]


def _argilla_1(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    """Argilla 1: text classification datasets, and feedback datasets with a list of responses per question."""
    if {"annotation", "prediction", "status"} <= set(columns):
        return Export("Argilla 1", _options("text", "annotation"), _not_validated)
    questions = [name.removesuffix("-suggestion") for name in columns if name.endswith("-suggestion")]
    if not questions or questions[0] not in columns:
        return None
    fields = [name for name in columns if name not in {"external_id", "metadata", *questions} and "-" not in name]

    def submitted(record: Record, question: str) -> list[object]:
        answers = record.get(question)
        listed = map(_mapping, answers if isinstance(answers, list) else [])
        return [answer.get("value") for answer in listed if answer.get("status") == "submitted"]

    text = _text_of(fields, sample)
    return _argilla_export(questions[0], text, lambda record: record, submitted)


def _not_validated(record: Record) -> str | None:
    if record.get("status") == "Validated" and record.get("annotation") is not None:
        return None
    return f"Argilla's status {record.get('status')!r}" if record.get("annotation") else "not annotated"


# doccano: JSON Lines whose label is a list.


def _doccano(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    label = next((name for name in ("label", "labels") if name in columns), None)
    if label is None or not {"id", "text"} <= set(columns):
        return None
    if not sample or not all(isinstance(record.get(label), list) for record in sample):
        return None

    def left_out(record: Record) -> str | None:
        return None if record.get(label) else "not annotated"

    return Export("doccano", _options("text", label), left_out)


# Public datasets and reviews of stores.

STARS = """'data.class_names=["1", "2", "3", "4", "5"]'"""


# Apple's App Store Connect API: `customerReviews`, with the review in `attributes`.


def _app_store_connect(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    own = {"rating", "body", "reviewerNickname"}
    nested = bool(sample) and all(own <= set(_mapping(record.get("attributes"))) for record in sample)
    if not nested and not {f"attributes.{name}" for name in own} <= set(columns):
        return None
    return Export("App Store Connect reviews", _options("attributes.body", "attributes.rating", STARS))


# Public datasets, by their column names.

TABLES: Sequence[tuple[str, frozenset[str], str]] = (
    ("Amazon reviews (2014, 2018)", frozenset({"reviewText", "overall"}), _options("reviewText", "overall", STARS)),
    ("Amazon reviews (2023)", frozenset({"text", "rating", "parent_asin"}), _options("text", "rating", STARS)),
    ("Amazon food reviews", frozenset({"Text", "Score", "ProductId"}), _options("Text", "Score", STARS)),
    ("Yelp reviews", frozenset({"text", "stars", "business_id"}), _options("text", "stars", STARS)),
    ("Google Play reviews", frozenset({"content", "score", "reviewId"}), _options("content", "score", STARS)),
    (
        "Google Play Console reviews",
        frozenset({"Package Name", "Star Rating", "Review Text"}),
        _options("Review Text", "Star Rating", f"{STARS} data.faulty_rows=leave_out"),
    ),
    ("App Store reviews", frozenset({"review", "rating", "userName"}), _options("review", "rating", STARS)),
    ("IMDb reviews (Kaggle)", frozenset({"review", "sentiment"}), _options("review", "sentiment")),
    ("airline tweets", frozenset({"text", "airline_sentiment"}), _options("text", "airline_sentiment")),
    (
        "Sentiment140",
        frozenset({"target", "ids", "flag", "user", "text"}),
        _options("text", "target", """'data.relabel={"0": "negative", "2": null, "4": "positive"}'"""),
    ),
)
TEXT_NAMES = ("text", "review", "sentence", "content", "comment", "tweet", "message", "body", "reviewtext", "phrase")
LABEL_NAMES = ("label", "labels", "sentiment", "class", "category", "target", "polarity", "rating", "stars", "score")


def _known_table(columns: Sequence[str], sample: Sequence[Record]) -> Export | None:
    objects = {name for record in sample for name in columns if isinstance(record.get(name), Mapping)}
    return next((Export(name, options) for name, own, options in TABLES if own <= set(columns) - objects), None)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _distinct(values: Iterable[object]) -> list[object]:
    found: list[object] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def _text_of(columns: Sequence[str], sample: Sequence[Record]) -> str:
    """The column that is called like a text or, if none is, that has the longest texts."""
    if (named := next((name for name in TEXT_NAMES for one in columns if one.lower() == name), None)) is not None:
        return next(one for one in columns if one.lower() == named)
    lengths = {
        name: sum(len(value) for record in sample if isinstance(value := record.get(name), str)) for name in columns
    }
    return max(lengths, key=lambda name: lengths[name], default="text")


KNOWN = (
    _crowd,
    _app_store_connect,
    _prodigy,
    _label_studio,
    _label_studio_table,
    _argilla,
    _argilla_1,
    _doccano,
    _known_table,
)
"""In this order: the first that recognizes a table is right."""
