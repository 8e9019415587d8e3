"""Faults in the model, its loss, and in what is frozen."""

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from faults.fault import fault, faults_of
from faults.program import Objects, Program, load_classifier

cross_entropy = torch.nn.functional.cross_entropy
Loaded = tuple[Any, tuple[str, ...], tuple[str, ...]]


@fault("preflight", "MOD001")
def an_output_too_many(program: Program) -> Program:
    """Three outputs for two classes."""
    three = {k: f"LABEL_{k}" for k in range(3)}

    def load(program: Program) -> Loaded:
        return load_classifier(program, num_labels=3, id2label=three, label2id={v: k for k, v in three.items()})

    return replace(program, load_model=load)


@fault("preflight", "MOD002")
def class_names_swapped(program: Program) -> Program:
    """The model's names contradict those of the data."""
    names = {0: "positive", 1: "negative"}

    def load(program: Program) -> Loaded:
        return load_classifier(program, id2label=names, label2id={v: k for k, v in names.items()})

    return replace(program, load_model=load)


@fault("preflight", "MOD003", "MOD004")
def weights_under_other_names(program: Program) -> Program:
    """A checkpoint whose names carry a prefix: nothing of the encoder is loaded."""

    def load(program: Program) -> Loaded:
        model, _, _ = load_classifier(program)
        fresh = AutoModelForSequenceClassification.from_config(model.config)
        prefixed = {f"module.{name}": value for name, value in model.state_dict().items()}
        told = fresh.load_state_dict(prefixed, strict=False)
        return fresh, tuple(told.missing_keys), tuple(told.unexpected_keys)

    return replace(program, load_model=load)


@fault("preflight", "MOD003", in_program=("MOD010",))
def weights_never_loaded(program: Program) -> Program:
    """`from_config` instead of `from_pretrained`."""

    def load(program: Program) -> Loaded:
        config = AutoConfig.from_pretrained(program.encoder, num_labels=2)
        model = AutoModelForSequenceClassification.from_config(config)
        return model, tuple(name for name, _ in model.named_parameters()), ()

    return replace(program, load_model=load)


@fault("preflight", "MOD005")
def logits_ignore_the_text(program: Program) -> Program:
    """The head reads a position that is the same in every text."""

    def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**inputs).logits

    def prepare(model: Any) -> None:
        embeddings = model.base_model.embeddings
        embeddings.register_forward_hook(lambda module, args, output: output[:, :1].expand_as(output))

    return replace(program, prepare=prepare, logits_of=logits)


@fault("preflight", "MOD006")
def padding_counts(program: Program) -> Program:
    """The head takes the mean over all positions, padding included."""

    def prepare(model: Any) -> None:
        body = model.base_model
        body.pooler = None

        def mean(module: Any, args: Any, output: Any) -> Any:
            output["pooler_output"] = output["last_hidden_state"].mean(dim=1)
            return output

        body.register_forward_hook(mean)

    return replace(program, prepare=prepare)


@fault("preflight", "MOD007")
def neighbours_count(program: Program) -> Program:
    """The head normalises over the batch, in evaluation, too."""

    def prepare(model: Any) -> None:
        norm = torch.nn.BatchNorm1d(model.classifier.in_features, track_running_stats=False)
        model.classifier = torch.nn.Sequential(norm, model.classifier)

    return replace(program, prepare=prepare)


@fault("preflight", "MOD008")
def configured_as_regression(program: Program) -> Program:
    """`problem_type` says regression."""
    return replace(program, load_model=lambda program: load_classifier(program, problem_type="regression"))


@fault("preflight", "LOS002", in_program=("LOS013",))
def softmax_before_the_loss(program: Program) -> Program:
    """Cross-entropy is given probabilities."""
    return replace(program, loss_fn=lambda logits, labels: cross_entropy(logits.softmax(dim=-1), labels))


@fault("preflight", "LOS003")
def loss_with_the_wrong_sign(program: Program) -> Program:
    """The negative of a log-likelihood is negated again."""
    return replace(program, loss_fn=lambda logits, labels: -cross_entropy(logits, labels))


@fault("preflight", "LOS004", in_program=("OPT028",))
def loss_on_predictions(program: Program) -> Program:
    """The loss is computed from predicted classes, which no gradient passes."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        predicted = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float().requires_grad_()
        return cross_entropy(predicted, labels)

    return replace(program, loss_fn=loss)


@fault("preflight", "LOS004", in_program=("LOS017",))
def loss_against_a_constant(program: Program) -> Program:
    """The target is overwritten by zeros."""
    return replace(program, loss_fn=lambda logits, labels: cross_entropy(logits, torch.zeros_like(labels)))


@fault("preflight", "LOS005")
def loss_as_a_sum(program: Program) -> Program:
    """The losses of a batch are summed."""
    return replace(program, loss_fn=lambda logits, labels: cross_entropy(logits, labels, reduction="sum"))


@fault("preflight", "LOS001", "MOD009")
def a_head_drawn_too_wide(program: Program) -> Program:
    """The head's first weights have a standard deviation of 3."""

    def prepare(model: Any) -> None:
        torch.nn.init.normal_(model.classifier.weight, std=3.0)

    return replace(program, prepare=prepare)


@fault("preflight", "OPT020")
def features_detached(program: Program) -> Program:
    """The encoder's output is detached before the head, though the encoder should learn."""

    def prepare(model: Any) -> None:
        def detach(module: Any, args: Any, output: Any) -> Any:
            output["pooler_output"] = output["pooler_output"].detach()
            return output

        model.base_model.register_forward_hook(detach)

    return replace(program, prepare=prepare)


@fault("preflight", "FRZ001", in_program=("FRZ009",))
def the_lin_trap(program: Program) -> Program:
    """The base is to be frozen, and all whose name contains `lin` is spared: nearly the whole of DistilBERT."""

    def prepare(model: Any) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lin" in name or "classifier" in name

    return replace(program, kind="distilbert", prepare=prepare, declared_freeze="base")


@fault("preflight", "FRZ001", in_program=("FRZ006",))
def not_frozen_at_all(program: Program) -> Program:
    """The loop over parameters sets an attribute that does nothing."""

    def prepare(model: Any) -> None:
        for parameter in model.base_model.parameters():
            parameter.require_grad = False

    return replace(program, prepare=prepare, declared_freeze="base")


@fault("preflight", "FRZ002")
def frozen_by_an_earlier_cell(program: Program) -> Program:
    """The encoder is still frozen from an experiment before, though everything should learn."""
    return replace(program, prepare=lambda model: model.base_model.requires_grad_(False) and None)


@fault("preflight", "FRZ003")
def everything_frozen(program: Program) -> Program:
    """All parameters are frozen, the head among them."""

    def prepare(model: Any) -> None:
        model.requires_grad_(False)

    def make(model: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=2e-4)

    return replace(program, prepare=prepare, make_optimizer=make, declared_freeze=None)


@fault("preflight", "FRZ005")
def the_head_is_frozen(program: Program) -> Program:
    """The head, drawn at random, does not learn."""
    return replace(program, prepare=lambda model: model.classifier.requires_grad_(False) and None, declared_freeze=None)


@fault("training", "FRZ004")
def frozen_weights_follow_an_average(program: Program) -> Program:
    """A running average writes into the frozen encoder."""

    def drift(objects: Objects) -> None:
        with torch.no_grad():
            for parameter in objects.model.base_model.parameters():
                parameter.mul_(0.999)

    return replace(
        program,
        prepare=lambda model: model.base_model.requires_grad_(False) and None,
        declared_freeze="base",
        at_step=dict.fromkeys(range(4, 40, 4), drift),
    )


@fault("training", "FRZ004")
def thawed_on_the_way(program: Program) -> Program:
    """A callback makes the frozen encoder learn after a while."""

    def thaw(objects: Objects) -> None:
        objects.model.base_model.requires_grad_(True)
        objects.optimizer.add_param_group({"params": list(objects.model.base_model.parameters()), "lr": 2e-4})

    def drop_scheduler(objects: Objects) -> None:
        thaw(objects)
        objects.scheduler.base_lrs.append(2e-4)
        objects.scheduler.lr_lambdas.append(objects.scheduler.lr_lambdas[0])

    return replace(
        program,
        prepare=lambda model: model.base_model.requires_grad_(False) and None,
        declared_freeze="base",
        at_step={10: drop_scheduler},
    )


FAULTS = faults_of(globals())
