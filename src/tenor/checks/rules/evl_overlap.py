"""Evaluated rows against the rows that the model was trained and chosen on."""

from dataclasses import replace

import numpy as np

from tenor.checks.evidence import OverlapEvidence
from tenor.checks.finding import Observation, Severity
from tenor.checks.rule import rule
from tenor.checks.rules.dat_splits import SAME_WORDS, WHOLESALE, WHOLESALE_ROWS, distinct
from tenor.checks.rules.rows import text_keys

# A model that is right on 80% of unseen rows and on all memorised ones gains 0.05 · 0.2 = one point.
MATERIAL_SHARE = 0.05


@rule("EVL016", "error")
def evaluated_rows_in_training(overlap: OverlapEvidence) -> Observation | None:
    """Evaluated rows were in training

    Measures: evaluated rows whose text, apart from case and white space, is a training text of the run, and further
    rows whose text is one of its validation texts (not where a validation split is what is evaluated).

    Threshold: training texts of 5 words or more that are 5% of the rows or more are an error: if the model remembers
    these and is right on 80% of the others, the accuracy is a point too high. Texts of any length are an error where
    half of 10 or more distinct texts are training texts. Fewer are a warning, and so are validation texts. Only
    shorter texts: a note.

    Why: the result then measures memory, not what the model does with new texts. The validation rows chose the
    checkpoint, the temperature and the threshold, so a result on them is a little too good as well.

    Look-alikes: short texts ("great film") are written by different people. Published test splits share some rows with
    their training split; the result on the other rows stands next to the one on all. A closed set of phrases repeats
    everywhere: accept the finding with that reason (`checks.allow.EVL016=…`).

    Mend: evaluate on rows that were not in training, or quote the result on the other rows.

    Reference: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science.
    """
    overlap = _without_expected(overlap)
    in_train, in_validation = int(overlap.in_train.sum()), int(overlap.in_validation.sum())
    if not in_train and not in_validation:
        return None
    n = len(overlap.texts)
    found = [f"{in_train:,} of {n:,} {overlap.split} rows are training texts"] if in_train else []
    if in_validation:
        further = f"{in_validation:,} more" if in_train else f"{in_validation:,} of {n:,} {overlap.split} rows"
        found.append(f"{further} are validation texts")
    return Observation(
        observed=", ".join(found),
        expected="no text that the model was trained or chosen on",
        n=n,
        cause="the file has rows of the training data in it"
        if in_train
        else "the file has rows that chose the checkpoint and the temperature",
        fix="evaluate on other rows, or quote the result on the rows that are in neither split",
        severity=_severity(overlap),
    )


def _without_expected(overlap: OverlapEvidence) -> OverlapEvidence:
    """Validation texts are what a validation split consists of."""
    expected = overlap.split == "validation"
    return replace(overlap, in_validation=np.zeros_like(overlap.in_validation)) if expected else overlap


def _severity(overlap: OverlapEvidence) -> Severity:
    long_in_train, long_in_validation = (_long(overlap, rows) for rows in (overlap.in_train, overlap.in_validation))
    if long_in_train >= MATERIAL_SHARE * len(overlap.texts) > 0 or _wholesale(overlap, overlap.in_train):
        return "error"
    return "warning" if long_in_train or long_in_validation or _wholesale(overlap, overlap.in_validation) else "note"


def _long(overlap: OverlapEvidence, rows: np.ndarray) -> int:
    """How many of the marked rows have a text that two people hardly write alike."""
    return sum(len(overlap.texts[row].split()) >= SAME_WORDS for row in np.flatnonzero(rows).tolist())


def _wholesale(overlap: OverlapEvidence, rows: np.ndarray) -> bool:
    """Whether half of the distinct texts are marked, however short they are."""
    marked = len(distinct(text_keys(overlap.texts[row] for row in np.flatnonzero(rows).tolist())))
    texts = len(distinct(text_keys(overlap.texts))) if marked else 0
    return texts >= WHOLESALE_ROWS and marked >= WHOLESALE * texts
