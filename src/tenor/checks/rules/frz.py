"""Freezing: whether exactly the declared parameters learn."""

from tenor.checks.evidence import ModelEvidence, ParameterRow, StepEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule
from tenor.checks.rules.shared import SHOWN_NAMES, known, shown


def exempted(model: ModelEvidence) -> tuple[str, ...]:
    """Names that should be frozen, by declaration or because PEFT froze them, and that learn all the same."""
    if model.declared_frozen is None:
        raise CannotTell("it is not declared what should be frozen")
    return tuple(p.name for p in model.parameters if p.trainable and p.name in model.declared_frozen)


@rule("FRZ001", "error", setting={"model.keep_trainable": ()})
def more_learns_than_declared(model: ModelEvidence) -> Finding | None:
    """Parameters learn that should be frozen

    Measures: the parameters with `requires_grad` among those that the declaration (`freeze: base`, or N layers) covers.

    Threshold: none may learn; an exact invariant. Names that `keep_trainable` exempts count too, unless all of them are
    biases or norms. Without a declaration, a warning for matrices of an encoder that PEFT froze next to its adapters.

    Why: a name fragment meant for the head often fits the encoder. In DistilBERT `lin` is part of `q_lin`, `k_lin`,
    `v_lin`, `out_lin`, `lin1` and `lin2`: nearly the whole encoder then learns, and the ablation compares nothing.

    Look-alikes: BitFit (only biases learn) and training of norms are legitimate and pass; adapters and prompts are
    parameters of their own, outside the encoder's, and PEFT's `modules_to_save` are meant to learn.

    Fix: freeze by module, not by fragments of names: `model.base_model.requires_grad_(False)`; in Tenor
    `model.freeze=base` without `keep_trainable`.

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
        why = f"the fragments {fragments} fit names inside the encoder"
    elif model.declared_freeze is None:
        why = "PEFT froze the encoder next to its adapters, and requires_grad was set again"
    else:
        why = "they were never frozen, or thawed"
    return Finding(
        observed=f"{weights:,} of {covered:,} weights learn, such as {', '.join(sorted(names)[:SHOWN_NAMES])}",
        expected="none of the weights that are declared frozen learns",
        n=len(names),
        cause=f"more learns than declared: {why}",
        fix="freeze by module: drop keep_trainable, or give whole names of the head",
        severity="error" if model.declared_freeze is not None else "warning",
    )


def is_position(name: str) -> bool:
    """Position embeddings: sinusoids never learn, in DistilBERT or XLM with `sinusoidal_pos_embds`."""
    return "position" in name


def frozen_beyond_declaration(model: ModelEvidence) -> list[ParameterRow]:
    """Encoder parameters that don't learn although the declaration leaves them free."""
    if model.declared_freeze is None or model.declared_frozen is None:
        raise CannotTell("it is not declared what should be frozen")
    free = [p for p in model.parameters if not p.in_head and p.name not in model.declared_frozen]
    return [p for p in free if not p.trainable and not is_position(p.name)]


@rule("FRZ002", "error")
def less_learns_than_declared(model: ModelEvidence) -> Finding | None:
    """Encoder parameters are frozen that should learn

    Measures: the encoder's parameters without `requires_grad` that the declaration does not cover.

    Threshold: no matrix; an exact invariant. Only biases or norms: a warning.

    Why: full fine-tuning that is none costs points of accuracy and shows in no log; often an earlier phase's freeze was
    never lifted.

    Look-alikes: LoRA and adapters freeze the encoder on purpose and pass, as do sinusoidal position embeddings.

    Fix: `model.base_model.requires_grad_(True)` before the optimizer is built, or declare what is frozen.

    Reference: Howard and Ruder 2018, ULMFiT (gradual unfreezing).
    """
    frozen = frozen_beyond_declaration(model)
    if not frozen or any(p.added and p.trainable for p in model.parameters):
        return None
    weights, body = sum(p.size for p in frozen), sum(p.size for p in model.parameters if not p.in_head)
    return Finding(
        observed=f"{weights:,} of the encoder's {body:,} weights don't learn, such as {shown(p.name for p in frozen)}",
        expected=f"all learn that `freeze: {model.declared_freeze}` does not cover",
        n=len(frozen),
        cause="requires_grad was set to False and never back",
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
def nothing_learns(model: ModelEvidence) -> Finding | None:
    """Nothing learns

    Measures: the parameters with `requires_grad`.

    Threshold: at least one; an exact invariant.

    Why: the training loop runs at full cost and changes nothing; PyTorch complains only if no input needs a gradient.

    Look-alikes: none where a training is about to start; evaluation alone needs no such check.

    Fix: unfreeze at least the head: `model.classifier.requires_grad_(True)`.

    Reference: PyTorch, Autograd mechanics, "Locally disabling gradient computation".
    """
    if not model.parameters:
        raise CannotTell("the model has no parameters")
    if any(p.trainable for p in model.parameters):
        return None
    return Finding(
        observed=f"0 of {len(model.parameters):,} parameters learn",
        expected="at least the head learns",
        n=len(model.parameters),
        cause="requires_grad is False everywhere, as after model.requires_grad_(False)",
        fix="freeze the encoder alone: model.base_model.requires_grad_(False)",
    )


@rule("FRZ004", "error")
def frozen_weights_move(steps: StepEvidence) -> Finding | None:
    """Frozen weights change during training

    Measures: parameters without `requires_grad` whose values differ from those at the start, bit by bit.

    Threshold: none; an exact invariant.

    Why: an optimizer that holds a gradient from before the freeze, or that decays what it holds, moves frozen weights;
    the comparison with a frozen base is then void.

    Look-alikes: statistics of batch norm are buffers, not parameters; they don't count.

    Fix: freeze before the optimizer is built, give it only parameters with `requires_grad`, and clear gradients with
    `set_to_none=True`.

    Reference: PyTorch, `torch.optim.Optimizer.zero_grad`.
    """
    moved = known(steps.frozen_moved, "whether frozen weights stayed")
    if not moved:
        return None
    return Finding(
        observed=f"{len(moved):,} frozen parameters changed: {shown(moved)}",
        expected="frozen parameters keep every bit",
        n=len(moved),
        cause="the optimizer holds them with an old gradient, or something writes into them",
        fix="build the optimizer after freezing, from [p for p in model.parameters() if p.requires_grad]",
    )


def output_layer(model: ModelEvidence) -> list[ParameterRow]:
    """The matrices that give the logits; where no forward pass shows them, those of the head with a row per output."""
    if model.output_layer is not None:
        return [p for p in model.parameters if p.name in model.output_layer and len(p.shape) > 1]
    outputs = model.n_outputs or model.n_classes
    return [p for p in model.parameters if p.in_head and len(p.shape) > 1 and p.shape[0] == outputs]


def layer_of(parameter: ParameterRow) -> str:
    """The path of a parameter's layer, without what an adapter has put between: q.base_layer.weight → q."""
    source = (parameter.source_name or parameter.name).split(".")[:-1]
    layer: list[str] = []
    for part in parameter.name.split("."):
        if not source:
            break
        layer.append(part)
        source = source[1:] if part == source[0] else source
    return ".".join(layer)


def frozen_new_matrices(model: ModelEvidence) -> list[ParameterRow]:
    """Newly initialized matrices of the head that take part in the forward pass, and in whose layer nothing learns."""
    new = set(model.new_weights or ())
    frozen = [p for p in model.parameters if p.in_head and p.name in new and len(p.shape) > 1 and not p.trainable]
    learning = [p.name for p in model.parameters if p.trainable]
    return [p for p in frozen if not p.idle and not any(n.startswith(f"{layer_of(p)}.") for n in learning)]


@rule(
    "FRZ005",
    "error",
    symptoms=("nothing trainable",),
    explains=("bad result", "stalled loss", "head not trainable", "swapped classes"),
    one_class="usually",
)
def head_is_frozen(model: ModelEvidence) -> Finding | None:
    """The head does not learn

    Measures: whether a matrix of the layer that gives the logits has `requires_grad`, an adapter in it or a copy that
    PEFT's `modules_to_save` put in its place included; and newly initialized matrices of the head without.

    Threshold: a newly initialized output layer must learn; an exact invariant. A trained one (by the loading report, or
    where there is none by its values), or another new matrix of the head (pooler, pre-classifier): a warning.

    Why: a random projection decides the classes. The encoder bends towards it at best.

    Look-alikes: a loaded pooler frozen with the encoder (`model.base_model.requires_grad_(False)`) is legitimate. PEFT
    keeps the frozen original of a layer that learns, which takes no part in the forward pass.

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
        expected="the head learns",
        n=len(frozen),
        cause="the freeze was meant for the encoder and took the head with it",
        fix="after freezing, set requires_grad_(True) on the classifier (and pre-classifier or pooler where new); "
        'with PEFT name them in modules_to_save, or give task_type="SEQ_CLS"',
        severity="error" if frozen_output and is_new else "warning",
    )
