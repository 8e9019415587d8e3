"""Load what can predict: a run, a model folder, a hub model, or an export (`export.json`)."""

import hashlib
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenor.data.tokenization import Truncation, special_tokens_around
from tenor.errors import UserError
from tenor.inference.engines import EngineName
from tenor.measures.hybrid import Hybrid, load_hybrid
from tenor.model.classifier import (
    load_configuration,
    load_saved_classifier,
    load_trained_classifier,
    most_positions,
    position_count,
    weights_digest,
)
from tenor.model.device import other_processor
from tenor.model.folder import class_names, require_class_names
from tenor.model.foreign import (
    CROSS_ENCODER_MARKS,
    FROM_ONE_OUTPUT,
    command,
    cross_encoder,
    refuse_foreign_file,
    refuse_foreign_folder,
)
from tenor.runs.directory import RunDirectory, find_run
from tenor.runs.export_notes import EXPORT_NOTES, read_export_notes
from tenor.runs.model_notes import NOTES, StoredHybrid, Threshold, TrainingTexts, read_model_notes

DEFAULT_LENGTH = 512
"""Tokens per text if neither the tokenizer nor the model has a limit."""

NO_LIMIT = 10**6
"""For a tokenizer without a limit, `transformers` writes a number far above this."""


@dataclass(frozen=True)
class Source:
    """A classifier and all settings that determine its predictions."""

    origin: str
    """The name that the user gave."""
    model: Any | None
    """In evaluation mode, on the CPU; None if the source is an ONNX file."""
    onnx: Path | None
    native: EngineName
    """The engine that needs no conversion: PyTorch, or the one for the ONNX file."""
    tokenizer: Any
    labels: tuple[str, ...]
    truncation: Truncation
    temperature: float
    digest: str
    """SHA-256 of the weights."""
    hybrid: Hybrid | None = None
    """The text baseline that is added to the logits, if the model is a hybrid."""
    pad_id: int | None = None
    """The padding id in the model's configuration; None if missing."""
    threshold: Threshold | None = None
    """The decision threshold; None: the most probable class is predicted."""
    caution: str | None = None
    """A warning about the predictions on this machine, if any."""
    training_texts: TrainingTexts | None = None
    """What the training texts are recognized by; None if the model has no record of it."""


def load_source(reference: str | Path, root: Path) -> Source:
    """Load a folder, otherwise a run in `root`, otherwise a hub model.

    Raises:
        UserError: `reference` is none of these, has no trained head, or gives outputs that are not logits of classes.
    """
    path = Path(reference)
    if (path / NOTES).is_file():
        return _from_tenor(path, str(reference))
    if (path / EXPORT_NOTES).is_file():
        return _from_export(path)
    if (path / "config.json").is_file():
        return _from_transformers(str(reference))
    if path.is_file():
        refuse_foreign_file(str(reference), path)
    try:
        run = find_run(root, str(reference))
    except UserError as no_run:
        if str(reference) and path.is_dir():
            refuse_foreign_folder(str(reference), path)
        if path.is_dir() or str(reference) == "latest":
            raise
        return _from_hub(str(reference), no_run)
    return _from_tenor(saved_model(run), run.reference)


def lasting_reference(reference: str, root: Path) -> str:
    """What names the same model later, from other folders and on other machines: an absolute path, or a hub id."""
    path = Path(reference)
    if any((path / name).is_file() for name in (NOTES, EXPORT_NOTES, "config.json")):
        return str(path.resolve())
    try:
        return str(saved_model(find_run(root, reference)).resolve())
    except UserError:
        return reference


def saved_model(run: RunDirectory) -> Path:
    """The folder of a run's model. Raises UserError if the run has no saved model."""
    if not run.model.is_dir():
        raise UserError(
            f"{run.reference} has no saved model. A run saves it when it completes; a sweep keeps only the best"
        )
    return run.model


def _from_tenor(folder: Path, origin: str) -> Source:
    notes = read_model_notes(folder)
    model, tokenizer = load_saved_classifier(folder)
    _require_length(notes.max_length, f"{folder / NOTES}, key max_length", position_count(model), tokenizer)
    source = _source(
        origin, str(folder), model, tokenizer, Truncation.of(notes), notes.temperature, notes.weights_sha256
    )
    source = replace(_with_hybrid(source, folder, notes.hybrid), training_texts=notes.training_texts)
    return _with_threshold(source, notes.threshold, folder / NOTES)


def _from_transformers(reference: str) -> Source:
    model, tokenizer = load_trained_classifier(reference)
    _require_classes_of_texts(reference, model.config)
    digest = weights_digest({**dict(model.named_parameters()), **dict(model.named_buffers())})
    truncation = _default_truncation(reference, position_count(model), tokenizer)
    return _source(reference, reference, model, tokenizer, truncation, 1.0, digest)


def _from_hub(reference: str, no_run: UserError) -> Source:
    try:
        return _from_transformers(reference)
    except UserError as no_model:
        raise UserError(f"{no_run}\n  It can't be loaded from the hub either: {no_model}") from no_model


def _from_export(folder: Path) -> Source:
    notes = read_export_notes(folder)
    labels = require_class_names(notes.labels, f"{folder / EXPORT_NOTES}, key labels")
    config, tokenizer = load_configuration(folder)
    _require_classes(str(folder), config)
    # `position_count` would be exact but needs the PyTorch model, which an export does not contain.
    positions = most_positions(config)
    _require_length(notes.truncation.max_length, f"{folder / EXPORT_NOTES}, key max_length", positions, tokenizer)
    source = Source(
        origin=str(folder),
        model=None,
        onnx=folder / notes.file,
        native="onnx-int8" if notes.quantize == "int8" else "onnx",
        tokenizer=tokenizer,
        labels=labels,
        truncation=Truncation(**notes.truncation.model_dump()),
        temperature=notes.temperature,
        digest=notes.sha256,
        pad_id=config.pad_token_id,
        caution=other_processor(notes.checked.instruction_sets) if notes.quantize == "int8" else None,
        training_texts=notes.training_texts,
    )
    return _with_threshold(_with_hybrid(source, folder, notes.hybrid), notes.threshold, folder / EXPORT_NOTES)


def _with_hybrid(source: Source, folder: Path, stored: StoredHybrid | None) -> Source:
    """The source with its text baseline, which is part of the digest; the source itself for the encoder alone."""
    if stored is None:
        return source
    digest = hashlib.sha256(f"{source.digest} {stored.model_dump_json()}".encode()).hexdigest()
    return replace(source, hybrid=load_hybrid(folder, stored, source.labels), digest=digest)


def _with_threshold(source: Source, threshold: Threshold | None, file: Path) -> Source:
    if threshold is not None and threshold.class_name not in source.labels:
        raise UserError(
            f"{file}: the threshold is for the class {threshold.class_name!r}, the model's classes are "
            f"{', '.join(source.labels)}. Restore the file, or remove its `threshold`"
        )
    return replace(source, threshold=threshold)


def _source(
    origin: str, place: str, model: Any, tokenizer: Any, truncation: Truncation, temperature: float, digest: str
) -> Source:
    """`place` is the location of the model's files, for messages."""
    config = model.config
    _require_classes(place, config)
    return Source(
        origin=origin,
        model=model,
        onnx=None,
        native="torch",
        tokenizer=tokenizer,
        labels=class_names(config, place),
        truncation=truncation,
        temperature=temperature,
        digest=digest,
        pad_id=config.pad_token_id,
    )


def _require_classes(place: str, config: Any) -> None:
    """Raises UserError unless the outputs are the logits of two or more mutually exclusive classes."""
    where = f"{place}/config.json" if Path(place).is_dir() else place
    fix = f"Train it as a classifier: tenor train CONFIG model.name={shlex.quote(place)}"
    if config.num_labels == 1 and config.problem_type != "regression":
        raise UserError(_one_output(where, place, config, fix))
    if config.problem_type == "regression":
        raise UserError(
            f"{where}: problem_type is regression, so its outputs are quantities, not classes; expected a "
            f"classifier. {fix}"
        )
    if config.problem_type == "multi_label_classification":
        raise UserError(_multi_label(f"{where}: problem_type is multi_label_classification", place))


PAIRS = frozenset({"entailment", "not_entailment", "equivalent", "not_equivalent", "duplicate", "not_duplicate"})
"""Class names, in lower case, of tasks on pairs of texts: GLUE's MNLI, RTE, QNLI, WNLI, MRPC and QQP."""
RELATIONS = PAIRS | {"neutral", "contradiction"}


def _require_classes_of_texts(place: str, config: Any) -> None:
    """Raises UserError for a model of others whose configuration says that its outputs have another use than the
    classes of one text, or another function than softmax."""
    where = f"{place}/config.json" if Path(place).is_dir() else place
    train = f"tenor train CONFIG model.name={shlex.quote(place)}"
    if any(getattr(config, mark, None) for mark in CROSS_ENCODER_MARKS):
        raise UserError(f"{where}: {cross_encoder(place)}")
    # Nothing in `transformers` reads this key for several classes, but it records how the outputs were meant.
    applied = str(getattr(config, "function_to_apply", None) or "softmax").lower()
    if applied == "sigmoid":
        raise UserError(_multi_label(f"{where}: function_to_apply is sigmoid", place))
    if applied != "softmax":
        raise UserError(
            f"{where}: function_to_apply is {applied}, so its outputs are not the logits of classes; expected softmax. "
            f"Train it as a classifier: {train}"
        )
    names = {str(name).lower() for name in config.id2label.values()} if isinstance(config.id2label, dict) else set()
    if names <= RELATIONS and names & PAIRS:
        raise UserError(
            f"{where}: the classes {', '.join(sorted(names))} are relations between two texts, so the model reads "
            "pairs; Tenor predicts the class of one text. For classes of your own without training, use transformers: "
            f'pipeline("zero-shot-classification", model={place!r}). Or fine-tune its encoder: {train}'
        )


def _multi_label(observed: str, place: str) -> str:
    return (
        f"{observed}, where a text has any number of labels; Tenor predicts one class of several and doesn't support "
        "it. transformers computes each label's probability: "
        f'pipeline("text-classification", model={place!r}, top_k=None, function_to_apply="sigmoid")'
    )


def _one_output(where: str, place: str, config: Any, fix: str) -> str:
    """The message about a model with one output; only `multi_label_classification` says that it is a logit."""
    new = f"{place.rstrip('/')}-two-classes" if Path(place).is_dir() else f"{place.rpartition('/')[2]}-two-classes"
    label = str(config.id2label.get(0, "LABEL_0")) if isinstance(config.id2label, dict) else "LABEL_0"
    convert = command(sys.executable, FROM_ONE_OUTPUT, place, new, f"not {label}", label)
    writes = f"this command writes the same model with two outputs to {new} (its last two arguments name the classes)"
    if config.problem_type == "multi_label_classification":
        return (
            f"{where}: the model has 1 output, whose sigmoid is the probability of {label!r}; expected one output per "
            f"class. Without any change of the probabilities, {writes}: {convert}"
        )
    return (
        f"{where}: the model has 1 output, so every text would get the same class; expected one for each of two or "
        "more classes. Whether the output is a quantity (such as stars) or a logit is recorded nowhere, so Tenor can't "
        f"convert it to classes. If you know that its sigmoid is the probability of a class, {writes}: {convert}\n"
        f"  Otherwise: {fix}"
    )


def _default_truncation(place: str, positions: int | None, tokenizer: Any) -> Truncation:
    limit = tokenizer.model_max_length
    where = f"{place}/tokenizer_config.json, key model_max_length"
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise UserError(f"{where}: {limit!r}, expected a number of tokens. Correct it, or remove the key")
    limits = [int(length) for length in (limit, positions) if length is not None and length < NO_LIMIT]
    length = min(limits, default=DEFAULT_LENGTH)
    _require_length(length, where if limit == length else f"{place}/config.json", positions, tokenizer)
    return Truncation(length, "tail" if tokenizer.truncation_side == "left" else "head", 1.0)


def _require_length(length: int, where: str, positions: int | None, tokenizer: Any) -> None:
    """Raises UserError for a length that leaves no room for text or exceeds the model's positions."""
    special = sum(special_tokens_around(tokenizer))
    if length <= special:
        raise UserError(
            f"{where}: the maximum length is {length} tokens, expected more than the {special} special tokens. "
            "Set it to the length used in training"
        )
    if positions is not None and length > positions:
        raise UserError(
            f"{where}: the maximum length is {length:,} tokens, but the model has only {positions:,} positions. "
            "Set it to the length used in training"
        )
