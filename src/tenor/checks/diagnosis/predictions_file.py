"""A file of predictions: columns are identified by their names, classes by labels, predictions and scores together.

No type is inferred: labels are text and scores are numbers, whatever the cells look like.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence
from tenor.checks.diagnosis.columns import (
    ClassColumn,
    ClassifiedRows,
    Sheet,
    are_numbers,
    class_key,
    in_order,
    listed,
    map_predictions,
    read_class_column,
    read_sheet,
)
from tenor.checks.diagnosis.pipeline_output import with_pipeline_output
from tenor.checks.diagnosis.scores import Scored, ScoreSet, score_sets, scored_rows
from tenor.checks.evidence.evaluation_evidence import ReportedSplit
from tenor.errors import UserError

LABEL = (
    *("label", "labels", "true", "y_true", "target", "gold", "true_label", "label_id", "y", "label_name", "label_text"),
    *("gold_label", "ground_truth", "groundtruth", "actual", "actual_label", "true_class", "actual_class", "y_test"),
)
PREDICTED = (
    *(
        "predicted",
        "pred",
        "prediction",
        "y_pred",
        "yhat",
        "y_hat",
        "predicted_label",
        "pred_label",
        "preds",
        "predictions",
    ),
    *(
        "predicted_name",
        "prediction_name",
        "predicted_class",
        "pred_class",
        "y_hat",
        "model_output",
        "model_prediction",
        "model_label",
        "model_class",
        "model_pred",
    ),
)
OTHER_LABEL = (
    "sentiment",
    "category",
    "class",
    "polarity",
    "emotion",
    "rating",
    "stars",
    "topic",
    "answer",
    "annotation",
)
"""Names of true classes that may mean something else: read as such only next to predictions, without another label."""
PREDICTED_WORDS, TRUE_WORDS = ("predicted", "prediction", "pred", "preds"), ("true", "actual", "gold")
"""A word before or after a name that two columns share, such as predicted_sentiment and sentiment."""
TEXT = ("text", "texts", "sentence", "review", "content", "comment", "tweet", "message", "body", "document", "phrase")
LENGTH = ("length", "lengths", "n_tokens", "num_tokens", "tokens", "token_count", "seq_len", "input_length")
ID = ("id", "ids", "row_id", "example_id", "index", "idx")
ACCEPTED_COLUMNS = (
    f"one of {', '.join(LABEL)} for the true class, and one of {', '.join(PREDICTED)} for the predicted one, or the "
    "same name twice, as in sentiment and predicted_sentiment; next to predictions, the true class may also be called "
    f"{', '.join(OTHER_LABEL)}; or, in place of the predicted class, score columns "
    "named prob, score or logit with a class, such as prob_positive (for two classes one column is enough)"
)
OTHER_DELIMITERS = (";", "\t", "|")


def read_predictions_file(path: Path) -> list[Artifacts]:
    """Evidence from the rows of one split. Raises UserError if file or columns cannot be read."""
    return predictions_artifacts(read_sheet(path))


def predictions_artifacts(sheet: Sheet) -> list[Artifacts]:
    """The same from an open sheet; without a column of true classes, only the predictions are judged."""
    file_name = sheet.path.name.lower()
    name = next((split for split, word in (("test", "test"), ("validation", "val")) if word in file_name), "")
    sheet = with_pipeline_output(_without_abstentions(sheet), PREDICTED)
    labels, predictions = _columns(sheet)
    is_unlabelled = bool(predictions) and not labels
    claims, n_classes = _claims_without_labels(sheet) if is_unlabelled else _claims(sheet)
    evidence = evaluation_evidence({name or "predictions": claims}, n_classes)
    return [Artifacts("a file of predictions", (evidence,))]


def read_claims(path: Path) -> tuple[ReportedSplit, int]:
    """Labels, predictions and probabilities of the rows, and the number of classes."""
    return _claims(read_sheet(path))


def has_predictions(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object contains a list of predicted classes, or of true classes and scores, one value per row."""
    lists = {str(name).strip().lower() for name, one in value.items() if isinstance(one, list) and one}
    scores = any(re.search(r"prob|score|logit|softmax", name) for name in lists)
    return bool(lists & set(PREDICTED)) or (bool(lists & set(LABEL)) and scores)


def has_prediction_columns(names: Sequence[str]) -> bool:
    """Whether these names include a column of labels and one of predictions."""
    known = {_plain(name) for name in names}
    return (bool(known & {*LABEL, *OTHER_LABEL}) and bool(known & set(PREDICTED))) or _pair(names) is not None


def _columns(sheet: Sheet) -> tuple[list[str], list[str]]:
    """The columns of true and of predicted classes, by their usual names, else by the word that a pair differs in."""
    labels, predictions = _named(sheet, LABEL), _named(sheet, PREDICTED)
    pair = None if labels or predictions else _pair(sheet.names)
    return ([pair[0]], [pair[1]]) if pair else (labels, predictions)


def _pair(names: Sequence[str]) -> tuple[str, str] | None:
    """The columns of the true and of the predicted class if exactly one pair of names differs by such a word."""
    plain = {_plain(name): name for name in reversed(names)}
    pairs = set()
    for name in plain:
        for word in PREDICTED_WORDS:
            of = name.removeprefix(f"{word}_") if name.startswith(f"{word}_") else name.removesuffix(f"_{word}")
            true = (of, *(form for one in TRUE_WORDS for form in (f"{one}_{of}", f"{of}_{one}")))
            pairs |= {(plain[label], plain[name]) for label in true if of != name and label in plain}
    return pairs.pop() if len(pairs) == 1 else None


def _plain(name: str) -> str:
    """A name in lower case, with an underscore between its words."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


TENOR_COLUMNS = frozenset({"prediction", "probability", "error"})
"""What `tenor predict` adds to the columns of its input."""

MOST_DIGITS = 16
"""Of a length: int64 has room for 18."""

UNSURE = 0.6
"""A probability below it is close to a coin toss between two classes."""


def _without_abstentions(sheet: Sheet) -> Sheet:
    """The rows that `tenor predict` labelled: it leaves the prediction of other rows empty on purpose."""
    if not set(sheet.names) >= TENOR_COLUMNS:
        return sheet
    kept = [row for row, cell in enumerate(sheet.read("prediction")) if cell not in (None, "")]
    if len(kept) == sheet.rows or not kept:
        return sheet

    def read(name: str) -> list[Any]:
        cells = sheet.read(name)
        return [cells[row] for row in kept]

    note = f"{sheet.rows - len(kept):,} of {sheet.rows:,} rows have no prediction and are left out"
    return replace(sheet, rows=len(kept), read=read, notes=(*sheet.notes, note))


def _claims_without_labels(sheet: Sheet) -> tuple[ReportedSplit, int]:
    """Claims with a column such as sentiment as the true classes, if it has the classes of the predictions."""
    others, notes = _named(sheet, OTHER_LABEL), sheet.notes
    for name in others[:1]:
        try:
            return _claims(sheet, name)
        except UserError:
            notes = (*notes, f"{name} is not read as the true class: it does not have the classes of the predictions")
    return _unlabelled_claims(replace(sheet, notes=notes))


def _unlabelled_claims(sheet: Sheet) -> tuple[ReportedSplit, int]:
    """Predictions and probabilities without true classes."""
    name = _named(sheet, PREDICTED)[0]

    def read(column: str) -> list[Any]:
        return sheet.read(name if column == LABEL[0] else column)

    # The predicted classes stand in for the true ones to identify the classes, and are removed afterwards.
    doubled = replace(sheet, names=(LABEL[0], *sheet.names), read=read)
    claims, n_classes = _claims(doubled)
    names = claims.class_names or ()
    predicted = np.asarray(claims.predicted)
    counts = np.bincount(predicted, minlength=len(names))
    shares = [f"{one} {count / claims.n:.1%}" for one, count in zip(names, counts, strict=True)]
    notes = [
        f"no column of true classes: accuracy cannot be judged, only the {claims.n:,} predictions in {name}",
        f"predicted classes: {listed(shares)}",
    ]
    if claims.probabilities is not None:
        of_predicted = claims.probabilities[np.arange(claims.n), predicted]
        notes.append(
            f"probability of the predicted class: {np.nanmean(of_predicted):.3f} on average, below {UNSURE:g} in "
            f"{float((of_predicted < UNSURE).mean()):.1%} of the rows"
        )
    read_lines = tuple(note for note in claims.notes if not note.startswith("read as: "))
    return replace(claims, labels=None, read_as=None, notes=(*notes, *read_lines)), n_classes


def _claims(sheet: Sheet, label: str = "") -> tuple[ReportedSplit, int]:
    """`label` is the column of true classes; by default it is found by its name."""
    rows, sets, ignored = _recognized(sheet, label)
    scored, unused = scored_rows(rows, sets, str(sheet.path))
    classes = rows.classes if scored is None or scored.values is None else scored.classes
    place = {key: k for k, key in enumerate(classes)}
    values = None if scored is None else scored.values
    if rows.predicted_classes is not None:
        predicted = np.array([place[key] for key in rows.predicted_classes], dtype=np.int64)
    else:
        predicted = np.asarray(values).argmax(axis=1)
    claims = ReportedSplit(
        n=sheet.rows,
        labels=np.array([place[key] for key in rows.label.keys], dtype=np.int64),
        predicted=predicted,
        probabilities=values,
        ids=_ids(sheet),
        texts=_texts(sheet),
        lengths=_lengths(sheet),
        class_names=tuple(map(rows.shown, classes)),
        read_as=_read_as(rows),
        notes=(*sheet.notes, *_notes(rows, classes, scored, [*ignored, *unused])),
    )
    return claims, max(2, len(classes))


def _recognized(sheet: Sheet, label: str) -> tuple[ClassifiedRows, list[ScoreSet], list[str]]:
    """Labels and predictions, the sets of scores, and the columns named like scores that contain none."""
    labels, predictions = _columns(sheet)
    labels = [label] if label else labels
    if labels and not sheet.rows:
        raise UserError(f"{sheet.path}: the file has no rows. Give a file with one row per prediction.")
    rows = _rows(sheet, labels, predictions) if labels else None
    if rows is None:
        raise _not_recognized(sheet)
    used = {rows.label.name, *([rows.predicted.name] if rows.predicted else []), *_named(sheet, ID)}
    occurring = {*rows.label.spellings, *(rows.predicted.spellings if rows.predicted else ())}
    # A column may be called "true" because it contains the scores of that class.
    taken = used | {name for name in (*labels, *predictions) if class_key(name) not in occurring}
    sets, ignored = score_sets(sheet, sorted(taken), sorted(occurring))
    if rows.predicted is None:
        if not sets:
            raise _not_recognized(sheet)
        return rows, sets, ignored
    if rows.label.spellings.keys() & rows.predicted.spellings.keys() or are_numbers(occurring):
        return rows, sets, ignored
    names = next((scores.of for scores in sets if len(scores.of) > 1), ())
    mapping = map_predictions(rows.label.keys, rows.predicted.keys, names)
    if mapping is None or not set(rows.predicted.spellings) <= set(mapping.of):
        raise UserError(
            f"{sheet.path}: the classes of {rows.label.name} are {_all_shown(rows.label)}, those of "
            f"{rows.predicted.name} are {_all_shown(rows.predicted)}: they have no name in common, and no mapping "
            f"between them makes the predictions accurate. Use the same names in both columns."
        )
    return ClassifiedRows(rows.label, rows.predicted, mapping), sets, ignored


def _rows(sheet: Sheet, labels: list[str], predictions: list[str]) -> ClassifiedRows:
    """The first column of each kind; if they have no class name in common, the first two columns that have one."""
    label = read_class_column(labels[0], sheet.read(labels[0]), str(sheet.path))
    if not predictions:
        return ClassifiedRows(label, None)

    def read(name: str, classes: Sequence[str]) -> ClassColumn:
        return read_class_column(name, sheet.read(name), str(sheet.path), classes)

    predicted = read(predictions[0], list(label.spellings))
    if label.spellings.keys() & predicted.spellings.keys():
        return ClassifiedRows(label, predicted)
    for first in labels:
        for second in predictions:
            try:
                other_label, other_predicted = read(first, ()), read(second, ())
            except UserError:
                continue  # A column that is not needed may contain anything.
            if other_label.spellings.keys() & other_predicted.spellings.keys():
                return ClassifiedRows(other_label, other_predicted)
    return ClassifiedRows(label, predicted)


def _read_as(rows: ClassifiedRows) -> tuple[tuple[str, str], ...] | None:
    if rows.predicted is None:
        return None
    if rows.mapping is None or rows.mapping.certain:
        return ()
    keys = in_order(rows.predicted.spellings)
    return tuple((rows.predicted.shown(key), rows.shown(rows.as_label(key))) for key in keys)


def _notes(rows: ClassifiedRows, classes: list[str], scored: Scored | None, unused: list[str]) -> tuple[str, ...]:
    predicted = "the highest score" if rows.predicted is None else rows.predicted.name
    scores = f", scores {scored.note}" if scored else ""
    notes = [
        f"read as: true class {rows.label.name}, predicted class {predicted}{scores}; {len(classes)} "
        f"class{'es' if len(classes) != 1 else ''}: {listed(map(rows.shown, classes))}"
    ]
    if rows.mapping is not None and rows.predicted is not None:
        pairs = [
            f"{rows.predicted.shown(key)} as {rows.shown(rows.as_label(key))}"
            for key in in_order(rows.predicted.spellings)
        ]
        notes.append(f"predictions read as labels, {rows.mapping.how}: {listed(pairs)}")
    for column in (rows.label, *([rows.predicted] if rows.predicted else [])):
        merged = [" = ".join(map(repr, texts)) for texts in column.spellings.values() if len(texts) > 1]
        notes += [f"spellings of one class in {column.name}: {listed(merged)}"] if merged else []
    return (*notes, *([f"not read as scores: {listed(unused)}"] if unused else []))


def _all_shown(column: ClassColumn) -> str:
    return listed(column.shown(key) for key in in_order(column.spellings))


def _named(sheet: Sheet, known: Sequence[str]) -> list[str]:
    """The columns with one of these names, in the order of `known`; of equal names the first column."""
    names = {_plain(name): name for name in reversed(sheet.names)}
    return [names[name] for name in known if name in names]


def _ids(sheet: Sheet) -> list[str] | None:
    """The rows' ids; None if some are missing."""
    columns = _named(sheet, ID)
    cells = sheet.read(columns[0]) if columns else [None]
    return None if any(cell in (None, "") for cell in cells) else [str(cell) for cell in cells]


def _texts(sheet: Sheet) -> list[str] | None:
    """The rows' texts; None if there is no such column, or if a cell is not text in UTF-8."""
    columns = _named(sheet, TEXT)
    try:
        cells = sheet.read(columns[0]) if columns else []
    except UserError:
        return None  # A column that is not needed may contain anything.
    texts = [cell for cell in cells if isinstance(cell, str)]
    return texts if columns and len(texts) == len(cells) else None


def _lengths(sheet: Sheet) -> np.ndarray | None:
    """The recorded lengths of the texts; None if there is no such column, or if a cell is not a whole number."""
    columns = _named(sheet, LENGTH)
    cells = [str(cell) for cell in sheet.read(columns[0])] if columns else [""]
    are_whole = all(cell.isascii() and cell.isdecimal() and len(cell) < MOST_DIGITS for cell in cells)
    return np.array(cells, dtype=np.int64) if are_whole else None


def _not_recognized(sheet: Sheet) -> UserError:
    other = next((mark for mark in OTHER_DELIMITERS if len(sheet.names) == 1 and mark in sheet.names[0]), None)
    hint = f" It seems to be separated by {other!r}: save it with commas, or as .tsv with tabs." if other else ""
    return UserError(
        f"{sheet.path}: columns {', '.join(sheet.names[:12]) or '(none)'} are not recognized.{hint} Accepted: "
        f"{ACCEPTED_COLUMNS}."
    )
