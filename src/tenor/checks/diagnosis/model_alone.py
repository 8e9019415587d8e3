"""The saved model of a run, and a model alone: faults in its files, and how to get something that can be diagnosed."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.columns import SUFFIXES
from tenor.checks.diagnosis.unread_files import CHECKPOINT_FOLDERS, PICKLES, REASONS, WEIGHTS
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.model_evidence import ClassNamesEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.checkpoint_weights import SavedWeights, head_in, layer_norms_of_old_names, saved_weights
from tenor.checks.gather.intentions import class_names_of
from tenor.checks.rules.ckp_files import head_is_not_saved, saved_weights_are_not_finite
from tenor.checks.rules.mod_intentions import names_are_no_inverse
from tenor.errors import UserError
from tenor.model.foreign import KINDS, refuse_foreign_folder, refuse_other_weights

MAX_FILES = 2_000
MODELS_NAMED = 4
MODELS = tuple(
    dict.fromkeys(
        (
            *(pattern for reason, patterns in REASONS if reason in (WEIGHTS, PICKLES) for pattern in patterns),
            *(f"*{suffix}" for kind in KINDS for suffix in kind.suffixes),
        )
    )
)
"""Names of files that contain a model or its weights."""
CONFIG, ADAPTER = "config.json", "adapter_config.json"
MARKS = (CONFIG, ADAPTER, "config.cfg", "modules.json", "MLmodel")
CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True)
class Saved:
    """What the files of a saved model show."""

    weights: SavedWeights | None = None
    head: bool | None = None
    """Whether the weights contain a head, where they should."""
    names: ClassNamesEvidence | None = None
    files: tuple[Path, ...] = ()
    """The files that were read."""
    where: str = ""
    """The file of the weights, relative to the first place."""


def saved_evidence(*places: Path) -> Saved:
    """From the first of these folders that has weights, and the first that has a configuration."""
    weights = next((found for place in places if (found := saved_weights(place)) is not None), None)
    folder = next((place for place in places if (place / CONFIG).is_file()), None)
    config = _object(folder / CONFIG) if folder else {}
    files = [] if weights is None else [weights.file]
    try:
        names = class_names_of(config.get("id2label"), config.get("label2id"))
        files.append((folder or places[0]) / CONFIG)
    except CannotTell:
        names = None
    head = None
    if weights is not None:
        own = weights.file.parent
        adapter = _object(own / ADAPTER) if weights.file.name.startswith("adapter") else None
        is_on_classifier = adapter is not None and _is_classifier(str(adapter.get("base_model_name_or_path")))
        head = None if is_on_classifier else head_in(weights.names, _object(own / CONFIG), adapter)
    where = "" if weights is None else weights.file.relative_to(places[0]).as_posix()
    return Saved(weights, head, names, tuple(files), where)


def with_saved(checkpoint: CheckpointEvidence, saved: Saved) -> CheckpointEvidence:
    """The evidence together with what the files of the weights show."""
    if saved.weights is None:
        return checkpoint
    return replace(
        checkpoint,
        weights_file=saved.where,
        weights_not_finite=saved.weights.not_finite,
        head_is_saved=saved.head,
        not_restored=layer_norms_of_old_names(saved.weights.names),
    )


def _is_classifier(folder: str) -> bool:
    """Whether a base model is the folder of a classifier, which has a head of its own."""
    architectures = _object(Path(folder) / CONFIG).get("architectures")
    return str(architectures).count(CLASSIFIER) > 0


def _object(file: Path) -> dict[str, Any]:
    """The object in a file; empty if there is none, or if it is broken, which the readers of models report."""
    try:
        value = read_any_json(file) if file.is_file() else None
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def read_faulty_model(path: Path) -> list[Artifacts]:
    """A folder with a model that can be diagnosed from its files alone; empty if they show no fault."""
    saved = saved_evidence(path)
    checkpoint = with_saved(CheckpointEvidence(), saved)
    judged = [(rule, checkpoint) for rule in (saved_weights_are_not_finite, head_is_not_saved)]
    evidence: tuple[Any, ...] = (checkpoint,)
    if saved.names is not None:
        evidence = (checkpoint, saved.names)
    if not any(_finds(rule, checkpoint) for rule, checkpoint in judged) and not (
        saved.names is not None and _finds(names_are_no_inverse, saved.names)
    ):
        return []
    return [Artifacts("a model without a record of its training", evidence, files=saved.files)]


def _finds(rule: Any, evidence: Any) -> bool:
    try:
        return rule(evidence) is not None
    except CannotTell:
        return False


def refuse_model_folder(path: Path) -> None:
    """Raises UserError if a folder contains a model: the way to its predictions, which can be diagnosed."""
    files = [file for pattern in ("*", "*/*") for file in islice(path.glob(pattern), MAX_FILES)]
    if not any(_is_mark(file) or _is_model(file) for file in files):
        return
    models = [] if (path / CONFIG).is_file() else sorted(file.parent for file in files if _is_config(file))
    model = models[0] if models else path
    try:
        refuse_foreign_folder(str(model), model)
        refuse_other_weights(str(model), str(model))
    except UserError as error:
        raise UserError(f"{_way(path, None, models)} Tenor itself cannot predict with it yet: {error}") from error
    raise UserError(_way(path, model, models))


def _is_mark(file: Path) -> bool:
    """Whether a file belongs to a model; a config.json of another program does not, such as Sacred's."""
    if file.name != CONFIG or _is_config(file):
        return file.name in MARKS
    return bool({"architectures", "model_type"} & _object(file).keys())


def _is_config(file: Path) -> bool:
    """Whether a file is the configuration of a model whose weights are next to it."""
    return file.name == CONFIG and any(_is_model(other) for other in islice(file.parent.iterdir(), MAX_FILES))


def refuse_model_file(path: Path) -> None:
    """Raises UserError if a file contains a model or its weights."""
    if _is_model(path):
        raise UserError(_way(path, path.parent if (path.parent / MARKS[0]).is_file() else None))


def _is_model(file: Path) -> bool:
    return any(fnmatch(file.name.lower(), pattern) for pattern in MODELS)


def _way(path: Path, model: Path | None, found: Sequence[Path] = ()) -> str:
    """What to diagnose instead; with the command for predictions if `model` is a folder that may be loaded.

    `found` are the models in a folder that is none itself.
    """
    is_checkpoint = any(fnmatch(path.name, pattern) for pattern in CHECKPOINT_FOLDERS)
    where = f" (often {path.resolve().parent})" if is_checkpoint else ""
    tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES] if path.is_dir() else []
    rows = (
        "a CSV file with its predictions (columns label and prediction)."
        if model is None
        else "its predictions of rows with true labels: tenor predict "
        f"{shlex.quote(str(model))} --input {shlex.quote(str(tables[0])) if len(tables) == 1 else 'ROWS.csv'} "
        "--output predictions.csv, then tenor diagnose predictions.csv."
    )
    kinds = [", ".join(filter(None, (one.name, _described(one)))) for one in found[:MODELS_NAMED]]
    named = "; ".join(filter(None, kinds or [_described(path)]))
    what = "a model" if not found else "contains a model" if len(found) == 1 else f"contains {len(found)} models"
    read = f" {tables[0].name} contains no predictions." if len(tables) == 1 else ""
    return (
        f"{path}: {what} without a record of its training or a result{f' ({named})' if named else ''}, so there is "
        f"nothing to diagnose.{read} Give the folder to which the training wrote its log{where}, or {rows}"
    )


def _described(model: Path) -> str:
    """The architecture and the classes in a model's configuration; empty if it has none."""
    config = _object(model / CONFIG) if model.is_dir() else {}
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if not name.endswith(CLASSIFIER):
        return name
    labels = config.get("id2label")
    names = [str(one) for one in labels.values()] if isinstance(labels, dict) else []
    count = len(names) or 2  # Two is the default, which `transformers` does not write.
    shown = f": {', '.join(names[:MODELS_NAMED])}{', …' if len(names) > MODELS_NAMED else ''}" if names else ""
    kind = str(config.get("problem_type") or "").replace("_", " ")
    return f"{name} with {count} output{'s' if count > 1 else ''}{shown}{f', {kind}' if kind else ''}"
