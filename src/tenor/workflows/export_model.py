"""The best checkpoint as `transformers` saves a model, with what Tenor must know to use it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenor.config.schema import Config
from tenor.data.tokenization import Truncation
from tenor.errors import UserError
from tenor.model.classifier import Classifier, quiet_transformers
from tenor.runs.files import atomic_path, read_json, sha256_file, write_json
from tenor.training.checkpoint import Checkpoint

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ModelNotes:
    """`model/tenor.json`: what `transformers` has no place for."""

    truncation: Truncation
    weights_sha256: str
    """Of model.safetensors in the same folder."""
    step: int
    """Optimizer step of the checkpoint."""
    temperature: float


def save_model(folder: Path, classifier: Classifier, config: Config, checkpoint: Checkpoint) -> str:
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
            temporary / "tenor.json",
            {
                "max_length": config.data.max_length,
                "truncation": config.data.truncation,
                "head_share": config.data.head_share,
                "temperature": 1.0,
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
    notes: Any = read_json(folder / "tenor.json")
    try:
        truncation = Truncation(int(notes["max_length"]), str(notes["truncation"]), float(notes["head_share"]))
        expected, step, temperature = (
            str(notes["weights_sha256"]),
            int(notes["checkpoint_step"]),
            float(notes["temperature"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'tenor.json'}: not as Tenor writes it ({error!r}); take the run's own model folder"
        ) from error
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS} is missing; restore it, or train again")
    if (found := sha256_file(folder / WEIGHTS)) != expected:
        raise UserError(
            f"{folder / WEIGHTS} is not what was saved: SHA-256 {found[:12]}…, expected {expected[:12]}…. "
            f"Restore the file; a model that changed after its evaluation has no known quality"
        )
    return ModelNotes(truncation, found, step, temperature)
