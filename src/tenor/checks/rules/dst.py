"""Several processes and resumed runs: whether every row is seen once, and the run resumes at the same point."""

from collections import Counter

from tenor.checks.evidence.checkpoint_evidence import ResumeEvidence
from tenor.checks.evidence.process_evidence import RankEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.runs.findings import RULE_SEVERITY, Finding

# Loaders may drop an incomplete last batch, which is at most 1% of an epoch in datasets of a useful size.
SMALL_SHARE = 0.01
# Rates are logged in float32, with 7 significant digits at best.
RATE_TOLERANCE = 1e-3
ROWS_SHOWN = 4


def shared_rows(ranks: RankEvidence) -> tuple[int, ...]:
    """Rows that more than one rank saw."""
    seen = Counter(row for rows in ranks.rows.values() for row in {int(row) for row in rows})
    return tuple(sorted(row for row, times in seen.items() if times > 1))


def unseen_rows(ranks: RankEvidence) -> int:
    """The number of rows that no rank saw."""
    if ranks.n_rows is None:
        raise CannotTell("the number of rows of the split is not known")
    return ranks.n_rows - len({int(row) for rows in ranks.rows.values() for row in rows})


@rule("DST001", "error")
def ranks_share_rows(ranks: RankEvidence) -> Finding | None:
    """Several processes see the same rows

    Measures: the rows of one epoch that more than one rank saw.

    Threshold: at most the number of ranks minus one, which a distributed sampler repeats to give all ranks the same
    number of rows; an exact invariant.

    Why: ranks that see the same rows compute the same gradient, so N devices do the work of one, and an epoch covers
    fewer rows than it should.

    Look-alikes: padding of the last round by PyTorch's `DistributedSampler`; sampling with replacement, which also
    repeats rows within a rank and should not be passed as evidence.

    Fix: use a `DistributedSampler` (or `accelerator.prepare`) for the loader, with the same seed on all ranks.

    Reference: PyTorch documentation, torch.utils.data.distributed.DistributedSampler.
    """
    if len(ranks.rows) < 2:
        raise CannotTell("rows of at least two processes are needed")
    shared = shared_rows(ranks)
    if len(shared) <= len(ranks.rows) - 1:
        return None
    total = len({int(row) for rows in ranks.rows.values() for row in rows})
    return Finding(
        observed=f"{len(shared):,} of {total:,} rows are seen by more than one of {len(ranks.rows)} processes, "
        f"for example rows {', '.join(map(str, shared[:ROWS_SHOWN]))}",
        expected=f"at most {len(ranks.rows) - 1}, from padding the last round",
        n=total,
        cause="the rows are not divided among the processes, or each process shuffles with a different seed",
        fix="divide the rows with a DistributedSampler (or accelerator.prepare), with one seed for all processes",
    )


@rule("DST002", "warning")
def rows_not_seen(ranks: RankEvidence) -> Finding | None:
    """Some rows are seen by no process

    Measures: the rows of the split that are missing from the epoch of every rank.

    Threshold: fewer than there are ranks (`drop_last` of a sampler); up to 1% of the split is a note, because loaders
    drop incomplete batches.

    Why: rows that are never seen have no effect on training. In an evaluation, the result belongs to other rows.

    Look-alikes: `drop_last=True` drops a few rows. With a new shuffle in each epoch it is harmless; with a fixed
    shuffle it always drops the same ones.

    Fix: pass the length of the whole split to the sampler, and `drop_last=False` for evaluation.

    Reference: PyTorch documentation, torch.utils.data.distributed.DistributedSampler.
    """
    if not ranks.rows:
        raise CannotTell("the rows of the processes are not known")
    unseen = unseen_rows(ranks)
    if unseen < len(ranks.rows):
        return None
    rows = ranks.n_rows or 0
    return Finding(
        observed=f"{unseen:,} of {rows:,} rows are seen by none of {len(ranks.rows)} processes",
        expected=f"at most {len(ranks.rows) - 1}, from padding the last round",
        n=rows,
        cause="each process takes a part of the rows, but the parts do not cover the split",
        fix="compare the sampler's length times the number of processes with the split; keep the last batch",
        severity="note" if unseen <= SMALL_SHARE * rows else RULE_SEVERITY,
    )


@rule("DST003", "error")
def schedule_restarts(resume: ResumeEvidence) -> Finding | None:
    """The schedule restarts in a resumed run

    Measures: the learning rate after the resume compared with the one planned for that step; without a plan, whether
    the steps are counted from the beginning again.

    Threshold: 0.1% of the planned rate, the rounding of logged rates; an exact invariant.

    Why: a second warm-up and a rate at its peak undo the progress of the first part, and the run is no longer the one
    that was configured.

    Look-alikes: a resume from a checkpoint some steps before the interruption repeats these steps with their planned
    rates, and passes. A new run from trained weights is not a resume.

    Fix: save and load the state of the schedule (`scheduler.state_dict()`), or compute the rate from the step, as Tenor
    does.

    Reference: PyTorch tutorial, Saving and Loading a General Checkpoint.
    """
    planned, after = resume.planned_rate_after, resume.rate_after
    if planned is not None and after is not None:
        if abs(after - planned) <= RATE_TOLERANCE * max(abs(planned), abs(after)):
            return None
        observed = f"learning rate {after:.3g} at step {resume.step_after:,}, after the resume"
        expected = f"{planned:.3g}, as planned for this step"
    elif resume.step_after <= 1 < resume.step_before:
        observed = f"the step counter is {resume.step_after:,} after the resume"
        expected = f"a step counter of about {resume.step_before:,} or more"
    else:
        raise CannotTell("the planned and the actual learning rate after the resume are not both known")
    return Finding(
        observed=observed,
        expected=expected,
        n=1,
        cause="the state of the schedule (or its step counter) was not loaded with the weights",
        fix="load optimizer and schedule state from the checkpoint, then resume again from the same checkpoint",
    )


@rule("DST004", "error")
def resume_repeats_or_skips(resume: ResumeEvidence) -> Finding | None:
    """A resumed run repeats or skips rows

    Measures: rows of one epoch that were seen both before and after the interruption, and rows seen neither before nor
    after.

    Threshold: none repeated; at most 1% skipped, which may be a dropped incomplete batch. An exact invariant.

    Why: repeated rows count twice and skipped rows not at all, so the resumed run differs from an uninterrupted one.

    Look-alikes: sampling with replacement repeats rows before the interruption and cannot be judged. Batches between
    the checkpoint and the interruption are correctly seen again, so pass only the rows up to the checkpoint.

    Fix: keep the epoch's seed and position in the checkpoint, and skip the same number of batches of the same order
    (`accelerate.skip_first_batches`).

    Reference: Accelerate documentation, Checkpointing.
    """
    if resume.rows_before is None or resume.rows_after is None:
        raise CannotTell("the rows seen before and after the resume are not both known")
    before, after = ({int(row) for row in rows} for rows in (resume.rows_before, resume.rows_after))
    if len(before) < len(resume.rows_before):
        raise CannotTell("rows are sampled with replacement, so repeated rows are expected")
    repeated = len(before & after)
    skipped = 0 if resume.rows_in_epoch is None else resume.rows_in_epoch - len(before | after)
    if not repeated and skipped <= SMALL_SHARE * (resume.rows_in_epoch or 0):
        return None
    return Finding(
        observed=f"{repeated:,} rows of the epoch were seen twice, {max(skipped, 0):,} not at all",
        expected="every row of the epoch once",
        n=len(before | after),
        cause="the order of the rows or the position in the epoch was not restored",
        fix="restore the epoch's seed, and skip the batches that were processed before the checkpoint",
    )
