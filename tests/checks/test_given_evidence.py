"""Evidence built by users is read by position and repeatedly, whatever type of sequence it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from sequences import NAMES, NUMBER_NAMES, made
from tenor.checks import Watchdog, preflight
from tenor.checks.catalogue import RULES, run_rules
from tenor.checks.evidence.checkpoint_evidence import ResumeEvidence
from tenor.checks.evidence.data_evidence import BatchEvidence, DataEvidence, Rows, TokenEvidence
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.process_evidence import RankEvidence
from tenor.checks.evidence.training_evidence import ScheduleEvidence, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import data_evidence, rows_of
from tenor.checks.gather.model import schedule_evidence
from tenor.checks.rule import Rule
from tenor.checks.rules import dst
from tenor.errors import UserError
from tenor.runs.findings import Report

N = 40
LABELS = [row % 2 for row in range(N)]
TEXTS = [f"{'a good' if label else 'a bad'} film, the number {row}" for row, label in enumerate(LABELS)]
SORTED = sorted(LABELS)


DISTRIBUTION_RULES = [rule for rule in vars(dst).values() if isinstance(rule, Rule)]


def check(*evidence: Any) -> Report:
    return run_rules(evidence, "preflight", rules=(*RULES, *DISTRIBUTION_RULES))


def data(labels: Any, texts: Any, **others: Any) -> DataEvidence:
    held_out = Rows([0, 1] * 10, [f"another film {row}" for row in range(20)])
    return DataEvidence(Rows(labels, texts), 2, validation=held_out, **others)


@pytest.mark.parametrize("kind", sorted({*NAMES, *NUMBER_NAMES}))
def test_rows_give_the_same_report_in_every_type(kind: str) -> None:
    texts = [*TEXTS[:-1], TEXTS[0]]  # With another label: reported only if labels and texts are aligned.
    expected = check(data(LABELS, texts))
    given_labels = made(LABELS, kind) if kind in NUMBER_NAMES else LABELS
    given_texts = made(texts, kind) if kind in NAMES else texts
    assert check(data(given_labels, given_texts)) == expected
    assert "DAT010" in {finding.code for finding in expected.findings}


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_positions_and_source_labels_may_have_any_type(kind: str) -> None:
    source, positions = [0] * 60 + [1] * 60, [*range(N)]
    expected = check(data([0] * N, TEXTS, source_labels=source, train_positions=positions))
    given = data([0] * N, TEXTS, source_labels=made(source, kind), train_positions=made(positions, kind))
    assert check(given) == expected
    assert "DAT002" in {finding.code for finding in expected.findings}


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_batches_may_have_any_type(kind: str) -> None:
    parts = [SORTED[start : start + 8] for start in range(0, N, 8)]
    expected = check(BatchEvidence(tuple(parts), 2, epoch_labels=SORTED), data(LABELS, TEXTS))
    given = BatchEvidence((made(part, kind) for part in parts), 2, epoch_labels=made(SORTED, kind))
    assert check(given, data(LABELS, TEXTS)) == expected
    assert "DAT004" in {finding.code for finding in expected.findings}
    matrix = np.array(parts)
    assert check(BatchEvidence(matrix, 2, epoch_labels=SORTED), data(LABELS, TEXTS)) == expected


def test_batches_may_be_tensors() -> None:
    ids = torch.tensor([[2, 5, 0], [2, 6, 7]])
    given = BatchEvidence([torch.tensor([0, 1])], 2, input_ids=[ids], attention_mask=[torch.ones_like(ids)])
    tokens = TokenEvidence(8, 8, pad_id=0, model_pad_id=0)
    assert "TOK007" in {one.code for one in check(given, tokens).findings}


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_tokens_may_have_any_type(kind: str) -> None:
    ids = [[2, 9, 9, 3], [2, 9, 5, 9, 3]] * 50
    full, kept = [40] * 100, [4, 5] * 50
    known = TokenEvidence(
        10, 10, unknown_id=9, first_id=2, last_id=3, input_ids=ids, full_lengths=full, kept_lengths=kept
    )
    given = replace(
        known,
        input_ids=(made(row, kind) for row in ids),
        full_lengths=made(full, kind),
        kept_lengths=made(kept, kind),
    )
    assert check(given) == check(known)
    assert {"TOK003", "TOK005"} & {one.code for one in check(known).findings}


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_results_may_have_any_type(kind: str) -> None:
    predicted = [0] * N
    probabilities = [[0.9, 0.1]] * N
    known = ReportedSplit(N, labels=LABELS, predicted=predicted, probabilities=probabilities, ids=[*map(str, range(N))])
    given = replace(
        known,
        labels=made(LABELS, kind),
        predicted=made(predicted, kind),
        probabilities=pd.DataFrame(probabilities, index=np.roll(np.arange(N), 1)),
        ids=made([*map(str, range(N))], kind if kind in NAMES else "tuple"),
    )
    expected = check(EvaluationEvidence({"test": known}, 2))
    assert check(EvaluationEvidence({"test": given}, 2)) == expected
    assert "EVL001" in {finding.code for finding in expected.findings}


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_steps_and_schedules_may_have_any_type(kind: str) -> None:
    steps, loss = [*range(10, 410, 10)], [0.7] * 39 + [float("nan")]
    norms = [1.0 + 0.01 * step for step in range(40)]
    known = StepEvidence(steps, loss, 2, 400, grad_norm=norms, clip_at=1.0, learning_rate=[1e-3] * 40)
    given = replace(
        known,
        steps=made(steps, kind),
        loss=made(loss, kind) if kind in ("sorted Series", "generator", "tuple") else loss,
        grad_norm=made(norms, kind),
        learning_rate=made([1e-3] * 40, kind),
    )
    assert check(given) == check(known)
    assert "LOS007" in {one.code for one in check(known).findings}
    factors = [1.0] * 30
    assert check(ScheduleEvidence(made(factors, kind), 10, 3.0)) == check(ScheduleEvidence(factors, 10, 3.0))
    assert schedule_evidence(made(factors, kind), 30, 10).factors.tolist() == factors


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_rows_of_processes_and_resumes_may_have_any_type(kind: str) -> None:
    ranks = {0: [0, 1, 2, 3], 1: [2, 3, 4, 5]}
    expected = check(RankEvidence(ranks, 10))
    assert check(RankEvidence({rank: made(rows, kind) for rank, rows in ranks.items()}, 10)) == expected
    assert {"DST001", "DST002"} <= {finding.code for finding in expected.findings}
    before, after = [0, 1, 2, 3], [2, 3, 4, 5]
    known = ResumeEvidence(10, 11, rows_before=before, rows_after=after, rows_in_epoch=8)
    given = replace(known, rows_before=made(before, kind), rows_after=made(after, kind))
    assert check(given) == check(known)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rows("01", ["a", "b"]),
        lambda: Rows([0, 1], "ab"),
        lambda: Rows([0, 1], pd.DataFrame({"text": ["a", "b"]})),
        lambda: Rows({0: 1}, ["a"]),
        lambda: data(LABELS, TEXTS, class_names="np"),
        lambda: ReportedSplit(2, labels="01"),
        lambda: StepEvidence({1: 2}, [0.5]),
    ],
)
def test_values_that_are_not_sequences_are_refused(make: Any) -> None:
    with pytest.raises(UserError, match="expected"):
        make()


# Live objects.


@pytest.mark.parametrize("format_", [None, "numpy", "torch", "pandas", "arrow"])
def test_datasets_in_every_format_are_read(format_: str | None) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": TEXTS, "label": SORTED}).with_format(format_)
    rows = rows_of(whole)
    assert rows.labels.tolist() == SORTED
    assert list(rows.texts or ()) == TEXTS
    reversed_rows = [*range(N - 1, -1, -1)]
    evidence = data_evidence(Subset(whole, reversed_rows), None, 2, None)
    assert evidence.train.labels.tolist() == SORTED[::-1]
    assert list(evidence.train.texts or ()) == TEXTS[::-1]
    assert evidence.source_labels is not None
    assert evidence.source_labels.tolist() == SORTED


def test_multi_label_rows_are_not_judged() -> None:
    rows: Any = [{"text": "a", "labels": [0]}, {"text": "b", "labels": [0, 1]}]
    with pytest.raises(CannotTell, match="different lengths"):
        rows_of(rows)


@pytest.mark.parametrize("names", [["n", "p"], pd.Series(["n", "p"], index=[1, 0]), np.array(["n", "p"]), iter("np")])
def test_class_names_of_a_preflight_may_have_any_type(names: Any) -> None:
    rows = [{"input_ids": torch.tensor([2, 5]), "labels": label} for label in [0, 1, 1, 0]]
    report = preflight(model=_small(), train_loader=DataLoader(rows, 2), class_names=names, seconds=0)
    assert "MOD001" in report.checked


@pytest.mark.parametrize(
    "given", [{"class_names": "np"}, {"keep_trainable": "classifier"}, {"new_weights": "a.weight"}]
)
def test_a_preflight_refuses_one_string_for_several_names(given: Any) -> None:
    rows = [{"input_ids": torch.tensor([2, 5]), "labels": label} for label in [0, 1, 1, 0]]
    with pytest.raises(UserError, match="is a single string"):
        preflight(model=_small(), train_loader=DataLoader(rows, 2), seconds=0, **given)


def test_a_watchdog_keeps_the_earlier_findings() -> None:
    findings = check(data(SORTED, TEXTS)).findings
    watchdog = Watchdog(_small(), earlier=iter(findings))
    assert watchdog._earlier == findings


def _small() -> Any:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    return DistilBertForSequenceClassification(DistilBertConfig(vocab_size=10, dim=8, n_layers=1, n_heads=2))


def test_a_model_with_one_output_is_no_classifier() -> None:
    """A cross-encoder's score, or a regression: labels are numbers, and rules on classes say nothing of them."""
    rows = [{"features": torch.randn(4), "labels": torch.tensor(k % 2, dtype=torch.float32)} for k in range(8)]
    report = preflight(model=torch.nn.Linear(4, 1), train_loader=DataLoader(rows, 4), n_classes=1, seconds=1)
    assert report.findings == ()
    assert any("one output" in rule.reason for rule in report.not_applicable)
    assert any(rule.startswith("MOD") for rule in report.checked)
