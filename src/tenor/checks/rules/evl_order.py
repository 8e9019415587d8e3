"""Whether labels and predictions are in the same row order: shifted, reversed, sorted, gathered or shuffled rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import class_indices, confusion_of_rows, distributions, joined, per_split
from tenor.checks.rules.evl_ranking import ALPHA, GOOD_ACCURACY, MIN_ROWS, RELABELLING_GAIN
from tenor.checks.rules.row_orders import MAX_SHIFT, matches_by_shift, other_orders, words_predict
from tenor.measures.tail_probabilities import binomial_at_most
from tenor.runs.findings import RULE_SEVERITY, Finding

GAIN = 0.1
"""Gain in accuracy that another order needs over the rows as given, and a shift over all other shifts."""
MIN_ROWS_FOR_FAR = 200
"""With fewer, the best of hundreds of shifts of random rows is often right in 70%."""
DEVIATIONS = 3.29
"""99.9% of the agreements of unrelated rows are within this many standard deviations."""
DEVIATIONS_OF_MANY = 5.0
"""From what unrelated rows give by chance, for the best of more than a hundred orders."""
MIN_UNRELATED = 100
SURE, SURER_THAN_RIGHT = 0.75, 0.25
"""Mean probability of the predicted class, and its excess over the accuracy. Modern networks are too sure by up to 0.15
where they are right at all (Guo et al. 2017)."""
ALIKE = 0.1
"""Largest difference between the shares of a class in the labels and in the predictions."""
RELATED, UNRELATED = 0.1, 0.03
"""Accuracy of a text baseline above the most frequent class: the texts determine the classes, or do not."""
MIN_TEXTS = 300


@rule(
    "EVL017",
    "error",
    explains=("low accuracy", "majority accuracy", "splits disagree", "unrelated rows", "rows contradict metrics"),
)
def labels_and_predictions_shifted(evaluation: EvaluationEvidence) -> Finding | None:
    """Labels and predictions are shifted by some rows

    Measures: the accuracy of the rows as given, and with the predictions shifted up or down: by one to five rows, and
    from 200 rows on by up to half of the rows.

    Threshold: at least 50 rows. Beyond five rows, a shift is looked for where the rows agree as unrelated ones do
    (within 3.29 standard deviations and 0.1). Shifted: an accuracy of 0.5, 0.05 above the majority's share, 0.1 above
    the accuracy as given and above all other shifts, and p < 0.001 over all shifts in a binomial test on the rows that
    only one of the two readings gets right.

    Why: each prediction is compared with the label of another text, which makes a good model look like chance.

    Look-alikes: rows sorted by label look the same before and after a shift, and alternating labels look the same after
    shifts in both directions. Neither is reported.

    Fix: join labels and predictions by row id, not by position; look for a header, a dropped row or batch, or a list
    that starts too late.

    Reference: McNemar 1947, Note on the Sampling Error of the Difference between Correlated Proportions.
    """
    measured = per_split(evaluation, lambda claims: _shift(claims, evaluation.n_classes))
    matches = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not matches:
        return None
    rows, direction = matches[0][2].rows, "up" if matches[0][2].by > 0 else "down"
    return Finding(
        observed=joined([(name, f"accuracy {one.before:.4f} with the rows as given") for name, _, one in matches]),
        expected=joined(
            [(name, f"accuracy {one.after:.4f} with the predictions shifted by {one.rows}") for name, _, one in matches]
        ),
        n=sum(claims.n for _, claims, _ in matches),
        cause="one of the two lists lost or gained rows at its start, so that each prediction belongs to another text",
        fix=f"join labels and predictions by row id; or shift the predictions {direction} by {rows}",
    )


@rule(
    "EVL025",
    "error",
    explains=("low accuracy", "majority accuracy", "splits disagree", "unrelated rows", "rows contradict metrics"),
)
def right_in_another_order(evaluation: EvaluationEvidence) -> Finding | None:
    """The predictions are right in another order of the rows

    Measures: the accuracy of the rows as given, and with one of the two lists reordered: reversed; sorted by class, by
    length, by text or by id; as several processes share the rows; and as `transformers.Trainer` evaluates under
    `train_sampling_strategy="group_by_length"` with its default seed.

    Threshold: at least 50 rows that agree as unrelated ones do (within 3.29 standard deviations and 0.1). In the
    other order an accuracy of 0.5, 0.05 above the majority's share, 0.1 above the accuracy as given, 5 standard
    deviations above that of unrelated rows, and p < 0.001 over all orders that were tried in a binomial test on the
    rows that only one of the two readings gets right.

    Why: each prediction is compared with the label of another text, which makes a good model look like chance.
    `Trainer.predict` returns its rows in the order in which it evaluated them, together with their labels
    (`label_ids`). Joined to the data set by position, they are shuffled.

    Look-alikes: rows that are sorted by label are right in many orders; they are so as given, too, and pass. The sorted
    predictions of a model at chance agree with labels that are sorted on purpose: that order is tried only for a model
    that is sure of its predictions, or where the words of the texts do not predict the list that is sorted.

    Fix: join labels and predictions by row id, or take the labels from the same call as the predictions.

    Reference: transformers 5.23, `Trainer._get_eval_sampler` and `LengthGroupedSampler`; McNemar 1947.
    """
    measured = per_split(evaluation, lambda claims: _order(claims, evaluation.n_classes))
    matches = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not matches:
        return None
    return Finding(
        observed=joined([(name, f"accuracy {one.before:.4f} with the rows as given") for name, _, one in matches]),
        expected=joined([(name, f"accuracy {one.after:.4f} with {one.how}") for name, _, one in matches]),
        n=sum(claims.n for _, claims, _ in matches),
        cause=f"labels and predictions are in different row orders: {matches[0][2].how}",
        fix="join labels and predictions by row id, or take the labels from the same call as the predictions",
    )


@rule(
    "EVL026",
    "warning",
    symptoms=("unrelated rows",),
    explains=("low accuracy", "majority accuracy", "splits disagree", "rows contradict metrics"),
    settled_by="the texts and the probabilities of the evaluated rows",
)
def rows_do_not_belong_together(evaluation: EvaluationEvidence) -> Finding | None:
    """Labels and predictions seem to be of different rows

    Measures: whether the saved confusion matrix has the row and column totals of the saved rows, but other cells; a
    saved accuracy, or the mean probability of the predicted class, compared with the accuracy of the rows; the
    agreement of labels and predictions compared with that of unrelated rows (Cohen's kappa); and, where the texts are
    known, how well words predict the labels and the predictions.

    Threshold: equal totals and other cells are an error; an exact invariant. Otherwise at least 100 rows whose kappa
    is within 3.29 standard deviations of 0 and below 0.1, with shares of each class that differ by less than 0.1, and
    one of: a saved accuracy that is 0.1 above that of the rows and possible with these predictions (an error);
    a mean probability of 0.75 or more that is 0.25 above the accuracy, as a warning, or as an error where words predict
    the labels 0.1 better than the most frequent class, but the predictions not (0.03); or words that predict the
    predictions and not the labels. The texts are judged from 300 rows on.

    Why: a model that has learned nothing is not confident. Confident predictions with the right shares of the classes
    that agree with the labels only by chance were made for other rows: a shuffled data loader, an evaluation in length
    order, a sort or a filter of one list, a join on an index that was reset.

    Look-alikes: a model that memorized wrong training labels is confident and at chance, too; therefore only a warning.

    Fix: predict 20 rows one by one and compare them with the file; then join labels and predictions by row id.

    Reference: Cohen 1960, A Coefficient of Agreement for Nominal Scales; Guo et al. 2017, On Calibration of Modern
    Neural Networks.
    """
    measured = per_split(evaluation, lambda claims: _mismatch(claims, evaluation.n_classes))
    matches = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not matches:
        return None
    first = matches[0][2]
    return Finding(
        observed=joined([(name, one.observed) for name, _, one in matches]),
        expected=joined([(name, one.expected) for name, _, one in matches]),
        n=sum(claims.n for _, claims, _ in matches),
        cause=first.cause,
        fix="predict 20 rows one by one and compare them with the file; then join labels and predictions by row id",
        severity="error" if any(one.is_certain for _, _, one in matches) else RULE_SEVERITY,
    )


@dataclass(frozen=True)
class _Shift:
    by: int
    """Rows by which the predictions are below their labels; above them where negative."""
    before: float
    after: float

    @property
    def rows(self) -> str:
        return "one row" if abs(self.by) == 1 else f"{abs(self.by):,} rows"


@dataclass(frozen=True)
class _Order:
    how: str
    before: float
    after: float


@dataclass(frozen=True)
class _Mismatch:
    observed: str
    expected: str
    cause: str
    is_certain: bool = False


def _rows(claims: ReportedSplit, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = class_indices(claims.labels, n_classes, "labels")
    predicted = class_indices(claims.predicted, n_classes, "predictions")
    if len(labels) != len(predicted) or len(labels) < MIN_ROWS:
        raise CannotTell(f"fewer than {MIN_ROWS} rows with label and prediction")
    return labels, predicted


def _shift(claims: ReportedSplit, n_classes: int) -> _Shift | None:
    """The shift that makes the predictions right, if there is one."""
    labels, predicted = _rows(claims, n_classes)
    near = _best_shift(labels, predicted, MAX_SHIFT)
    if near is not None or len(labels) < MIN_ROWS_FOR_FAR or not _is_by_chance(_agreement_of(labels, predicted)):
        return near
    return _best_shift(labels, predicted, len(labels) // 2)


def _best_shift(labels: np.ndarray, predicted: np.ndarray, furthest: int) -> _Shift | None:
    before, majority = float((labels == predicted).mean()), np.bincount(labels).max() / len(labels)
    if before + GAIN > 1:
        return None
    shifts, after = matches_by_shift(labels, predicted, furthest)
    order = np.argsort(-after, kind="stable")
    best, rival = int(shifts[order[0]]), max(before, float(after[order[1]]))
    if after[order[0]] < max(rival + GAIN, GOOD_ACCURACY, majority + RELABELLING_GAIN):
        return None
    n = len(labels)
    one, other = (slice(0, n - best), slice(best, n)) if best > 0 else (slice(-best, n), slice(0, n + best))
    if not _is_better(labels[one] == predicted[one], labels[one] == predicted[other], len(shifts)):
        return None
    return _Shift(best, before, float(after[order[0]]))


def _is_better(before: np.ndarray, after: np.ndarray, tried: int) -> bool:
    """Whether the second reading is right significantly more often, as the best of those that were tried."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    return binomial_at_most(lost, lost + won, 0.5) * tried < ALPHA


def _order(claims: ReportedSplit, n_classes: int) -> _Order | None:
    """The order in which the predictions are right, if there is one."""
    labels, predicted = _rows(claims, n_classes)
    agreement = _agreement(confusion_of_rows(claims, n_classes))
    if not _is_by_chance(agreement):
        return None
    is_sure = _sureness(claims, agreement, n_classes) is not None
    readings = list(_readings(claims, labels, predicted, is_sure))
    shares = [float((labels[one] == predicted[other]).mean()) for _, one, other in readings]
    best = int(np.argmax(shares))
    (how, one, other), after = readings[best], shares[best]
    if after < max(
        agreement.observed + GAIN, GOOD_ACCURACY, np.bincount(labels).max() / len(labels) + RELABELLING_GAIN
    ):
        return None
    if not _is_better((labels == predicted)[one], labels[one] == predicted[other], len(readings)):
        return None
    # Rows that agree less than by chance are as if in another order in any order: it must be right by itself.
    if after < agreement.by_chance + DEVIATIONS_OF_MANY * agreement.deviation:
        return None
    return _Order(how, agreement.observed, after)


def _readings(
    claims: ReportedSplit, labels: np.ndarray, predicted: np.ndarray, is_sure: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(how, rows of the labels, rows of the predictions) in which the two may belong together.

    Rows that are sorted by class on purpose agree with the sorted predictions of any model, also of one at chance. So
    a sorted list is one of other rows only if the model is sure, or if its texts do not predict it.
    """
    n, everything = len(labels), np.arange(len(labels))
    lengths = claims.lengths if claims.lengths is not None and len(claims.lengths) == n else None
    texts, ids = (one if one is not None and len(one) == n else None for one in (claims.texts, claims.ids))
    for how, order in other_orders(n, texts, ids, lengths):
        yield f"the predictions {how}", order, everything
        if how != "in reverse":
            yield f"the labels {how}", everything, order

    def is_of_other_rows(classes: np.ndarray) -> bool:
        return is_sure or (texts is not None and n >= MIN_TEXTS and words_predict(texts, classes) < UNRELATED)

    if is_of_other_rows(predicted):
        yield "the predictions sorted by class", np.argsort(labels, kind="stable"), everything
    if is_of_other_rows(labels):
        yield "the labels sorted by class", everything, np.argsort(predicted, kind="stable")


@dataclass(frozen=True)
class _Agreement:
    observed: float
    by_chance: float
    deviation: float
    """Of the agreement of unrelated rows with these totals."""


def _agreement(counts: np.ndarray) -> _Agreement:
    n = counts.sum()
    true, predicted = counts.sum(axis=1) / n, counts.sum(axis=0) / n
    chance = float((true * predicted).sum())
    return _Agreement(float(np.trace(counts) / n), chance, float(np.sqrt(chance * (1 - chance) / n)))


def _agreement_of(labels: np.ndarray, predicted: np.ndarray) -> _Agreement:
    k = int(max(labels.max(), predicted.max())) + 1
    return _agreement(np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k))


def _is_by_chance(agreement: _Agreement) -> bool:
    """Whether the rows agree about as unrelated ones do; rows that agree far less are of swapped labels (EVL007)."""
    return abs(agreement.observed - agreement.by_chance) <= DEVIATIONS * agreement.deviation + GAIN


def _mismatch(claims: ReportedSplit, n_classes: int) -> _Mismatch | None:
    counts = confusion_of_rows(claims, n_classes)
    saved = None if claims.confusion is None else np.asarray(claims.confusion)
    if saved is not None and saved.shape == counts.shape and not np.array_equal(saved, counts):
        totals = [np.array_equal(saved.sum(axis=axis), counts.sum(axis=axis)) for axis in (0, 1)]
        if all(totals):
            return _Mismatch(
                f"confusion matrix {counts.tolist()} from the saved rows",
                f"{saved.tolist()}, as saved: the same totals of every row and column",
                "the saved rows are the evaluated ones, with the predictions in another order than the labels",
                is_certain=True,
            )
    n, agreement = int(counts.sum()), _agreement(counts)
    if n < MIN_UNRELATED:
        raise CannotTell(f"fewer than {MIN_UNRELATED} rows with label and prediction")
    kappa = (agreement.observed - agreement.by_chance) / max(1 - agreement.by_chance, 1e-9)
    is_unrelated = abs(agreement.observed - agreement.by_chance) <= DEVIATIONS * agreement.deviation and kappa < ALIKE
    is_constant = (counts.sum(axis=0) > 0).sum() < 2 or (counts.sum(axis=1) > 0).sum() < 2
    difference = np.abs(counts.sum(axis=0) - counts.sum(axis=1))
    if not is_unrelated or is_constant or difference.max() >= ALIKE * n:
        return None
    possible = 1 - difference.sum() / (2 * n)
    accuracy = claims.accuracy
    if accuracy is not None and agreement.observed + GAIN <= accuracy <= possible + 1e-6:
        return _Mismatch(
            f"accuracy {agreement.observed:.4f} of the saved rows",
            f"{accuracy:.4f}, as saved, which the same predictions have in another order",
            "the predictions are in another order than the labels",
            is_certain=True,
        )
    if accuracy is None and claims.probabilities is None and claims.texts is None:
        raise CannotTell(
            "labels and predictions agree by chance; neither probabilities nor texts of the rows are known"
        )
    return _by_texts(claims, agreement, _sureness(claims, agreement, n_classes))


def _sureness(claims: ReportedSplit, agreement: _Agreement, n_classes: int) -> float | None:
    """The mean probability of the predicted class, if the model is far surer than it is right."""
    try:
        values = distributions(claims)
    except CannotTell:
        return None
    predicted = class_indices(claims.predicted, n_classes, "predictions")
    is_distribution = values.shape == (len(predicted), n_classes) and (np.abs(values.sum(axis=1) - 1) < 0.01).all()
    if not is_distribution:
        return None
    sure = float(values[np.arange(len(predicted)), predicted].mean())
    return sure if sure >= max(SURE, agreement.observed + SURER_THAN_RIGHT) else None


def _by_texts(claims: ReportedSplit, agreement: _Agreement, sure: float | None) -> _Mismatch | None:
    """Judge from how sure the model is, and from what the texts say of labels and predictions."""
    of_labels = of_predictions = None
    if claims.texts is not None and len(claims.texts) == claims.n >= MIN_TEXTS:
        of_labels, of_predictions = (
            words_predict(claims.texts, np.asarray(one)) for one in (claims.labels, claims.predicted)
        )
    expected = "predictions that depend on the label of their row"
    observed = f"accuracy {agreement.observed:.4f}, as of unrelated rows"
    surely = f"{observed}, with a mean probability of {sure:.2f}" if sure is not None else observed
    if of_labels is not None and of_predictions is not None:
        words = (
            f"words predict the labels {100 * of_labels:+.0f} points and the predictions {100 * of_predictions:+.0f} "
        )
        words += "points better than the most frequent class"
        if of_labels >= RELATED and of_predictions < UNRELATED and sure is not None:
            cause = "the predictions are in another order than the texts and the labels"
            return _Mismatch(f"{surely}; {words}", expected, cause, is_certain=True)
        if of_predictions >= RELATED and of_labels < UNRELATED:
            cause = "the labels are in another order than the texts and the predictions, or wrong"
            return _Mismatch(f"{surely}; {words}", expected, cause)
    if sure is None or (of_predictions is not None and of_predictions >= RELATED):
        return None
    cause = "the predictions are in another order than the labels, or the model memorized wrong training labels"
    return _Mismatch(surely, f"{expected}, or a model that is less sure", cause)
