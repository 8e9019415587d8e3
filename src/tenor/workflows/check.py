"""`tenor check`, and the checks before the first step of `tenor train`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console

from tenor.checks.before_training import preflight
from tenor.checks.evidence.data_evidence import DataEvidence, Rows, TokenEvidence
from tenor.checks.evidence.process_evidence import ProcessEvidence
from tenor.checks.evidence.training_evidence import ScheduleEvidence
from tenor.checks.finding import Report
from tenor.config.schema import Config
from tenor.console.run import show_labels, show_notes
from tenor.data.batching import TokenExamples, epoch_batches
from tenor.data.dataset import LabelledText
from tenor.data.masking import Blocks
from tenor.data.splits import data_notes
from tenor.data.tokenization import TokenizedText
from tenor.errors import advice_on_memory
from tenor.measures.objective import make_objective
from tenor.model.optimizer import make_optimizer, rate_factor
from tenor.runs.missing import Missing
from tenor.workflows.prepare import Prepared, prepare

SAMPLED_TEXTS = 500
DIVIDED = "each loss is divided by the weight of the whole batch"


def check(config: Config, deep: bool = False, console: Console | None = None) -> Report:
    """Everything that can be checked before the first step of a run. Notes on how the rows were read, and the rows and
    classes of each split, are printed to `console`, by default stderr.

    Raises:
        UserError: data, a model or settings that cannot be read or used.
    """
    prepared = prepare(config)
    console = console or Console(stderr=True, markup=False)
    show_notes(console, data_notes(prepared.splits))
    show_labels(console, prepared.splits)
    return run_preflight(prepared, deep)


def run_preflight(prepared: Prepared, deep: bool = False) -> Report:
    """Run `tenor.checks.preflight` on a prepared run, whose model is moved to the planned device.

    Weights, gradients and random states are unchanged afterwards.

    Raises:
        TenorError: memory ran out.
    """
    config, plan, classifier = prepared.config, prepared.plan, prepared.classifier
    names = prepared.splits.train.class_names
    evidence: list[object] = [data_evidence(prepared), token_evidence(prepared), schedule_evidence(prepared)]
    if prepared.processes.count > 1:  # The model has no wrapper: the loop averages the gradients.
        evidence.append(ProcessEvidence(prepared.processes.count, gradients_averaged=True, loss_unknown=DIVIDED))
    advice = f"lower data.max_length (now {config.data.max_length}), or set checks.probe_seconds=0"
    with advice_on_memory("in the short experiments", advice):
        classifier.model.to(plan.device)
        return preflight(
            model=classifier.model,
            train_loader=FirstEpoch.of(prepared),
            optimizer=make_optimizer(classifier.model, config.training),
            loss_fn=make_objective(config.training, prepared.tokens["train"].labels, names).mean_loss,
            n_classes=len(names),
            class_names=names,
            declared_freeze=config.model.freeze,
            keep_trainable=tuple(config.model.keep_trainable),
            new_weights=classifier.new_weights,
            precision=plan.precision,
            loss_scaling=plan.precision == "fp16",
            seconds=config.checks.probe_seconds,
            deep=deep,
            allow=config.checks.allow,
            evidence=evidence,
        )


@dataclass(frozen=True, eq=False)
class FirstEpoch:
    """The batches of the first epoch in the loop's order, as a loader: dictionaries of input ids, mask and labels."""

    dataset: TokenExamples
    order: list[np.ndarray]
    """The row numbers of each batch."""
    batch_size: int

    @classmethod
    def of(cls, prepared: Prepared) -> "FirstEpoch":
        examples = TokenExamples(prepared.tokens["train"], prepared.classifier.tokenizer.pad_token_id)
        size = prepared.config.training.batch_size
        return cls(examples, epoch_batches(examples.lengths, size, prepared.config.seed, epoch=0), size)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for rows in self.order:
            batch = self.dataset.collate(rows)
            yield {**batch.inputs, "labels": batch.labels}

    @property
    def sampler(self) -> np.ndarray:
        """The row numbers of the whole epoch in order, shape (rows,)."""
        return np.concatenate(self.order)

    @property
    def epoch_labels(self) -> np.ndarray:
        """The labels of the whole epoch in order, shape (rows,)."""
        return self.dataset.labels[self.sampler]


def data_evidence(prepared: Prepared) -> DataEvidence:
    """The rows of every split, and the positions of the training rows in their source."""
    splits = prepared.splits
    return DataEvidence(
        train=_rows(splits.train),
        n_classes=len(splits.train.class_names),
        validation=_rows(splits.validation),
        test=None if isinstance(splits.test, Missing) else _rows(splits.test),
        class_names=splits.train.class_names,
        source_labels=splits.source_labels,
        train_positions=splits.train_positions,
        selected_on="validation",
    )


def token_evidence(prepared: Prepared) -> TokenEvidence:
    """The tokenizer, the size of the model's embedding, the ids of some texts and the lengths of all."""
    train = prepared.tokens["train"]
    return replace(
        vocabulary_evidence(prepared.classifier.tokenizer, prepared.classifier.model, train),
        full_lengths=train.full_lengths,
        kept_lengths=train.lengths,
        truncation=prepared.config.data.truncation,
    )


def vocabulary_evidence(tokenizer: Any, model: Any, tokens: TokenizedText | Blocks) -> TokenEvidence:
    """The tokenizer, the size of the model's embedding, and the ids of some texts."""
    return TokenEvidence(
        vocabulary_size=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=model.get_input_embeddings().weight.shape[0],
        pad_id=tokenizer.pad_token_id,
        model_pad_id=model.config.pad_token_id,
        unknown_id=tokenizer.unk_token_id,
        first_id=tokenizer.cls_token_id,
        last_id=tokenizer.sep_token_id,
        input_ids=_sample(tokens),
    )


def schedule_evidence(prepared: Prepared) -> ScheduleEvidence:
    """The planned learning rate at every step."""
    training = prepared.config.training
    per_epoch = -(-len(prepared.tokens["train"]) // training.batch_size)
    total = per_epoch * training.epochs
    factors = np.array([rate_factor(step, total, training) for step in range(total)])
    return ScheduleEvidence(
        factors,
        per_epoch,
        training.epochs,
        batches_per_epoch=per_epoch,
        declared_warmup_steps=round(training.warmup * total),
    )


def _rows(rows: LabelledText) -> Rows:
    return Rows(rows.labels, rows.texts)


def _sample(tokens: TokenizedText | Blocks) -> tuple[np.ndarray, ...]:
    """The ids of some texts, evenly spread over the rows, so that a sorted source is represented as a whole."""
    chosen = np.unique(np.linspace(0, len(tokens) - 1, SAMPLED_TEXTS).astype(int))
    return tuple(tokens.row(int(row)) for row in chosen)
