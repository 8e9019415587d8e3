"""A healthy training program in a hand-written loop, every part of which can be exchanged for a faulty one."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from faults.texts import Split, drawn

Batch = dict[str, torch.Tensor]
CLASS_NAMES = ("negative", "positive")


@dataclass(frozen=True, eq=False)
class Objects:
    """What a program has made when its loop begins."""

    tokenizer: Any
    model: Any
    optimizer: torch.optim.Optimizer
    scheduler: Any
    loader: DataLoader
    new_weights: tuple[str, ...]
    unused_weights: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """How one optimizer step is taken; the defaults are right."""

    parts: int = 1
    """Forward passes per step."""
    divide: bool = True
    """Whether each part's loss is divided by their number."""
    clip_at: float | None = 1.0
    clear: str = "after the step"
    """When gradients are cleared; also `never` and `before the step`."""
    take: bool = True
    """Whether the optimizer steps at all."""
    scheduler_steps: int = 1
    """Per optimizer step."""
    scaler: Callable[[], Any] | None = None
    """Makes a scaler of the loss, for float16."""
    unscale_first: bool = True
    """Before clipping."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a program says about one split."""

    split: str
    ids: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    accuracy: float
    n_expected: int


@dataclass(frozen=True, eq=False)
class Program:
    """Every part of a training program."""

    seed: int
    encoders: Mapping[str, Path]
    """Folders of pretrained encoders by kind."""
    train: Split
    validation: Split
    test: Split
    kind: str = "minilm"
    n_classes: int = 2
    class_names: tuple[str, ...] = CLASS_NAMES
    source_labels: np.ndarray | None = None
    train_positions: np.ndarray | None = None
    selected_on: str = "validation"
    declared_freeze: Any = "none"
    keep_trainable: tuple[str, ...] = ()
    epochs: int = 1
    batch_size: int = 16
    step: Step = Step()
    load_tokenizer: Callable[["Program"], Any] = lambda program: AutoTokenizer.from_pretrained(program.encoder)
    encode: Callable[[Any, list[str]], Batch] = lambda tokenizer, texts: dict(
        tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    )
    labels_of: Callable[[np.ndarray], torch.Tensor] = torch.as_tensor
    order: Callable[["Program"], list[int]] | None = None
    """Rows of one epoch; None: shuffled."""
    load_model: Callable[["Program"], tuple[Any, tuple[str, ...], tuple[str, ...]]] | None = None
    """Model, names of new weights, names of unused ones; None: `load_classifier`."""
    prepare: Callable[[Any], None] = lambda model: None
    """What is done to the model before training: freezing, above all."""
    make_optimizer: Callable[[Any], torch.optim.Optimizer] | None = None
    factor: Callable[[int, int], float] = lambda step, total: min(1.0, (step + 1) / (0.1 * total)) * (1 - step / total)
    """Learning rate at a step of so many, over the peak."""
    rate: float = 2e-4
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.functional.cross_entropy
    logits_of: Callable[[Any, Batch], torch.Tensor] = lambda model, inputs: model(**inputs).logits
    at_step: Mapping[int, Callable[[Objects], None]] | None = None
    """What happens to the objects before a step."""
    evaluate_in: str = "evaluation mode"
    finish: Callable[[Evaluation], Evaluation] = lambda evaluation: evaluation
    """How predictions become what is said about them."""
    precision: str = "fp32"
    loss_scaling: bool = False
    further_evidence: tuple[Any, ...] = ()
    """Records that the program keeps besides: resumed runs, ranks, checkpoints."""

    @property
    def encoder(self) -> Path:
        return self.encoders[self.kind]

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.train) // (self.batch_size * self.step.parts))

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.epochs


def healthy(encoders: Mapping[str, Path], seed: int, rows: int = 640) -> Program:
    """Fine-tuning of a small pretrained encoder that reaches some 75% on held-out sentences."""
    train, validation, test = drawn((rows, 160, 160), seed)
    return Program(seed, encoders, train, validation, test)


def load_classifier(program: Program, **settings: Any) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """The encoder with a new head, and what `from_pretrained` says of its weights."""
    names = dict(enumerate(program.class_names))
    given = {"num_labels": program.n_classes, "id2label": names, "label2id": {v: k for k, v in names.items()}}
    model, told = AutoModelForSequenceClassification.from_pretrained(
        program.encoder, output_loading_info=True, **{**given, **settings}
    )
    return model, tuple(told["missing_keys"]), tuple(told["unexpected_keys"])


def build(program: Program) -> Objects:
    """Tokenizer, model, loader, optimizer and schedule, in the order in which programs make them."""
    torch.manual_seed(program.seed)
    tokenizer = program.load_tokenizer(program)
    model, new, unused = (program.load_model or load_classifier)(program)
    program.prepare(model)
    make = program.make_optimizer or (lambda model: adamw(model, program.rate))
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: program.factor(step, program.total_steps))
    return Objects(tokenizer, model, optimizer, scheduler, make_loader(program, tokenizer), new, unused)


def make_loader(program: Program, tokenizer: Any) -> DataLoader:
    texts, labels = program.train.texts, program.train.labels

    def collate(rows: list[int]) -> Batch:
        return {**program.encode(tokenizer, [texts[i] for i in rows]), "labels": program.labels_of(labels[rows])}

    generator = torch.Generator().manual_seed(program.seed)
    if program.order is None:
        return DataLoader(range(len(texts)), program.batch_size, shuffle=True, collate_fn=collate, generator=generator)
    return DataLoader(range(len(texts)), program.batch_size, sampler=program.order(program), collate_fn=collate)


def adamw(model: Any, rate: float, decay: float = 0.01) -> torch.optim.Optimizer:
    """AdamW over what learns, without decay on biases and norms."""
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)


def train(program: Program, objects: Objects, watch: Any) -> None:
    """The loop; `watch` is told of each step as a watchdog is."""
    step, model = program.step, objects.model
    scaler = step.scaler() if step.scaler else None
    model.train()
    taken = 0
    for _ in range(program.epochs):
        batches = iter(objects.loader)
        for _ in range(program.steps_per_epoch):
            if program.at_step and taken in program.at_step:
                program.at_step[taken](objects)
            losses = []
            for _, batch in zip(range(step.parts), batches, strict=False):
                labels = batch.pop("labels")
                loss = program.loss_fn(program.logits_of(model, batch), labels)
                part = loss / step.parts if step.divide else loss
                (scaler.scale(part) if scaler else part).backward()
                losses.append(float(loss.detach()))
            norm = _finish_step(program, objects, scaler)
            taken += 1
            watch.step(float(np.mean(losses)), grad_norm=norm)


def _finish_step(program: Program, objects: Objects, scaler: Any) -> float | None:
    step, optimizer, norm = program.step, objects.optimizer, None
    if step.clear == "before the step":
        optimizer.zero_grad()
    if scaler and step.unscale_first:
        scaler.unscale_(optimizer)
    if step.clip_at is not None:
        norm = float(torch.nn.utils.clip_grad_norm_(objects.model.parameters(), step.clip_at))
    if step.take:
        scaler.step(optimizer) if scaler else optimizer.step()
    if scaler:
        scaler.update()
    for _ in range(step.scheduler_steps):
        objects.scheduler.step()
    if step.clear == "after the step":
        optimizer.zero_grad()
    return norm


def evaluate(program: Program, objects: Objects, split: str, watch: Any) -> Evaluation:
    """Predictions for one split and the accuracy that the program reports."""
    rows: Split = getattr(program, split)
    objects.model.train(program.evaluate_in == "training mode")
    watch.validation()
    logits = []
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            inputs = program.encode(objects.tokenizer, list(rows.texts[start : start + 32]))
            logits.append(program.logits_of(objects.model, inputs).float())
    probabilities = torch.cat(logits).softmax(dim=1).double().numpy()
    labels = np.asarray(rows.labels).reshape(-1).astype(int)
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == labels).mean())
    return program.finish(Evaluation(split, rows.ids, labels, predicted, probabilities, accuracy, len(rows)))


def write_predictions(evaluation: Evaluation, folder: Path) -> Path:
    """What programs leave behind: one row per review."""
    path = folder / f"predictions_{evaluation.split}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "predicted", *(f"prob_{k}" for k in range(evaluation.probabilities.shape[1]))])
        for row in zip(evaluation.ids, evaluation.labels, evaluation.predicted, evaluation.probabilities, strict=True):
            writer.writerow([*row[:3], *row[3]])
    return path
