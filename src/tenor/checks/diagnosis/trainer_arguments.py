"""The arguments of `transformers.Trainer` next to its records, and the metric that was to choose the best model."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import read_any_json
from tenor.checks.diagnosis.event_files import event_folders, read_texts
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

STEMS = ("training_args", "training_arguments", "trainer_args", "args", "arguments", "hparams", "hyperparameters")
SUFFIXES = (".json", ".yaml", ".yml")
METRIC, GREATER = "metric_for_best_model", "greater_is_better"
PICKLE = "training_args.bin"
CARD = "README.md"
CARD_ITEM = re.compile(rf"^\s*[-*]\s*`?({METRIC}|{GREATER})`?\s*[:=]\s*`?([^`\s]+)", re.MULTILINE)
MAX_DEPTH = 5
WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class Selection:
    """How the best checkpoint was to be chosen, as far as the arguments record it."""

    metric: str | None = None
    """The metric's key in the log, with the prefix `eval_`."""
    larger_is_better: bool | None = None
    missing: str = ""
    """Where the direction was searched for without success, and the next step."""


@dataclass(frozen=True)
class Arguments:
    """Arguments from a file, and the folders to search further."""

    folders: tuple[Path, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    """Files that could not be read, and why."""

    def selection(self) -> Selection:
        """The metric and its direction; the model card and the event files are read only for this."""
        unread = ""
        for values in (self.values, _from_card(self.folders)):
            if selection := _selection(values):
                return selection
        try:
            events = [selection for values in _from_events(self.folders) if (selection := _selection(values))]
        except UserError as error:
            events, unread = [], f"; {error}"
        if len(set(events)) == 1:
            return events[0]
        several = "; the event files belong to several runs that differ" if events else ""
        pickle = any((folder / PICKLE).is_file() for folder in self.folders)
        unopened = f"; {PICKLE} is a pickle, which is never opened" if pickle else ""
        return Selection(
            missing=f"no {GREATER} is recorded as text{several}{unopened}{unread}. Save the arguments next to it: "
            f"training_args.json with TrainingArguments.to_json_string()"
        )


def read_arguments(folder: Path) -> Arguments:
    """Arguments in the folder, or in its parent if it is one of several checkpoints."""
    parent = (folder.resolve().parent,) if folder.resolve().name.startswith("checkpoint-") else ()
    folders, unread = (folder, *parent), list[str]()
    for file in (place / f"{stem}{suffix}" for place in folders for stem in STEMS for suffix in SUFFIXES):
        try:
            if values := settings_in(file):
                return Arguments(folders, values, tuple(unread))
        except UserError as error:
            unread.append(f"not read: {error}")
    return Arguments(folders, unread=tuple(unread))


def settings_in(file: Path) -> Mapping[str, Any]:
    """The mapping in a JSON or YAML file; empty if there is none. Raises UserError if the file cannot be read."""
    if not file.is_file():
        return {}
    if file.suffix == ".json":
        value = read_any_json(file)
    else:
        value = parse_yaml(file.read_bytes().decode("utf-8", errors="replace"), str(file)).value
    return value if isinstance(value, Mapping) else {}


def _selection(values: Mapping[str, Any]) -> Selection | None:
    """The selection recorded in a mapping at any depth; None if no direction is recorded."""
    for mapping in _mappings(values):
        greater, metric = _plain(mapping.get(GREATER)), _plain(mapping.get(METRIC))
        greater = WORDS.get(greater.lower()) if isinstance(greater, str) else greater
        if isinstance(greater, bool):
            return Selection(_key(metric), greater)
    return None


def _mappings(values: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    yield values
    for value in values.values():
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from _mappings(value, depth + 1)


def _plain(value: Any) -> Any:
    """The value itself; Weights & Biases writes each one as {"value": …}."""
    return value.get("value") if isinstance(value, Mapping) else value


def _key(metric: Any) -> str | None:
    if not isinstance(metric, str) or not metric:
        return None
    return metric if metric.startswith("eval_") else f"eval_{metric}"


def _from_card(folders: tuple[Path, ...]) -> Mapping[str, Any]:
    for folder in folders:
        if (folder / CARD).is_file():
            items = dict(CARD_ITEM.findall((folder / CARD).read_text(encoding="utf-8", errors="replace")))
            if items:
                return items
    return {}


def _from_events(folders: tuple[Path, ...]) -> Iterator[Mapping[str, Any]]:
    """The text `args` that Trainer's callback for TensorBoard writes at the start of each run."""
    for folder in dict.fromkeys(place for root in folders for place in event_folders(root)):
        for text in read_texts(folder, "args"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                continue  # Another program's text under the same tag.
            if isinstance(value, Mapping):
                yield value
