"""Labels of the training rows: every class there, counted from 0, of the right type, taken fairly from the source."""

import numpy as np

from tenor.checks.evidence import DataEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.shared import (
    ALPHA,
    IGNORED,
    all_splits,
    association,
    class_counts,
    class_name,
    integers,
    runs_test,
)

SHIFTED = 0.05  # Share of rows that would have to change class; less is lost in what a class weight or seed changes.
BLOCKED = 0.5  # Of the runs expected in random order; sorted sources lie near 0, shuffled ones at 1.
IMBALANCED = 10.0  # Largest over smallest class; He and Garcia 2009 speak of 10:1 as the milder end of imbalance.
FEW_ROWS = 8  # As many as few-shot methods ask for at least (Tunstall et al. 2022, SetFit).


@rule(
    "DAT001",
    "error",
    symptoms=("class without rows",),
    explains=("bad result", "collapsing predictions"),
    one_class="always",
    training_loss="low",
    settled_by="the training rows with their labels: label counts of the rows that trained",
    setting={"data.subset.strategy": "stratified"},
)
def class_without_rows(data: DataEvidence) -> Finding | None:
    """A class has no training row

    Measures: the training rows of each class 0 … K-1.

    Threshold: every class needs one row, and there must be two classes; an exact invariant.

    Why: a model that never sees a class learns never to predict it. With a single class the loss goes to 0 within a few
    steps, every curve looks perfect, and the accuracy on a balanced test is 1/K.

    Look-alikes: one-class detection is another task; a class list that is longer than the data on purpose (labels to
    come) should be allowed by code with that reason.

    Fix: look at how the rows were chosen: shuffle or stratify before cutting a subset
    (`data.subset.strategy=stratified`), or drop the class from the class list.

    Reference: Japkowicz and Stephen 2002, The class imbalance problem.
    """
    labels = integers(data.train.labels)
    counts = np.bincount(labels[(labels >= 0) & (labels < data.n_classes)], minlength=data.n_classes)
    missing = np.flatnonzero(counts == 0)
    if len(missing) == 0 and data.n_classes > 1:
        return None
    there = ", ".join(f"{class_name(data, k)}: {counts[k]:,}" for k in np.flatnonzero(counts)[:5]) or "none"
    return Finding(
        observed=f"{len(missing)} of {data.n_classes} classes without a training row; rows by class: {there}",
        expected="at least two classes, and rows of each among the training rows",
        n=len(labels),
        cause="what the model never sees it cannot learn to predict",
        fix="cut the training rows stratified by class (data.subset.strategy=stratified), or mend the class list",
    )


def chance_of_window(positions: np.ndarray, source_rows: int) -> float:
    """Probability that as many rows drawn at random lie within as short a stretch of the source (union bound)."""
    from scipy.special import gammaln

    n, window = len(positions), int(positions.max() - positions.min()) + 1
    log_chance = gammaln(window + 1) - gammaln(window - n + 1) - gammaln(source_rows + 1) + gammaln(source_rows - n + 1)
    return float(min(1.0, np.exp(log_chance + np.log(source_rows - window + 1))))


@rule(
    "DAT002",
    "error",
    explains=("bad result", "class without rows", "collapsing predictions", "imbalance", "sorted rows"),
    one_class="always",
    training_loss="low",
    only_through="DAT001",
    settled_by="the training rows with their labels: where they stood in the source, and the order of its labels",
    setting={"data.subset.strategy": "stratified"},
)
def cut_from_sorted_source(data: DataEvidence) -> Finding | None:
    """The training rows were cut from one end of a sorted source

    Measures: whether the training rows lie in one stretch of the source; whether the source is sorted by label (runs of
    equal labels over those in random order); how far the proportions of the classes differ from the source's.

    Threshold: a stretch that random draws give with p below 1e-4, and a class lost, or at least 5% of the rows of
    another class than in the source (chi-squared p below 1e-4): an error. A warning where the source is not sorted, or
    the rows are too few to be sure.

    Why: many datasets, IMDb among them, are stored class by class. The first 2,000 rows of such a file are one class.

    Look-alikes: a split by time is a stretch too, and its proportions may drift: a warning unless the source is sorted
    by label. The head of a shuffled source has its proportions and passes.

    Fix: shuffle before `head`, `[:n]` or `select(range(n))`; in Tenor `data.subset.strategy=stratified`.

    Reference: docs of `datasets.Dataset.train_test_split(stratify_by_column=…)`; Wald and Wolfowitz 1940 for the runs.
    """
    if data.train_positions is None or data.source_labels is None:
        raise CannotTell("it is not known where in the source the training rows stand")
    positions = np.asarray(data.train_positions)
    kinds, source = np.unique(np.asarray(data.source_labels).astype(str), return_inverse=True)
    if len(positions) == 0 or positions.min() < 0 or positions.max() >= len(source) or len(kinds) < 2:
        raise CannotTell("the positions lie outside the source, or it holds fewer than two classes")
    positions = np.unique(positions)
    if chance_of_window(positions, len(source)) > ALPHA:
        return None
    of_all, of_train = (np.bincount(labels, minlength=len(kinds)) for labels in (source, source[positions]))
    shift = float(np.abs(of_train / of_train.sum() - of_all / of_all.sum()).sum() / 2)
    certain = association(np.stack([of_train, of_all - of_train])).p < ALPHA
    lost = kinds[(of_train == 0) & (of_all > 0)]
    blocked = runs_test(source).ratio < BLOCKED
    if len(lost) == 0 and (shift < SHIFTED or not (blocked or certain)):
        return None
    first, last = int(positions.min()), int(positions.max())
    return Finding(
        observed=f"all {len(positions):,} training rows lie in rows {first:,} to {last:,} of {len(source):,}"
        + (f", without any row of class {', '.join(lost[:5])}" if len(lost) else f"; {shift:.0%} of another class"),
        expected="training rows from all over the source, with its proportions of classes",
        n=len(positions),
        cause=f"the source is {'sorted by label' if blocked else 'not in random order'}, and one stretch of it was cut",
        fix="shuffle or stratify before cutting: data.subset.strategy=stratified, or shuffle first",
        severity="error" if len(lost) or (blocked and certain) else "warning",
    )


@rule("DAT005", "error", symptoms=("label out of range",), explains=("bad result",))
def label_out_of_range(data: DataEvidence) -> Finding | None:
    """A label lies outside 0 … K-1

    Measures: the labels of every split below 0 or above K-1.

    Threshold: none may be; an exact invariant.

    Why: cross entropy reads the label as the index of a logit. Above K-1 it stops, on a GPU with an assertion far from
    the cause; rows labelled -100 are left out of the loss without a word.

    Look-alikes: -100 is PyTorch's index for rows to ignore: legitimate in token tasks, while whole texts without a
    label are better dropped. SST-2's test split has -1 for labels that were never published.

    Fix: map the labels to 0 … K-1, drop rows without a label, or set the right number of classes.

    Reference: torch.nn.CrossEntropyLoss, `ignore_index`.
    """
    found: dict[int, int] = {}
    for _, rows in all_splits(data):
        labels = integers(rows.labels)
        for value in labels[(labels < 0) | (labels >= data.n_classes)].tolist():
            found[value] = found.get(value, 0) + 1
    if not found:
        return None
    shown = ", ".join(f"{value} ({count:,} rows)" for value, count in sorted(found.items())[:5])
    ignored = set(found) == {IGNORED}
    return Finding(
        observed=f"labels outside the range: {shown}",
        expected=f"labels 0 … {data.n_classes - 1}",
        n=sum(len(rows.labels) for _, rows in all_splits(data)),
        cause="-100 takes a row out of the loss" if ignored else "a label is the index of a logit, and these have none",
        fix="drop the rows without a label" if ignored else "map the labels to 0 … K-1, or set the number of classes",
    )


def wrong_form(labels: np.ndarray) -> tuple[str, str] | None:
    """What the labels are and what that does, where they are not integers of shape (n,)."""
    labels = np.asarray(labels)
    if labels.ndim != 1:
        wide = labels.ndim == 2 and labels.shape[1] > 1
        effect = (
            "the loss takes them for class probabilities or several labels" if wide else "a loss broadcasts or stops"
        )
        return f"{labels.dtype} of shape {labels.shape}", effect
    if labels.dtype.kind == "f":
        missing = int(np.isnan(labels).sum())
        why = f"{missing:,} are NaN" if missing else "transformers takes floating labels for a regression"
        return f"{labels.dtype}", why
    if labels.dtype.kind == "b":
        return "bool", "cross entropy takes class indices, not truth values"
    if labels.dtype.kind not in "iu":
        example = next((repr(value)[:30] for value in labels), "")
        return f"{labels.dtype} such as {example}", "the names were never mapped to class indices, or some are missing"
    return None


@rule("DAT006", "error", explains=("label form",))
def label_form(data: DataEvidence) -> Finding | None:
    """The labels have a wrong type or shape

    Measures: type and shape of the labels of every split.

    Threshold: integers of shape (n,), of any width; an exact invariant.

    Why: floating labels make `transformers` compute a regression or a multi-label loss, which falls and means nothing
    here; a one-hot matrix does the same; a column of shape (n, 1) broadcasts against predictions to (n, n).

    Look-alikes: soft labels and multi-label tasks want such matrices, and another loss with them.

    Fix: `labels = labels.astype("int64").ravel()`, or `one_hot.argmax(axis=1)`; map names to indices once.

    Reference: transformers, `problem_type` of `ForSequenceClassification`.
    """
    for name, rows in all_splits(data):
        form = wrong_form(rows.labels)
        if form:
            return Finding(
                observed=f"{name} labels are {form[0]}",
                expected="integers of shape (n,)",
                n=len(np.atleast_1d(rows.labels)),
                cause=form[1],
                fix="give class indices: labels.astype('int64') for whole numbers, argmax(axis=1) for one-hot rows",
            )
    return None


@rule("DAT007", "error", explains=("bad result", "class without rows", "label out of range"), one_class="usually")
def labels_not_counted_from_zero(data: DataEvidence) -> Finding | None:
    """The labels are not counted 0, 1, 2, …

    Measures: the distinct labels of all splits and the source, -100 left out.

    Threshold: two to K distinct values of which one lies outside 0 … K-1; an exact invariant.

    Why: labels 1 … K leave logit 0 unused and ask for logit K, which is not there. Sentiment140 counts 0 and 4, other
    sets -1 and 1.

    Look-alikes: a single stray value among K classes is a wrong row, and DAT005's.

    Fix: `labels = np.unique(labels, return_inverse=True)[1]`, fitted on the training rows and reused for the others.

    Reference: sklearn.preprocessing.LabelEncoder.
    """
    values = set(np.concatenate([integers(rows.labels) for _, rows in all_splits(data)]).tolist()) - {IGNORED}
    outside = [value for value in values if not 0 <= value < data.n_classes]
    if not outside or not 2 <= len(values) <= data.n_classes:
        return None
    one_based = min(values) == 1 and max(values) == data.n_classes
    return Finding(
        observed=f"the labels are {', '.join(map(str, sorted(values)[:10]))}",
        expected=f"0 … {data.n_classes - 1}",
        n=sum(len(rows.labels) for _, rows in all_splits(data)),
        cause="they are counted from 1" if one_based else "they have gaps or negative values",
        fix="subtract 1 from every label" if one_based else "map the sorted distinct labels to 0, 1, 2, …",
    )


@rule("DAT022", "note", symptoms=("imbalance",))
def imbalance(data: DataEvidence) -> Finding | None:
    """The classes are far from balanced

    Measures: rows of the largest class over rows of the smallest that has any.

    Threshold: 10 is noted (He and Garcia 2009); a warning where the smallest class has fewer than 8 rows as well.

    Why: accuracy is high for a model that always says the largest class, and the smallest is learned last.

    Look-alikes: none is a fault: fraud, abuse and complaints are rare in truth.

    Fix: judge by macro F1 (`training.select_by=macro_f1`) beside the majority's accuracy; weight the loss
    (`training.class_weights=balanced`); gather more rows of a class that has a handful.

    Reference: He and Garcia 2009, Learning from imbalanced data.
    """
    counts = class_counts(data.train, data.n_classes)
    there = np.flatnonzero(counts)
    if len(there) < 2:
        raise CannotTell("fewer than two classes have training rows")
    rarest, largest = there[np.argmin(counts[there])], int(np.argmax(counts))
    ratio = counts[largest] / counts[rarest]
    if ratio < IMBALANCED:
        return None
    return Finding(
        observed=f"class {class_name(data, largest)} has {counts[largest]:,} rows, class {class_name(data, rarest)} "
        f"{counts[rarest]:,}: {ratio:.0f} to 1",
        expected=f"less than {IMBALANCED:.0f} to 1, or results read with care",
        n=int(counts.sum()),
        cause=f"always saying {class_name(data, largest)} is right on {counts[largest] / counts.sum():.1%} of the rows",
        fix="select by macro F1, compare with the majority's accuracy, and consider training.class_weights=balanced",
        severity="warning" if counts[rarest] < FEW_ROWS else "note",
    )
