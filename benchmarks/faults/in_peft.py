"""Faults in programs that train PEFT's adapters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from faults.controls_with_peft import trainer_tuned, tuned
from faults.fault import fault, faults_of
from faults.in_model import Loaded
from faults.in_trainer import TrainerProgram
from faults.peft_models import loading, loading_for_trainer, lora
from faults.program import Program, load_classifier


def afterwards(program: Program, then: Any, config: PeftConfig | None = None) -> Program:
    """LoRA, and something that is done to the model when it is wrapped."""
    return replace(tuned(program, lora()), load_model=loading(config or lora(), then))


@fault("preflight", "FRZ005")
def peft_head_never_learns(program: Program) -> Program:
    """No `task_type` and no `modules_to_save`: PEFT freezes the new head with the encoder."""
    return tuned(program, lora(task_type=None))


@fault("preflight", "OPT001")
def peft_adapters_not_optimized(program: Program) -> Program:
    """The optimizer is given the head alone."""

    def make(model: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for name, p in model.named_parameters() if "classifier" in name], lr=program.rate)

    return replace(tuned(program, lora()), make_optimizer=make)


@fault("preflight", "OPT001", "OPT002")
def peft_added_after_the_optimizer(program: Program) -> Program:
    """The optimizer is made first, and holds what PEFT freezes."""
    made: dict[str, torch.optim.Optimizer] = {}

    def load(program: Program) -> Loaded:
        model, new, unused = load_classifier(program)
        made["before"] = torch.optim.AdamW(model.parameters(), lr=program.rate)
        return get_peft_model(model, lora()), new, unused

    return replace(tuned(program, lora()), load_model=load, make_optimizer=lambda model: made["before"])


@fault("preflight", "OPT020", "FRZ005")
def peft_adapters_disabled(program: Program) -> Program:
    """The adapters are still switched off after a comparison with the bare encoder."""

    def disable(model: Any) -> None:
        model.base_model.disable_adapter_layers()
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lora_" in name or "modules_to_save" in name

    return afterwards(program, disable)


@fault("preflight", "OPT020")
def peft_trained_while_merged(program: Program) -> Program:
    """`merge_adapter` for a faster evaluation, and never `unmerge_adapter`."""
    return afterwards(program, lambda model: model.merge_adapter())


@fault("preflight", "OPT020", "FRZ005")
def peft_another_adapter_is_active(program: Program) -> Program:
    """A second adapter should learn, and the first one is still in use."""

    def add(model: Any) -> None:
        model.add_adapter("second", lora())
        for name, parameter in model.named_parameters():
            parameter.requires_grad = ".second." in name

    return afterwards(program, add)


@fault("preflight", "FRZ001")
def peft_base_learns_too(program: Program) -> Program:
    """Everything is set to learn after PEFT froze the encoder."""
    return afterwards(program, lambda model: model.requires_grad_(True) and None)


@fault("preflight", "MOD001")
def peft_an_output_too_many(program: Program) -> Program:
    """Three outputs for two classes."""
    three = {k: f"LABEL_{k}" for k in range(3)}
    load = loading(lora(), num_labels=3, id2label=three, label2id={v: k for k, v in three.items()})
    return replace(tuned(program, lora()), load_model=load)


@fault("preflight", "MOD003", in_program=("MOD010",))
def peft_weights_never_loaded(program: Program) -> Program:
    """`from_config` instead of `from_pretrained` below the adapters."""

    def load(program: Program) -> Loaded:
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(program.encoder))
        new = tuple(name for name, _ in model.named_parameters())
        return get_peft_model(model, lora()), new, ()

    return replace(tuned(program, lora()), load_model=load)


@fault("preflight", "OPT006", "OPT017")
def peft_a_rate_far_too_small(program: Program) -> Program:
    """A learning rate of 2e-7, too small even for an encoder, on adapters that begin at zero."""
    return tuned(program, lora(), rate=2e-7)


@fault("preflight", "FRZ005")
def trainer_peft_head_never_learns(program: TrainerProgram) -> TrainerProgram:
    """No `task_type` and no `modules_to_save`."""
    return trainer_tuned(program, lora(task_type=None))


@fault("preflight", "FRZ005")
def trainer_adapter_of_transformers_without_head(program: TrainerProgram) -> TrainerProgram:
    """`model.add_adapter` freezes the new head with the encoder."""

    def prepare(model: Any) -> None:
        model.add_adapter(lora(task_type=None))

    return replace(program, prepare=prepare, declared_freeze=None)


@fault("preflight", "FRZ001")
def trainer_peft_base_learns_too(program: TrainerProgram) -> TrainerProgram:
    """Everything is set to learn after PEFT froze the encoder."""
    load = loading_for_trainer(lora(), lambda model: model.requires_grad_(True) and None)
    return replace(trainer_tuned(program, lora()), load_model=load)


@fault("preflight", "OPT001")
def trainer_peft_adapters_not_optimized(program: TrainerProgram) -> TrainerProgram:
    """An optimizer of one's own over the head alone."""

    def more(model: Any, program: TrainerProgram) -> Mapping[str, Any]:
        head = [p for name, p in model.named_parameters() if "classifier" in name]
        return {"optimizers": (torch.optim.AdamW(head, lr=5e-3), None)}

    return replace(trainer_tuned(program, lora()), more=more)


FAULTS = faults_of(globals())
