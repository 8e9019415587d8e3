"""Rules from outside: given to a stage, or registered by an installed package."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tenor.checks import Watchdog, catalogue
from tenor.checks.before_training import preflight
from tenor.checks.catalogue import RULES, by_code, causes_of, find_rule, run_rules, with_rules
from tenor.checks.diagnosis import diagnose
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.rule import Rule, rule
from tenor.errors import UserError
from tenor.runs.findings import Finding


@rule("OWN001", "error", explains=("bad result",))
def short_texts(data: DataEvidence) -> Finding | None:
    """Texts are short

    Fix: use longer texts,
    or fewer of them.

    Reference: none.
    """
    texts = list(data.train.texts or ()) if data.train else []
    short = _short(texts)
    if not short:
        return None
    return Finding(
        observed=f"{short} short texts", expected="none", n=len(texts), cause="the export", fix="longer ones"
    )


def _short(texts: list[str]) -> int:
    return sum(len(text) < 5 for text in texts)


@rule("OWN002", "error")
def loss_is_odd(steps: StepEvidence) -> Finding | None:
    """The loss is 7"""
    if 7.0 not in steps.loss:
        return None
    return Finding(observed="7", expected="another loss", n=len(steps.loss), cause="a joke", fix="none")


def test_a_rule_of_ones_own_runs_before_the_first_step() -> None:
    rows = [{"text": "abc", "x": torch.ones(3), "labels": row % 2} for row in range(8)]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x)

    report = preflight(
        model=Model(),
        train_loader=torch.utils.data.DataLoader(rows),  # type: ignore[arg-type]
        rules=[short_texts],
        seconds=0,
    )
    assert [finding.observed for finding in report.findings if finding.code == "OWN001"] == ["8 short texts"]
    assert "OWN001" in report.checked


def test_a_rule_of_ones_own_runs_in_the_watchdog_and_stops() -> None:
    from tenor.errors import RefusedError

    watchdog = Watchdog(nn.Linear(3, 2), every=1, n_classes=2, rules=[loss_is_odd, short_texts])
    watchdog.step(0.5)
    with pytest.raises(RefusedError, match="OWN002 The loss is 7"):
        watchdog.step(7.0)


def test_a_cause_of_ones_own_explains_tenors_symptoms() -> None:
    one_class = ReportedSplit(40, labels=np.arange(40) % 2, predicted=np.zeros(40, dtype=int))
    evidence = [
        DataEvidence(Rows([0, 1] * 4, ["abc"] * 8), 2),
        EvaluationEvidence({"test": one_class}, n_classes=2),
    ]
    report = run_rules(evidence, "evaluation", rules=with_rules([short_texts]))
    (symptom,) = (finding for finding in report.findings if finding.code == "EVL001")
    assert "OWN001" in symptom.caused_by
    assert "OWN001" in causes_of(find_rule("EVL001"), with_rules([short_texts]))


def test_a_rule_of_ones_own_runs_in_the_diagnosis(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("label,predicted\n" + "".join(f"{row % 2},0\n" for row in range(100)))
    diagnosis = diagnose(path, rules=[short_texts, loss_is_odd])
    assert "OWN001" in {cause.code for cause in diagnosis.causes if cause.status == "suspected"}
    assert {"OWN001", "OWN002"} <= {one.code for one in diagnosis.not_checked}


def test_what_a_rule_says_of_itself() -> None:
    assert short_texts.title == "Texts are short"
    assert short_texts.fix == "use longer texts, or fewer of them."
    assert short_texts.reads == ("train",)
    assert short_texts.needs == (DataEvidence,)


def test_a_code_is_taken_once() -> None:
    again = Rule("DAT001", "note", short_texts.judge, short_texts.needs)
    with pytest.raises(UserError, match=r"two rules have the code DAT001, in tenor\.checks\.rules\.dat_labels and"):
        by_code((*RULES, again))
    assert by_code((*RULES, *RULES)) == by_code(RULES)


def entry(value: str) -> list[EntryPoint]:
    return [EntryPoint("own", value, catalogue.ENTRY_POINTS)]


def test_rules_of_installed_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entry(__name__))
    assert list(catalogue._installed_rules()) == [short_texts, loss_is_odd]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entry(f"{__name__}:loss_is_odd"))
    assert list(catalogue._installed_rules()) == [loss_is_odd]


@pytest.mark.parametrize(
    ("source", "words"),
    [("raise ValueError('no luck')", "cannot be loaded: no luck"), ("x = 1", "contains no rule")],
)
def test_a_package_with_broken_rules_is_named(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_rules.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_rules", raising=False)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entry("broken_rules"))
    with pytest.raises(UserError, match=f"'broken_rules', which {words}"):
        list(catalogue._installed_rules())
