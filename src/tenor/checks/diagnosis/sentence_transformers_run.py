"""Tables of sentence-transformers' evaluators, in a folder or in its `eval/`: a run for each evaluator."""

from dataclasses import replace
from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history_files import EVALUATION_FILE, is_history_file, read_history_file
from tenor.errors import UserError

FOLDERS = (".", "eval")
MAX_FILES = 50


def evaluator_tables(path: Path) -> list[Path]:
    """The tables of evaluators in a folder."""
    files = [file for folder in FOLDERS for file in sorted((path / folder).glob("*.csv"))]
    return [file for file in files if EVALUATION_FILE.search(file.name) and is_history_file(file)][:MAX_FILES]


def read_evaluator_tables(path: Path) -> list[Artifacts]:
    """`Artifacts` of each table with a known metric. Raises UserError if there is none."""
    runs, notes = list[Artifacts](), list[str]()
    for file in evaluator_tables(path):
        try:
            runs += [replace(run, name=file.stem.removesuffix("_results")) for run in read_history_file(file)]
        except UserError as error:
            notes.append(f"not read: {' '.join(str(error).split())[:200]}")
    if not runs:
        raise UserError(f"{path}: no table of an evaluator has an accuracy. {notes[0] if notes else ''}")
    runs[0] = replace(runs[0], notes=(*runs[0].notes, *notes))
    return runs if len(runs) > 1 else [replace(runs[0], name="")]
