"""`tenor check` and the checks before the first step of a run."""

from typing import Any

import numpy as np
import torch
from rich.console import Console

from tenor.checks.catalogue import run_rules
from tenor.checks.evidence import BatchEvidence, DataEvidence, ProbeEvidence, Rows, ScheduleEvidence, TokenEvidence
from tenor.checks.finding import Report
from tenor.checks.gather.model import model_evidence, optimizer_evidence, precision_evidence
from tenor.checks.probes.probe import probe
from tenor.config.schema import Config
from tenor.console.run import show_notes
from tenor.data.batching import TokenExamples, epoch_batches
from tenor.data.dataset import LabelledText
from tenor.data.splits import data_notes
from tenor.data.tokenization import TokenizedText
from tenor.errors import advice_on_memory
from tenor.model.optimizer import make_optimizer, rate_factor
from tenor.runs.missing import Missing
from tenor.training.loss import class_weights, summed_cross_entropy, total_weight
from tenor.workflows.prepare import Prepared, prepare

COLLATED_BATCHES = 8
SAMPLED_TEXTS = 500
PROBE_BATCHES, DEEP_BATCHES = 2, 16


def run_preflight(prepared: Prepared, deep: bool = False) -> Report:
    """Gather all evidence that a prepared run offers and apply every rule to it.

    Model, gradients and random state are afterwards as they were.
    """
    evidence: list[Any] = [
        data_evidence(prepared),
        batch_evidence(prepared),
        token_evidence(prepared),
        *_model_side(prepared),
        schedule_evidence(prepared),
        precision_evidence(
            prepared.plan.device, prepared.plan.precision, loss_scaling=prepared.plan.precision == "fp16"
        ),
    ]
    if (seconds := prepared.config.checks.probe_seconds) > 0:
        evidence.append(_probe(prepared, deep, seconds))
    unreadable = {ProbeEvidence: "the short experiments are switched off by checks.probe_seconds=0"}
    return run_rules(evidence, "preflight", prepared.config.checks.allow, unreadable=unreadable)


def data_evidence(prepared: Prepared) -> DataEvidence:
    """The rows of every split, and where the training rows stood in their source."""
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


def batch_evidence(prepared: Prepared) -> BatchEvidence:
    """The first batches of the first epoch, as the model will see them."""
    examples = _train_examples(prepared)
    order = epoch_batches(examples.lengths, prepared.config.training.batch_size, prepared.config.seed, epoch=0)
    first = [examples.collate(rows) for rows in order[:COLLATED_BATCHES]]
    return BatchEvidence(
        labels=tuple(batch.labels.numpy() for batch in first),
        n_classes=len(prepared.splits.train.class_names),
        epoch_labels=examples.labels[np.concatenate(order)],
        input_ids=tuple(batch.inputs["input_ids"].numpy() for batch in first),
        attention_mask=tuple(batch.inputs["attention_mask"].numpy() for batch in first),
        rows_per_epoch=sum(len(rows) for rows in order),
        rows_in_split=len(examples),
    )


def token_evidence(prepared: Prepared) -> TokenEvidence:
    """The tokenizer, the model's embedding, and a sample of what the one made of the texts."""
    tokenizer, model = prepared.classifier.tokenizer, prepared.classifier.model
    train = prepared.tokens["train"]
    return TokenEvidence(
        vocabulary_size=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=model.get_input_embeddings().weight.shape[0],
        pad_id=tokenizer.pad_token_id,
        model_pad_id=model.config.pad_token_id,
        unknown_id=tokenizer.unk_token_id,
        first_id=tokenizer.cls_token_id,
        last_id=tokenizer.sep_token_id,
        input_ids=_sample(train),
        full_lengths=train.full_lengths,
        kept_lengths=train.lengths,
        truncation=prepared.config.data.truncation,
    )


def schedule_evidence(prepared: Prepared) -> ScheduleEvidence:
    """The plan of the learning rate over all steps."""
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


def _model_side(prepared: Prepared) -> list[Any]:
    classifier, settings = prepared.classifier, prepared.config.model
    names = prepared.splits.train.class_names
    model = model_evidence(
        classifier.model,
        len(names),
        class_names=names,
        declared_freeze=settings.freeze,
        keep_trainable=settings.keep_trainable,
        new_weights=classifier.new_weights,
    )
    return [model, optimizer_evidence(classifier.model, make_optimizer(classifier.model, prepared.config.training))]


def _probe(prepared: Prepared, deep: bool, seconds: float) -> Any:
    examples, training = _train_examples(prepared), prepared.config.training
    n_classes = len(prepared.splits.train.class_names)
    weights = class_weights(training, examples.labels, n_classes)

    def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        on_device = None if weights is None else weights.to(logits.device)
        summed = summed_cross_entropy(logits, labels, on_device, training.label_smoothing)
        return summed / total_weight(labels, on_device)

    order = epoch_batches(examples.lengths, training.batch_size, prepared.config.seed, epoch=0)
    collated = [examples.collate(rows) for rows in order[: DEEP_BATCHES if deep else PROBE_BATCHES]]
    batches = [{**batch.inputs, "labels": batch.labels} for batch in collated]
    mend = f"lower data.max_length (now {prepared.config.data.max_length}), or set checks.probe_seconds=0"
    with advice_on_memory("in the short experiments", mend):
        prepared.classifier.model.to(prepared.plan.device)
        return probe(prepared.classifier.model, loss_fn, batches, n_classes, seconds=seconds, deep=deep)


def _train_examples(prepared: Prepared) -> TokenExamples:
    return TokenExamples(prepared.tokens["train"], prepared.classifier.tokenizer.pad_token_id)


def _rows(rows: LabelledText) -> Rows:
    return Rows(rows.labels, rows.texts)


def _sample(tokens: TokenizedText) -> tuple[np.ndarray, ...]:
    """Evenly spread over the rows, so that a source in any order is represented."""
    chosen = np.unique(np.linspace(0, len(tokens) - 1, SAMPLED_TEXTS).astype(int))
    return tuple(tokens.row(int(row)) for row in chosen)


def check(config: Config, deep: bool = False, console: Console | None = None) -> Report:
    """Everything that can be known about a run before its first step. Notes on how the rows were read go to `console`,
    which is stderr by default.

    Raises:
        UserError: what could not be read or understood at all.
    """
    prepared = prepare(config)
    show_notes(console or Console(stderr=True, markup=False), data_notes(prepared.splits))
    return run_preflight(prepared, deep)
