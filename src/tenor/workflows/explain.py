"""`tenor explain`: test a model's explanations on held-out rows, keep the result, and explain texts."""

import re
import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tenor.checks.rules.shared import text_keys
from tenor.config.schema import Data
from tenor.console.run import progress_line, show_notes
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.labels import in_classes
from tenor.data.splits import stratified_rows
from tenor.errors import UserError, system_refusal
from tenor.evaluation.report.page import confident_errors
from tenor.evaluation.report.run_content import RunContent, collect_run
from tenor.explanations.deletion import (
    CONFIDENCE,
    DRAWS,
    FEWEST_ROWS,
    FEWEST_WORDS,
    ROWS,
    SEED,
    SHARE,
    Deletion,
    explain_rows,
    measure_deletion,
)
from tenor.explanations.explainer import Explainer, Explanation
from tenor.explanations.global_view import Term, deciding_pairs, deciding_words
from tenor.explanations.shortcuts import (
    Shortcut,
    most_predictions,
    one_sided_words,
    suspected_shortcuts,
)
from tenor.explanations.verdict import Verdict, explanations_place, run_of_model, verdict_of
from tenor.inference.predictor import Prediction, Predictor, UnlikeTextsWarning
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory
from tenor.runs.explanations import StoredExplanations, as_record, read_explanations, write_explanations
from tenor.runs.files import sha256_file
from tenor.runs.missing import Missing, missing_because
from tenor.runs.model_notes import WEIGHTS
from tenor.runs.predictions import Predictions
from tenor.runs.text_keys import read_text_keys
from tenor.workflows.report import rows_again, write_run_report

METHOD = "integrated gradients from padding tokens, Gauss-Legendre quadrature, Captum"


@dataclass(frozen=True)
class RowsFile:
    """A file with labelled rows."""

    path: Path
    text_column: str | None = None
    """None: that of the run, or `text` …"""
    label_column: str | None = None
    """… and `label`."""


@dataclass(frozen=True)
class HeldOut:
    """Rows that a model was not trained on, and labelled rows that show what it was trained on."""

    rows: LabelledText
    split: str
    labelled: LabelledText
    """The training rows; where they can't be read, the held-out rows."""
    labelled_name: str
    of_run: Mapping[str, LabelledText] | None
    """All rows of the run by split, if `rows` are among them."""


@dataclass(frozen=True)
class ExplainedText:
    """A text, its prediction and its explanation."""

    text: str
    prediction: Prediction
    explanation: Explanation


@dataclass(frozen=True)
class ExplainedModel:
    """A model with the test of its explanations."""

    explainer: Explainer
    record: StoredExplanations
    place: Path
    """Where the record is."""
    report: Path | None
    """The report that was written again; None if there is none, or the test was made before."""

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.record)


def explained_model(
    reference: str,
    data: RowsFile | None = None,
    root: Path = DEFAULT_ROOT,
    again: bool = True,
    console: Console | None = None,
) -> ExplainedModel:
    """Load a model and test its explanations, on `data` or the run's own held-out rows; keep the result.

    With `again=False` an earlier test of the same weights that came to a verdict is used.

    Raises:
        UserError: no such model, one that can't be explained, or no held-out rows.
    """
    console = console or Console(stderr=True, markup=False)
    predictor = Predictor.load(reference, root=root)
    explainer = Explainer.of(predictor)
    place = explanations_place(reference, root, predictor.source.digest)
    if not again and (known := _known(place, predictor.source.digest, data)) is not None:
        if data is not None:
            show_notes(console, [f"--data is not read: explanations were tested before on {known.split} rows"])
        return ExplainedModel(explainer, known, place, None)
    run = run_of_model(reference, root)
    held_out = held_out_rows(reference, run, data, predictor.labels)
    record = make_record(explainer, held_out, run, console)
    try:
        write_explanations(place, record)
    except OSError as error:
        raise UserError(f"{place}: the result can't be written: {system_refusal(error) or error}") from error
    report = None if run is None else write_run_report(run, held_out.of_run)
    return ExplainedModel(explainer, record, place, report)


def _known(place: Path, digest: str, data: RowsFile | None) -> StoredExplanations | None:
    """An earlier test of these weights; None if there is none, or if it lacked rows and there are new ones."""
    if not place.is_file():
        return None
    record = read_explanations(place)
    has_verdict = not isinstance(record.deletion, dict)
    return record if record.digest == digest and (has_verdict or data is None) else None


def held_out_rows(reference: str, run: RunDirectory | None, data: RowsFile | None, labels: tuple[str, ...]) -> HeldOut:
    """The labelled rows of a file, else the run's test rows, else its validation rows.

    Rows whose text the run was trained on are left out. Raises UserError if there are no rows.
    """
    command = f"tenor explain {shlex.quote(reference)} --data ROWS.csv"
    content = None if run is None else collect_run(run)
    of_run = Missing("it belongs to no run") if content is None else rows_again(content)
    if data is not None:
        rows, split = _file_rows(data, labels, content), data.path.name
    elif isinstance(of_run, Missing):
        raise UserError(
            f"{reference}: explanations are shown only if they were tested on this model, and there are no rows to "
            f"test them on: {of_run.reason}. Give labelled rows that it was not trained on: {command}"
        )
    else:
        split = "test" if "test" in of_run else "validation"
        rows = of_run[split]
    if run is not None:
        rows = _unseen(run, rows)
    if not len(rows):
        raise UserError(f"{reference}: all rows of {split} are training texts of the run. Give other rows: {command}")
    if isinstance(of_run, Missing):
        name = f"{len(rows):,} rows of {split} (the training rows can't be read: {of_run.reason})"
        return HeldOut(rows, split, rows, name, None)
    return HeldOut(rows, split, of_run["train"], f"{len(of_run['train']):,} training rows", of_run)


def _file_rows(data: RowsFile, labels: tuple[str, ...], content: RunContent | None) -> LabelledText:
    """All rows of the file, in the model's classes; the columns are those of the run unless they are given."""
    config = None if content is None or isinstance(content.config, Missing) else content.config
    recorded, file = Data() if config is None else config.data, data.path
    settings = {
        "source": "file",
        "path": str(file),
        "test_path": str(file),
        "class_names": labels,
        "text_column": data.text_column or recorded.text_column,
        "label_column": data.label_column or recorded.label_column,
    }
    try:
        rows = read_source(Data.model_validate(settings)).test
    except UserError as error:
        raise UserError(re.sub(r"data\.(text|label)_column=", r"--\1-column ", str(error))) from error
    if isinstance(rows, Missing):
        raise UserError(f"{file}: {rows.reason}")
    matched = rows if rows.class_names == labels else in_classes(rows, labels)
    if matched is None:
        raise UserError(f"{file} has the classes {', '.join(rows.class_names)}, the model has {', '.join(labels)}")
    return matched


def _unseen(run: RunDirectory, rows: LabelledText) -> LabelledText:
    """The rows whose text is not one of the run's training texts, if these are known."""
    if not run.text_keys.is_file():
        return rows
    seen = np.isin(text_keys(rows.texts), read_text_keys(run.text_keys)["train"])
    return rows.select(np.flatnonzero(~seen)) if seen.any() else rows


def make_record(
    explainer: Explainer, held_out: HeldOut, run: RunDirectory | None, console: Console
) -> StoredExplanations:
    """Explain held-out rows, test the explanations, and find what decides."""
    started = time.monotonic()
    rows = held_out.rows
    chosen = rows.select(stratified_rows(rows.labels, min(ROWS, len(rows)), SEED))
    with progress_line(console, f"explaining {len(chosen):,} {held_out.split} rows", len(chosen)) as line:
        explained = explain_rows(explainer, list(chosen.texts), line.advance)
    with progress_line(console, "deleting words", len(explained) * (1 + DRAWS)) as line:
        deletion = measure_deletion(explainer, explained, line.advance)
    predictor, classes = explainer.predictor, len(explainer.predictor.labels)
    words = one_sided_words(held_out.labelled.texts, held_out.labelled.labels, classes)
    with progress_line(console, "looking for shortcuts", most_predictions(words, explained)) as line:
        shortcuts = suspected_shortcuts(explainer, words, explained, line.advance)
    errors = {} if run is None or held_out.of_run is None else _errors(explainer, collect_run(run), held_out.of_run)
    labels = predictor.labels
    return as_record(
        {
            "digest": predictor.source.digest,
            "weights_sha256": _weights(run, predictor),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "origin": rows.origin,
            "split": held_out.split,
            "rows_available": len(rows),
            "seconds": round(time.monotonic() - started, 1),
            "settings": {
                "method": METHOD,
                "steps": explainer.steps,
                "most_steps": explainer.most_steps,
                "share": SHARE,
                "random_draws": DRAWS,
                "seed": SEED,
            },
            "deletion": _deletion(deletion, len(rows)),
            "gap": float(np.median([one.explanation.gap for one in explained]))
            if explained
            else missing_because("no row could be explained"),
            "words": [_term(one, labels) for one in deciding_words(explained, classes)],
            "pairs": [_term(one, labels) for one in deciding_pairs(explained, classes)],
            "shortcuts": [_shortcut(one, labels) for one in shortcuts]
            if shortcuts
            else missing_because("no word is one-sided enough, or all rows get the same prediction"),
            "labelled": held_out.labelled_name,
            "errors": errors,
        }
    )


def _deletion(deletion: Deletion | None, rows: int) -> dict[str, Any]:
    if deletion is None:
        return missing_because(
            f"of {rows:,} held-out rows too few have {FEWEST_WORDS} words, expected {FEWEST_ROWS} rows or more. "
            "Give more rows: tenor explain RUN --data ROWS.csv"
        )
    return {
        "rows": len(deletion.important),
        "deleted_words": float(deletion.deleted.mean()),
        "important": float(deletion.important.mean()),
        "random": float(deletion.random.mean()),
        "difference": deletion.difference,
        "low": deletion.interval.low,
        "high": deletion.interval.high,
        "confidence": CONFIDENCE,
    }


def _term(term: Term, labels: Sequence[str]) -> dict[str, Any]:
    return {**asdict(term), "label": labels[term.label]}


def _shortcut(one: Shortcut, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "term": one.word.form,
        "label": labels[one.word.label],
        "inserted": one.inserted,
        "inserted_texts": one.hosts,
        "deleted": missing_because("no explained row has the word") if one.deleted is None else one.deleted,
        "deleted_texts": one.deleted_from,
        "rows": one.word.rows,
        "of_label": one.word.of_label,
        "expected": one.word.expected,
        "surprise": one.word.surprise,
    }


def _weights(run: RunDirectory | None, predictor: Predictor) -> str:
    return predictor.source.digest if run is None else sha256_file(run.model / WEIGHTS)


def _errors(
    explainer: Explainer, content: RunContent, rows: Mapping[str, LabelledText]
) -> dict[str, list[dict[str, Any]]]:
    """The explanations of the report's most confident errors, by split."""
    errors = {}
    for split, predictions in content.predictions.items():
        if isinstance(predictions, Predictions) and split in rows and tuple(rows[split].ids) == predictions.ids:
            texts = rows[split].texts
            errors[split] = [
                _stored_words(explainer, predictions, texts[row], row) for row in confident_errors(predictions).tolist()
            ]
    return errors


def _stored_words(explainer: Explainer, predictions: Predictions, text: str, row: int) -> dict[str, Any]:
    explanation = explainer.explain_class(text, int(predictions.predicted[row]))
    return {
        "id": predictions.ids[row],
        "label": explanation.label,
        "characters": len(text),
        "spans": [(word.start, word.end) for word in explanation.words],
        "values": [round(word.value, 4) for word in explanation.words],
    }


def explain_texts(tested: ExplainedModel, texts: Sequence[str]) -> list[ExplainedText]:
    """Predictions and explanations of the texts.

    Raises:
        TextError: a text that cannot be predicted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTextsWarning)  # Each prediction has its caution.
        predictions = tested.explainer.predictor.predict(texts)
    return [
        ExplainedText(text, prediction, tested.explainer.explain(text))
        for text, prediction in zip(texts, predictions, strict=True)
    ]


def text_record(one: ExplainedText, shown: bool) -> dict[str, Any]:
    """A text's prediction and explanation as plain data; without the words if explanations are not shown."""
    explanation = one.explanation
    return {
        "text": one.text,
        "prediction": asdict(one.prediction),
        "explains": explanation.label,
        "words": [asdict(word) for word in explanation.words] if shown else [],
        "sentence": asdict(explanation.sentence) if shown and explanation.sentence is not None else None,
        "read_until": explanation.read_until,
        "skipped": [list(span) for span in explanation.skipped],
        "completeness_gap": explanation.gap,
    }
