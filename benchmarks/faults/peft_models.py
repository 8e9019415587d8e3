"""Classifiers around which PEFT puts adapters or prompts, as programs load them."""

from collections.abc import Callable
from typing import Any

from peft import LoraConfig, PeftConfig, get_peft_model

from faults.in_model import Loaded
from faults.in_trainer import TrainerProgram
from faults.in_trainer import load_classifier as load_for_trainer
from faults.program import Program, load_classifier

CLASSIFICATION = "SEQ_CLS"
"""With this task PEFT makes the head learn along."""

ATTENTION = ["query", "value"]


def lora(**more: Any) -> LoraConfig:
    """LoRA on queries and values, as its authors used it (Hu et al. 2022)."""
    return LoraConfig(**{"task_type": CLASSIFICATION, "r": 4, "target_modules": ATTENTION, **more})


def loading(
    config: PeftConfig, then: Callable[[Any], None] = lambda model: None, **settings: Any
) -> Callable[[Program], Loaded]:
    """A `load_model` that wraps the classifier; `then` is done to the wrapped model."""

    def load(program: Program) -> Loaded:
        model, new, unused = load_classifier(program, **settings)
        wrapped = get_peft_model(model, config)
        then(wrapped)
        return wrapped, new, unused

    return load


def loading_for_trainer(
    config: PeftConfig, then: Callable[[Any], None] = lambda model: None
) -> Callable[[TrainerProgram], Any]:
    def load(program: TrainerProgram) -> Any:
        model = get_peft_model(load_for_trainer(program), config)
        then(model)
        return model

    return load
