"""Healthy programs whose encoder is frozen under PEFT's adapters or prompts."""

from dataclasses import replace
from typing import Any

from peft import (
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    OFTConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)

from faults.control import control, controls_of
from faults.in_model import Loaded
from faults.in_trainer import TrainerProgram, arguing
from faults.in_trainer import load_classifier as load_for_trainer
from faults.peft_models import ATTENTION, CLASSIFICATION, loading, loading_for_trainer, lora
from faults.program import Program, load_classifier

RATE, EPOCHS = 5e-3, 2


def tuned(program: Program, config: PeftConfig, rate: float = RATE, **more: Any) -> Program:
    return replace(program, load_model=loading(config), declared_freeze=None, rate=rate, epochs=EPOCHS, **more)


@control
def peft_lora(program: Program) -> Program:
    return tuned(program, lora(lora_dropout=0.1))


@control
def peft_lora_declared_as_a_frozen_base(program: Program) -> Program:
    return replace(tuned(program, lora()), declared_freeze="base")


@control
def peft_dora_on_all_linear_layers(program: Program) -> Program:
    return tuned(program, lora(use_dora=True, target_modules="all-linear"))


@control
def peft_lora_on_the_head(program: Program) -> Program:
    """No `modules_to_save`: a low-rank change of the head learns, its first weights don't."""
    return tuned(program, lora(task_type=None, target_modules=[*ATTENTION, "classifier"]))


@control
def peft_lora_with_a_saved_head(program: Program) -> Program:
    return tuned(program, lora(task_type=None, modules_to_save=["classifier"]))


@control
def peft_lora_and_saved_embeddings(program: Program) -> Program:
    return tuned(program, lora(modules_to_save=["classifier", "word_embeddings"]), rate=3e-4)


@control
def peft_ia3(program: Program) -> Program:
    targets = {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}
    return tuned(program, IA3Config(task_type=CLASSIFICATION, **targets))


@control
def peft_boft(program: Program) -> Program:
    return tuned(program, BOFTConfig(task_type=CLASSIFICATION, boft_block_size=8, target_modules=ATTENTION))


@control
def peft_oft(program: Program) -> Program:
    return tuned(program, OFTConfig(task_type=CLASSIFICATION, oft_block_size=8, target_modules=ATTENTION))


@control
def peft_loha(program: Program) -> Program:
    return tuned(program, LoHaConfig(task_type=CLASSIFICATION, r=4, target_modules=ATTENTION))


@control
def peft_vera(program: Program) -> Program:
    return tuned(program, VeraConfig(task_type=CLASSIFICATION, r=32, target_modules=ATTENTION))


@control
def peft_prompt_tuning(program: Program) -> Program:
    return tuned(program, PromptTuningConfig(task_type=CLASSIFICATION, num_virtual_tokens=8))


@control
def peft_p_tuning(program: Program) -> Program:
    return tuned(program, PromptEncoderConfig(task_type=CLASSIFICATION, num_virtual_tokens=8, encoder_hidden_size=64))


@control
def peft_prefix_tuning(program: Program) -> Program:
    return tuned(program, PrefixTuningConfig(task_type=CLASSIFICATION, num_virtual_tokens=8))


@control
def peft_merged_and_trained_further(program: Program) -> Program:
    """`merge_and_unload` gives the plain model back, which is then fine-tuned as a whole."""

    def load(program: Program) -> Loaded:
        model, new, unused = load_classifier(program)
        merged = get_peft_model(model, lora()).merge_and_unload()
        return merged.requires_grad_(True), new, unused

    return replace(program, load_model=load)


@control
def trainer_peft_lora(program: TrainerProgram) -> TrainerProgram:
    return trainer_tuned(program, lora())


@control
def trainer_peft_lora_on_the_head(program: TrainerProgram) -> TrainerProgram:
    return trainer_tuned(program, lora(task_type=None, target_modules=[*ATTENTION, "classifier"]))


@control
def trainer_peft_ia3(program: TrainerProgram) -> TrainerProgram:
    targets = {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}
    return trainer_tuned(program, IA3Config(task_type=CLASSIFICATION, **targets))


@control
def trainer_peft_p_tuning(program: TrainerProgram) -> TrainerProgram:
    config = PromptEncoderConfig(task_type=CLASSIFICATION, num_virtual_tokens=8, encoder_hidden_size=64)
    return trainer_tuned(program, config)


@control
def trainer_adapter_of_transformers(program: TrainerProgram) -> TrainerProgram:
    """`model.add_adapter`, which is `transformers`' own way to PEFT; the best one can't be loaded at the end (5.23)."""

    def load(program: TrainerProgram) -> Any:
        model = load_for_trainer(program)
        model.add_adapter(lora(modules_to_save=["classifier"]))
        return model

    arguments = {"learning_rate": RATE, "num_train_epochs": EPOCHS, "load_best_model_at_end": False}
    return replace(arguing(program, **arguments), load_model=load, declared_freeze=None)


def trainer_tuned(program: TrainerProgram, config: PeftConfig) -> TrainerProgram:
    longer = arguing(program, learning_rate=RATE, num_train_epochs=EPOCHS)
    return replace(longer, load_model=loading_for_trainer(config), declared_freeze=None)


CONTROLS = controls_of(globals())
