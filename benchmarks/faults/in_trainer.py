"""Faults in programs that train with `transformers.Trainer`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer

from faults.fault import fault, faults_of
from faults.program import CLASS_NAMES
from faults.texts import Split, drawn, sentences

cross_entropy = torch.nn.functional.cross_entropy


@dataclass(frozen=True, eq=False)
class TrainerProgram:
    """A healthy program around `Trainer`, every part of which can be exchanged."""

    seed: int
    encoders: Mapping[str, Path]
    train: Split
    validation: Split
    kind: str = "minilm"
    n_classes: int = 2
    class_names: tuple[str, ...] = CLASS_NAMES
    declared_freeze: Any = "none"
    load_tokenizer: Callable[["TrainerProgram"], Any] = lambda program: AutoTokenizer.from_pretrained(
        program.encoders[program.kind]
    )
    load_model: Callable[["TrainerProgram"], Any] | None = None
    """None: `load_classifier`."""
    prepare: Callable[[Any], None] = lambda model: None
    rows_of: Callable[[Any, Split], list[dict[str, Any]]] | None = None
    """None: `encoded`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of `TrainingArguments`, besides the usual ones."""
    trainer: type[Trainer] = Trainer
    more: Callable[[Any, "TrainerProgram"], Mapping[str, Any]] = lambda model, program: {}
    """Further arguments of the trainer."""
    afterwards: Callable[[Path], None] = lambda folder: None
    """What happens to the output folder."""


def healthy_trainer(encoders: Mapping[str, Path], seed: int, rows: int = 640) -> TrainerProgram:
    """Fine-tuning of the small encoder, evaluated twice on the way."""
    train, validation = drawn((rows, 160), seed)
    return TrainerProgram(seed, encoders, train, validation)


def load_classifier(program: TrainerProgram, **settings: Any) -> Any:
    names = dict(enumerate(program.class_names))
    given = {"num_labels": program.n_classes, "id2label": names, "label2id": {v: k for k, v in names.items()}}
    return AutoModelForSequenceClassification.from_pretrained(program.encoders[program.kind], **{**given, **settings})


def encoded(tokenizer: Any, split: Split) -> list[dict[str, Any]]:
    """Rows as `Trainer` takes them: ids, mask and label, without padding."""
    found = tokenizer(list(split.texts), truncation=True, max_length=48)
    return [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(found["input_ids"], found["attention_mask"], split.labels.tolist(), strict=True)
    ]


def relabelled(program: TrainerProgram, labels: np.ndarray) -> TrainerProgram:
    return replace(program, train=replace(program.train, labels=labels))


def arguing(program: TrainerProgram, **arguments: Any) -> TrainerProgram:
    return replace(program, arguments={**program.arguments, **arguments})


@fault("preflight", "DAT001", "DAT002")
def trainer_first_rows_of_a_sorted_set(program: TrainerProgram) -> TrainerProgram:
    """`dataset.select(range(640))` of a sorted data set."""
    return replace(program, train=sentences().rows(np.arange(640)))


@fault("preflight", "DAT004", "DAT003")
def trainer_reads_in_order(program: TrainerProgram) -> TrainerProgram:
    """A sorted data set and sequential sampling."""
    train = program.train.rows(np.argsort(program.train.labels, kind="stable"))
    return arguing(replace(program, train=train), train_sampling_strategy="sequential")


@fault("preflight", "DAT005")
def trainer_unlabelled_rows(program: TrainerProgram) -> TrainerProgram:
    """Rows without a label carry -1."""
    labels = program.train.labels.copy()
    labels[::9] = -1
    return relabelled(program, labels)


@fault("preflight", "DAT008")
def trainer_labels_one_row_off(program: TrainerProgram) -> TrainerProgram:
    """The labels were read with a header row too many."""
    return relabelled(program, np.roll(program.train.labels, 1))


@fault("preflight", "DAT006", "DAT025")
def trainer_labels_as_floats(program: TrainerProgram) -> TrainerProgram:
    """Labels are floats: the Trainer's model takes several labels for each row, or a regression."""
    return relabelled(program, program.train.labels.astype(float))


@fault("training", "OPT022")
def trainer_accumulates_a_mean_loss(program: TrainerProgram) -> TrainerProgram:
    """`Trainer` as it comes: it takes the mean loss of a sequence classifier for one that was divided already."""
    return arguing(program, per_device_train_batch_size=4, gradient_accumulation_steps=4)


@fault("preflight", "TOK001")
def trainer_another_vocabulary(program: TrainerProgram) -> TrainerProgram:
    """The tokenizer of another model."""
    from faults.in_tokens import another_models_vocabulary
    from faults.program import Program

    load = another_models_vocabulary.inject(
        Program(program.seed, program.encoders, program.train, program.validation, program.validation)
    ).load_tokenizer
    return replace(
        program,
        load_tokenizer=lambda program: load(
            Program(program.seed, program.encoders, program.train, program.validation, program.validation)
        ),
    )


@fault("preflight", "TOK007")
def trainer_padding_without_mask(program: TrainerProgram) -> TrainerProgram:
    """Rows are padded when they are encoded, and carry no mask."""

    def rows(tokenizer: Any, split: Split) -> list[dict[str, Any]]:
        found = tokenizer(list(split.texts), truncation=True, padding="max_length", max_length=48)
        # As a collator of one's own does; the Trainer's would make a mask of ones.
        return [
            {"input_ids": ids, "attention_mask": [1] * 48, "labels": label}
            for ids, label in zip(found["input_ids"], split.labels.tolist(), strict=True)
        ]

    return replace(program, rows_of=rows)


@fault("preflight", "MOD001")
def trainer_an_output_too_many(program: TrainerProgram) -> TrainerProgram:
    """Five outputs are left from a template for star ratings."""

    def load(program: TrainerProgram) -> Any:
        names = {k: f"{k + 1} stars" for k in range(5)}
        return load_classifier(program, num_labels=5, id2label=names, label2id={v: k for k, v in names.items()})

    return replace(program, load_model=load)


@fault("preflight", "MOD001", "MOD008")
def trainer_a_single_output(program: TrainerProgram) -> TrainerProgram:
    """`num_labels=1` makes a regression of it."""

    def load(program: TrainerProgram) -> Any:
        return load_classifier(program, num_labels=1, id2label={0: "sentiment"}, label2id={"sentiment": 0})

    return replace(program, load_model=load)


@fault("preflight", "FRZ001", in_program=("FRZ009",))
def trainer_the_lin_trap(program: TrainerProgram) -> TrainerProgram:
    """DistilBERT's base is to be frozen, and all whose name contains `lin` is spared."""

    def prepare(model: Any) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lin" in name or "classifier" in name

    return replace(program, kind="distilbert", prepare=prepare, declared_freeze="base")


@fault("preflight", "FRZ005", "FRZ002")
def trainer_only_the_head_is_frozen(program: TrainerProgram) -> TrainerProgram:
    """The flag was set on the wrong part."""
    return replace(program, prepare=lambda model: model.classifier.requires_grad_(False) and None)


@fault("preflight", "OPT005")
def trainer_a_rate_of_zero(program: TrainerProgram) -> TrainerProgram:
    """`learning_rate=0`."""
    return arguing(program, learning_rate=0.0)


@fault("training", "OPT007", "LOS008", "OPT018")
def trainer_a_rate_far_too_large(program: TrainerProgram) -> TrainerProgram:
    """A rate of 0.5, as for plain gradient descent."""
    return arguing(program, learning_rate=0.5)


@fault("preflight", "OPT009")
def trainer_warm_up_without_end(program: TrainerProgram) -> TrainerProgram:
    """More steps of warm-up than there are steps."""
    return arguing(program, warmup_steps=5000)


@fault("preflight", "OPT004")
def trainer_another_models_optimizer(program: TrainerProgram) -> TrainerProgram:
    """The optimizer was made for a model that was loaded before."""

    def more(model: Any, program: TrainerProgram) -> Mapping[str, Any]:
        return {"optimizers": (torch.optim.AdamW(load_classifier(program).parameters(), lr=2e-4), None)}

    return replace(program, more=more)


@fault("preflight", "OPT002")
def trainer_the_head_is_not_optimized(program: TrainerProgram) -> TrainerProgram:
    """An optimizer of one's own over the encoder alone."""

    def more(model: Any, program: TrainerProgram) -> Mapping[str, Any]:
        return {"optimizers": (torch.optim.AdamW(model.base_model.parameters(), lr=2e-4), None)}

    return replace(program, more=more)


class Softmaxed(Trainer):
    """Cross-entropy of probabilities."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits.softmax(dim=-1), labels)
        return (loss, outputs) if return_outputs else loss


@fault("training", "LOS013")
def trainer_softmax_before_the_loss(program: TrainerProgram) -> TrainerProgram:
    """`compute_loss` is given probabilities."""
    return replace(program, trainer=Softmaxed)


class Summed(Trainer):
    """Losses are summed over the batch."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits, labels, reduction="sum")
        return (loss, outputs) if return_outputs else loss


@fault("training", "LOS014")
def trainer_loss_as_a_sum(program: TrainerProgram) -> TrainerProgram:
    """`compute_loss` sums the losses of a batch."""
    return replace(program, trainer=Summed)


@fault("diagnosis", "CKP001")
def trainer_a_later_checkpoint_called_the_best(program: TrainerProgram) -> TrainerProgram:
    """The state names another checkpoint than the log's best one, as after a copy of folders."""

    def afterwards(folder: Path) -> None:
        import json

        path = folder / "trainer_state.json"
        state = json.loads(path.read_text())
        values = {r["step"]: r["eval_accuracy"] for r in state["log_history"] if "eval_accuracy" in r}
        worst = min(values, key=lambda step: (values[step], step))
        state["log_history"] = [
            {**r, "eval_accuracy": r["eval_accuracy"] - 0.05} if r["step"] == worst and "eval_accuracy" in r else r
            for r in state["log_history"]
        ]
        state["best_global_step"], state["best_metric"] = worst, values[worst]
        state["best_model_checkpoint"] = str(folder / f"checkpoint-{worst}")
        path.write_text(json.dumps(state))

    return replace(program, afterwards=afterwards)


FAULTS = faults_of(globals())
