"""Labels of the training rows: no class missing, indices 0 … K-1, the right type, a representative sample."""

import numpy as np

from tenor.checks.evidence.data_evidence import DataEvidence
from tenor.checks.finding import CannotTell
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
from tenor.runs.findings import Finding

SHIFTED = 0.05  # Share of rows that would have to change class; less has no more effect than a class weight or a seed.
BLOCKED = 0.5  # Of the runs expected in random order; sorted sources are near 0, shuffled ones at 1.
IMBALANCED = 10.0  # Largest over smallest class; He and Garcia 2009 place 10:1 at the mild end of imbalance.
FEW_ROWS = 8  # The minimum of few-shot methods (Tunstall et al. 2022, SetFit).


@rule(
    "DAT001",
    "error",
    symptoms=("class without rows",),
    explains=("bad result", "collapsing predictions"),
    one_class="always",
    training_loss="low",
    settled_by="the training rows with their labels: label counts of the rows that the model was trained on",
    setting={"data.subset.strategy": "stratified"},
)
def class_without_rows(data: DataEvidence) -> Finding | None:
    """A class has no training rows

    Measures: the number of training rows of each class 0 … K-1.

    Threshold: at least two classes, and at least one row of each; an exact invariant.

    Why: a model that never sees a class learns never to predict it. With a single class the loss falls to 0 within a
    few steps, every curve looks perfect, and the accuracy on a balanced test set is 1/K.

    Look-alikes: one-class detection is another task. A class list that is longer than the data on purpose (labels to
    come) should be allowed by code, with that reason.

    Fix: check how the rows were selected. Shuffle or stratify before taking a subset
    (`data.subset.strategy=stratified`), or remove the class from the class list.

    Reference: Japkowicz and Stephen 2002, The class imbalance problem.
    """
    labels = integers(data.train.labels)
    counts = np.bincount(labels[(labels >= 0) & (labels < data.n_classes)], minlength=data.n_classes)
    missing = np.flatnonzero(counts == 0)
    if len(missing) == 0 and data.n_classes > 1:
        return None
    if data.n_classes == 1 and counts[0]:
        only = f"all {counts[0]:,} training rows have the same label: {class_name(data, 0)}"
        return Finding(
            observed=only,
            expected="at least two classes, and training rows of each",
            n=len(labels),
            cause="the label column is constant: there is nothing to learn",
            fix="set data.label_column to the column with the classes, or add the rows of the other classes",
        )
    present = ", ".join(f"{class_name(data, k)}: {counts[k]:,}" for k in np.flatnonzero(counts)[:5]) or "none"
    return Finding(
        observed=f"{len(missing)} of {data.n_classes} classes have no training rows; rows by class: {present}",
        expected="at least two classes, and training rows of each",
        n=len(labels),
        cause="the training rows were selected without some classes, and a model cannot learn a class it never sees",
        fix="select the training rows stratified by class (data.subset.strategy=stratified), or correct the class list",
    )


def chance_of_window(positions: np.ndarray, source_rows: int) -> float:
    """Probability that as many random rows fall within an equally short range of the source (union bound)."""
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
    settled_by="the training rows with their labels: their positions in the source, and its label order",
    setting={"data.subset.strategy": "stratified"},
)
def subset_of_sorted_source(data: DataEvidence) -> Finding | None:
    """The training rows are one contiguous part of a sorted source

    Measures: whether the training rows are one contiguous range of the source; whether the source is sorted by label
    (runs of equal labels compared with random order); how much the class proportions differ from the source's.

    Threshold: a range that random draws produce with p below 1e-4, and either a class without rows or class proportions
    that differ by at least 5% of the rows (chi-squared p below 1e-4): an error. A warning where the source is not
    sorted, or there are too few rows to be sure.

    Why: many datasets, including IMDb, are stored class by class. The first 2,000 rows of such a file are one class.

    Look-alikes: a split by time is contiguous too, and its proportions may drift: a warning unless the source is sorted
    by label. The first rows of a shuffled source have the source's proportions and pass.

    Fix: shuffle before `head`, `[:n]` or `select(range(n))`; in Tenor `data.subset.strategy=stratified`.

    Reference: docs of `datasets.Dataset.train_test_split(stratify_by_column=…)`; Wald and Wolfowitz 1940 for the runs.
    """
    if data.train_positions is None or data.source_labels is None:
        raise CannotTell("the positions of the training rows in the source are not known")
    positions = np.asarray(data.train_positions)
    kinds, source = np.unique(np.asarray(data.source_labels).astype(str), return_inverse=True)
    if len(positions) == 0 or positions.min() < 0 or positions.max() >= len(source) or len(kinds) < 2:
        raise CannotTell("the positions are outside the source, or it contains fewer than two classes")
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
        observed=f"all {len(positions):,} training rows are between rows {first:,} and {last:,} of {len(source):,}"
        + (f", without any row of class {', '.join(lost[:5])}" if len(lost) else f"; {shift:.0%} of another class"),
        expected="training rows from the whole source, with its class proportions",
        n=len(positions),
        cause=f"the source is {'sorted by label' if blocked else 'not in random order'}, and one part was taken",
        fix="shuffle the source before taking a subset, or set data.subset.strategy=stratified",
        severity="error" if len(lost) or (blocked and certain) else "warning",
    )


@rule("DAT005", "error", symptoms=("label out of range",), explains=("bad result",))
def label_out_of_range(data: DataEvidence) -> Finding | None:
    """A label is outside 0 … K-1

    Measures: labels below 0 or above K-1 in every split.

    Threshold: none; an exact invariant.

    Why: cross entropy uses the label as the index of a logit. A label above K-1 raises an error, on a GPU an assertion
    far from the cause. Rows labelled -100 are silently ignored in the loss.

    Look-alikes: -100 is PyTorch's index for ignored rows. It is legitimate in token tasks, but whole texts without a
    label are better dropped. SST-2's test split has -1 for labels that were never published.

    Fix: map the labels to 0 … K-1, drop rows without a label, or set the correct number of classes.

    Reference: torch.nn.CrossEntropyLoss, `ignore_index`.
    """
    counts: dict[int, int] = {}
    for _, rows in all_splits(data):
        labels = integers(rows.labels)
        for value in labels[(labels < 0) | (labels >= data.n_classes)].tolist():
            counts[value] = counts.get(value, 0) + 1
    if not counts:
        return None
    shown = ", ".join(f"{value} ({count:,} rows)" for value, count in sorted(counts.items())[:5])
    ignored = set(counts) == {IGNORED}
    return Finding(
        observed=f"labels outside the range: {shown}",
        expected=f"labels 0 … {data.n_classes - 1}",
        n=sum(len(rows.labels) for _, rows in all_splits(data)),
        cause="rows with label -100 are ignored in the loss"
        if ignored
        else "a label is the index of a logit, and there is no logit for these",
        fix="drop the rows without a label"
        if ignored
        else "map the labels to 0 … K-1, or correct the number of classes",
    )


def wrong_form(labels: np.ndarray) -> tuple[str, str] | None:
    """(form, consequence) in words of labels that are not integers of shape (n,); otherwise None."""
    labels = np.asarray(labels)
    if labels.ndim != 1:
        wide = labels.ndim == 2 and labels.shape[1] > 1
        effect = (
            "the loss treats them as class probabilities or as multi-label targets"
            if wide
            else "the loss broadcasts them or raises an error"
        )
        return f"{labels.dtype} of shape {labels.shape}", effect
    if labels.dtype.kind == "f":
        missing = int(np.isnan(labels).sum())
        why = f"{missing:,} are NaN" if missing else "transformers treats floating-point labels as a regression"
        return f"{labels.dtype}", why
    if labels.dtype.kind == "b":
        return "bool", "cross entropy needs class indices, not booleans"
    if labels.dtype.kind not in "iu":
        example = next((repr(value)[:30] for value in labels), "")
        return (
            f"{labels.dtype}, for example {example}",
            "class names were not mapped to indices, or some labels are missing",
        )
    return None


@rule("DAT006", "error", explains=("label form",))
def label_form(data: DataEvidence) -> Finding | None:
    """The labels have the wrong type or shape

    Measures: the type and shape of the labels of every split.

    Threshold: integers of shape (n,), of any width; an exact invariant.

    Why: with floating-point labels `transformers` computes a regression or multi-label loss, which falls but means
    nothing here. A one-hot matrix does the same. A column of shape (n, 1) broadcasts against the predictions to (n, n).

    Look-alikes: soft labels and multi-label tasks need such matrices, and another loss.

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
                fix="use class indices: labels.astype('int64') for whole numbers, argmax(axis=1) for one-hot rows",
            )
    return None


@rule("DAT007", "error", explains=("bad result", "class without rows", "label out of range"), one_class="usually")
def labels_not_zero_based(data: DataEvidence) -> Finding | None:
    """The class indices are not 0, 1, 2, …

    Measures: the distinct labels of all splits, without -100.

    Threshold: two to K distinct values, at least one of them outside 0 … K-1; an exact invariant.

    Why: labels 1 … K leave logit 0 unused and need a logit K that does not exist. Sentiment140 uses 0 and 4, other
    datasets -1 and 1.

    Look-alikes: all K labels and one outlier are more than K values: the outlier is a wrong row, which DAT005 reports.

    Fix: `labels = np.unique(labels, return_inverse=True)[1]`, fitted on the training rows and reused for the other
    splits.

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
        cause="the labels start at 1" if one_based else "the labels have gaps or negative values",
        fix="subtract 1 from every label" if one_based else "map the sorted distinct labels to 0, 1, 2, …",
    )


@rule(
    "DAT022",
    "note",
    symptoms=("imbalance",),
    explains=("class never predicted", "majority accuracy", "one class predicted"),
)
def imbalance(data: DataEvidence) -> Finding | None:
    """The classes are very imbalanced

    Measures: the rows of the largest class divided by those of the smallest class that has any.

    Threshold: 10 is a note (He and Garcia 2009); a warning where the smallest class also has fewer than 8 rows.

    Why: a model that always predicts the largest class has a high accuracy, and the smallest class is learned last.

    Look-alikes: imbalance is no fault in itself: fraud, abuse and complaints are rare.

    Fix: select by macro F1 (`training.select_by=macro_f1`) and compare with the majority's accuracy; weight the loss
    (`training.class_weights=balanced`); gather more rows of a class with very few.

    Reference: He and Garcia 2009, Learning from imbalanced data.
    """
    counts = class_counts(data.train, data.n_classes)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise CannotTell("fewer than two classes have training rows")
    rarest, largest = present[np.argmin(counts[present])], int(np.argmax(counts))
    ratio = counts[largest] / counts[rarest]
    if ratio < IMBALANCED:
        return None
    return Finding(
        observed=f"class {class_name(data, largest)} has {counts[largest]:,} rows, class {class_name(data, rarest)} "
        f"{counts[rarest]:,}: {ratio:.0f} to 1",
        expected=f"less than {IMBALANCED:.0f} to 1; otherwise judge results by macro F1",
        n=int(counts.sum()),
        cause=f"always predicting {class_name(data, largest)} is {counts[largest] / counts.sum():.1%} accurate",
        fix="select by macro F1, compare with the majority's accuracy, and consider training.class_weights=balanced",
        severity="warning" if counts[rarest] < FEW_ROWS else "note",
    )
