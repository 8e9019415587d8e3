"""What can predict: a run, a model folder, an id of the hub, or an export (`export.json`)."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tenor.config.schema import TruncationStrategy
from tenor.data.tokenization import Truncation, special_tokens_around
from tenor.errors import UserError
from tenor.inference.engines import EngineName
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
from tenor.runs.directory import RunDirectory, find_run
from tenor.runs.files import read_json, sha256_file, write_json
from tenor.runs.model_notes import NOTES, Threshold, parse_threshold, read_model_notes, stored_threshold

EXPORT_NOTES = "export.json"
VERSION = 1


@dataclass(frozen=True)
class Artefact:
    """A file of weights and what belongs to it."""

    file: str
    """Its name in the folder."""
    sha256: str
    quantize: Literal["none", "int8"]
    labels: tuple[str, ...]
    truncation: Truncation
    temperature: float
    source: str
    """The run, folder or id that was exported."""
    source_sha256: str
    """Of its weights."""
    threshold: Threshold | None = None
    """What `tenor predict` decides by, where the source had one."""
    checked_on: tuple[str, ...] = ()
    """Instruction sets of the processor on which it was checked; none before the check."""


def write_artefact(folder: Path, artefact: Artefact, checked: dict[str, Any]) -> None:
    """Write `export.json` with what the check after the export found."""
    threshold = artefact.threshold
    kept = {} if threshold is None else {"threshold": stored_threshold(threshold)}
    fields = {name: value for name, value in asdict(artefact).items() if name not in ("threshold", "checked_on")}
    write_json(folder / EXPORT_NOTES, {"version": VERSION, **fields, **kept, "checked": checked})


def read_artefact(folder: Path) -> Artefact:
    """Read `export.json` and verify the file of weights.

    Raises:
        UserError: not as `tenor export` writes it, or a file that changed since.
    """
    path = folder / EXPORT_NOTES
    stored: Any = read_json(path)
    try:
        if stored["version"] != VERSION:
            raise ValueError(f"version {stored['version']}")
        if not all(isinstance(stored[name], str) for name in ("file", "sha256", "source", "source_sha256")):
            raise ValueError("file, source and digests, one of which is no text")
        if Path(stored["file"]).name != stored["file"] or stored["file"] in ("", ".."):
            raise ValueError(f"file {stored['file']!r} is no name within this folder")
        if not isinstance(stored["labels"], list) or not stored["labels"]:
            raise ValueError(f"labels {stored['labels']!r}")
        own = {
            "labels": require_class_names(stored["labels"], f"{path}, key labels"),
            "truncation": _parse_truncation(**stored["truncation"]),
            "temperature": float(stored["temperature"]),
            "threshold": parse_threshold(stored.get("threshold")),
            "checked_on": tuple(map(str, stored["checked"].get("instruction_sets", []))),
        }
        fields = {name: stored[name] for name in Artefact.__dataclass_fields__ if name not in own}
        artefact = Artefact(**{**fields, **own})
        if not 0 < artefact.temperature < float("inf"):
            raise ValueError(f"temperature {artefact.temperature}")
        if artefact.quantize not in ("none", "int8"):
            raise ValueError(f"quantize {artefact.quantize!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not as this version of Tenor writes it ({error!r}); export again") from error
    if not (folder / artefact.file).is_file():
        raise UserError(f"{folder / artefact.file} is missing; restore it, or export again")
    if (found := sha256_file(folder / artefact.file)) != artefact.sha256:
        raise UserError(
            f"{folder / artefact.file} is not what was exported: SHA-256 {found[:12]}…, expected "
            f"{artefact.sha256[:12]}…. Restore the file, or export again"
        )
    return artefact


def _parse_truncation(max_length: Any, strategy: Any, head_share: Any) -> Truncation:
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"max_length {max_length!r}")
    found = Truncation(max_length, str(strategy), float(head_share))
    if found.strategy not in get_args(TruncationStrategy) or not 0 <= found.head_share <= 1:
        raise ValueError(f"truncation {found}")
    return found


DEFAULT_LENGTH = 512
"""Tokens, where neither tokenizer nor model names a limit."""

NO_LIMIT = 10**6
"""`transformers` writes a number far above this where a tokenizer has no limit."""


@dataclass(frozen=True)
class Source:
    """A classifier and all that decides its predictions."""

    origin: str
    """As the user named it."""
    model: Any | None
    """In evaluation mode, on the CPU; None where there is an ONNX file instead."""
    onnx: Path | None
    native: EngineName
    """The engine that needs no conversion: PyTorch, or that of the ONNX file."""
    tokenizer: Any
    labels: tuple[str, ...]
    truncation: Truncation
    temperature: float
    digest: str
    """SHA-256 of the weights."""
    pad_id: int | None = None
    """The padding id of the model's configuration; None where it has none."""
    threshold: Threshold | None = None
    """What decides instead of the most probable class, where the model has one."""
    caution: str | None = None
    """What else a user should know of its numbers on this machine."""


def load_source(reference: str | Path, root: Path) -> Source:
    """A folder, else a run below `root`, else an id of the hub.

    Raises:
        UserError: none of these, no trained head, or scores that are no probabilities.
    """
    path = Path(reference)
    if (path / NOTES).is_file():
        return _own(path, str(reference))
    if (path / EXPORT_NOTES).is_file():
        return _artefact(path)
    if (path / "config.json").is_file():
        return _foreign(str(reference))
    try:
        run = find_run(root, str(reference))
    except UserError as no_run:
        if path.is_dir() or str(reference) == "latest":
            raise
        return _from_hub(str(reference), no_run)
    return _own(saved_model(run), run.reference)


def saved_model(run: RunDirectory) -> Path:
    """The folder of a run's model. Raises UserError where the run saved none."""
    if not run.model.is_dir():
        raise UserError(
            f"{run.reference} has no saved model; a run saves one when it completes, and a sweep keeps its best"
        )
    return run.model


def _own(folder: Path, origin: str) -> Source:
    notes = read_model_notes(folder)
    model, tokenizer = load_saved_classifier(folder)
    _require_length(notes.max_length, f"{folder / NOTES}, key max_length", position_count(model), tokenizer)
    found = _source(
        origin, str(folder), model, tokenizer, Truncation.of(notes), notes.temperature, notes.weights_sha256
    )
    return _with_threshold(found, notes.threshold, folder / NOTES)


def _foreign(reference: str) -> Source:
    model, tokenizer = load_trained_classifier(reference)
    digest = weights_digest({**dict(model.named_parameters()), **dict(model.named_buffers())})
    truncation = _own_truncation(reference, position_count(model), tokenizer)
    return _source(reference, reference, model, tokenizer, truncation, 1.0, digest)


def _from_hub(reference: str, no_run: UserError) -> Source:
    try:
        return _foreign(reference)
    except UserError as no_model:
        raise UserError(f"{no_run}\n  Nor can it be loaded as a model of the hub: {no_model}") from no_model


def _artefact(folder: Path) -> Source:
    notes = read_artefact(folder)
    config, tokenizer = load_configuration(folder)
    _require_classes(str(folder), config)
    # The model, which could tell more exactly, is here a graph.
    positions = most_positions(config)
    _require_length(notes.truncation.max_length, f"{folder / EXPORT_NOTES}, key max_length", positions, tokenizer)
    found = Source(
        origin=str(folder),
        model=None,
        onnx=folder / notes.file,
        native="onnx-int8" if notes.quantize == "int8" else "onnx",
        tokenizer=tokenizer,
        labels=notes.labels,
        truncation=notes.truncation,
        temperature=notes.temperature,
        digest=notes.sha256,
        pad_id=config.pad_token_id,
        caution=other_processor(notes.checked_on) if notes.quantize == "int8" else None,
    )
    return _with_threshold(found, notes.threshold, folder / EXPORT_NOTES)


def _with_threshold(source: Source, threshold: Threshold | None, file: Path) -> Source:
    if threshold is not None and threshold.class_name not in source.labels:
        raise UserError(
            f"{file}: has a threshold for the class {threshold.class_name!r}, the model knows "
            f"{', '.join(source.labels)}; restore the file, or remove its `threshold`"
        )
    return replace(source, threshold=threshold)


def _source(
    origin: str, place: str, model: Any, tokenizer: Any, truncation: Truncation, temperature: float, digest: str
) -> Source:
    """`place`: where the model's files are, for messages."""
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
    """Raises UserError for a model whose outputs are not the logits of two classes or more, of which a text has one."""
    where = f"{place}/config.json" if Path(place).is_dir() else place
    mend = f"Train it for classes: tenor train CONFIG model.name={place}"
    if config.problem_type == "regression":
        raise UserError(
            f"{where}: problem_type is regression, so its outputs are quantities and not classes; expected a "
            f"classifier. {mend}"
        )
    if config.problem_type == "multi_label_classification":
        raise UserError(
            f"{where}: problem_type is multi_label_classification, where a text has any number of labels; Tenor gives "
            "each text one class of several and doesn't support it. transformers gives each label's probability: "
            f'pipeline("text-classification", model={place!r}, top_k=None)'
        )
    if config.num_labels < 2:
        raise UserError(
            f"{where}: the model has {config.num_labels} output, which would be the label of every text; expected one "
            "for each of two classes or more. Whether the output is a quantity or the logit of a probability, and of "
            f"what, is recorded nowhere, so it can't be turned into classes. {mend}"
        )


def _own_truncation(place: str, positions: int | None, tokenizer: Any) -> Truncation:
    limit = tokenizer.model_max_length
    where = f"{place}/tokenizer_config.json, key model_max_length"
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise UserError(f"{where}: {limit!r}, expected a number of tokens; write it, or remove the key")
    known = [int(length) for length in (limit, positions) if length is not None and length < NO_LIMIT]
    length = min(known, default=DEFAULT_LENGTH)
    _require_length(length, where if limit == length else f"{place}/config.json", positions, tokenizer)
    return Truncation(length, "tail" if tokenizer.truncation_side == "left" else "head", 1.0)


def _require_length(length: int, where: str, positions: int | None, tokenizer: Any) -> None:
    """Raises UserError for a length without room for text, or beyond the model's positions."""
    special = sum(special_tokens_around(tokenizer))
    if length <= special:
        raise UserError(
            f"{where}: texts of {length} tokens, expected more than the {special} special tokens that frame a text; "
            "write the length that the model was trained with"
        )
    if positions is not None and length > positions:
        raise UserError(
            f"{where}: texts of {length:,} tokens, but the model has {positions:,} positions; "
            "write the length that it was trained with"
        )
