"""Rows that `transformers.Trainer` leaves unused without a message."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerState,
    TrainingArguments,
)

from tenor.checks.callback import TenorCallback
from tenor.checks.catalogue import find_rule
from tenor.checks.evidence.checkpoint_evidence import TrainerEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.trainer_columns import texts_used, trainer_columns
from tenor.errors import RefusedError

Make = Callable[..., Trainer]


@pytest.fixture
def make(isolated: None, tmp_path: Path, small_model: Path) -> Make:
    """Makes a Trainer of eight labelled reviews; arguments are those of `TrainingArguments`, or named `trainer`,
    `rows`, `model` or `more` (further arguments of the Trainer)."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(small_model)

    def rows_of(columns: Mapping[str, Any]) -> Dataset:
        ids = tokenizer([f"{('dull', 'bright')[row % 2]} film {row}" for row in range(8)])["input_ids"]
        return Dataset.from_dict({"input_ids": ids, "label": [row % 2 for row in range(8)], **columns})

    def trainer(
        trainer: type[Trainer] = Trainer,
        columns: Mapping[str, Any] | None = None,
        rows: Any = None,
        evaluation: Any = None,
        model: nn.Module | None = None,
        more: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Trainer:
        used = rows if rows is not None else rows_of(columns or {})
        own = model or AutoModelForSequenceClassification.from_pretrained(small_model, num_labels=2)
        usual = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "save_strategy": "no", "report_to": "none"}
        return trainer(
            model=own,
            args=TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, **{**usual, **arguments}),
            train_dataset=used,
            eval_dataset=used if evaluation is None else evaluation,
            **{"data_collator": DataCollatorWithPadding(tokenizer), "compute_metrics": lambda _: {}, **(more or {})},
        )

    return trainer


def evidence_of(trainer: Trainer) -> TrainerEvidence:
    return trainer_columns(trainer, TrainerState(), trainer.get_train_dataloader(), 2)


def severity(code: str, evidence: TrainerEvidence) -> str | None:
    rule = find_rule(code)
    finding = rule(evidence)
    return finding and (finding.severity or rule.severity)


class OtherNames(nn.Module):
    """A model of one's own; its Trainer takes the names of parameters that contain `label`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder


class WithWeights(OtherNames):
    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None, label_weights: Any = None) -> Any:
        return self.encoder(input_ids, attention_mask, labels=labels)


class WithoutLabels(OtherNames):
    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        return self.encoder(input_ids, attention_mask)


NAMES = {"label_names": ["negative", "positive"]}
NO_METRICS = {"more": {"compute_metrics": None}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (NAMES, "error"),
        (NAMES | NO_METRICS, "warning"),
        ({"label_names": ["labels", "extra"]}, "error"),
        ({}, None),
        ({"label_names": ["labels"]}, None),
        ({"remove_unused_columns": False}, None),
        (NO_METRICS | {"metric_for_best_model": "accuracy"}, None),
    ],
)
def test_an_evaluation_without_labels_is_told_before_training(make: Make, arguments: Any, expected: str | None) -> None:
    assert severity("EVL034", evidence_of(make(**arguments))) == expected


def test_what_is_told_is_what_the_trainer_does(make: Make) -> None:
    """The property behind it: no loss and no metrics, and no message."""
    for arguments, has_metrics in ((NAMES, False), ({}, True)):
        trainer = make(**arguments, more={"compute_metrics": lambda _: {"accuracy": 1.0}})
        result = trainer.evaluate()
        assert ("eval_loss" in result) == ("eval_accuracy" in result) == has_metrics


@pytest.mark.parametrize("kind", [WithWeights, WithoutLabels])
def test_a_models_own_parameters_decide_which_labels_are_needed(make: Make, kind: type[OtherNames]) -> None:
    model = kind(make().model)
    evidence = evidence_of(make(model=model))
    assert severity("EVL034", evidence) == "error"
    fix = find_rule("EVL034")(evidence)
    assert fix is not None
    assert "label_names=['labels']" in fix.fix
    assert severity("EVL034", evidence_of(make(model=model, label_names=["labels"]))) is None


def test_rows_without_labels_on_purpose_pass(make: Make) -> None:
    unlabelled = make().train_dataset.remove_columns("label")
    assert severity("EVL034", evidence_of(make(evaluation=unlabelled, **NO_METRICS))) is None
    assert severity("EVL034", evidence_of(make(evaluation=unlabelled))) == "error"


class OwnEvaluation(Trainer):
    def prediction_step(self, *given: Any, **named: Any) -> Any:
        return super().prediction_step(*given, **named)


def failing(rows: Any) -> Any:
    raise ValueError("not these rows")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"trainer": OwnEvaluation}, "its own prediction_step"),
        ({"more": {"data_collator": failing}}, "not these rows"),
        ({"evaluation": {}}, "no evaluation dataset"),
    ],
)
def test_labels_that_are_not_known_are_not_judged(make: Make, arguments: Any, reason: str) -> None:
    with pytest.raises(CannotTell, match=reason):
        find_rule("EVL034")(evidence_of(make(**NAMES, **arguments)))


@pytest.mark.slow
def test_the_callback_refuses_a_run_that_cannot_be_evaluated(make: Make) -> None:
    with pytest.raises(RefusedError, match=r"EVL034.*label_names=\['labels'\]"):
        make(**NAMES, more={"callbacks": [TenorCallback(seconds=0)]}).train()


# Columns that compute_loss reads


class Weighted(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        weight = inputs.pop("weight", None)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss if weight is None else loss * weight.mean()
        return (loss, outputs) if return_outputs else loss


class Inner(Trainer):
    def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        self.kept = [inputs[name] for name in inputs if name == "weight"]
        return super().training_step(model, inputs, *rest, **named)


class Discarding(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        inputs.pop("weight", None)
        if "other" in inputs:
            del inputs["weight"]
        return super().compute_loss(model, inputs, *rest, **named)


class Derived(Weighted):
    """Inherits the method that reads the column."""


WEIGHTS = {"columns": {"weight": [1.0, 0.5] * 4}}


@pytest.mark.parametrize(
    ("kind", "arguments", "found"),
    [
        (Weighted, WEIGHTS, True),
        (Derived, WEIGHTS, True),
        (Inner, WEIGHTS, True),
        (Weighted, WEIGHTS | {"remove_unused_columns": False}, False),
        (Weighted, {}, False),  # There is no such column.
        (Discarding, WEIGHTS, False),
        (Trainer, WEIGHTS, False),
    ],
)
def test_a_column_that_the_loss_reads_and_the_trainer_removed(
    make: Make, kind: Any, arguments: Any, found: bool
) -> None:
    assert severity("DAT031", evidence_of(make(kind, **arguments))) == ("warning" if found else None)


def test_rows_of_any_dataset_are_followed_to_the_batch(make: Make) -> None:
    """A list of rows, from which the collate function removes the columns; and one that adds them again."""
    rows = list(make(**WEIGHTS).train_dataset)
    evidence = evidence_of(make(Weighted, rows=rows))
    assert evidence.removed_read == (("weight", "Weighted.compute_loss"),)
    pad = make().data_collator

    def collate(rows: Any) -> Any:
        return {**pad(rows), "weight": torch.ones(len(rows))}

    for given in (rows, Dataset.from_list(rows)):
        assert evidence_of(make(Weighted, rows=given, more={"data_collator": collate})).removed_read == ()


def test_texts_whose_value_is_thrown_away_do_not_count() -> None:
    def function(inputs: Any) -> Any:
        """weight"""
        inputs.pop("a", None)
        inputs.pop("b")
        del inputs["c"]
        if "e" in inputs:
            return [one["d"] for one in inputs["f"]], inputs.get("g", 1), inputs.pop("h")
        return None

    assert set(texts_used(function.__code__)) == {"d", "e", "f", "g", "h"}


# Resumed runs


@pytest.mark.parametrize(
    ("done", "planned", "epochs", "now", "expected"),
    [
        (0, 63, None, 63, None),
        (40, 63, 40 / 63, 63, None),
        (63, 63, 1.0, 63, "warning"),
        (63, 63, 1.0, 64, "warning"),
        (63, 63, None, 63, "warning"),
        (63, 40, 1.0, 40, "error"),
        (126, 80, 2.0, 40, "error"),
        (63, 126, 1.0, 63, None),
        (0, 0, None, 63, None),
    ],
)
def test_a_finished_run_that_is_resumed(
    done: int, planned: int, epochs: float | None, now: int, expected: str | None
) -> None:
    evidence = TrainerEvidence(steps_done=done, max_steps=planned, epochs_done=epochs, steps_per_epoch=now)
    assert severity("DST007", evidence) == expected


@pytest.mark.slow
@pytest.mark.parametrize("rows", [8, 5, 32])
def test_new_rows_are_not_trained_on_by_a_resume(make: Make, rows: int, tmp_path: Path) -> None:
    """2 steps were made on 8 rows; 32 rows make 8 steps, of which 6 are left."""
    make(save_strategy="epoch").train()
    callback = TenorCallback("warn", seconds=0)
    more = make().train_dataset.select([row % 8 for row in range(rows)])
    trainer = make(rows=more, more={"callbacks": [callback]})
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    codes = {finding.code for finding in callback.reports[0].findings}
    assert ("DST007" in codes) == (rows <= 8)
    assert trainer.state.global_step == max(2, rows // 4)
