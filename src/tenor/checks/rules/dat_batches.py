"""The data loader: every class in the first batches, random order, each row exactly once."""

import numpy as np

from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.dat_labels import wrong_form
from tenor.checks.rules.shared import ALPHA, chance_of_none, class_counts, class_indices, runs_test
from tenor.runs.findings import Finding

MIN_ROWS = 20  # Two sorted blocks of ten rows each have p = 2e-5 in random order; fewer rows are not significant.
FEWEST_BATCHES = 4
SIMILAR_LENGTH = 0.25  # Of the variance of all lengths; of rows in random order it is about 1.
MOSTLY_SORTED = 0.9
FEW_RUNS = 0.5  # Of the runs expected in random order; shuffled IMDb rows sorted by length have 1.0.


def seen_labels(batches: BatchEvidence) -> np.ndarray:
    """The labels of all batches, concatenated, shape (rows,)."""
    if not batches.labels:
        raise CannotTell("no batch was recorded")
    return np.concatenate([class_indices(labels, batches.n_classes) for labels in batches.labels])


@rule(
    "DAT003",
    "error",
    symptoms=("class missing from batches",),
    explains=("bad result", "collapsing predictions"),
    one_class="usually",
)
def class_missing_from_batches(batches: BatchEvidence, data: DataEvidence) -> Finding | None:
    """A class is missing from the first batches

    Measures: the probability that N rows drawn without replacement from the training rows contain no row of the class,
    where N is the number of rows in the recorded batches (hypergeometric).

    Threshold: below 1e-4 after correction for the K classes.

    Why: the model does not receive the data that was counted: no shuffling, a filter, a sampler over other rows, or a
    collator that overwrites the labels. The model drifts towards the classes it sees.

    Look-alikes: a rare class is often missing from a few batches, which its probability takes into account; curricula
    begin with selected rows on purpose.

    Fix: `DataLoader(…, shuffle=True)`, and print `np.bincount` of the collated labels of a few batches.

    Reference: Karpathy 2019, A recipe for training neural networks: look at what goes into the network.
    """
    counts, seen = class_counts(data.train, data.n_classes), seen_labels(batches)
    present = np.bincount(seen, minlength=data.n_classes)[: data.n_classes]
    missing = [int(k) for k in np.flatnonzero((present == 0) & (counts > 0))]
    total = int(counts.sum())
    chances = {k: chance_of_none(int(counts[k]), total - int(counts[k]), len(seen)) * data.n_classes for k in missing}
    unlikely = [k for k in missing if chances[k] < ALPHA]
    if not unlikely:
        return None
    k = min(unlikely, key=lambda one: chances[one])
    return Finding(
        observed=f"class {k} is missing from the first {len(batches.labels)} batches ({len(seen):,} rows), "
        f"although {counts[k] / total:.1%} of the training rows have it (p = {chances[k]:.1e})",
        expected="every common class within the first few batches",
        n=len(seen),
        cause="the loader does not shuffle, or its rows or labels differ from those of the split",
        fix="shuffle (DataLoader(shuffle=True)), and compare the collated labels with the dataset's",
    )


@rule(
    "DAT004",
    "error",
    symptoms=("sorted rows",),
    explains=("bad result", "class missing from batches", "collapsing predictions", "diverging loss", "sorted steps"),
    one_class="usually",
    settled_by="the training loader: the labels of one epoch, in order",
)
def unshuffled(batches: BatchEvidence) -> Finding | None:
    """The data loader returns the rows sorted by label

    Measures: the runs of equal labels in the loader's order, compared with random order; and the share of batches with
    a single class.

    Threshold: fewer than half of the expected runs, with p below 1e-4 (runs test), on 20 rows or more. An error where
    most batches have a single class, otherwise a warning. Where the recorded batches have texts of similar length, and
    come in no order of length, a warning and a note: then the length of a text tells its class.

    Why: a model that sees one class for a thousand steps and then the other forgets the first. The loss looks excellent
    until the class changes.

    Look-alikes: shuffling and then grouping by length keeps the number of runs (sorting only by length leaves rows of
    equal length in blocks, and is reported). Samplers that balance each batch give more runs, not fewer. Contrastive
    methods pair rows on purpose.

    Fix: `DataLoader(…, shuffle=True)`, or a sampler that permutes the rows in each epoch.

    Reference: Wald and Wolfowitz 1940; Bengio 2012, Practical recommendations, on shuffling.
    """
    labels = (
        seen_labels(batches) if batches.epoch_labels is None else class_indices(batches.epoch_labels, batches.n_classes)
    )
    if len(labels) < MIN_ROWS:
        raise CannotTell(f"{len(labels)} rows are too few to test their order; {MIN_ROWS} are needed")
    runs = runs_test(labels)
    if runs.ratio >= FEW_RUNS or runs.p >= ALPHA:
        return None
    size = len(batches.labels[0]) if batches.labels else 1
    whole = labels[: len(labels) // size * size].reshape(-1, size) if size else labels[:, None]
    single = float(np.mean((whole == whole[:, :1]).all(axis=1))) if len(whole) and size > 1 else 0.0
    by_length = are_grouped_by_length(batches)
    return Finding(
        observed=f"{runs.observed:,} runs of equal labels in {len(labels):,} rows; {single:.0%} of the batches of "
        f"{size} have a single class",
        expected=f"about {runs.expected:,.0f} runs in random order (p = {runs.p:.1e})",
        n=len(labels),
        cause="the loader puts texts of similar length into a batch, and here the length of a text tells its class"
        if by_length
        else "the loader keeps the order of a source that is sorted by label",
        fix="find out why the length tells the class; larger batches contain more classes"
        if by_length
        else "shuffle every epoch: DataLoader(shuffle=True), without a SequentialSampler for training",
        severity=("warning" if single > 0.5 else "note") if by_length else "error" if single > 0.5 else "warning",
    )


def are_grouped_by_length(batches: BatchEvidence) -> bool:
    """Whether each recorded batch has texts of similar length, and the batches come in no order of length."""
    if batches.attention_mask is None or len(batches.attention_mask) < FEWEST_BATCHES:
        return False
    lengths = [mask.sum(axis=1) for mask in batches.attention_mask]
    spread = float(np.var(np.concatenate(lengths)))
    within = float(np.mean([np.var(one) for one in lengths]))
    order = np.argsort(np.argsort([one.mean() for one in lengths]))
    is_sorted = abs(float(np.corrcoef(order, np.arange(len(order)))[0, 1])) > MOSTLY_SORTED
    return spread > 0 and within < SIMILAR_LENGTH * spread and not is_sorted


@rule("DAT024", "error")
def rows_lost_or_repeated(batches: BatchEvidence) -> Finding | None:
    """The data loader skips or repeats rows

    Measures: the rows of one epoch of the loader compared with the rows of the split.

    Threshold: equal; an exact invariant. A difference smaller than a batch is a note.

    Why: skipped rows are not learned, and repeated rows count twice. The length of the schedule is wrong too.

    Look-alikes: `drop_last` skips an incomplete batch, and distributed samplers pad the last one: notes. A weighted
    sampler draws `num_samples` rows with replacement, and a `SubsetRandomSampler` is compared with its own rows; both
    pass. Each of several processes sees only its share.

    Fix: compare `len(loader.dataset)` with the split, and check the sampler's `num_samples`.

    Reference: torch.utils.data, on samplers and `drop_last`.
    """
    if batches.rows_per_epoch is None or batches.rows_in_split is None:
        raise CannotTell("the number of rows in an epoch or in the split is not known")
    missing = batches.rows_in_split - batches.rows_per_epoch
    if missing == 0 or batches.with_replacement:
        return None
    batch = max((len(labels) for labels in batches.labels), default=1)
    tail = abs(missing) < batch and batches.rows_per_epoch > 0
    what = "skipped" if missing > 0 else "repeated"
    return Finding(
        observed=f"{batches.rows_per_epoch:,} rows in an epoch: {abs(missing):,} {what}",
        expected=f"each of the {batches.rows_in_split:,} rows of the split once",
        n=batches.rows_in_split,
        cause="the incomplete last batch is dropped or padded" if tail else "a filter or sampler changes the rows",
        fix="set drop_last=False if every row matters" if tail else "check the loader's dataset and its sampler",
        severity="note" if tail else "error",
    )


AGAIN = 10
"""Times that each drawn row is drawn in one epoch; balancing classes of 1% and 99% draws the rare rows 50 times, and
most of the others."""

FEW = 0.1
"""Share of the split's rows that is drawn at all."""


@rule(
    "DAT028",
    "error",
    symptoms=("class missing from batches",),
    explains=("bad result", "class without rows", "collapsing predictions"),
    one_class="usually",
)
def few_rows_again_and_again(batches: BatchEvidence) -> Finding | None:
    """The sampler draws the same few rows again and again

    Measures: the row numbers that the sampler draws in one epoch, without reading the rows; the number of weights of a
    weighted sampler.

    Threshold: ten draws or more of each drawn row, from less than 10% of the rows; or weights for less than 10% of the
    rows. An error, because the other rows are never drawn.

    Why: `WeightedRandomSampler` takes one weight for each row. Given one weight for each class, it draws only the first
    K rows: the model memorizes them, and the loss looks excellent.

    Look-alikes: weights that balance rare classes repeat the rare rows, but draw most of the others too; a subset or a
    short epoch draws few rows, once each. Both pass.

    Fix: `WeightedRandomSampler(class_weights[labels], num_samples=len(labels))`: the weight of each row's class.

    Reference: PyTorch, `torch.utils.data.WeightedRandomSampler` ("a sequence of weights, not necessary summing up to
    one", one for each sample).
    """
    if batches.row_order is None or batches.rows_in_split is None:
        raise CannotTell("the sampler's row numbers are not known")
    drawn, rows = len(batches.row_order), batches.rows_in_split
    distinct = len(np.unique(batches.row_order))
    weights = batches.weights_given
    too_few_weights = weights is not None and weights < FEW * rows
    if not too_few_weights and not (distinct < FEW * rows and drawn >= AGAIN * distinct):
        return None
    by_class = weights is not None and weights == batches.n_classes
    return Finding(
        observed=f"{drawn:,} draws of {distinct:,} different rows"
        + ("" if weights is None else f", with {weights:,} weights")
        + f" for {rows:,} rows",
        expected="one weight for each row" if too_few_weights else "most of the rows in every epoch",
        n=drawn,
        cause="the sampler was given the weights of the classes instead of those of the rows"
        if by_class
        else "the sampler can draw only some of the rows",
        fix="WeightedRandomSampler(class_weights[labels], num_samples=len(labels)): the weight of each row's class"
        if weights is not None
        else "check the row numbers that the sampler draws, and its weights",
    )


@rule("DAT029", "warning")
def rows_repeated_within_an_epoch(batches: BatchEvidence) -> Finding | None:
    """Rows are repeated within an epoch

    Measures: row numbers that the sampler draws more than once in one epoch, although it does not declare that it draws
    with replacement; how frequent the classes are among the draws and among the rows, or, if the labels of the rows are
    not known, how unequally often rows are drawn.

    Threshold: more rows drawn twice than a batch has: a warning. Weights for another number of rows than the split has
    are a warning too.

    Why: repeated rows count twice, and others not at all. After an epoch the model has seen fewer rows than it seems.

    Look-alikes: samplers with an attribute `replacement` draw rows again on purpose, and samplers that make the classes
    more balanced repeat the rare ones; distributed samplers repeat a few rows to fill the last batch. All pass.

    Fix: `DataLoader(shuffle=True)`; `random.sample` draws without replacement, `random.choices` and `randint` do not.

    Reference: torch.utils.data, `RandomSampler(replacement=False)`.
    """
    if batches.row_order is None or batches.rows_in_split is None:
        raise CannotTell("the sampler's row numbers are not known")
    rows, order, weights = batches.rows_in_split, np.asarray(batches.row_order), batches.weights_given
    mismatch = weights is not None and FEW * rows <= weights != rows  # DAT028 judges fewer.
    again = len(order) - len(np.unique(order))
    batch = max((len(labels) for labels in batches.labels), default=1)
    if not mismatch and (again <= batch or batches.with_replacement or _balances(batches)):
        return None
    return Finding(
        observed=f"{weights:,} weights for {rows:,} rows"
        if mismatch
        else f"{again:,} of {len(order):,} draws in one epoch repeat a row",
        expected="one weight for each row" if mismatch else "each row at most once in an epoch",
        n=len(order),
        cause="the weights belong to another set of rows: the rows after the last weight are never drawn"
        if mismatch
        else "the sampler draws with replacement, or its row numbers contain rows twice",
        fix="build the weights from the labels of the rows that the loader reads"
        if mismatch
        else "draw without replacement: DataLoader(shuffle=True), or a permutation of the rows",
    )


def _balances(batches: BatchEvidence) -> bool:
    """Whether the classes are more equally frequent among the draws than among the rows.

    Without the labels of the rows: whether some are drawn more often than others by more than chance explains.
    """
    order, rows = np.asarray(batches.row_order), batches.rows_in_split or 0
    if batches.split_labels is None:
        times = np.bincount(order, minlength=rows)
        return bool(times.var() > times.mean() * (1 + 4 * np.sqrt(2 / len(times))))
    labels = class_indices(batches.split_labels, batches.n_classes)
    if order.max(initial=0) >= len(labels):
        raise CannotTell("the sampler's row numbers are not those of the training rows")
    of_draws, of_rows = (np.bincount(some, minlength=batches.n_classes) / len(some) for some in (labels[order], labels))
    return float(np.square(of_rows).sum() - np.square(of_draws).sum()) > BALANCING


BALANCING = 0.01
"""Smallest fall of the sum of squared class shares that counts as balancing: from 60 and 40% to 57 and 43%."""


@rule("DAT030", "warning")
def epoch_begins_again(batches: BatchEvidence) -> Finding | None:
    """A run resumed within an epoch begins the epoch again

    Measures: the batches of the epoch on which the interrupted run was trained, compared with those that the resumed
    loop or its loader skips.

    Threshold: equal; an exact invariant where both are known.

    Why: the rows before the interruption are trained on twice, and the schedule ends before the last ones are read. The
    run differs from an uninterrupted one.

    Look-alikes: a resume at the end of an epoch skips nothing and passes, as does a loop that reads the batches without
    training on them.

    Fix: `accelerate.skip_first_batches(loader, n)` for the resumed epoch, with the epoch's seed; in a `Trainer` leave
    `ignore_data_skip=False`.

    Reference: Accelerate documentation, Checkpointing ("resuming mid-epoch").
    """
    if batches.batches_done is None or batches.batches_skipped is None:
        raise CannotTell("whether a run is resumed within an epoch is not known")
    again = batches.batches_done - batches.batches_skipped
    if again <= 0:
        return None
    return Finding(
        observed=f"the interrupted run had read {batches.batches_done:,} batches of the epoch; "
        f"{batches.batches_skipped:,} are skipped",
        expected="the resumed epoch continues after them",
        n=batches.batches_done,
        cause="the position in the epoch was not restored, so its first rows are repeated",
        fix="skip them: accelerate.skip_first_batches(loader, n), or ignore_data_skip=False in a Trainer",
    )


@rule("DAT025", "error", symptoms=("label form",))
def collated_label_form(batches: BatchEvidence) -> Finding | None:
    """The collated labels have the wrong type or shape

    Measures: the type and shape of the labels of each batch, as passed to the loss function.

    Threshold: integers of shape (rows,); an exact invariant.

    Why: correct labels in the dataset can leave the collator as floats (a column with a missing value, a row of a data
    frame) or as a column. The loss then becomes a regression, or broadcasts.

    Look-alikes: soft and multi-label targets, which need another loss.

    Fix: `torch.tensor(labels, dtype=torch.long)` in the collator.

    Reference: transformers, `problem_type` of `ForSequenceClassification`.
    """
    if not batches.labels:
        raise CannotTell("no batch was recorded")
    forms = [form for form in map(wrong_form, batches.labels) if form]
    if not forms:
        return None
    return Finding(
        observed=f"labels of {len(forms)} of {len(batches.labels)} batches are {forms[0][0]}",
        expected="integers of shape (rows,)",
        n=len(batches.labels),
        cause=forms[0][1],
        fix="convert them to class indices in the collator: torch.tensor(labels, dtype=torch.long)",
    )
