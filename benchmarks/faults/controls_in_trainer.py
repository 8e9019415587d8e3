"""Healthy programs, awkward on purpose, that train with `transformers.Trainer`."""

from dataclasses import replace
from typing import Any

from transformers import Trainer

from faults.control import AnyProgram, control, controls_of
from faults.controls_in_model import FROM_SCRATCH_EPOCHS, FROM_SCRATCH_RATE, frozen_base, with_lora
from faults.in_trainer import TrainerProgram, arguing
from faults.in_trainer import load_classifier as load_for_trainer


@control
def trainer_plain(program: AnyProgram) -> AnyProgram:
    return program


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


CONTROLS = controls_of(globals())
