"""The model card that Trainer writes: `README.md` with the settings and the validations of a training."""

import re
from dataclasses import replace
from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.printed_logs import log_records
from tenor.checks.diagnosis.printed_results import text_of
from tenor.checks.diagnosis.result_files import read_printed_results
from tenor.errors import UserError

CARD, MARKDOWN = "README.md", ".md"
SETTING = re.compile(r"^[-*] (?P<name>\w{2,60}): (?P<value>[^\n]{1,300})$", re.MULTILINE)


def has_validations(path: Path) -> bool:
    """Whether a folder has a model card with a table of validations."""
    try:
        return (path / CARD).is_file() and bool(log_records(text_of(path / CARD))[0])
    except UserError:
        return False


def read_card_of_folder(path: Path) -> list[Artifacts]:
    return read_card(path / CARD)


def read_card(path: Path) -> list[Artifacts]:
    """The table of validations. Raises UserError if there is none."""
    text = text_of(path)
    if not log_records(text)[0]:
        raise UserError(
            f"{path}: a text, such as a model card, without a table of validations ('Training results', as Trainer "
            f"writes it). Give the folder to which the training wrote its log, or a CSV file with predictions (columns "
            f"label and prediction)."
        )
    settings = {match["name"]: match["value"].strip() for match in SETTING.finditer(text)}
    return [
        replace(run, kind="a model card with the validations of its training", settings=settings, files=(path,))
        for run in read_printed_results(path)
    ]
