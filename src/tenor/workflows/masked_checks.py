"""The checks of `tenor adapt`: the corpus and its tokens, the steps, and the result."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tenor.checks.catalogue import RULES, run_rules
from tenor.checks.evidence.data_evidence import CorpusEvidence, TokenEvidence
from tenor.checks.evidence.training_evidence import MaskedLossEvidence, StepEvidence, ValidationPoint
from tenor.checks.finding import Report
from tenor.checks.rule import Rule
from tenor.config.schema import Config
from tenor.runs.adaptation_summary import AdaptationSummary
from tenor.runs.directory import RunDirectory
from tenor.runs.step_records import read_records
from tenor.training.task import TrainingTask
from tenor.workflows.check import vocabulary_evidence
from tenor.workflows.corpus import held_out_texts

if TYPE_CHECKING:
    from tenor.workflows.adapt import PreparedAdaptation

KINDS = {CorpusEvidence, TokenEvidence, StepEvidence, MaskedLossEvidence}


def rules_on(*kinds: type) -> list[Rule]:
    """The rules that need only evidence of these kinds."""
    return [rule for rule in RULES if set(rule.needs) <= set(kinds)]


def with_own_allowances(config: Config) -> Config:
    """The configuration without allowances of rules that adaptation doesn't check: fine-tuning may need them."""
    codes = {rule.code for rule in rules_on(*KINDS)}
    allow = {code: reason for code, reason in config.checks.allow.items() if code in codes}
    return config.model_copy(update={"checks": config.checks.model_copy(update={"allow": allow})})


def corpus_report(prepared: "PreparedAdaptation") -> Report:
    """Before the first step: evaluated texts in the corpus, and whether tokenizer and model fit together."""
    evidence = [
        CorpusEvidence(prepared.corpus.rows.texts, held_out_texts(prepared.splits)),
        vocabulary_evidence(prepared.masked.tokenizer, prepared.masked.model, prepared.blocks),
    ]
    return run_rules(evidence, "preflight", prepared.config.checks.allow, rules_on(CorpusEvidence, TokenEvidence))


def training_report(run: RunDirectory, task: TrainingTask, allow: Mapping[str, str]) -> Report:
    """The rules on the recorded steps and validations so far."""
    records = read_records(run.metrics)
    steps = [record for record in records if record["kind"] == "train"]
    evidence = StepEvidence(
        steps=np.array([record["step"] for record in steps], dtype=np.int64),
        loss=np.array([record["loss"] for record in steps], dtype=np.float64),
        grad_norm=np.array([record["grad_norm"] for record in steps], dtype=np.float64),
        learning_rate=np.array([record["learning_rate"] for record in steps], dtype=np.float64),
        clip_at=task.settings.max_grad_norm,
        total_steps=task.total_steps,
        validation_loss=tuple(
            ValidationPoint(record["step"], record["loss"]) for record in records if record["kind"] == "validation"
        ),
        keeps_best=True,
    )
    return run_rules([evidence], "training", allow, rules_on(StepEvidence))


def result_report(config: Config, summary: AdaptationSummary) -> Report:
    """After the last step: whether the model learned more than the frequencies of the tokens."""
    evidence = MaskedLossEvidence(
        loss=summary.after.loss,
        tokens=summary.held_out_tokens,
        unigram_entropy=summary.unigram_entropy,
        steps=summary.steps,
        first_loss=summary.before.loss,
    )
    return run_rules([evidence], "evaluation", config.checks.allow, rules_on(MaskedLossEvidence))
