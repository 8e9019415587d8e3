"""The best checkpoint as `transformers` saves a model, with what Tenor must know to use it again."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenor.config.schema import Config
from tenor.data.tokenization import Truncation
from tenor.errors import UserError
from tenor.model.classifier import Classifier, load_saved_classifier, quiet_transformers
from tenor.model.folding import fold_temperature
from tenor.runs.files import atomic_path, read_json, sha256_file, write_json
from tenor.training.checkpoint import Checkpoint

WEIGHTS = "model.safetensors"
NOTES = "tenor.json"


@dataclass(frozen=True)
class ModelNotes:
    """`model/tenor.json`: what `transformers` has no place for."""

    truncation: Truncation
    weights_sha256: str
    """Of model.safetensors in the same folder."""
    step: int
    """Optimizer step of the checkpoint."""
    temperature: float
    """To divide this model's logits by, before the softmax."""
    folded_temperature: float = 1.0
    """By which the checkpoint's classifier was divided already."""

    @property
    def total_temperature(self) -> float:
        """Between the checkpoint's logits and the probabilities."""
        return self.temperature * self.folded_temperature


def save_model(
    folder: Path, classifier: Classifier, config: Config, checkpoint: Checkpoint, temperature: float = 1.0
) -> str:
    """Save model and tokenizer below `folder`; returns the SHA-256 of the weights.

    The tokenizer is saved without truncation or padding of its own, at the length of training.
    """
    tokenizer = classifier.tokenizer
    tokenizer.model_max_length = config.data.max_length
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    with atomic_path(folder) as temporary:
        with quiet_transformers():
            classifier.model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        digest = sha256_file(temporary / WEIGHTS)
        write_json(
            temporary / NOTES,
            {
                "max_length": config.data.max_length,
                "truncation": config.data.truncation,
                "head_share": config.data.head_share,
                "temperature": temperature,
                "weights_sha256": digest,
                "checkpoint_step": checkpoint.step,
            },
        )
    return digest


def read_model_notes(folder: Path) -> ModelNotes:
    """Read `tenor.json` and verify the weights beside it.

    Raises:
        UserError: not a model that Tenor saved, or weights that are not those it was saved with.
    """
    notes: Any = read_json(folder / NOTES)
    try:
        truncation = Truncation(int(notes["max_length"]), str(notes["truncation"]), float(notes["head_share"]))
        expected, step = str(notes["weights_sha256"]), int(notes["checkpoint_step"])
        temperature, folded = float(notes["temperature"]), float(notes.get("folded", {}).get("temperature", 1.0))
        if not (0 < temperature < float("inf") and 0 < folded < float("inf")):
            raise ValueError(f"temperature {temperature}, folded {folded}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / NOTES}: not as Tenor writes it ({error!r}); take the run's own model folder"
        ) from error
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS} is missing; restore it, or train again")
    if (found := sha256_file(folder / WEIGHTS)) != expected:
        raise UserError(
            f"{folder / WEIGHTS} is not what was saved: SHA-256 {found[:12]}…, expected {expected[:12]}…. "
            f"Restore the file; a model that changed after its evaluation has no known quality"
        )
    return ModelNotes(truncation, found, step, temperature, folded)


def update_model_notes(folder: Path, **changes: Any) -> None:
    """Rewrite `tenor.json` with the given keys changed and all others as they are."""
    write_json(folder / NOTES, {**read_json(folder / NOTES), **changes})


def fold_into_model(folder: Path) -> None:
    """Divide the saved classifier by its temperature, which is 1 from then on; nothing happens where it is already.

    `tenor.json` keeps what was done: the temperature, the parameters, the time, and the digest of the weights before.

    Raises:
        UserError: a head that does not end in one linear layer.
    """
    notes = read_model_notes(folder)
    if notes.temperature == 1.0:
        return
    model, _ = load_saved_classifier(folder)
    parameters = fold_temperature(model, notes.temperature)
    stored = read_json(folder / NOTES)
    with atomic_path(folder) as temporary:
        shutil.copytree(folder, temporary)
        with quiet_transformers():
            model.save_pretrained(temporary)
        folded = {
            "temperature": notes.total_temperature,
            "into": list(parameters),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            # Of the checkpoint itself, whose digest the evaluation names, however often something was folded since.
            "checkpoint_sha256": stored.get("folded", {}).get("checkpoint_sha256", notes.weights_sha256),
        }
        update_model_notes(temporary, temperature=1.0, weights_sha256=sha256_file(temporary / WEIGHTS), folded=folded)
