"""Which columns of the rows reach the batches of `transformers.Trainer`, and which of them the program reads."""

import dis
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from tenor.checks.evidence.checkpoint_evidence import TrainerEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import loader_batches, random_states_kept

READ_INPUTS = ("compute_loss", "training_step")
"""Methods of a Trainer that are given the inputs of a batch."""
EVALUATE = ("prediction_step", "evaluation_loop", "get_eval_dataloader")
"""Methods without which it is not known which labels an evaluation uses."""
FOLLOWING = 8
"""Instructions that are looked at after a text."""
BEFORE_CALL = ("LOAD_CONST", "KW_NAMES", "PRECALL", "NOP")
"""Instructions between the first argument of `inputs.pop("id", None)` and the call."""


def trainer_columns(trainer: Any, state: Any, train_loader: Any, steps_per_epoch: int | None) -> TrainerEvidence:
    """From a Trainer at the start of training; reads at most one evaluation row and one training batch."""
    keys, unknown = None, ""
    try:
        keys = _evaluation_keys(trainer)
    except CannotTell as reason:
        unknown = str(reason)
    wanted = {
        "compute_metrics": trainer.compute_metrics is not None,
        "metric_for_best_model": trainer.args.metric_for_best_model is not None,
    }
    return TrainerEvidence(
        label_names=tuple(trainer.label_names),
        label_names_given=trainer.args.label_names is not None,
        evaluation_keys=keys,
        evaluation_unknown=unknown,
        metrics_wanted=tuple(name for name, is_wanted in wanted.items() if is_wanted),
        steps_done=state.global_step,
        max_steps=state.max_steps,
        epochs_done=state.epoch or None,
        steps_per_epoch=steps_per_epoch,
        removed_read=_removed_read(trainer, train_loader),
    )


# Labels of the evaluation


def _evaluation_keys(trainer: Any) -> tuple[str, ...]:
    """The keys of an evaluation batch that have a value.

    Raises CannotTell: there are no evaluation rows, or the Trainer's own way from rows to labels is overridden.
    """
    from transformers import Trainer

    overridden = [name for name in EVALUATE if getattr(type(trainer), name) is not getattr(Trainer, name)]
    if overridden:
        raise CannotTell(f"the Trainer has its own {', '.join(overridden)}")
    if trainer.can_return_loss and not trainer.label_names:
        raise CannotTell("the model computes its loss without labels")
    dataset = trainer.eval_dataset
    if isinstance(dataset, Mapping):
        dataset = next(iter(dataset.values()), None)
    if dataset is None:
        raise CannotTell("the Trainer has no evaluation dataset")
    row = _first_row(dataset)
    if trainer.args.remove_unused_columns:
        trainer._set_signature_columns_if_needed()
        row = {name: value for name, value in row.items() if name in trainer._signature_columns}
    try:
        with random_states_kept():
            batch = trainer.data_collator([row])
    except Exception as error:  # A collate function of the user's own can raise anything.
        raise CannotTell(f"collating the first evaluation row failed: {error}") from error
    if not isinstance(batch, Mapping):
        raise CannotTell("the evaluation batches are no mappings")
    return tuple(str(name) for name, value in batch.items() if value is not None)


def _first_row(dataset: Any) -> Mapping[str, Any]:
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or not len(dataset):
        raise CannotTell("the dataset cannot be read by row")
    try:
        with random_states_kept():
            row = dataset[0]
    except Exception as error:  # As any code of the user's own.
        raise CannotTell(f"reading the first row failed: {error}") from error
    if not isinstance(row, Mapping):
        raise CannotTell("the rows of the dataset are no mappings")
    return row


# Columns that the program reads


def _removed_read(trainer: Any, train_loader: Any) -> tuple[tuple[str, str], ...] | None:
    """Columns that were removed on the way to the batches, with the method that names each; None: not known."""
    read = _names_read(trainer)
    if not read:
        return ()
    removed = _removed(trainer, train_loader)
    if removed is None:
        return None
    found = tuple((column, method) for method, names in read.items() for column in sorted(removed & names))
    if not found:
        return ()
    try:
        batch = loader_batches(train_loader, 1)[0]
    except CannotTell:
        return None
    return tuple((column, method) for column, method in found if column not in batch)


def _removed(trainer: Any, train_loader: Any) -> set[str] | None:
    """Columns of the training rows that the Trainer's loader has no more; None: not known."""
    used = getattr(train_loader, "dataset", None)
    before, after = (getattr(one, "column_names", None) for one in (trainer.train_dataset, used))
    if isinstance(before, list) and isinstance(after, list):
        return set(before) - set(after)
    kept = getattr(getattr(train_loader, "collate_fn", None), "signature_columns", None)
    if kept is None:
        return None if trainer.args.remove_unused_columns else set()
    try:
        return set(_first_row(used)) - set(kept)
    except CannotTell:
        return None


def _names_read(trainer: Any) -> dict[str, set[str]]:
    """The texts in the program's own methods: method, as `Class.method`, and its texts."""
    from transformers import Trainer

    own = [cls for cls in type(trainer).__mro__ if issubclass(cls, Trainer) and cls.__module__ != Trainer.__module__]
    methods = [(cls, name) for cls in own for name in READ_INPUTS if name in vars(cls)]
    read: dict[str, set[str]] = {}
    for cls, name in methods:
        code = getattr(inspect.unwrap(vars(cls)[name]), "__code__", None)
        if isinstance(code, CodeType):
            read[f"{cls.__name__}.{name}"] = set(texts_used(code))
    return read


def texts_used(code: CodeType) -> Iterator[str]:
    """The texts among the constants of a function and of those inside it, without the keys of values that are thrown
    away: `inputs.pop("id", None)` as a statement, `del inputs["id"]`."""
    steps = list(dis.get_instructions(code))
    for k, step in enumerate(steps):
        if (
            step.opname == "LOAD_CONST"
            and isinstance(step.argval, str)
            and not _is_discarded(steps[k + 1 : k + 1 + FOLLOWING])
        ):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from texts_used(constant)


def _is_discarded(following: list[dis.Instruction]) -> bool:
    """Whether the instructions after a key delete its value, or call a method and discard the result."""
    names = [step.opname for step in following]
    while names and names[0] in BEFORE_CALL:
        del names[0]
    first, second = (*names, "", "")[:2]
    return first == "DELETE_SUBSCR" or (first.startswith("CALL") and second == "POP_TOP")
