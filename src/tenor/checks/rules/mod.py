"""The model as built: its outputs, its loaded weights, and the inputs that its logits depend on."""

import re

from tenor.checks.evidence.model_evidence import ModelEvidence, ParameterRow, ProbeEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding, Severity

MIN_PREFIX = 3
"""Minimum length of an abbreviated class name (neg, negative); two letters would match `no` with `not_spam`."""

RELATIVE_CHANGE = 1e-3
"""Share of the logits' spread; in float32, another order of summation changes a hundred times less."""

SIXTEEN_BITS = 2.0**-12
"""Unit roundoff above which a number type has 16 bits."""

LARGE_GAIN = 5.0
"""Spread of the logits for inputs of size 1: He's initializer gives 1.4, a standard deviation of 1 gives 20."""

ROUNDINGS = 100
"""Unit roundoffs that a deep network may accumulate in a logit of order 1; twelve layers stay below 50."""


@rule(
    "MOD001",
    "error",
    symptoms=("wrong outputs",),
    explains=("bad result", "high first loss", "loss without reward", "unchanged score", "flat loss"),
)
def outputs_differ_from_classes(model: ModelEvidence) -> Finding | None:
    """The number of outputs differs from the number of classes

    Measures: the columns of the logits in a forward pass (or, without one, the outputs of the head's last layer), and
    the classes of the data.

    Threshold: equal; an exact invariant.

    Why: with fewer outputs, a class can never be predicted or its label is out of range. With one output,
    `transformers` fits a number by squared error instead of a class. With more, probability is assigned to classes that
    do not exist.

    Look-alikes: one logistic output for two classes is valid with its own loss and threshold, but cross-entropy on one
    output is always 0. Build two outputs, or allow the rule with that reason.

    Fix: `AutoModelForSequenceClassification.from_pretrained(name, num_labels=K)`.

    Reference: transformers, `PretrainedConfig.num_labels` and `problem_type`.
    """
    outputs = known(model.n_outputs, "the number of outputs")
    if outputs == model.n_classes:
        return None
    if outputs == 1:
        cause = "one output is a regression: cross-entropy on it is constant, and transformers uses squared error"
    elif outputs < model.n_classes:
        cause = "the head was built for fewer classes than the data has"
    else:
        cause = "the head was built for more classes than the data has; it may come from another task"
    return Finding(
        observed=f"{outputs} outputs for {model.n_classes} classes",
        expected=f"{model.n_classes} outputs, one per class",
        n=model.n_classes,
        cause=cause,
        fix=f"build the model with num_labels={model.n_classes}",
    )


def same_name(one: str, other: str) -> bool:
    """Whether two names are equal, ignoring case, punctuation and abbreviation (neg, NEGATIVE)."""
    a, b = (re.sub(r"[\W_]+", "", name.casefold()) for name in (one, other))
    short, long = sorted((a, b), key=len)
    return a == b or (len(short) >= MIN_PREFIX and long.startswith(short))


def contradictions(id2label: dict[int, str], class_names: tuple[str, ...]) -> list[int]:
    """Indices whose name in the model is that of another class in the data."""
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

    Measures: `config.id2label` compared with the data's class names, index by index; case, punctuation and abbreviation
    (neg, NEGATIVE) are ignored.

    Threshold: an index whose name is that of another class is an error, an exact invariant. Placeholders (LABEL_0) and
    names that match no class are a note.

    Why: training is unaffected, but all later users of the saved model read positive as negative.

    Look-alikes: other words for the same classes (bad, negative) or another language: at most a note.

    Fix: pass `id2label` and `label2id` in the order of the data's labels when building the model.

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
        cause = "the class order of the model differs from that of the data"
    elif generic:
        cause = "the model was built without class names, so transformers created placeholders"
    else:
        cause = "the model's names have another origin; whether they mean the same classes is not known"
    return Finding(
        observed=listed,
        expected="the same name at the same index",
        n=len(names),
        cause=cause,
        fix=f"build the model with id2label={dict(enumerate(names))} and its inverse as label2id",
        severity=severity,
    )


def new_in_body(model: ModelEvidence) -> list[ParameterRow]:
    """Newly initialized encoder parameters, without adapters, which are always new."""
    new = set(known(model.new_weights, "which weights were loaded"))
    return [p for p in model.parameters if not p.in_head and p.name in new and not p.added]


@rule("MOD003", "error", symptoms=("weights not loaded",), explains=("bad result", "stalled loss", "odd probabilities"))
def pretrained_weights_missing(model: ModelEvidence) -> Finding | None:
    """Newly initialized encoder weights

    Measures: the encoder's parameters that the checkpoint did not contain, so that they were newly initialized.

    Threshold: no matrix; an exact invariant. Only biases or norms: a warning.

    Why: such a model can still be trained, but only to the accuracy of a transformer without pretraining, below a bag
    of words.

    Look-alikes: a new head and pooler are expected, as are LoRA and other adapters. An encoder trained from scratch on
    purpose passes if that is declared (`pretrained=False`).

    Fix: load with the class that matches the checkpoint, and read transformers' loading report: no encoder parameter
    may be listed as MISSING.

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
        observed=f"{lost:,} of the encoder's {body:,} weights are newly initialized: {shown(p.name for p in new)}",
        expected="all encoder weights from the checkpoint",
        n=len(new),
        cause="the checkpoint has no tensors with these names and shapes",
        fix="compare the checkpoint's tensor names with `model.named_parameters()`; load with the class that saved it",
        severity="error" if any(len(p.shape) > 1 for p in new) else "warning",
    )


def stem(name: str) -> str:
    """The end of a parameter's name, from its first numbered layer or the last three parts, independent of a prefix."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[max(0, first - 1) :] if first is not None else parts[-3:])


def lost_to_prefix(model: ModelEvidence) -> list[str]:
    """Unused tensors whose names match a newly initialized encoder parameter except for the prefix."""
    wanted = {stem(p.source_name or p.name) for p in new_in_body(model)}
    return [name for name in known(model.unused_weights, "which tensors were not used") if stem(name) in wanted]


@rule("MOD004", "error", explains=("weights not loaded",))
def checkpoint_not_used(model: ModelEvidence) -> Finding | None:
    """The checkpoint contains the encoder's weights under other names

    Measures: unused tensors of the checkpoint and encoder parameters without a tensor, matched by the name after the
    prefix (`layer.3.attention…`).

    Threshold: no matching pair; an exact invariant.

    Why: a prefix such as `module.` (data parallel) or `_orig_mod.` (compiled), or another model's name, prevents all
    tensors from matching. Loading prints a hundred lines of warnings and continues.

    Look-alikes: the unused head of another task (`cls.predictions`, `vocab_projector`) and layers left out on purpose
    match no newly initialized parameter, and pass.

    Fix: remove the prefix from the keys and save again, or load with the class that wrote the checkpoint.

    Reference: PyTorch, Saving and Loading Models, `strict=True`.
    """
    lost = lost_to_prefix(model)
    if not lost:
        return None
    unused = known(model.unused_weights, "which tensors were not used")
    return Finding(
        observed=f"{len(lost):,} of {len(unused):,} unused tensors match newly initialized weights: {shown(lost)}",
        expected="every tensor that matches the encoder is loaded into it",
        n=len(lost),
        cause="tensor and parameter names have different prefixes (of a wrapper, or of another class)",
        fix="rename the keys: {k.removeprefix('module.'): v for k, v in state.items()}; load with strict=True",
    )


IN_TRAINING = "change with blank texts in training mode"


@rule(
    "MOD005",
    "error",
    explains=("bad result", "stalled loss", "no gradient", "odd probabilities"),
    one_class="always",
    training_loss="high",
    settled_by="the model: its logits for two different texts",
)
def logits_ignore_the_input(probe: ProbeEvidence) -> Finding | None:
    """The logits do not depend on the text

    Measures: the spread of the logits over different texts, and their change when every text is replaced by a blank
    one, in evaluation mode and in training mode.

    Threshold: above rounding (100 units of the number type); an exact invariant.

    Why: the best that such a model can do is to predict the majority class. Causes are a mask of zeros, identical ids,
    a detached or overwritten hidden state, or pooling over padding only.

    Look-alikes: a head whose weights start at zero gives equal logits at first; it passes if a short attempt learns
    more from the texts than from blank ones. The spread of a new head is small (0.01), but far above rounding.

    Fix: follow one text by hand: ids, mask, hidden state, logits; find the step at which two texts become equal.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """
    measured = {
        "spread over texts": probe.logit_spread,
        "change with blank texts": probe.logit_change_from_blanking,
        IN_TRAINING: probe.training_logit_change_from_blanking,
    }
    values = {name: value for name, value in measured.items() if value is not None}
    if not values:
        raise CannotTell("the logits of different texts were not compared")
    # A new head's spread is of the order of 16-bit rounding; there, only a change of exactly 0 is conclusive.
    floor = ROUNDINGS * probe.rounding if probe.rounding < SIXTEEN_BITS else 0.0
    blind = {name for name, value in values.items() if value <= floor}
    only_in_training = blind == {IN_TRAINING}  # The short attempt runs without dropout, in evaluation mode.
    if not blind or (learns_from_texts(probe) and not only_in_training):
        return None
    return Finding(
        observed="; ".join(f"{name}: {value:.2g}" for name, value in values.items()),
        expected=f"above {floor:.1g}, the effect of rounding alone",
        n=probe.n_examples,
        cause="the text is lost between the token ids and the logits" + (" in training mode" * only_in_training),
        fix="compare ids, masks, hidden states and logits of two texts, and fix the step where they become equal",
    )


def learns_from_texts(probe: ProbeEvidence) -> bool:
    """Whether the short attempt reached a clearly lower loss on real texts than on blank ones."""
    return probe.overfit_responds is not None and probe.overfit_responds[0] < 0.9 * probe.overfit_responds[1]


def beyond_rounding(change: float, probe: ProbeEvidence) -> bool:
    """Whether a logit changed by more than another order of summation explains."""
    spread = known(probe.logit_spread, "the spread of the logits over texts", probe.failures.get("first_look"))
    return not change <= max(RELATIVE_CHANGE * spread, ROUNDINGS * probe.rounding)


@rule("MOD006", "error")
def padding_changes_logits(probe: ProbeEvidence) -> Finding | None:
    """Padding changes the logits

    Measures: the largest change of a logit when padding is added to its row, in evaluation mode.

    Threshold: 1/1000 of the logits' spread over texts, and above rounding; otherwise an exact invariant.

    Why: a text's prediction then depends on the longest text of its batch. Results change with batch size and order,
    and differ between training (sorted by length) and production (one text at a time).

    Look-alikes: kernels for other widths round differently, 100 times below the threshold; 16-bit logits have their own
    threshold. A model with a recurrent layer gets a warning: such a layer reads padding unless it is packed, and many
    programs train well with it.

    Fix: pass `attention_mask` to the model, and divide a mean by the sum of the mask, not by the width; check that the
    pad id is the model's. Pack the input of a recurrent layer with `pack_padded_sequence`.

    Reference: transformers, Padding and truncation; `attention_mask` in the glossary.
    """
    change = known(probe.logit_change_from_padding, "the effect of padding", probe.failures.get("padding"))
    if not beyond_rounding(change, probe):
        return None
    if probe.has_recurrent_layer:
        cause = "a recurrent layer reads the padding, or pooling includes it"
        fix = "pack the input of the recurrent layer (torch.nn.utils.rnn.pack_padded_sequence)"
    else:
        cause = "padding is included in attention or pooling: the mask is missing, wrong, or ignored"
        fix = "pass attention_mask to the model, and pool over unmasked tokens only"
    return Finding(
        observed=f"a logit changes by {change:.2g}, with a spread over texts of {probe.logit_spread:.2g}",
        expected=f"no change beyond {max(RELATIVE_CHANGE * (probe.logit_spread or 0), ROUNDINGS * probe.rounding):.1g}",
        n=probe.n_examples,
        severity="warning" if probe.has_recurrent_layer else "error",
        cause=cause,
        fix=fix,
    )


@rule("MOD007", "error")
def neighbours_change_logits(probe: ProbeEvidence) -> Finding | None:
    """Other rows of the batch change a row's logits

    Measures: the largest change of a row's logits when the other rows of its batch change, at the same width, in
    evaluation mode.

    Threshold: 1/1000 of the logits' spread over texts, and above rounding; otherwise an exact invariant.

    Why: predictions then depend on the other texts of the batch, and the labels of a sorted batch leak through it.

    Look-alikes: kernels for other batch sizes round differently, far below the threshold. Batch norm mixes rows in
    training mode by design, but not in evaluation mode.

    Fix: look for `view` or `reshape` in place of `transpose`, a softmax over dimension 0, statistics over the batch, or
    a model left in training mode.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks ("use backprop to chart dependencies").
    """
    change = known(probe.logit_change_from_neighbours, "the effect of other rows", probe.failures.get("neighbours"))
    if not beyond_rounding(change, probe):
        return None
    return Finding(
        observed=f"a logit changes by {change:.2g}, with a spread over texts of {probe.logit_spread:.2g}",
        expected=f"no change beyond {max(RELATIVE_CHANGE * (probe.logit_spread or 0), ROUNDINGS * probe.rounding):.1g}",
        n=probe.n_examples,
        cause="an operation mixes the rows of a batch: a reshape, a normalization or a softmax over dimension 0",
        fix="compute each row alone, and find the first layer whose output differs from that of the batch",
    )


@rule("MOD008", "error", explains=("loss without reward", "wrong outputs"))
def problem_type_is_not_classification(model: ModelEvidence) -> Finding | None:
    """The model's problem type is not single-label classification

    Measures: `config.problem_type`.

    Threshold: `single_label_classification` or not set; an exact invariant for labels with one class per text.

    Why: `regression` uses squared error between logits and class numbers; `multi_label_classification` uses one
    logistic loss per class and needs labels of another shape.

    Look-alikes: a regression on purpose has one output and no classes, and is not judged. Several labels per text are
    a different task; Tenor's labels are one class per text. A loop with its own loss never reads the setting: allow the
    rule with that reason.

    Fix: `config.problem_type = "single_label_classification"`.

    Reference: transformers, `PretrainedConfig.problem_type`.
    """
    if model.problem_type in (None, "single_label_classification"):
        return None
    if model.n_classes == 1:
        raise CannotTell("the model has one output and no classes, as for a regression")
    return Finding(
        observed=f"problem_type is {model.problem_type!r}, with {model.n_classes} classes, one per text",
        expected="single_label_classification",
        n=model.n_classes,
        cause="the setting was set explicitly, or kept from a checkpoint of another task",
        fix='set config.problem_type = "single_label_classification" before the model is built',
    )


@rule("MOD009", "warning", explains=("high first loss", "clipped gradients"))
def new_head_is_too_wide(model: ModelEvidence) -> Finding | None:
    """The weights of the new head are too large

    Measures: the root mean square of the weights of a newly initialized output layer, times the square root of its
    number of inputs: the spread of the logits for inputs of size 1.

    Threshold: 5, a heuristic. Usual initializers give 0.4 to 1.5: 0.02 (BERT), uniform up to 1/sqrt(inputs) (PyTorch),
    Xavier, He; a standard deviation of 1 gives 20 to 30.

    Why: the untrained head is confident in random answers, so the first gradients are large and destroy the pretrained
    weights. The first loss may still be low by chance.

    Look-alikes: a head that was trained before may have large weights; it is not judged. Inputs that are scaled down
    before the head, as in a cosine classifier, allow larger weights: allow the rule with that reason.

    Fix: initialize the head's weights with a standard deviation of 0.02, or leave the initialization to
    `from_pretrained`.

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
