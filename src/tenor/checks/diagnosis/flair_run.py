"""The output folder of Flair: `loss.tsv` with a row per epoch, and `training.log` with the report of the test."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence
from tenor.checks.diagnosis.history import History, history_evidence, logged_number, series_of_records
from tenor.checks.diagnosis.history_files import histories_in, is_history_file
from tenor.checks.diagnosis.printed_results import printed_results
from tenor.checks.diagnosis.results_json import claims_of
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.errors import UserError

LOSSES, LOG = "loss.tsv", "training.log"
COLUMNS = ("EPOCH", "TRAIN_LOSS")
ITERATION = re.compile(r"\bepoch \d+ - iter \d+/\d+ - loss ")
EPOCH = re.compile(r"\bEPOCH (?P<epoch>\d+) done: loss (?P<loss>\S+)(?: - lr:? (?P<rate>[\d.e-]+))?")
DEV = re.compile(r"\bDEV : loss (?P<loss>\S+) - (?P<name>[\w -]+?(?: \([\w ]+\))?) +(?P<score>[\d.]+)\s*$")
SETTING = re.compile(r"- (?P<name>\w+): \"(?P<value>[^\"]*)\"")
ANNEALED, ANNEALING = "BAD_EPOCHS", "AnnealOnPlateau"
"""A column of older versions and a plugin in the log of newer ones: those of `ModelTrainer.train`, which anneals plain
gradient descent unless it is given another optimizer. `fine_tune` uses AdamW and a warm-up."""
MAX_BYTES, END = 2**28, 2**18
LONGEST_LINE = 500
KIND = "the output of Flair"


def is_flair_folder(path: Path) -> bool:
    return _is_table(path / LOSSES) or is_flair_log(path / LOG)


def is_flair_log(path: Path) -> bool:
    """Whether a text file is the log of a training of Flair."""
    if path.suffix.lower() not in (".log", ".txt", ".out") or not path.is_file():
        return False
    with path.open("rb") as file:
        return ITERATION.search(file.read(2**17).decode("utf-8", "replace")) is not None


def read_flair_folder(path: Path) -> list[Artifacts]:
    """Evidence from both files, as far as they exist. Raises UserError if they contain no known metric."""
    table = path / LOSSES if _is_table(path / LOSSES) else None
    return [_artifacts(table, path / LOG if is_flair_log(path / LOG) else None)]


def read_flair_log(path: Path) -> list[Artifacts]:
    """Evidence from the log alone. Raises UserError if it contains no known metric."""
    return [_artifacts(None, path)]


def _artifacts(table: Path | None, log: Path | None) -> Artifacts:
    text = "" if log is None else _text(log)
    claims = _report(text[-END:], str(log))
    n_classes = None if claims is None or claims.confusion is None else len(claims.confusion)
    history = _history(text) if table is None else histories_in(table)[0][""]
    evidence = list(history_evidence(history, n_classes))
    if claims is not None:
        last = next((one for one in evidence if isinstance(one, EvaluationEvidence)), None)
        evidence = [one for one in evidence if one is not last]
        splits = {**(last.splits if last else {}), "test": claims}
        broken, course = (last.not_numbers, last.course) if last else (None, None)
        evidence.append(evaluation_evidence(splits, n_classes, broken, course))
    if not evidence:
        raise UserError(f"{table or log}: contains no epoch with a loss. Give a log of a training that got further.")
    settings: dict[str, Any] = {match["name"]: match["value"] for match in SETTING.finditer(text[:END])}
    if (table is not None and ANNEALED in _header(table)) or ANNEALING in text[:END]:
        settings.setdefault("optimizer", "SGD")
    return Artifacts(KIND, tuple(evidence), settings=settings, files=tuple(file for file in (table, log) if file))


def _is_table(path: Path) -> bool:
    return path.is_file() and is_history_file(path) and set(COLUMNS) <= set(_header(path))


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        return file.readline(2000).decode("utf-8", "replace").strip().split("\t")


def _text(log: Path) -> str:
    if log.stat().st_size > MAX_BYTES:
        raise UserError(f"{log}: {log.stat().st_size:,} bytes; a log is read up to {MAX_BYTES:,}. Give {LOSSES} alone.")
    return log.read_bytes().decode("utf-8", "replace")


def _history(text: str) -> History:
    """Losses and scores of the epochs in a log."""
    records: list[tuple[int, Mapping[str, Any]]] = []
    for line in text.splitlines():
        if len(line) > LONGEST_LINE:
            continue  # The vocabulary of the model.
        if done := EPOCH.search(line):
            records.append((int(done["epoch"]), {"train_loss": done["loss"], "learning_rate": done["rate"]}))
        elif (dev := DEV.search(line)) and records:
            is_accuracy = "micro" in dev["name"] or "accuracy" in dev["name"]
            name = "dev_accuracy" if is_accuracy else "dev_score"
            records.append((records[-1][0], {"dev_loss": dev["loss"], name: dev["score"]}))
    series = series_of_records(
        (epoch, {name: value for name, value in record.items() if logged_number(value) is not None})
        for epoch, record in records
    )
    return History(series, per_epoch=True)


def _report(text: str, where: str) -> ReportedSplit | None:
    """The last report in a log: that of the test rows, which Flair evaluates at the end."""
    reports = [value for _, value in printed_results(text) if "report" in value]
    claims = claims_of({"report": reports[-1]["report"]}, where) if reports else None
    return None if claims is None else replace(claims, notes=(*claims.notes, f"the report at the end of {LOG}"))
