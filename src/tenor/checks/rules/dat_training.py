"""The training rows as the steps showed them, whatever the dataset is: their order, and rows that are repeated."""

import numpy as np

from tenor.checks.evidence.training_evidence import LoopEvidence, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known
from tenor.measures.tail_probabilities import chi_squared
from tenor.runs.findings import Finding

MIN_RECORDS, MIN_ROWS = 10, 16
"""Records, and labelled rows of each that is judged."""

SIGNIFICANT = 1e-6
"""p-value of the test that all records have the same class frequencies."""

PURE, OFTEN = 0.95, 0.5
"""A record is of one class if that class has this share of its rows; the share of such records that is an error."""

APART = 0.25
"""Excess of the most frequent class of a record over that of all records; random batches of 16 rows have 0.1."""

REPEATS = 0.05
"""Relative difference between the rows of an epoch and a multiple of the different rows among them."""


@rule(
    "DAT033",
    "error",
    symptoms=("sorted steps",),
    explains=("bad result", "collapsing predictions", "diverging loss", "one class predicted"),
    one_class="usually",
)
def steps_sorted_by_label(steps: StepEvidence) -> Finding | None:
    """The training rows come sorted by label

    Measures: the classes of the training rows in each record of steps, compared with those of all records.

    Threshold: different with p below 1e-6 (chi-squared test), and the most frequent class of a record 25 points above
    that of the whole run on average, in at least 10 records with 16 rows. An error where half of the records are of one
    class (95% of their rows), otherwise a warning.

    Why: a model that sees one class for many steps answers with that class, whatever the text is. The loss looks
    excellent until the class changes.

    Look-alikes: random batches differ by chance only. Loaders that balance each batch have the same classes everywhere.

    Fix: shuffle the rows. A stream that is shuffled with a buffer needs a buffer of about its whole length, or a source
    whose rows were shuffled once.

    Reference: Bengio 2012, Practical recommendations, on shuffling; `datasets.IterableDataset.shuffle(buffer_size)`.
    """
    counts = np.asarray(known(steps.label_counts, "the classes of the training rows"), dtype=np.float64)
    counts = counts[counts.sum(axis=1) >= MIN_ROWS] if counts.ndim == 2 else counts
    if len(counts) < MIN_RECORDS:
        raise CannotTell(f"{len(counts)} records with {MIN_ROWS} labelled rows; {MIN_RECORDS} are needed")
    seen = counts[:, counts.sum(axis=0) > 0]
    if seen.shape[1] < 2:
        return None
    shares = (seen / seen.sum(axis=1, keepdims=True)).max(axis=1)
    usual, pure = float(seen.sum(axis=0).max() / seen.sum()), float(np.mean(shares >= PURE))
    if float(shares.mean()) - usual < APART or chi_squared(seen).p >= SIGNIFICANT:
        return None
    return Finding(
        observed=f"{pure:.0%} of {len(seen):,} records of {seen.sum(axis=1).mean():.0f} rows are of one class; the "
        f"most frequent class has {shares.mean():.0%} of a record's rows on average, and {usual:.0%} of all",
        expected="about the same classes in every record",
        n=int(seen.sum()),
        cause="the rows are sorted by label and not shuffled, or the shuffle buffer is much smaller than the data",
        fix="shuffle the whole data set once, or set the buffer of a stream to about its length",
        severity="error" if pure >= OFTEN else "warning",
    )


@rule("DAT034", "error", explains=("unplanned learning rate",), is_exact=True)
def every_worker_reads_all_rows(loop: LoopEvidence) -> Finding | None:
    """Every worker of the loader reads all rows

    Measures: the rows of the first epoch, and the different ones among them, compared with the number of workers.

    Threshold: as many times the different rows as there are workers, within 5%; an exact invariant.

    Why: a loader gives each of its workers a copy of an `IterableDataset`. Unless the dataset deals its rows out with
    `get_worker_info()`, each worker yields all of them, so an epoch is N epochs long and the schedule ends too early.

    Look-alikes: copies in the data itself do not repeat every row equally often.

    Fix: in `__iter__`, yield every Nth row from the worker's own number on: `islice(rows, info.id, None,
    info.num_workers)`.

    Reference: PyTorch, `torch.utils.data.IterableDataset` (first note).
    """
    rows, different = known(loop.rows_in_epoch, "the rows of an epoch"), known(loop.different_rows, "the rows")
    workers = loop.workers or 0
    if workers < 2 or different < MIN_ROWS or abs(rows / (workers * different) - 1) > REPEATS:
        return None
    return Finding(
        observed=f"{rows:,} rows in the first epoch, {different:,} of them different, with {workers} workers",
        expected=f"{different:,} rows",
        n=rows,
        cause="the dataset is iterable and does not deal its rows out to the workers",
        fix="yield islice(rows, info.id, None, info.num_workers) with info = get_worker_info(), or set num_workers=0",
    )
