"""Distributed and resumed runs: repeated and skipped rows, and schedules that restart."""

import pytest

from tenor.checks.evidence.checkpoint_evidence import ResumeEvidence
from tenor.checks.evidence.process_evidence import RankEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import dst

ALL = list(range(100))


def test_rows_divided_among_ranks_pass() -> None:
    even = RankEvidence({0: ALL[:50], 1: ALL[50:]}, n_rows=100)
    padded = RankEvidence({0: ALL[:51], 1: [*ALL[51:], 0]}, n_rows=100)
    for ranks in (even, padded):
        assert dst.ranks_share_rows(ranks) is None
        assert dst.rows_not_seen(ranks) is None


def test_ranks_with_the_same_rows_are_reported() -> None:
    found = dst.ranks_share_rows(RankEvidence({0: ALL, 1: ALL}))
    assert found is not None
    assert found.n == 100


@pytest.mark.parametrize(("seen", "severity"), [(50, None), (998, "note")])
def test_unseen_rows_are_reported(seen: int, severity: str | None) -> None:
    found = dst.rows_not_seen(RankEvidence({0: range(seen // 2), 1: range(seen // 2, seen)}, n_rows=1000))
    assert found is not None
    assert found.severity == severity


@pytest.mark.parametrize(
    ("rule", "fault", "fine"),
    [
        (
            dst.schedule_restarts,
            ResumeEvidence(100, 101, rate_after=5e-6, planned_rate_after=4e-5),
            ResumeEvidence(120, 101, rate_after=4.0001e-5, planned_rate_after=4e-5),
        ),
        (
            dst.schedule_restarts,
            ResumeEvidence(100, 1),
            ResumeEvidence(100, 101, rate_after=0.0, planned_rate_after=0.0),
        ),
        (
            dst.resume_repeats_or_skips,
            ResumeEvidence(1, 2, rows_before=ALL[:50], rows_after=ALL[:50]),
            ResumeEvidence(1, 2, rows_before=ALL[:50], rows_after=ALL[50:], rows_in_epoch=100),
        ),
        (
            dst.resume_repeats_or_skips,
            ResumeEvidence(1, 2, rows_before=ALL[:50], rows_after=ALL[60:], rows_in_epoch=100),
            ResumeEvidence(1, 2, rows_before=ALL[:50], rows_after=ALL[50:99], rows_in_epoch=100),
        ),
    ],
)
def test_resume_faults_are_reported_and_a_correct_resume_passes(
    rule: Rule, fault: ResumeEvidence, fine: ResumeEvidence
) -> None:
    assert rule(fault) is not None
    assert rule(fine) is None


@pytest.mark.parametrize(
    ("rule", "unknown"),
    [
        (dst.ranks_share_rows, RankEvidence({0: ALL})),
        (dst.rows_not_seen, RankEvidence({0: ALL})),
        (dst.schedule_restarts, ResumeEvidence(100, 101)),
        (dst.resume_repeats_or_skips, ResumeEvidence(100, 101)),
        (dst.resume_repeats_or_skips, ResumeEvidence(1, 2, rows_before=[1, 1], rows_after=[1])),
    ],
)
def test_unknown_distribution_evidence_is_not_judged(rule: Rule, unknown: object) -> None:
    with pytest.raises(CannotTell):
        rule(unknown)
