"""`model/tenor.json`: what is needed to use a saved model as it was trained, and `transformers` has no place for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tenor.config.schema import TruncationStrategy
from tenor.data.tokenization import Truncation
from tenor.errors import UserError
from tenor.runs.files import read_json, sha256_file, write_json

WEIGHTS = "model.safetensors"
NOTES = "tenor.json"


@dataclass(frozen=True)
class Threshold:
    """A decision other than the most probable class: `class_name` from its calibrated probability `probability` on,
    else the most probable of the other classes."""

    class_name: str
    probability: float
    wanted: str
    """`precision` or `recall` …"""
    value: float
    """… and how much of it, for which it was chosen, in 0 … 1."""

    def __str__(self) -> str:
        return f"{self.class_name} from probability {self.probability:.4f} (for a {self.wanted} of {self.value:g})"


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
    threshold: Threshold | None = None
    """What `tenor predict` decides by, where `tenor calibrate` chose one."""

    @property
    def total_temperature(self) -> float:
        """Between the checkpoint's logits and the probabilities."""
        return self.temperature * self.folded_temperature


def read_model_notes(folder: Path) -> ModelNotes:
    """Read `tenor.json` and verify the weights beside it.

    Raises:
        UserError: not a model that Tenor saved, or weights that are not those it was saved with.
    """
    notes: Any = read_json(folder / NOTES)
    try:
        truncation = parse_truncation(notes["max_length"], notes["truncation"], notes["head_share"])
        expected, step = str(notes["weights_sha256"]), int(notes["checkpoint_step"])
        temperature, folded = float(notes["temperature"]), float(notes.get("folded", {}).get("temperature", 1.0))
        if not (0 < temperature < float("inf") and 0 < folded < float("inf")):
            raise ValueError(f"temperature {temperature}, folded {folded}")
        threshold = parse_threshold(notes.get("threshold"))
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
    return ModelNotes(truncation, found, step, temperature, folded, threshold)


def parse_truncation(max_length: Any, strategy: Any, head_share: Any) -> Truncation:
    """The truncation as `tenor.json` and `export.json` hold it. Raises TypeError or ValueError."""
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"max_length {max_length!r}")
    found = Truncation(max_length, str(strategy), float(head_share))
    if found.strategy not in get_args(TruncationStrategy) or not 0 <= found.head_share <= 1:
        raise ValueError(f"truncation {found}")
    return found


def parse_threshold(stored: Any) -> Threshold | None:
    """The threshold as `tenor.json` and `export.json` hold it. Raises KeyError, TypeError or ValueError."""
    if stored is None:
        return None
    ((wanted, value),) = dict(stored["wanted"]).items()
    found = Threshold(str(stored["class"]), float(stored["threshold"]), str(wanted), float(value))
    if wanted not in ("precision", "recall") or not (0 <= found.probability <= 1 and 0 <= found.value <= 1):
        raise ValueError(f"threshold {stored!r}")
    return found


def stored_threshold(threshold: Threshold) -> dict[str, Any]:
    """The same as plain data."""
    wanted = {threshold.wanted: threshold.value}
    return {"class": threshold.class_name, "threshold": threshold.probability, "wanted": wanted}


def update_model_notes(folder: Path, **changes: Any) -> None:
    """Rewrite `tenor.json` with the given keys changed, or removed where they are None, and all others as they are."""
    notes = {**read_json(folder / NOTES), **changes}
    write_json(folder / NOTES, {name: value for name, value in notes.items() if value is not None})
