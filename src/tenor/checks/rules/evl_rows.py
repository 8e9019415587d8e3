"""Evaluated rows: whether labels and predictions name the same classes, and whether rows were trained on."""

from dataclasses import dataclass, replace

import numpy as np

from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.dat_splits import SAME_WORDS, WHOLESALE, WHOLESALE_ROWS, distinct
from tenor.checks.rules.evl_measures import accuracy, class_name, confusion, joined, per_split, supports_of
from tenor.checks.rules.shared import text_keys
from tenor.runs.findings import RULE_SEVERITY, Finding, Severity

SHOWN = 4
FEWEST_ROWS = 20


@rule("EVL038", "warning")
def one_true_class(evaluation: EvaluationEvidence) -> Finding | None:
    """All evaluated rows have the same true class

    Measures: the true classes of the evaluated rows, the rows of the confusion matrix, or the supports of a report.

    Threshold: 20 rows or more, all of one class, of a model with more classes; an exact invariant.

    Why: the accuracy is then the recall of this class alone. A model that always predicts it has 100%, and what happens
    to the rows of the other classes is not measured.

    Look-alikes: a set of one class that was chosen on purpose, such as complaints only.

    Fix: evaluate rows of every class; sorted rows of which only the first ones are read are all of one class.

    Reference: Powers 2011, Evaluation: from precision, recall and F-measure to ROC, informedness, markedness.
    """
    counts = per_split(evaluation, lambda claims: _true_rows(claims, evaluation.n_classes))
    alone = [
        (name, names[int(rows.argmax())], rows)
        for name, _, (names, rows) in counts
        if len(rows) > 1 and rows.sum() >= FEWEST_ROWS and rows.max() == rows.sum()
    ]
    if not alone:
        return None
    return Finding(
        observed=joined([(name, f"all {int(rows.sum()):,} rows are of class {one}") for name, one, rows in alone]),
        expected=f"rows of all {max(len(rows) for *_, rows in alone):,} classes",
        n=sum(int(rows.sum()) for *_, rows in alone),
        cause="the evaluated rows are the first ones of a source that is sorted by class, or were filtered",
        fix="evaluate rows of every class: shuffle before rows are chosen, or choose them by class",
    )


def _true_rows(claims: ReportedSplit, n_classes: int) -> tuple[list[str], np.ndarray]:
    """The names of the classes and the rows of each; CannotTell if neither counts nor supports are known."""
    try:
        rows = confusion(claims, n_classes).sum(axis=1)
    except CannotTell:
        supports = supports_of(claims.report)
        if not supports:
            raise
        return list(supports), np.array(list(supports.values()))
    return [class_name(claims, k) for k in range(len(rows))], rows


@rule("EVL019", "error")
def no_common_class_name(evaluation: EvaluationEvidence) -> Finding | None:
    """Labels and predictions have no class name in common

    Measures: the class names in the labels and in the predictions, ignoring case and white space; then the accuracy
    with each name of the predictions mapped to one of the labels: in the usual order (negative before positive),
    otherwise in the way that makes most predictions right.

    Threshold: no common name; an exact invariant. A warning where one side has numbers and the other names, as in files
    that contain both ids and names.

    Why: compared as written, no prediction is ever right. An accuracy of 0 then says nothing about the model.

    Look-alikes: true and 1, LABEL_1 and 1, and "Positive" and "positive" are the same class and are treated so.

    Fix: set the model's `id2label` to the class names of the data, or map the predictions before they are saved.

    Reference: transformers, PretrainedConfig (id2label, label2id).
    """
    measured = per_split(evaluation, lambda claims: _name_mismatch(claims, evaluation.n_classes))
    matches = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not matches:
        return None
    return Finding(
        observed=joined([(name, f"labels {one.labels}; predictions {one.predictions}") for name, _, one in matches]),
        expected=joined(
            [
                (name, f"the same names; mapped in pairs ({one.pairs}) the accuracy is {one.accuracy:.4f}")
                for name, _, one in matches
            ]
        ),
        n=sum(claims.n for _, claims, _ in matches),
        cause="the model, or the program that saved its predictions, uses other class names than the data",
        fix="map the predictions to the label names before comparing; set id2label in the model's config",
        severity="warning" if all(one.numbers_and_names for _, _, one in matches) else RULE_SEVERITY,
    )


@dataclass(frozen=True)
class _Names:
    labels: str
    predictions: str
    pairs: str
    accuracy: float
    numbers_and_names: bool


def _name_mismatch(claims: ReportedSplit, n_classes: int) -> _Names | None:
    if claims.read_as is None:
        raise CannotTell("the class names of the labels or of the predictions are not known")
    if not claims.read_as:
        return None
    predicted = [name for name, _ in claims.read_as]
    own = sorted({*(claims.class_names or ()), *(name for _, name in claims.read_as)})
    numbers = [all(name.lstrip("-").isdecimal() for name in names) for names in (own, predicted)]
    return _Names(
        labels=_listed(own),
        predictions=_listed(predicted),
        pairs=_listed([f"{name} as {label}" for name, label in claims.read_as]),
        accuracy=accuracy(claims, n_classes)[0],
        numbers_and_names=numbers[0] != numbers[1],
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


# A model that is right on 80% of new rows and on all memorized ones gains 0.05 · 0.2 = one point.
MATERIAL_SHARE = 0.05


@rule("EVL016", "error")
def evaluated_rows_in_training(overlap: OverlapEvidence) -> Finding | None:
    """Evaluated rows were in training

    Measures: evaluated rows whose text is a training text of the run, apart from case, white space, punctuation,
    quotes and HTML tags, and further rows whose text is one of its validation texts (unless a validation split is
    evaluated).

    Threshold: training texts of 5 words or more that make up at least 5% of the rows are an error: if the model
    remembers these and is right on 80% of the others, the accuracy is a point too high. Texts of any length are an
    error where half of 10 or more distinct texts are training texts. Fewer are a warning, and so are validation texts.
    Only shorter texts are a note.

    Why: the result then measures memory, not performance on new texts. The validation rows selected the checkpoint, the
    temperature and the threshold, so a result on them is slightly too good as well.

    Look-alikes: short texts ("great film") are written by different people. Published test splits share some rows with
    their training split; the result on the other rows is reported next to the result on all rows. A closed set of
    phrases repeats everywhere: accept the finding with that reason (`checks.allow.EVL016=…`).

    Fix: evaluate on rows that were not in training, or report the result on the other rows.

    Reference: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science.
    """
    overlap = _without_expected(overlap)
    in_train, in_validation = int(overlap.in_train.sum()), int(overlap.in_validation.sum())
    if not in_train and not in_validation:
        return None
    n = len(overlap.texts)
    matches = [f"{in_train:,} of {n:,} {overlap.split} rows are training texts"] if in_train else []
    if in_validation:
        further = f"{in_validation:,} more" if in_train else f"{in_validation:,} of {n:,} {overlap.split} rows"
        matches.append(f"{further} are validation texts")
    return Finding(
        observed=", ".join(matches),
        expected="no text that the model was trained or selected on",
        n=n,
        cause="the file contains rows of the training data"
        if in_train
        else "the file contains rows that selected the checkpoint and the temperature",
        fix="evaluate on other rows, or report the result on the rows that are in neither split",
        severity=_severity(overlap),
    )


def _without_expected(overlap: OverlapEvidence) -> OverlapEvidence:
    """Without the validation texts where a validation split is evaluated: there they are expected."""
    expected = overlap.split == "validation"
    return replace(overlap, in_validation=np.zeros_like(overlap.in_validation)) if expected else overlap


def _severity(overlap: OverlapEvidence) -> Severity:
    long_in_train, long_in_validation = (_long(overlap, rows) for rows in (overlap.in_train, overlap.in_validation))
    if long_in_train >= MATERIAL_SHARE * len(overlap.texts) > 0 or _wholesale(overlap, overlap.in_train):
        return "error"
    return "warning" if long_in_train or long_in_validation or _wholesale(overlap, overlap.in_validation) else "note"


def _long(overlap: OverlapEvidence, rows: np.ndarray) -> int:
    """The number of marked rows whose text is too long to be written twice by chance."""
    return sum(len(overlap.texts[row].split()) >= SAME_WORDS for row in np.flatnonzero(rows).tolist())


def _wholesale(overlap: OverlapEvidence, rows: np.ndarray) -> bool:
    """Whether at least half of the distinct texts are marked, regardless of their length."""
    marked = len(distinct(text_keys(overlap.texts[row] for row in np.flatnonzero(rows).tolist())))
    texts = len(distinct(text_keys(overlap.texts))) if marked else 0
    return texts >= WHOLESALE_ROWS and marked >= WHOLESALE * texts
