"""`export.json`: what an exported model needs to be used as it was trained, and how it was checked."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tenor.data.tokenization import Truncation
from tenor.errors import UserError
from tenor.model.class_names import require_class_names
from tenor.model.notes import Threshold, parse_threshold, parse_truncation, stored_threshold
from tenor.runs.files import read_json, sha256_file, write_json

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
            "truncation": parse_truncation(**stored["truncation"]),
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
