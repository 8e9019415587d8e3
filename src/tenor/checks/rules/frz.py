"""Freezing: whether exactly the declared parameters are frozen."""

import re
from collections.abc import Sequence

import numpy as np

from tenor.checks.evidence.data_evidence import BatchEvidence
from tenor.checks.evidence.model_evidence import ModelEvidence, ParameterRow
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import SHOWN_NAMES, known, shown
from tenor.runs.findings import Finding


def exempted(model: ModelEvidence) -> tuple[str, ...]:
    """Names of trainable parameters that should be frozen, by declaration or because PEFT froze them."""
    if model.declared_frozen is None:
        raise CannotTell("no freezing was declared")
    return tuple(p.name for p in model.parameters if p.trainable and p.name in model.declared_frozen)


@rule("FRZ001", "error", explains=("trained but not saved",), setting={"model.keep_trainable": ()})
def trainable_but_declared_frozen(model: ModelEvidence) -> Finding | None:
    """Parameters are trainable that should be frozen

    Measures: the parameters with `requires_grad` among those that the declaration (`freeze: base`, or N layers) covers.

    Threshold: none may be trainable; an exact invariant. Names that `keep_trainable` exempts count too, unless all of
    them are biases or norms. Without a declaration, matrices of an encoder that PEFT froze next to its adapters are a
    warning.

    Why: a name fragment meant for the head often matches the encoder. In DistilBERT `lin` is part of `q_lin`, `k_lin`,
    `v_lin`, `out_lin`, `lin1` and `lin2`: nearly the whole encoder is then trainable, and the comparison with a frozen
    base is void.

    Look-alikes: training only biases (BitFit) or norms is legitimate and passes. Adapters and prompts are additional
    parameters outside the encoder, and PEFT's `modules_to_save` are meant to be trained.

    Fix: freeze by module, not by name fragments: `model.base_model.requires_grad_(False)`; in Tenor `model.freeze=base`
    without `keep_trainable`.

    Reference: Ben Zaken et al. 2022, BitFit.
    """
    names = set(exempted(model))
    matrices = [p for p in model.parameters if p.name in names and len(p.shape) > 1]
    if not names or (model.keep_trainable and not matrices):
        return None
    weights = sum(p.size for p in model.parameters if p.name in names)
    covered = sum(p.size for p in model.parameters if p.name in (model.declared_frozen or ()))
    fragments = [f for f in model.keep_trainable if any(f in p.name for p in matrices)]
    if fragments:
        why = f"the fragments {fragments} match names inside the encoder"
    elif model.declared_freeze is None:
        why = "PEFT froze the encoder next to its adapters, and requires_grad was set again"
    else:
        why = "they were never frozen, or unfrozen later"
    return Finding(
        observed=f"{weights:,} of {covered:,} weights are trainable, such as {', '.join(sorted(names)[:SHOWN_NAMES])}",
        expected="no trainable weight among those declared frozen",
        n=len(names),
        cause=f"more parameters are trainable than declared: {why}",
        fix="freeze by module: remove keep_trainable, or give full names of head parameters",
        severity="error" if model.declared_freeze is not None else "warning",
    )


def is_position(name: str) -> bool:
    """Position embeddings: sinusoidal ones are never trainable (DistilBERT or XLM with `sinusoidal_pos_embds`)."""
    return "position" in name


def frozen_beyond_declaration(model: ModelEvidence) -> list[ParameterRow]:
    """Frozen encoder parameters that the declaration does not freeze."""
    if model.declared_freeze is None or model.declared_frozen is None:
        raise CannotTell("no freezing was declared")
    declared_trainable = [p for p in model.parameters if not p.in_head and p.name not in model.declared_frozen]
    return [p for p in declared_trainable if not p.trainable and not is_position(p.name)]


@rule("FRZ002", "error")
def frozen_but_declared_trainable(model: ModelEvidence) -> Finding | None:
    """Encoder parameters are frozen that should be trainable

    Measures: the encoder's parameters without `requires_grad` that the declaration does not cover.

    Threshold: no matrix; an exact invariant. Only biases or norms: a warning.

    Why: a full fine-tuning with frozen parts loses points of accuracy, and no log shows it. Often the freeze of an
    earlier phase was never lifted.

    Look-alikes: LoRA and adapters freeze the encoder on purpose and pass, as do sinusoidal position embeddings.

    Fix: `model.base_model.requires_grad_(True)` before the optimizer is built, or declare what is frozen.

    Reference: Howard and Ruder 2018, ULMFiT (gradual unfreezing).
    """
    frozen = frozen_beyond_declaration(model)
    if not frozen or any(p.added and p.trainable for p in model.parameters):
        return None
    weights, body = sum(p.size for p in frozen), sum(p.size for p in model.parameters if not p.in_head)
    return Finding(
        observed=f"{weights:,} of the encoder's {body:,} weights are frozen, such as {shown(p.name for p in frozen)}",
        expected=f"everything trainable that `freeze: {model.declared_freeze}` does not cover",
        n=len(frozen),
        cause="requires_grad was set to False and never reset to True",
        fix="call requires_grad_(True) on the encoder before the optimizer is built, or declare the freeze",
        severity="error" if any(len(p.shape) > 1 for p in frozen) else "warning",
    )


@rule(
    "FRZ003",
    "error",
    explains=("bad result", "stalled loss", "nothing trainable", "swapped classes"),
    one_class="usually",
    training_loss="high",
    setting={"model.freeze": "none"},
)
def nothing_trainable(model: ModelEvidence) -> Finding | None:
    """No parameter is trainable

    Measures: the parameters with `requires_grad`.

    Threshold: at least one; an exact invariant.

    Why: the training loop runs at full cost and changes nothing. PyTorch raises an error only if no tensor in the graph
    requires a gradient.

    Look-alikes: none before a training; evaluation does not need this rule.

    Fix: unfreeze at least the head: `model.classifier.requires_grad_(True)`.

    Reference: PyTorch, Autograd mechanics, "Locally disabling gradient computation".
    """
    if not model.parameters:
        raise CannotTell("the model has no parameters")
    if any(p.trainable for p in model.parameters):
        return None
    return Finding(
        observed=f"0 of {len(model.parameters):,} parameters are trainable",
        expected="at least the head is trainable",
        n=len(model.parameters),
        cause="requires_grad is False for all parameters, as after model.requires_grad_(False)",
        fix="freeze only the encoder: model.base_model.requires_grad_(False)",
    )


@rule("FRZ004", "error")
def frozen_weights_changed(steps: StepEvidence) -> Finding | None:
    """Frozen weights change during training

    Measures: parameters without `requires_grad` whose values differ from those before training, bit by bit.

    Threshold: none; an exact invariant.

    Why: an optimizer that still has a gradient from before the freeze, or that decays all of its parameters, changes
    frozen weights. The comparison with a frozen base is then void.

    Look-alikes: the statistics of batch norm are buffers, not parameters, and do not count.

    Fix: freeze before the optimizer is built, give it only parameters with `requires_grad`, and clear gradients with
    `set_to_none=True`.

    Reference: PyTorch, `torch.optim.Optimizer.zero_grad`.
    """
    moved = known(steps.frozen_moved, "whether frozen weights changed")
    if not moved:
        return None
    return Finding(
        observed=f"{len(moved):,} frozen parameters changed: {shown(moved)}",
        expected="no frozen parameter changes",
        n=len(moved),
        cause="the optimizer contains them with an old gradient, or other code writes to them",
        fix="build the optimizer after freezing, from [p for p in model.parameters() if p.requires_grad]",
    )


def output_layer(model: ModelEvidence) -> list[ParameterRow]:
    """The matrices that compute the logits; if no forward pass shows them, head matrices with one row per output."""
    if model.output_layer is not None:
        return [p for p in model.parameters if p.name in model.output_layer and len(p.shape) > 1]
    outputs = model.n_outputs or model.n_classes
    return [p for p in model.parameters if p.in_head and len(p.shape) > 1 and p.shape[0] == outputs]


def layer_of(parameter: ParameterRow) -> str:
    """The path of a parameter's layer, without the levels that an adapter inserted: q.base_layer.weight → q."""
    source = (parameter.source_name or parameter.name).split(".")[:-1]
    layer: list[str] = []
    for part in parameter.name.split("."):
        if not source:
            break
        layer.append(part)
        source = source[1:] if part == source[0] else source
    return ".".join(layer)


def frozen_new_matrices(model: ModelEvidence) -> list[ParameterRow]:
    """Frozen, newly initialized head matrices that the forward pass uses, in layers without any trainable parameter."""
    new = set(model.new_weights or ())
    frozen = [p for p in model.parameters if p.in_head and p.name in new and len(p.shape) > 1 and not p.trainable]
    trainable = [p.name for p in model.parameters if p.trainable]
    return [p for p in frozen if not p.idle and not any(n.startswith(f"{layer_of(p)}.") for n in trainable)]


@rule(
    "FRZ005",
    "error",
    symptoms=("nothing trainable",),
    explains=("bad result", "stalled loss", "head not trainable", "swapped classes"),
    one_class="usually",
)
def head_is_frozen(model: ModelEvidence) -> Finding | None:
    """The head is not trainable

    Measures: whether a matrix of the layer that computes the logits has `requires_grad`, including an adapter in it and
    the copy made by PEFT's `modules_to_save`; and newly initialized matrices of the head without `requires_grad`.

    Threshold: a newly initialized output layer must be trainable; an exact invariant. A pretrained output layer
    (according to the loading report or, without one, to its values), or another new matrix of the head (pooler,
    pre-classifier): a warning.

    Why: a random projection then decides between the classes. At best the encoder adapts to it.

    Look-alikes: a pretrained pooler frozen with the encoder (`model.base_model.requires_grad_(False)`) is legitimate.
    PEFT keeps the frozen original of a layer that it trains; the original is not used in the forward pass.

    Fix: `model.classifier.requires_grad_(True)` after freezing the encoder; with PEFT `task_type="SEQ_CLS"`, or
    `modules_to_save=["classifier"]`.

    Reference: Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features.
    """
    new, output = model.new_weights, output_layer(model)
    frozen_output = [p for p in output if not any(q.trainable for q in output)]
    frozen = frozen_output or frozen_new_matrices(model)
    if not frozen:
        return None
    is_new = model.output_layer_is_new is not False if new is None else any(p.name in new for p in frozen_output)
    return Finding(
        observed=f"without requires_grad: {shown(p.name for p in frozen)}",
        expected="a trainable head",
        n=len(frozen),
        cause="a freeze meant for the encoder also froze the head",
        fix="after freezing, set requires_grad_(True) on the classifier (and pre-classifier or pooler where new); "
        'with PEFT name them in modules_to_save, or give task_type="SEQ_CLS"',
        severity="error" if frozen_output and is_new else "warning",
    )


@rule("FRZ007", "warning", explains=("bad result", "small updates"), is_exact=True)
def adapters_are_frozen(model: ModelEvidence) -> Finding | None:
    """The model has adapters, and none of them is trainable

    Measures: `requires_grad` of the parameters that PEFT or another adapter library added to the encoder.

    Threshold: at least one trainable matrix among them, if any other parameter is trained; an exact invariant.

    Why: `PeftModel.from_pretrained` loads an adapter for inference: all its weights are frozen unless
    `is_trainable=True` is passed. A further stage of training then changes the head only, and saves the adapter as it
    was.

    Look-alikes: a new head that is trained on a finished adapter on purpose: allow the rule with that reason. One
    trainable adapter among several passes.

    Fix: `PeftModel.from_pretrained(model, path, is_trainable=True)`, before the optimizer is built.

    Reference: peft, `PeftModel.from_pretrained(is_trainable=False)`.
    """
    adapters = [p for p in model.parameters if p.added and len(p.shape) > 1]
    if not adapters or any(p.trainable for p in adapters) or not any(p.trainable for p in model.parameters):
        return None
    return Finding(
        observed=f"all {sum(p.size for p in adapters):,} weights of the adapters are frozen, such as "
        f"{shown(p.name for p in adapters)}",
        expected="trainable adapters",
        n=len(adapters),
        cause="the adapter was loaded for inference, which is what PeftModel.from_pretrained does",
        fix="PeftModel.from_pretrained(model, path, is_trainable=True), before the optimizer is built",
    )


@rule("FRZ008", "warning", explains=("bad result",), is_exact=True)
def new_tokens_are_frozen(model: ModelEvidence, batches: BatchEvidence) -> Finding | None:
    """The vectors of new tokens are random and frozen

    Measures: rows of a frozen token embedding that its checkpoint does not have, and the token ids of the batches.

    Threshold: a token of such a row in the batches; an exact invariant.

    Why: `add_tokens` and `resize_token_embeddings` give new tokens random vectors. Where the embedding is frozen, as
    under LoRA, they stay random, so texts that contain them lose the words that the tokens replaced.

    Look-alikes: rows that only pad the matrix to a multiple of 8 have no token in the batches, and pass.

    Fix: `LoraConfig(trainable_token_indices=[…])`, or `modules_to_save=["word_embeddings"]`.

    Reference: peft, `LoraConfig.trainable_token_indices`.
    """
    known_tokens = known(model.known_tokens, "new rows of a frozen token embedding")
    if batches.input_ids is None:
        raise CannotTell("the token ids of the batches are not available")
    ids = np.concatenate([np.ravel(part) for part in batches.input_ids])
    new = ids[ids >= known_tokens]
    if not len(new):
        return None
    return Finding(
        observed=f"{len(new):,} of {len(ids):,} tokens of the first batches are new ({len(np.unique(new)):,} different "
        "ones), and the token embedding is frozen",
        expected="trainable vectors for tokens that the checkpoint does not know",
        n=len(ids),
        cause="the vocabulary was extended, and the embedding is frozen, as LoRA leaves it",
        fix="LoraConfig(trainable_token_indices=[…]) with the ids of the new tokens",
    )


MOST_OF_LAYERS = 0.5
"""Share of the weights in the encoder's layers; biases, norms or attention alone are less."""
SHORTEST = 3
"""Characters of a name fragment."""
LAYER = re.compile(r"\.(\d+)\.")


@rule("FRZ009", "warning", explains=("bad result",))
def trainable_by_fragment(model: ModelEvidence) -> Finding | None:
    """A name fragment leaves most of each encoder layer trainable, and freezes the rest

    Measures: the names of the encoder's trainable parameters, compared with those of the frozen ones.

    Threshold: in each layer with trainable parameters others are frozen; one fragment is in the names of all trainable
    and of no frozen encoder parameter; and at least half of the weights in the layers are trainable.

    Why: `requires_grad = "lin" in name`, meant for the classifier, matches `q_lin`, `k_lin`, `v_lin`, `out_lin`, `lin1`
    and `lin2` of DistilBERT: nearly the whole encoder is trained, at a rate that was chosen for a head. `dense` does
    the same to BERT.

    Look-alikes: training only biases, norms or the attention is less than half of the weights, and passes, as do
    frozen embeddings, lower layers, and adapters. If it is intended, declare it or allow the rule with that reason.

    Fix: freeze by module: `model.base_model.requires_grad_(False)`, before the optimizer is built.

    Reference: transformers, DistilBERT's module names; Ben Zaken et al. 2022, BitFit.
    """
    if model.declared_freeze is not None:
        return None
    encoder = [p for p in model.parameters if not p.in_head and not p.added and not is_position(p.name)]
    layers: dict[str, list[ParameterRow]] = {}
    for p in encoder:
        if (number := LAYER.search(p.name)) is not None:
            layers.setdefault(number.group(1), []).append(p)
    if not layers:
        raise CannotTell("the encoder has no numbered layers")
    mixed = [layer for layer in layers.values() if any(p.trainable for p in layer)]
    if not mixed or any(all(p.trainable for p in layer) for layer in mixed):
        return None
    weights = sum(p.size for layer in layers.values() for p in layer)
    trained = sum(p.size for layer in layers.values() for p in layer if p.trainable)
    fragment = common_fragment([p.name for p in encoder if p.trainable], [p.name for p in encoder if not p.trainable])
    if not fragment or trained < MOST_OF_LAYERS * weights:
        return None
    return Finding(
        observed=f"{trained:,} of {weights:,} weights in the encoder's layers are trainable: the parameters whose name "
        f"contains {fragment!r}, such as {shown(p.name for p in encoder if p.trainable)}; the others are frozen",
        expected="an encoder that is trainable or frozen, or trainable in a small part",
        n=len(encoder),
        cause=f"parameters were selected by the name fragment {fragment!r}, which is in names inside the encoder too",
        fix="freeze by module, not by name fragments: model.base_model.requires_grad_(False)",
    )


def common_fragment(inside: Sequence[str], outside: Sequence[str]) -> str:
    """The shortest part of a name that is in all names `inside` and in none `outside`; empty if there is none. The
    kind of a parameter, weight or bias, does not count."""
    if not inside:
        return ""
    first = min(inside, key=len)
    for length in range(SHORTEST, len(first) + 1):
        for start in range(len(first) - length + 1):
            part = first[start : start + length]
            if any(part in f".{kind}" for kind in ("weight", "bias")):
                continue
            if all(part in name for name in inside) and not any(part in name for name in outside):
                return part
    return ""
