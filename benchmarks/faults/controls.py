"""Healthy programs, made awkward on purpose: whatever is found in them is a false alarm."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Trainer

from faults.in_data import rewritten
from faults.in_model import cross_entropy
from faults.in_steps import PARTS
from faults.in_trainer import TrainerProgram, arguing
from faults.in_trainer import load_classifier as load_for_trainer
from faults.program import Objects, Program, Step, healthy, load_classifier
from faults.texts import Split, sentences

AnyProgram = Any

FROM_SCRATCH_RATE, FROM_SCRATCH_EPOCHS = 3e-4, 6
"""An encoder drawn at random takes off in the third epoch or so; after two it predicts one class, rightly an error."""


@dataclass(frozen=True)
class Control:
    """A healthy change to a healthy program."""

    change: Callable[[AnyProgram], AnyProgram]

    @property
    def name(self) -> str:
        return self.change.__name__

    @property
    def for_trainer(self) -> bool:
        return self.name.startswith("trainer_")


def control(change: Callable[[AnyProgram], AnyProgram]) -> Control:
    return Control(change)


def several_classes(program: Program, k: int, per_class: int, held: int) -> Program:
    """Sentences of k classes, each told by two words, either of which it shares with other classes."""
    source, rng = sentences(), np.random.default_rng(program.seed)
    topics = [f"{first} {second}" for second in _KINDS for first in ("war", "love", "crime", "music", "space")]
    rows = rng.permutation(len(source))[: k * (per_class + 2 * held)]
    labels = np.arange(len(rows)) % k
    texts = tuple(f"{source.texts[row]} A {topics[label]} film ." for row, label in zip(rows, labels, strict=True))
    whole = Split(texts, labels, tuple(source.ids[row] for row in rows))
    a, b = k * per_class, k * (per_class + held)
    parts = (whole.rows(np.arange(a)), whole.rows(np.arange(a, b)), whole.rows(np.arange(b, len(rows))))
    names = tuple(topics[label] for label in range(k))
    return replace(
        program, train=parts[0], validation=parts[1], test=parts[2], n_classes=k, class_names=names, epochs=2
    )


_KINDS = ("drama", "comedy", "documentary", "romance")


def imbalanced(program: Program, share: float) -> Program:
    """A share of positive rows, in every split."""

    def cut(split: Split) -> Split:
        positive, negative = (np.flatnonzero(split.labels == k) for k in (1, 0))
        few = positive[: max(4, int(share / (1 - share) * len(negative)))]
        return split.rows(np.random.default_rng(0).permutation(np.concatenate([few, negative])))

    return replace(program, train=cut(program.train), validation=cut(program.validation), test=cut(program.test))


def frozen_base(model: Any) -> None:
    model.base_model.requires_grad_(False)


class LowRank(nn.Module):
    """LoRA beside a frozen linear layer (Hu et al. 2022): its second matrix starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Linear(base.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.lora_b(self.lora_a(x))


def with_lora(model: Any) -> None:
    model.base_model.requires_grad_(False)
    for layer in model.base_model.encoder.layer:
        for name in ("query", "value"):
            setattr(layer.attention.self, name, LowRank(getattr(layer.attention.self, name)))


@control
def plain(program: AnyProgram) -> AnyProgram:
    return program


@control
def trainer_plain(program: AnyProgram) -> AnyProgram:
    return program


@control
def frozen(program: Program) -> Program:
    return replace(program, prepare=frozen_base, declared_freeze="base", rate=2e-3)


@control
def frozen_but_not_declared_as_such(program: Program) -> Program:
    return replace(program, prepare=frozen_base, declared_freeze=None, rate=2e-3)


@control
def lora(program: Program) -> Program:
    return replace(program, prepare=with_lora, declared_freeze=None, rate=2e-3)


@control
def biases_alone(program: Program) -> Program:
    """BitFit (Ben Zaken et al. 2022)."""

    def prepare(model: Any) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "bias" in name or "classifier" in name

    return replace(program, prepare=prepare, declared_freeze="base", keep_trainable=("bias",), rate=2e-3)


@control
def embeddings_frozen(program: Program) -> Program:
    return replace(
        program, prepare=lambda model: model.base_model.embeddings.requires_grad_(False) and None, declared_freeze=None
    )


@control
def imbalance_of_19_to_1(program: Program) -> Program:
    return imbalanced(program, 0.05)


@control
def imbalance_of_9_to_1_weighted(program: Program) -> Program:
    weights = torch.tensor([1.0, 9.0])
    return replace(imbalanced(program, 0.1), loss_fn=lambda logits, labels: cross_entropy(logits, labels, weights))


@control
def twenty_classes(program: Program) -> Program:
    return several_classes(program, 20, per_class=60, held=10)


@control
def three_classes(program: Program) -> Program:
    """Every third row holds two sentences, one of each kind."""

    def mixed(split: Split) -> Split:
        of_class = [np.flatnonzero(split.labels == k) for k in (0, 1)]
        third = len(split) // 6
        joined = zip(of_class[0][:third], of_class[1][:third], strict=True)
        texts = [f"{split.texts[a]} {split.texts[b]}" for a, b in joined]
        alone = np.concatenate([rows[third:] for rows in of_class])
        whole = Split(
            (*(split.texts[i] for i in alone), *texts),
            np.concatenate([split.labels[alone], np.full(third, 2)]),
            (*(split.ids[i] for i in alone), *(f"mixed-{i}" for i in range(third))),
        )
        return whole.rows(np.random.default_rng(0).permutation(len(whole)))

    return replace(
        program,
        train=mixed(program.train),
        validation=mixed(program.validation),
        test=mixed(program.test),
        n_classes=3,
        class_names=("negative", "positive", "mixed"),
        epochs=2,
    )


@control
def tiny_data(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=32), epochs=4, batch_size=8)


@control
def little_data(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=200), epochs=2)


@control
def warm_up_from_zero(program: Program) -> Program:
    return replace(program, factor=lambda step, total: min(1.0, step / (0.2 * total)) * (1 - step / total))


@control
def long_warm_up(program: Program) -> Program:
    return replace(program, factor=lambda step, total: min(1.0, step / (0.3 * total)))


@control
def constant_rate(program: Program) -> Program:
    return replace(program, factor=lambda step, total: 1.0)


@control
def cosine_schedule(program: Program) -> Program:
    return replace(program, factor=lambda step, total: 0.5 * (1 + float(np.cos(np.pi * step / total))))


@control
def decay_by_epoch(program: Program) -> Program:
    return replace(program, epochs=2, factor=lambda step, total: 0.5 ** (2 * step // total))


@control
def accumulated(program: Program) -> Program:
    return replace(program, batch_size=program.batch_size // PARTS, step=Step(parts=PARTS))


@control
def accumulated_in_uneven_parts(program: Program) -> Program:
    return replace(program, batch_size=7, step=Step(parts=3))


@control
def never_clipped(program: Program) -> Program:
    return replace(program, step=Step(clip_at=None))


@control
def clipped_hard(program: Program) -> Program:
    return replace(program, step=Step(clip_at=0.5))


@control
def loss_scaled(program: Program) -> Program:
    return replace(program, step=Step(scaler=lambda: torch.amp.GradScaler("cpu")), loss_scaling=True)


@control
def smoothed_labels(program: Program) -> Program:
    return replace(program, loss_fn=lambda logits, labels: cross_entropy(logits, labels, label_smoothing=0.1))


@control
def focal_loss(program: Program) -> Program:
    """Lin et al. 2017."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nats = cross_entropy(logits, labels, reduction="none")
        return ((1 - torch.exp(-nats)) ** 2 * nats).mean()

    return replace(program, loss_fn=loss)


@control
def log_softmax_and_nll(program: Program) -> Program:
    return replace(
        program,
        loss_fn=lambda logits, labels: torch.nn.functional.nll_loss(logits.log_softmax(dim=-1), labels),
    )


@control
def large_batches(program: Program) -> Program:
    return replace(program, batch_size=64, epochs=2, rate=4e-4)


@control
def small_batches(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=320), batch_size=4, rate=1e-4)


@control
def a_low_rate(program: Program) -> Program:
    return replace(program, rate=2e-5)


@control
def a_high_rate(program: Program) -> Program:
    return replace(program, rate=1e-3)


@control
def stochastic_gradient_descent(program: Program) -> Program:
    return replace(
        program, make_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rate=0.05
    )


@control
def two_rates(program: Program) -> Program:
    def make(model: Any) -> torch.optim.Optimizer:
        head = [p for name, p in model.named_parameters() if "classifier" in name]
        return torch.optim.AdamW(
            [{"params": list(model.base_model.parameters()), "lr": 1e-4}, {"params": head, "lr": 1e-3}],
            weight_decay=0.0,
        )

    return replace(program, make_optimizer=make)


@control
def much_dropout(program: Program) -> Program:
    return replace(
        program,
        load_model=lambda program: load_classifier(program, hidden_dropout_prob=0.3, classifier_dropout=0.5),
    )


@control
def no_dropout(program: Program) -> Program:
    return replace(
        program,
        load_model=lambda program: load_classifier(
            program, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0
        ),
    )


@control
def padded_to_the_maximum(program: Program) -> Program:
    return replace(
        program,
        encode=lambda tokenizer, texts: dict(
            tokenizer(texts, padding="max_length", truncation=True, max_length=48, return_tensors="pt")
        ),
    )


@control
def cut_short(program: Program) -> Program:
    return replace(
        program,
        encode=lambda tokenizer, texts: dict(
            tokenizer(texts, padding=True, truncation=True, max_length=12, return_tensors="pt")
        ),
    )


@control
def sorted_by_length(program: Program) -> Program:
    def order(program: Program) -> list[int]:
        lengths = np.array([len(text) for text in program.train.texts])
        batches = np.array_split(np.argsort(lengths, kind="stable"), len(lengths) // 16)
        return np.concatenate([batches[i] for i in np.random.default_rng(1).permutation(len(batches))]).tolist()

    return replace(program, order=order)


@control
def mean_pooling(program: Program) -> Program:
    """Over real tokens, as the mask says."""

    def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = model.base_model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        return model.classifier((hidden * mask).sum(dim=1) / mask.sum(dim=1))

    class Pooled(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            model.base_model.pooler = None
            self.config, self.encoder, self.classifier = model.config, model.base_model, model.classifier

        @property
        def base_model(self) -> Any:
            return self.encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any) -> torch.Tensor:
            return logits(self, {"input_ids": input_ids, "attention_mask": attention_mask})

    def load(program: Program) -> Any:
        model, new, unused = load_classifier(program)
        return Pooled(model), new, unused

    return replace(program, load_model=load, logits_of=lambda model, inputs: model(**inputs), declared_freeze=None)


@control
def a_deeper_head(program: Program) -> Program:
    def prepare(model: Any) -> None:
        width = model.classifier.in_features
        model.classifier = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 2))

    return replace(program, prepare=prepare)


@control
def random_distilbert(program: Program) -> Program:
    return replace(program, kind="distilbert", rate=FROM_SCRATCH_RATE, declared_freeze=None, epochs=FROM_SCRATCH_EPOCHS)


@control
def random_bert(program: Program) -> Program:
    return replace(program, kind="bert", rate=FROM_SCRATCH_RATE, declared_freeze=None, epochs=FROM_SCRATCH_EPOCHS)


@control
def noisy_labels(program: Program) -> Program:
    labels = program.train.labels.copy()
    rows = np.random.default_rng(program.seed).permutation(len(labels))[: len(labels) // 10]
    labels[rows] = 1 - labels[rows]
    return replace(program, train=replace(program.train, labels=labels))


@control
def upper_case(program: Program) -> Program:
    rows = np.arange(len(program.train))
    return replace(program, train=rewritten(program.train, rows, str.upper))


@control
def a_few_repeated_texts(program: Program) -> Program:
    again = program.train.rows(np.arange(8))
    train = Split(
        program.train.texts + again.texts,
        np.concatenate([program.train.labels, again.labels]),
        program.train.ids + tuple(f"{one}-again" for one in again.ids),
    )
    return replace(program, train=train)


@control
def few_held_out_rows(program: Program) -> Program:
    return replace(program, validation=program.validation.rows(np.arange(24)), test=program.test.rows(np.arange(24)))


@control
def threads_of_exotic_names(program: Program) -> Program:
    return replace(program, class_names=("nein <b>", "ja & amen"))


@control
def resumed(program: Program) -> Program:
    """Model, optimizer and schedule are saved, made anew and loaded in the middle."""

    def reload(objects: Objects) -> None:
        model = copy.deepcopy(objects.model.state_dict())
        optimizer, scheduler = copy.deepcopy(objects.optimizer.state_dict()), objects.scheduler.state_dict()
        objects.model.load_state_dict(model)
        objects.optimizer.load_state_dict(optimizer)
        objects.scheduler.load_state_dict(scheduler)

    return replace(program, at_step={20: reload})


@control
def an_average_of_the_weights_beside(program: Program) -> Program:
    averages: dict[str, torch.Tensor] = {}

    def follow(objects: Objects) -> None:
        for name, parameter in objects.model.named_parameters():
            averages.setdefault(name, parameter.detach().clone()).lerp_(parameter.detach(), 0.1)

    return replace(program, at_step=dict.fromkeys(range(4, 40, 4), follow))


@control
def a_strict_threshold_not_used(program: Program) -> Program:
    """A trained model whose probabilities were calibrated by a temperature of 3."""

    def finish(evaluation: Any) -> Any:
        logits = np.log(np.maximum(evaluation.probabilities, 1e-12)) / 3
        powers = np.exp(logits)
        return replace(evaluation, probabilities=powers / powers.sum(axis=1, keepdims=True))

    return replace(program, finish=finish)


@control
def trainer_accumulated(program: TrainerProgram) -> TrainerProgram:
    return replace(
        arguing(program, per_device_train_batch_size=4, gradient_accumulation_steps=4), trainer=DividingTrainer
    )


class DividingTrainer(Trainer):
    """Divides the mean loss of a classifier by the accumulation, which `Trainer` by itself does not."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.model_accepts_loss_kwargs = False


@control
def trainer_grouped_by_length(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, train_sampling_strategy="group_by_length")


@control
def trainer_frozen(program: TrainerProgram) -> TrainerProgram:
    return replace(arguing(program, learning_rate=2e-3), prepare=frozen_base, declared_freeze="base")


@control
def trainer_lora(program: TrainerProgram) -> TrainerProgram:
    return replace(arguing(program, learning_rate=2e-3), prepare=with_lora, declared_freeze=None)


@control
def trainer_smoothed_labels(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, label_smoothing_factor=0.1)


@control
def trainer_constant_rate(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, lr_scheduler_type="constant", warmup_steps=0)


@control
def trainer_cosine(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, lr_scheduler_type="cosine", warmup_steps=8)


@control
def trainer_adafactor(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, optim="adafactor")


@control
def trainer_random_distilbert(program: TrainerProgram) -> TrainerProgram:
    longer = arguing(program, learning_rate=FROM_SCRATCH_RATE, num_train_epochs=FROM_SCRATCH_EPOCHS)
    return replace(longer, kind="distilbert", declared_freeze=None)


@control
def trainer_never_evaluated(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)


@control
def trainer_no_clipping(program: TrainerProgram) -> TrainerProgram:
    return arguing(program, max_grad_norm=0.0)


@control
def trainer_much_dropout(program: TrainerProgram) -> TrainerProgram:
    return replace(
        program,
        load_model=lambda program: load_for_trainer(program, hidden_dropout_prob=0.3, classifier_dropout=0.3),
    )


@control
def minilm_whole(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=320), kind="whole", rate=1e-4, batch_size=16)


CONTROLS = tuple(value for value in list(globals().values()) if isinstance(value, Control))
