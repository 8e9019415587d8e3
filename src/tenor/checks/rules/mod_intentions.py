"""Intentions that were not carried out: frozen by attribute, overwritten, not saved, names that contradict, layers
that are one layer."""

import re

from tenor.checks.evidence.model_evidence import ClassNamesEvidence, ModelEvidence
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding, Severity

SHOWN_PAIRS = 4
SHOWN_LISTS = 2
PLACEHOLDER = re.compile(r"LABEL_\d+")


@rule("FRZ006", "error")
def frozen_by_attribute(model: ModelEvidence) -> Finding | None:
    """An attribute that has no effect was set to freeze parameters

    Measures: attributes named `requires_grad` on a module, misspelled ones (`require_grad`) on a module or a parameter,
    and `trainable`, whose value contradicts the parameters: False over trainable parameters, or True over frozen ones
    only.

    Threshold: none; an exact invariant. For `trainable`, a warning: modules may use the name for something else.

    Why: any name can be set on a module or a tensor. PyTorch reads `requires_grad` on parameters only, so
    `model.bert.requires_grad = False` only sets an attribute and freezes nothing. `trainable` is Keras' name.

    Look-alikes: a module that carries out such an attribute of its own has parameters that agree with it, and passes,
    as do trainable adapters inside a frozen encoder.

    Fix: call the method of the module, `model.bert.requires_grad_(False)`, before the optimizer is built.

    Reference: PyTorch, `torch.nn.Module.requires_grad_`.
    """
    wrong = known(model.attributes, "which attributes were set")
    if not wrong:
        return None
    first, names = wrong[0], {name for one in wrong for name in one.contradicted_by}
    weights = sum(p.size for p in model.parameters if p.name in names)
    state = "frozen" if first.value else "trainable"
    module = first.path.rpartition(".")[0] or "model"
    only_keras = all(one.path.endswith("trainable") for one in wrong)
    return Finding(
        observed=f"{', '.join(f'{one.path} = {one.value}' for one in wrong[:SHOWN_PAIRS])}, but {len(names):,} of the "
        f"parameters there ({weights:,} weights) are {state}, such as {shown(names)}",
        expected=f"parameters that are {'trainable' if first.value else 'frozen'}",
        n=len(names),
        cause="the attribute is misspelled, so nothing reads it"
        if first.is_misspelled
        else "the attribute of a module has no effect: PyTorch reads requires_grad of parameters only",
        fix=f"replace it by {module}.requires_grad_({first.value}), a method, before the optimizer is built",
        severity="warning" if only_keras else "error",
    )


@rule("MOD010", "error", explains=("bad result", "stalled loss", "odd probabilities"))
def pretrained_weights_replaced(model: ModelEvidence) -> Finding | None:
    """Pretrained weights were overwritten with random values

    Measures: the encoder's matrices compared with the checkpoint that the model's configuration names, where its
    safetensors file is on this machine: a sample of at least 512 values of each.

    Threshold: none may differ, be uncorrelated with the checkpoint (below 0.1) and be distributed as newly initialized
    weights are (kurtosis of at most a normal distribution); an exact invariant. All matrices of a model that
    `from_pretrained` did not load: a warning.

    Why: a loop over all `nn.Linear` modules meant for the new head, such as `self.apply(init_weights)` in a module that
    contains a pretrained encoder, initializes the encoder too. `AutoModel.from_config` loads no weights at all. Such a
    model trains, to the accuracy of a transformer without pretraining.

    Look-alikes: weights that were trained further, loaded from another checkpoint, merged or converted to 16 bits are
    correlated with the checkpoint or have the heavy tails of trained weights, and pass. `init_weights` of
    `transformers` 5 leaves loaded parameters as they are. Training from scratch on purpose passes if that is declared
    (`pretrained=False`); otherwise allow the rule with that reason.

    Fix: initialize only the head: `self.classifier.apply(init_weights)`, or load the encoder after the initialization.

    Reference: transformers, `PreTrainedModel.from_pretrained`.
    """
    replaced = known(model.replaced, "the checkpoint of the pretrained weights")
    if not replaced or model.pretrained is False:
        return None
    never_loaded = len(replaced) == model.compared and not model.was_loaded
    return Finding(
        observed=f"{len(replaced):,} of {model.compared:,} matrices of the encoder are random, not those of the "
        f"checkpoint: {shown(replaced)}",
        expected="the checkpoint's weights, or weights trained from them",
        n=model.compared,
        cause="the model was built from its configuration, without weights"
        if never_loaded
        else "code that initializes the head runs over the encoder as well, after it was loaded",
        fix="load it with from_pretrained instead of from_config"
        if never_loaded
        else "initialize the modules of the head only, or load the encoder after the initialization",
        severity="warning" if never_loaded else "error",
    )


@rule("MOD011", "error", explains=("swapped classes",))
def names_are_no_inverse(names: ClassNamesEvidence) -> Finding | None:
    """`label2id` is not the inverse of `id2label`

    Measures: the two mappings in the model's configuration.

    Threshold: a name that has one index in `id2label` and another one in `label2id` is an error, an exact invariant;
    names that only one of them contains are a warning, and a note if one side has placeholders (LABEL_0) instead.

    Why: programs convert labels to indices with `label2id` and predictions to names with `id2label`. If both disagree,
    every class is read as another one. `transformers` accepts any pair, and saves it with the model.

    Look-alikes: `from_pretrained(…, id2label=…)` without `label2id` leaves placeholders there (5.23), which do no harm
    unless they are read. A name that several indices share, on purpose, cannot have an inverse, and passes.

    Fix: `label2id={name: index for index, name in id2label.items()}`.

    Reference: transformers, `PreTrainedConfig.id2label` and `label2id`.
    """
    by_name: dict[str, set[int]] = {}
    for index, name in names.id2label.items():
        by_name.setdefault(name, set()).add(index)
    common = by_name.keys() & names.label2id.keys()
    swapped = sorted(name for name in common if names.label2id[name] not in by_name[name])
    alone = sorted(by_name.keys() ^ names.label2id.keys())
    if not swapped and not alone:
        return None
    sides = ([name for name in alone if name in by_name], [name for name in alone if name not in by_name])
    has_placeholders = any(side and all(map(PLACEHOLDER.fullmatch, side)) for side in sides)
    severity: Severity = "error" if swapped else "note" if has_placeholders else "warning"
    pairs = [f"{name!r}: {_indices(by_name[name])} in id2label, {names.label2id[name]} in label2id" for name in swapped]
    listed = [f"{name!r} only in {'id2label' if name in by_name else 'label2id'}" for name in alone]
    return Finding(
        observed="; ".join((pairs or listed)[:SHOWN_PAIRS]),
        expected="the same index for every name in both",
        n=len(by_name),
        cause="only one of the two mappings was set, or they were written in different orders",
        fix=f"set label2id={ {name: min(indices) for name, indices in by_name.items()} }",
        severity=severity,
    )


def _indices(indices: set[int]) -> str:
    return " and ".join(map(str, sorted(indices)))


@rule("MOD013", "warning", is_exact=True)
def layers_share_weights(model: ModelEvidence) -> Finding | None:
    """Layers of a list share one set of weights

    Measures: modules with parameters that are several times in one `nn.ModuleList` or `nn.Sequential`, which a class of
    the program contains.

    Threshold: none; an exact invariant.

    Why: `[layer for _ in range(4)]` and `[layer] * 4` repeat one object, and `nn.ModuleList` does not copy it. The
    model applies the same weights four times, has a quarter of the parameters, and gains little from its depth.

    Look-alikes: activations and dropout have no weights, and may be repeated. Tied embeddings are in no list. Models of
    installed libraries that share layers on purpose (ALBERT, the heads of DETR) pass, since the library's classes
    contain these lists. If your own model shares layers on purpose, allow the rule with that reason.

    Fix: create a new layer each time, `nn.ModuleList([make_layer() for _ in range(4)])`, or copy it:
    `copy.deepcopy(layer)`.

    Reference: PyTorch, `torch.nn.TransformerEncoder`, which copies the layer that it is given; Lan et al. 2020, ALBERT
    (what sharing costs).
    """
    repeated = known(model.repeated_modules, "which modules are in a list several times")
    if not repeated:
        return None
    listed = [
        f"{one.path or 'the model'} contains one {one.kind} {len(one.positions)} times "
        f"({one.size:,} weights, not {one.size * len(one.positions):,})"
        for one in repeated[:SHOWN_LISTS]
    ]
    more = len(repeated) - SHOWN_LISTS
    return Finding(
        observed="; ".join(listed) + (f"; and {more} more" if more > 0 else ""),
        expected="a module of its own at each position",
        n=sum(len(one.positions) for one in repeated),
        cause="the list repeats one object instead of copies, so that these layers share one set of weights",
        fix="make a new module for each position, or copy it with copy.deepcopy; build the optimizer afterwards",
    )


@rule("CKP007", "error", symptoms=("trained but not saved",))
def trained_but_not_saved(model: ModelEvidence) -> Finding | None:
    """Trained parameters are not in what will be saved

    Measures: the trainable parameters outside of adapters, and the newly initialized ones that the forward pass uses,
    that are missing from what `save_pretrained` writes: with PEFT the adapters and `modules_to_save`.

    Threshold: no trainable one; an exact invariant. Only frozen ones, under an adapter in the head: a note, because the
    same seed initializes them again.

    Why: PEFT saves no other parameter, whether it is trained or not. The validation during training uses the head in
    memory; a model that is loaded later has a newly initialized head, and predicts at chance. The best checkpoint at
    the end of a run has the head of the last step.

    Look-alikes: a pretrained head that stays frozen is part of the base model, and passes, as do token embeddings. A
    program that saves the whole state dict by itself loses nothing: allow the rule with that reason.

    Fix: `LoraConfig(task_type="SEQ_CLS")`, or name the modules: `modules_to_save=["classifier"]`, before
    `get_peft_model`; do not set `requires_grad` by hand afterwards.

    Reference: PEFT documentation, Checkpoint format and Troubleshooting ("Randomly initialized layers").
    """
    lost = known(model.not_saved, "what will be saved")
    if not lost:
        return None
    weights = sum(p.size for p in model.parameters if p.name in set(lost))
    any_trained = any(p.trainable for p in model.parameters if p.name in set(lost))
    return Finding(
        observed=f"{len(lost):,} parameters ({weights:,} weights) that save_pretrained leaves out: {shown(lost)}",
        expected="every trained or newly initialized parameter in the saved model",
        n=len(model.parameters),
        cause="they are neither part of an adapter nor named in modules_to_save",
        fix='with PEFT, give task_type="SEQ_CLS", or name their modules in modules_to_save; do not unfreeze by hand',
        severity="error" if any_trained else "note",
    )


@rule("MOD014", "error", explains=("bad result", "parameters not optimized"), is_exact=True)
def layers_not_registered(model: ModelEvidence) -> Finding | None:
    """Layers that the model uses are not part of it

    Measures: layers with trainable parameters that are called in a forward pass, and that `model.modules()` does not
    contain.

    Threshold: none; an exact invariant.

    Why: modules in a plain list or dictionary are not registered. `model.parameters()` does not give them to the
    optimizer, `state_dict` leaves them out, `model.to` does not move them, and `model.eval()` leaves their dropout on.

    Look-alikes: a teacher or another frozen model that is kept out of the model on purpose has no trainable parameter
    that the logits depend on, and passes.

    Fix: `nn.ModuleList(layers)` or `nn.ModuleDict(layers)` instead of a list or a dictionary.

    Reference: PyTorch, `torch.nn.ModuleList`.
    """
    layers = known(model.unregistered, "which layers are called")
    if not layers:
        return None
    return Finding(
        observed=f"{len(layers):,} layers are called, but are not part of the model: {shown(layers)}",
        expected="all of its layers in model.modules()",
        n=len(layers),
        cause="the layers are kept in a plain list or dictionary, which PyTorch does not look into",
        fix="keep them in nn.ModuleList(…) or nn.ModuleDict(…)",
    )
