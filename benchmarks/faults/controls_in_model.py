"""Healthy programs, awkward in the model, its loss, what is frozen, and its probabilities."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from faults.control import control, controls_of
from faults.in_model import cross_entropy
from faults.program import Program, load_classifier

FROM_SCRATCH_RATE, FROM_SCRATCH_EPOCHS = 3e-4, 6
"""An encoder drawn at random takes off in the third epoch or so; after two it predicts one class, rightly an error."""


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
def a_strict_threshold_not_used(program: Program) -> Program:
    """A trained model whose probabilities were calibrated by a temperature of 3."""

    def finish(evaluation: Any) -> Any:
        logits = np.log(np.maximum(evaluation.probabilities, 1e-12)) / 3
        powers = np.exp(logits)
        return replace(evaluation, probabilities=powers / powers.sum(axis=1, keepdims=True))

    return replace(program, finish=finish)


@control
def minilm_whole(program: Program) -> Program:
    # With 20 steps it predicted one class for two of five seeds, which is rightly an error.
    return replace(program, kind="whole", rate=1e-4, epochs=2)


CONTROLS = controls_of(globals())
