"""The model as built: its outputs, its loaded weights, and what its logits depend on."""

import re

from tenor.checks.evidence import ModelEvidence, ParameterRow, ProbeEvidence
from tenor.checks.finding import CannotTell, Finding, Severity
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown

MIN_PREFIX = 3
"""Letters from which a class name counts as short for another: neg, negative. Two would join `no` and `not_spam`."""

RELATIVE_CHANGE = 1e-3
"""Of the logits' spread: what a kernel's other order of summation changes stays two orders below, in float32."""

SIXTEEN_BITS = 2.0**-12
"""Unit rounding above which a number type has 16 bits."""

LARGE_GAIN = 5.0
"""Spread of the logits for inputs of size 1: He's initializer gives 1.4, a standard deviation of 1 gives 20."""

ROUNDINGS = 100
"""Unit roundings of a logit of order 1 that a deep stack may add up to; twelve layers measure below 50."""


@rule("MOD001", "error", symptoms=("wrong outputs",), explains=("bad result", "high first loss", "loss without reward"))
def outputs_differ_from_classes(model: ModelEvidence) -> Finding | None:
    """The number of outputs differs from the number of classes

    Measures: the columns of the logits in a forward pass, or the outputs of the head's last layer where none can be
    made, and the classes of the data.

    Threshold: equal; an exact invariant.

    Why: with fewer outputs a class can never be predicted or its label is out of range; with one output `transformers`
    fits a number by squared error and no class at all; with more, probability is spent on classes that don't exist.

    Look-alikes: one logistic output for two classes is sound in itself, with a loss and a threshold of its own; cross-
    entropy on one output is always 0. Build two outputs, or allow the rule with that reason.

    Fix: `AutoModelForSequenceClassification.from_pretrained(name, num_labels=K)`.

    Reference: transformers, `PretrainedConfig.num_labels` and `problem_type`.
    """
    outputs = known(model.n_outputs, "the number of outputs")
    if outputs == model.n_classes:
        return None
    if outputs == 1:
        cause = "one output is a regression: cross-entropy on it is constant, and transformers takes squared error"
    elif outputs < model.n_classes:
        cause = "the head was built for fewer classes than the labels have"
    else:
        cause = "the head was built for more classes than the labels have, often one left over from another task"
    return Finding(
        observed=f"{outputs} outputs for {model.n_classes} classes",
        expected=f"{model.n_classes} outputs, one per class",
        n=model.n_classes,
        cause=cause,
        fix=f"build the model with num_labels={model.n_classes}",
    )


def same_name(one: str, other: str) -> bool:
    """Equal but for case, punctuation and abbreviation: neg and NEGATIVE."""
    a, b = (re.sub(r"[\W_]+", "", name.casefold()) for name in (one, other))
    short, long = sorted((a, b), key=len)
    return a == b or (len(short) >= MIN_PREFIX and long.startswith(short))


def contradictions(id2label: dict[int, str], class_names: tuple[str, ...]) -> list[int]:
    """Indices whose name in the model is another class of the data."""
    return [
        index
        for index, name in enumerate(class_names)
        if index in id2label
        and not same_name(id2label[index], name)
        and any(same_name(id2label[index], other) for other in class_names)
    ]


@rule("MOD002", "error", explains=("swapped classes",))
def names_contradict_the_data(model: ModelEvidence) -> Finding | None:
    """The model's class names contradict the data's

    Measures: `config.id2label` beside the data's class names, index by index; case, punctuation and abbreviation
    (neg, NEGATIVE) don't count.

    Threshold: an index whose name is that of another class is an error, an exact invariant. Placeholders (LABEL_0) and
    names of which none is known are a note.

    Why: training is unharmed, but every later reader of the saved model takes positive for negative.

    Look-alikes: other words for the same classes (bad, negative), another language: a note at most.

    Fix: give `id2label` and `label2id` in the order of the data's labels when the model is built.

    Reference: Mitchell et al. 2019, Model Cards for Model Reporting.
    """
    names = known(model.class_names, "the data's class names")
    id2label = {int(key): str(name) for key, name in known(model.id2label, "the model's class names").items()}
    pairs = {i: (id2label[i], name) for i, name in enumerate(names) if i in id2label and id2label[i] != name}
    swapped = contradictions(id2label, names)
    unlike = [i for i, (ours, theirs) in pairs.items() if not same_name(ours, theirs)]
    if not unlike:
        return None
    listed = "; ".join(f"{i}: {pairs[i][0]!r} in the model, {pairs[i][1]!r} in the data" for i in unlike[:4])
    generic = all(re.fullmatch(r"LABEL_\d+", pairs[i][0]) for i in unlike)
    severity: Severity = "error" if swapped else "note"
    if swapped:
        cause = "the classes stand in another order in the model than in the data"
    elif generic:
        cause = "the model was built without class names, so transformers made placeholders up"
    else:
        cause = "the model's names come from elsewhere; nothing tells whether they mean the same classes"
    return Finding(
        observed=listed,
        expected="the same name at the same index",
        n=len(names),
        cause=cause,
        fix=f"build the model with id2label={dict(enumerate(names))} and the label2id that inverts it",
        severity=severity,
    )


def new_in_body(model: ModelEvidence) -> list[ParameterRow]:
    """Encoder parameters that were drawn at random; adapters are meant to be."""
    new = set(known(model.new_weights, "which weights were loaded"))
    return [p for p in model.parameters if not p.in_head and p.name in new and not p.added]


@rule("MOD003", "error", symptoms=("weights not loaded",), explains=("bad result", "stalled loss", "odd probabilities"))
def pretrained_weights_missing(model: ModelEvidence) -> Finding | None:
    """Pretrained weights of the encoder were not loaded

    Measures: the encoder's parameters that the checkpoint did not hold and that were drawn at random.

    Threshold: no matrix may be new; an exact invariant. Only biases or norms: a warning.

    Why: such a model still trains, to the accuracy of a transformer without pretraining, below a bag of words.

    Look-alikes: a fresh head and pooler are meant to be new; so are LoRA's and other adapters; an encoder trained from
    scratch on purpose is passed when it is said (`pretrained=False`).

    Fix: load with the class that fits the checkpoint and read transformers' loading report: no name of the encoder may
    stand under MISSING.

    Reference: transformers, `from_pretrained(output_loading_info=True)`.
    """
    if not known(model.pretrained, "whether weights were to be loaded"):
        return None
    new = new_in_body(model)
    if not new:
        return None
    body = sum(p.size for p in model.parameters if not p.in_head)
    lost = sum(p.size for p in new)
    return Finding(
        observed=f"{lost:,} of the encoder's {body:,} weights are random: {shown(p.name for p in new)}",
        expected="every weight of the encoder comes from the checkpoint",
        n=len(new),
        cause="the checkpoint has no tensors by these names and shapes",
        fix="compare the checkpoint's tensor names with `model.named_parameters()`; load with the class that saved it",
        severity="error" if any(len(p.shape) > 1 for p in new) else "warning",
    )


def stem(name: str) -> str:
    """A parameter's name from its first numbered layer or last three parts on: what a prefix does not change."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[max(0, first - 1) :] if first is not None else parts[-3:])


def lost_to_prefix(model: ModelEvidence) -> list[str]:
    """Unused tensors that fit a random parameter of the encoder but for the beginning of their names."""
    wanted = {stem(p.source_name or p.name) for p in new_in_body(model)}
    return [name for name in known(model.unused_weights, "which tensors were left unused") if stem(name) in wanted]


@rule("MOD004", "error", explains=("weights not loaded",))
def checkpoint_not_used(model: ModelEvidence) -> Finding | None:
    """The checkpoint holds the encoder's weights under other names

    Measures: tensors of the checkpoint that found no place, beside encoder parameters that found no tensor, matched by
    what follows the prefix (`layer.3.attention…`).

    Threshold: no pair may match; an exact invariant.

    Why: a prefix such as `module.` (data parallel), `_orig_mod.` (compiled) or another model's name makes every tensor
    miss its place. The load warns in a hundred lines and goes on.

    Look-alikes: the unused head of another task (`cls.predictions`, `vocab_projector`) and layers left out on purpose
    match no random parameter, and pass.

    Fix: strip the prefix from the keys and save again, or load with the class that wrote the checkpoint.

    Reference: PyTorch, Saving and Loading Models, `strict=True`.
    """
    lost = lost_to_prefix(model)
    if not lost:
        return None
    unused = known(model.unused_weights, "which tensors were left unused")
    return Finding(
        observed=f"{len(lost):,} of {len(unused):,} unused tensors fit random weights of the encoder: {shown(lost)}",
        expected="every tensor that fits the encoder is loaded into it",
        n=len(lost),
        cause="the tensors' names begin otherwise than the parameters' (a wrapper's prefix, or another class's name)",
        fix="rename the keys: {k.removeprefix('module.'): v for k, v in state.items()}; load with strict=True",
    )


@rule(
    "MOD005",
    "error",
    explains=("bad result", "stalled loss", "no gradient", "odd probabilities"),
    one_class="always",
    training_loss="high",
    settled_by="the model: its logits for two different texts",
)
def logits_ignore_the_input(probe: ProbeEvidence) -> Finding | None:
    """The logits don't depend on the text

    Measures: the spread of the logits over different texts, and their change when every text is blanked.

    Threshold: not above rounding (100 units of the number type); an exact invariant.

    Why: the best that such a model can do is the majority class. Causes are a mask of zeros, ids that are all the
    same, a detached or overwritten hidden state, pooling over padding alone.

    Look-alikes: a head whose weights start at zero gives equal logits at first; it passes if a short attempt learns
    from the texts better than from blanks. A fresh head's spread is small (0.01) yet far above rounding.

    Fix: follow one text by hand: ids, mask, hidden state, logits; find where two texts become equal.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """
    measured = {"spread over texts": probe.logit_spread, "change from blanking": probe.logit_change_from_blanking}
    values = {name: value for name, value in measured.items() if value is not None}
    if not values:
        raise CannotTell("the logits of different texts were not compared")
    # A fresh head's spread is of the order of 16-bit rounding: there only no change at all is beyond doubt.
    floor = ROUNDINGS * probe.rounding if probe.rounding < SIXTEEN_BITS else 0.0
    if min(values.values()) > floor or learns_from_texts(probe):
        return None
    return Finding(
        observed="; ".join(f"{name}: {value:.2g}" for name, value in values.items()),
        expected=f"above {floor:.1g}, what rounding alone can give",
        n=probe.n_examples,
        cause="between the token ids and the logits the text is lost",
        fix="compare two texts' ids, masks, hidden states and logits in turn, and mend where they become equal",
    )


def learns_from_texts(probe: ProbeEvidence) -> bool:
    """Whether the short attempt reached a loss on real texts clearly below that on blanked ones."""
    return probe.overfit_responds is not None and probe.overfit_responds[0] < 0.9 * probe.overfit_responds[1]


def beyond_rounding(change: float, probe: ProbeEvidence) -> bool:
    """Whether a logit changed by more than the order of summation explains."""
    spread = known(probe.logit_spread, "the logits' spread over texts", probe.failures.get("first_look"))
    return not change <= max(RELATIVE_CHANGE * spread, ROUNDINGS * probe.rounding)


@rule("MOD006", "error")
def padding_changes_logits(probe: ProbeEvidence) -> Finding | None:
    """Padding changes the logits

    Measures: the largest change of a logit when padding is added to its row, in evaluation mode.

    Threshold: 1/1000 of the logits' spread over texts, and above rounding; an exact invariant otherwise.

    Why: a text's prediction then depends on the longest text of its batch: results change with batch size and order,
    and differ between training (sorted by length) and use (alone).

    Look-alikes: other kernels for other widths round otherwise, 100 times below the threshold; 16-bit logits get a
    threshold of their own.

    Fix: pass `attention_mask` to the model and divide a mean by the mask's sum, not by the width; check that the pad
    id is the model's.

    Reference: transformers, Padding and truncation; `attention_mask` in the glossary.
    """
    change = known(probe.logit_change_from_padding, "the effect of padding", probe.failures.get("padding"))
    if not beyond_rounding(change, probe):
        return None
    return Finding(
        observed=f"a logit changes by {change:.2g}, with a spread over texts of {probe.logit_spread:.2g}",
        expected=f"no change beyond {max(RELATIVE_CHANGE * (probe.logit_spread or 0), ROUNDINGS * probe.rounding):.1g}",
        n=probe.n_examples,
        cause="padding takes part in attention or pooling: the mask is missing, wrong, or ignored",
        fix="pass attention_mask to the model, and pool over unmasked tokens only",
    )


@rule("MOD007", "error")
def neighbours_change_logits(probe: ProbeEvidence) -> Finding | None:
    """Other rows of the batch change a row's logits

    Measures: the largest change of a logit when its row's neighbours change, at the same width, in evaluation mode.

    Threshold: 1/1000 of the logits' spread over texts, and above rounding; an exact invariant otherwise.

    Why: predictions then depend on who else is asked about, and the labels of a sorted batch leak through it.

    Look-alikes: other kernels for other batch sizes round otherwise, far below the threshold. Batch norm mixes rows in
    training mode by design; in evaluation mode it does not.

    Fix: look for `view` or `reshape` where `transpose` is meant, a softmax over dimension 0, statistics over the
    batch, or a model left in training mode.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("use backprop to chart dependencies").
    """
    change = known(probe.logit_change_from_neighbours, "the effect of other rows", probe.failures.get("neighbours"))
    if not beyond_rounding(change, probe):
        return None
    return Finding(
        observed=f"a logit changes by {change:.2g}, with a spread over texts of {probe.logit_spread:.2g}",
        expected=f"no change beyond {max(RELATIVE_CHANGE * (probe.logit_spread or 0), ROUNDINGS * probe.rounding):.1g}",
        n=probe.n_examples,
        cause="some operation mixes the rows of a batch: a reshape, a normalisation or a softmax over dimension 0",
        fix="compute each row alone and find the first layer whose output differs from the batch's",
    )


@rule("MOD008", "error", explains=("loss without reward", "wrong outputs"))
def problem_type_is_not_classification(model: ModelEvidence) -> Finding | None:
    """The model computes the loss of another kind of problem

    Measures: `config.problem_type`.

    Threshold: `single_label_classification`, or nothing; an exact invariant for labels that are one class per text.

    Why: `regression` takes squared error between logits and class numbers; `multi_label_classification` takes one
    logistic loss per class and needs labels of another shape.

    Look-alikes: several labels per text are a task of their own; Tenor's labels are one class per text. A loop with a
    loss of its own never reads the setting: allow the rule with that reason.

    Fix: `config.problem_type = "single_label_classification"`.

    Reference: transformers, `PretrainedConfig.problem_type`.
    """
    if model.problem_type in (None, "single_label_classification"):
        return None
    return Finding(
        observed=f"problem_type is {model.problem_type!r}, with {model.n_classes} classes, one per text",
        expected="single_label_classification",
        n=model.n_classes,
        cause="the setting was given, or kept from a checkpoint of another task",
        fix='set config.problem_type = "single_label_classification" before the model is built',
    )


@rule("MOD009", "warning", explains=("high first loss", "clipped gradients"))
def new_head_is_too_wide(model: ModelEvidence) -> Finding | None:
    """The weights of the new head are too large

    Measures: the root mean square of a newly initialized output layer's weights, times the square root of its inputs:
    the spread of the logits for inputs of size 1.

    Threshold: 5, a heuristic. Usual initializers give 0.4 to 1.5: 0.02 (BERT), uniform up to 1/sqrt(inputs) (PyTorch),
    Xavier, He; a standard deviation of 1 gives 20 to 30.

    Why: the untrained head is certain of random answers, so the first gradients are large and undo the encoder's
    pretraining. By luck the first loss may be low all the same.

    Look-alikes: a head that was trained before may have large weights; it is not judged. Inputs that are scaled down
    before the head, as in a cosine classifier, allow larger weights: accept the rule with that reason.

    Fix: initialize the head's weights with a standard deviation of 0.02, or leave it to `from_pretrained`.

    Reference: Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks.
    """
    if model.output_gain is None:
        raise CannotTell("there is no newly initialized output layer of one matrix")
    if model.output_gain <= LARGE_GAIN:
        return None
    return Finding(
        observed=f"the weights spread inputs of size 1 to logits of size {model.output_gain:.1f}",
        expected=f"at most {LARGE_GAIN:g}; usual initializers give 0.4 to 1.5",
        n=sum(row.size for row in model.parameters if row.name in (model.output_layer or ())),
        cause="the head's weights were initialized with too large a standard deviation",
        fix="initialize them with a standard deviation of 0.02, or leave it to from_pretrained",
    )
