"""Healthy programs whose model stands in a wrapper, or whose head is not one plain linear layer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from faults.control import control, controls_of
from faults.controls_in_model import LowRank, with_lora
from faults.in_model import Loaded
from faults.program import Program, load_classifier


def wrapped(program: Program, wrap: Callable[[Any], Any]) -> Program:
    def load(program: Program) -> Loaded:
        model, new, unused = load_classifier(program)
        return wrap(model), new, unused

    return replace(program, load_model=load, declared_freeze=None)


class Passing(nn.Module):
    """As data-parallel wrappers of other libraries: `module.` before every name."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.module(*args, **named)


class Own(nn.Module):
    """A bare encoder under a head of one's own, on the mean over real tokens."""

    def __init__(self, encoder: Any, head: str, hidden: int = 0) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        encoder.pooler = None
        self.backbone, self.head = encoder, head
        self.hidden = nn.Linear(width, hidden) if hidden else None
        setattr(self, head, nn.Linear(hidden or width, 2))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].float()
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
        return getattr(self, self.head)(mean if self.hidden is None else torch.tanh(self.hidden(mean)))


class Tied(Own):
    """A head that scores a text by the embeddings of a word for each class."""

    def __init__(self, encoder: Any, words: list[int]) -> None:
        super().__init__(encoder, "unused")
        del self.unused
        self.words = words

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return tokens[:, 0] @ self.backbone.get_input_embeddings().weight[self.words].T


def own(program: Program, make: Callable[[Any, Program], nn.Module]) -> Program:
    def load(program: Program) -> Loaded:
        return make(AutoModel.from_pretrained(program.encoder), program), (), ()

    def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(inputs["input_ids"], inputs["attention_mask"])

    return replace(program, load_model=load, logits_of=logits, declared_freeze=None)


@control
def data_parallel(program: Program) -> Program:
    return wrapped(program, nn.DataParallel)


@control
def compiled(program: Program) -> Program:
    return wrapped(program, lambda model: torch.compile(model, backend="eager"))


@control
def module_before_every_name(program: Program) -> Program:
    return wrapped(program, Passing)


@control
def own_module_with_score(program: Program) -> Program:
    return own(program, lambda encoder, _: Own(encoder, "score"))


@control
def own_module_with_two_layers(program: Program) -> Program:
    return own(program, lambda encoder, _: Own(encoder, "out_proj", hidden=64))


@control
def own_module_over_a_frozen_encoder(program: Program) -> Program:
    def make(encoder: Any, program: Program) -> nn.Module:
        return Own(encoder.requires_grad_(False), "fc", hidden=64)

    return replace(own(program, make), rate=2e-3)


@control
def head_tied_to_the_embeddings(program: Program) -> Program:
    def make(encoder: Any, program: Program) -> nn.Module:
        return Tied(encoder, program.load_tokenizer(program).convert_tokens_to_ids(["bad", "good"]))

    return own(program, make)


@control
def weight_normed_head(program: Program) -> Program:
    """Its matrix is two parameters, a direction and a length."""

    def prepare(model: Any) -> None:
        torch.nn.utils.parametrizations.weight_norm(model.classifier)

    return replace(program, prepare=prepare)


@control
def lora_by_hand_on_the_head_too(program: Program) -> Program:
    def prepare(model: Any) -> None:
        with_lora(model)
        model.classifier.requires_grad_(False)
        model.classifier = LowRank(model.classifier, rank=64)

    return replace(program, prepare=prepare, declared_freeze=None, rate=2e-3)


CONTROLS = controls_of(globals())
