"""Folders of Weights & Biases: the record of an offline run (`run-ID.wandb`), summary, configuration, exported history.

The record is a file in LevelDB's log format whose entries are protocol buffers (github.com/wandb/wandb:
`core/internal/leveldb`, `wandb/proto/wandb_internal.proto`). Only the fields that are used here are decoded.
This is done here because the package wandb would be a dependency for a few numbers, and its reader is not part of its
public interface. An offline run of wandb 0.31 leaves nothing else: `files/` gets summary and configuration only while
a run is synced.
"""

import csv
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.history import (
    History,
    classes_in,
    history_evidence,
    is_metric,
    logged_number,
    plain_setting,
    series_of_records,
    split_of,
)
from tenor.checks.diagnosis.history_files import MAX_RECORDS, histories_in, history_of_records, is_history_file
from tenor.checks.diagnosis.logged_artifacts import artifact_results, with_artifacts
from tenor.checks.diagnosis.printed_logs import log_records
from tenor.checks.diagnosis.printed_results import MAX_BYTES as MAX_TEXT
from tenor.checks.diagnosis.printed_results import text_of
from tenor.checks.diagnosis.wandb_charts import joined_charts
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

FOLDER = "wandb"
RUN_FOLDERS = ("run-*", "offline-run-*")
RECORD = "*.wandb"
PRINTED = "output*.log"
"""What the program of a run printed."""
TABLES = "files/media/table"
SUMMARY, CONFIG, METADATA = "wandb-summary.json", "config.yaml", "wandb-metadata.json"
KIND = "a Weights & Biases run"
MAX_RUNS = 50
STATES = {"crashed": "the run crashed", "failed": "the run failed", "killed": "the run was killed"}
"""How a run ended, in the column State of a table of runs."""
MAX_BYTES = 2**29
MAGIC = b":W&B"
HEADER, BLOCK, ENTRY = 7, 2**15, struct.Struct("<IHB")
"""Bytes before the first entry, bytes per block, and an entry's checksum, length and part."""
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
HISTORY, SUMMARY_RECORD, CONFIG_RECORD, RUN = 2, 3, 5, 17
"""Numbers of the fields of `Record`."""
HELD_OUT = ("validation", "test")
AXES = ("global_step", "_step")
"""The optimizer's steps, as transformers and Lightning log them, before the number of calls of `wandb.log`."""

OWN_KEYS = frozenset(("_step", "_runtime", "_timestamp", "_wandb"))

Message = dict[int, list[Any]]


@dataclass
class WandbRecord:
    """What is read of a run's record."""

    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    per_epoch: bool = False
    """Whether the steps of the history are epochs."""
    is_part: bool = False
    """Whether the history is of some metrics only, those of the exported charts."""


def wandb_folders(path: Path) -> list[Path]:
    """The folders of runs at a path: the run itself, or those in its folder `wandb`."""
    if path.name == "files" and _is_run(path.parent):
        return [path.parent]
    if _is_run(path):
        return [path]
    for parent in (path, path / FOLDER):
        found = {
            run for pattern in RUN_FOLDERS for run in parent.glob(pattern) if not run.is_symlink() and _is_run(run)
        }
        if found:
            return sorted(found, key=lambda run: run.name.rpartition("run-")[2])
    return []


def read_wandb_folders(path: Path) -> list[Artifacts]:
    """`Artifacts` of each run, the newest `MAX_RUNS`. Raises UserError if none of them contains a known metric."""
    every = wandb_folders(path)
    artifacts, notes = [], []
    for run in every[-MAX_RUNS:]:
        record, files = _run(run)
        recorded = _artifacts(record, files, run.name)
        one = with_artifacts(recorded or Artifacts(KIND, (), record.name or run.name), artifact_results(run / TABLES))
        if not one.evidence:
            names = sorted({name for row in record.history for name in row} | set(record.summary))
            notes.append(f"not read: {run.name} has no loss or accuracy among {', '.join(names[:8]) or 'no metrics'}")
            notes += record.notes
        else:
            artifacts.append(one)
    if not artifacts:
        raise UserError(
            f"{path}: no run of Weights & Biases in it has a known metric ({'; '.join(notes[:3])}). Export the history "
            f"of the run: wandb.Api().run(PATH).history().to_csv('history.csv'), and diagnose this file."
        )
    if len(every) > MAX_RUNS:
        notes.append(f"the newest {MAX_RUNS} of {len(every)} runs were read; give one of the others by its folder")
    artifacts[0] = replace(artifacts[0], notes=(*artifacts[0].notes, *notes))
    return artifacts


def read_wandb_record(path: Path) -> list[Artifacts]:
    """The same for a single file `run-ID.wandb`."""
    record = WandbRecord()
    _read_record(path, record)
    one = _artifacts(record, [path], path.stem)
    if one is None:
        raise UserError(f"{path}: the record has no loss or accuracy. Give the exported history of the run as CSV.")
    return [one]


def is_wandb_summary(value: Any) -> bool:
    """Whether a JSON value is a summary: Weights & Biases adds the time of the last value to every one."""
    return isinstance(value, Mapping) and len(OWN_KEYS & value.keys()) > 1 and any(map(is_metric, value))


def read_wandb_summary(value: Mapping[str, Any], path: Path) -> list[Artifacts]:
    """`Artifacts` of a summary, with the settings next to it. Raises UserError if it contains no known metric."""
    if path.name == SUMMARY:
        return read_wandb_folders(path.parent.parent if path.parent.name == "files" else path.parent)
    one = _artifacts(WandbRecord(summary=_flat(value)), [path], path.stem)
    if one is None:
        raise UserError(f"{path}: the summary has no accuracy of held-out rows. Give the exported history as CSV.")
    return [one]


def is_runs_table(path: Path) -> bool:
    """Whether a file is the export of a table of runs, a row per run with its last values and settings."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = [name.strip() for name in next(csv.reader(islice(file, 1)), [])]
    return set(names) >= {"Name", "State"} and any(map(is_metric, names))


def read_runs_table(path: Path) -> list[Artifacts]:
    """`Artifacts` of each run in such a table, the first `MAX_RUNS`. Raises UserError if none has a known metric."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = list(islice(csv.DictReader(file), MAX_RUNS + 1))
    runs = []
    for row in rows[:MAX_RUNS]:
        values = {name.strip(): cell for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
        name = values.pop("Name", "a run without a name")
        record = WandbRecord(name=name, settings={k: _setting(v) for k, v in values.items()}, summary=values)
        if (one := _artifacts(record, [path], name)) is not None:
            state = values.get("State", "")
            runs.append(replace(one, kind=f"{KIND} in a table of runs", outcome=STATES.get(state.lower(), "")))
    if not runs:
        raise UserError(
            f"{path}: a table of runs without a held-out loss or accuracy. Add its column, and export again."
        )
    if len(rows) > MAX_RUNS:
        runs[0] = replace(runs[0], notes=(*runs[0].notes, f"only the first {MAX_RUNS} runs of the table were read"))
    return runs if len(runs) > 1 else [replace(runs[0], name="")]


def _setting(cell: str) -> Any:
    number = logged_number(cell)
    return cell if number is None else number


def _is_run(path: Path) -> bool:
    if not path.is_dir():
        return False
    names = [path / "files" / name for name in (SUMMARY, CONFIG)]
    return any(path.glob(RECORD)) or any(file.is_file() for file in (*names, path / SUMMARY))


def _run(run: Path) -> tuple[WandbRecord, list[Path]]:
    """Everything that is in a run's folder: the record first, then what it does not contain from the other files."""
    record, files = WandbRecord(), list[Path]()
    for file in sorted(run.glob(RECORD)):
        _read_record(file, record)
        files.append(file)
    places = (run, run / "files")
    for file in (place / CONFIG for place in places if (place / CONFIG).is_file()):
        try:
            values = parse_yaml(file.read_bytes().decode("utf-8", "replace"), str(file)).value
            record.settings = {**(values if isinstance(values, Mapping) else {}), **record.settings}
            files.append(file)
        except UserError as error:
            record.notes.append(f"not read: {error}")
    for file in (place / SUMMARY for place in places if (place / SUMMARY).is_file()):
        value = read_any_json(file)
        record.summary = {**record.summary, **(_flat(value) if isinstance(value, Mapping) else {})}
        files.append(file)
    if not record.history:
        found = sorted((*run.glob("*.*"), *(run / "files").glob("*.*")))
        exported = [file for file in found if file not in files and file.name != METADATA and is_history_file(file)]
        files += _read_exports(exported, record)
    if not record.history:
        files += _read_printed([file for place in places for file in sorted(place.glob(PRINTED))], record)
    return record, files


def _read_printed(logs: Sequence[Path], record: WandbRecord) -> list[Path]:
    """Fill a record from what the program printed, which is kept next to the last values; the files read."""
    for file in logs:
        records, _ = log_records(text_of(file)) if file.stat().st_size <= MAX_TEXT else ([], "")
        if records:
            history = history_of_records([*records], file)
            record.history, record.per_epoch, record.is_part = _rows(history), history.per_epoch, True
            record.notes += [f"the history is that of {file.name}, as it was printed", *history.notes]
            return [file]
    return []


def _read_exports(exported: Sequence[Path], record: WandbRecord) -> Sequence[Path]:
    """Fill a record from the exported history of all metrics, else from the charts of its run; the files read."""
    charts = joined_charts(exported)
    of_charts = {file for one in charts.values() for file in one.files}
    for file in exported:
        if file not in of_charts:
            record.history = _rows(next(iter(histories_in(file)[0].values())))
            return [file]
    if not charts:
        return []
    histories = {name: one.history() for name, one in charts.items()}
    name = max(histories, key=lambda one: _agreement(histories[one], record.summary))
    if others := [one for one in charts if one != name]:
        record.notes.append(f"not read: the charts of {', '.join(others[:8])}, since the summary is that of {name}")
    record.name = record.name or name
    record.history = _rows(histories[name])
    record.per_epoch, record.is_part = histories[name].per_epoch, True
    record.notes += histories[name].notes
    return charts[name].files


def _agreement(history: History, summary: Mapping[str, Any]) -> int:
    """The number of metrics whose last value is that of the summary."""
    last = {name: values[max(values)] for name, values in history.series.items() if values}
    return sum(logged_number(summary.get(name)) == value for name, value in last.items())


def _with_summary(record: WandbRecord) -> tuple[list[dict[str, Any]], list[str]]:
    """The history with what only the summary says, and how it was read: results that were set after the training, and
    losses and accuracies that ended in NaN, which an export leaves blank."""
    rows = [dict(row) for row in record.history]
    at_end: dict[str, Any] = {"_step": len(rows), **{k: v for k, v in rows[-1].items() if _last_part(k) in AXES}}
    lost = []
    for name, value in record.summary.items():
        number, split = logged_number(value), split_of(name)
        if name.startswith("_") or number is None or not (split in HELD_OUT or is_metric(name)):
            continue
        logged = [at for at, row in enumerate(rows) if logged_number(row.get(name)) is not None]
        if math.isfinite(number):
            at_end |= {name: number} if split in HELD_OUT and not logged else {}
        elif not logged or math.isfinite(logged_number(rows[logged[-1]][name]) or 0.0):
            at_end[name] = number
            lost.append(f"{name} ended in {value}, as the summary says; blanks before it are read as such")
            for row in rows[logged[-1] + 1 if logged else 0 :]:
                row |= {name: number} if _has_others_of(split, row) else {}
    return [*rows, at_end], lost


def _has_others_of(split: str, row: Mapping[str, Any]) -> bool:
    """Whether a record contains metrics of a split; the epoch is in every one."""
    others = (name for name in row if split_of(name) == split and _last_part(name) not in ("epoch", *AXES))
    return any(logged_number(row[name]) is not None and not name.startswith("_") for name in others)


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


def _rows(history: History) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for name, values in history.series.items():
        for step, value in values.items():
            rows.setdefault(step, {"_step": step})[name] = value
    return [rows[step] for step in sorted(rows)]


def _artifacts(record: WandbRecord, files: list[Path], name: str) -> Artifacts | None:
    """Evidence from the history, or from the summary, which contains the last value of every metric."""
    rows = record.history
    notes = list(record.notes)
    if not rows and record.summary:
        step = logged_number(record.summary.get("_step"))
        rows = [{"_step": step if step is not None and step == step else 0, **record.summary}]
        notes.append("only the last value of every metric is recorded; export the history as CSV for the course")
    elif rows:
        rows, lost = _with_summary(record)
        notes += lost
    axis = next((key for name in AXES for row in rows for key in row if _last_part(key) == name), None)
    steps, at = [], 0
    for number, row in enumerate(rows):
        step = logged_number(row.get(axis)) if axis else None
        step = logged_number(row.get("_step", number)) if step is None and axis in (None, "_step") else step
        at = int(step) if step is not None and 0 <= step < 2**53 else at
        steps.append(at)
    named = [{key: value for key, value in row.items() if not key.startswith("_") and key != axis} for row in rows]
    series = series_of_records(zip(steps, named, strict=True))
    lone = len(record.history) == 0
    history = History(
        series,
        per_epoch=record.per_epoch,
        epochs=_epochs(rows),
        numbered=not record.per_epoch and (axis is None or _last_part(axis) == "_step"),
        is_whole=not lone and (bool(record.summary) or not record.is_part),
        is_last=lone,
    )
    evidence = history_evidence(history, classes_in(record.settings))
    if not evidence:
        return None
    settings = {key: plain_setting(value) for key, value in record.settings.items()}
    return Artifacts(KIND, evidence, record.name or name, settings=settings, files=tuple(files), notes=tuple(notes))


def _epochs(rows: list[dict[str, Any]]) -> float | None:
    """The last epoch that was logged; transformers and Lightning log it with every record."""
    logged = [
        number
        for row in rows
        for key, value in row.items()
        if _last_part(key) == "epoch" and (number := logged_number(value)) is not None
    ]
    return max(logged) if logged else None


def _flat(value: Mapping[str, Any], prefix: str = "", depth: int = 4) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and depth:
            flat |= _flat(inner, f"{prefix}{key}.", depth - 1)
        else:
            flat[f"{prefix}{key}"] = inner
    return flat


def _read_record(path: Path, record: WandbRecord) -> None:
    """Fill a record from a file; a file that ends within an entry belongs to a run that is running or was killed."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        record.notes.append(
            f"not read: {path.name} has {size:,} bytes; up to {MAX_BYTES:,} are read. Export the history"
        )
        return
    data = path.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        record.notes.append(f"not read: {path.name} is no record of Weights & Biases. Export the history as CSV")
        return
    try:
        for entry in _entries(data):
            _add(_message(entry), record)
            if len(record.history) >= MAX_RECORDS:
                record.notes.append(f"{path.name}: only the first {MAX_RECORDS:,} records of the history were read")
                return
    except (ValueError, IndexError, struct.error, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        record.notes.append(f"{path.name}: read up to a broken entry after {len(record.history):,} records ({reason})")


def _entries(data: bytes) -> Iterator[bytes]:
    """The entries of a log: each lies in one block of 32 KiB or is divided into parts."""
    at, parts = HEADER, b""
    while at + ENTRY.size <= len(data):
        left = BLOCK - at % BLOCK
        if left < ENTRY.size:
            at += left
            continue
        _, length, part = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        if part not in (FULL, FIRST, MIDDLE, LAST):
            if part == 0 and length == 0:
                return  # Space that was reserved and not written.
            raise ValueError(f"an entry of kind {part} at byte {at:,}")
        if at + length > len(data):
            return
        parts = data[at : at + length] if part in (FULL, FIRST) else parts + data[at : at + length]
        at += length
        if part in (FULL, LAST):
            yield parts


def _message(data: Any) -> Message:
    """The fields of a protocol buffer by number: integers and bytes. Raises ValueError or IndexError if broken."""
    if not isinstance(data, bytes):
        raise ValueError("a number in the place of a message")
    fields: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is longer than its message")
            value, at = data[at : at + length], at + length
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"a field of wire type {wire}")
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _add(fields: Message, record: WandbRecord) -> None:
    for data in fields.get(RUN, ()):
        run = _message(data)
        record.name = _text(run.get(8, [b""])[-1]) or _text(run.get(1, [b""])[-1])
        for config in run.get(4, ()):
            record.settings |= _items(_message(config).get(1, ()))
    for data in fields.get(CONFIG_RECORD, ()):
        record.settings |= _items(_message(data).get(1, ()))
    for data in fields.get(SUMMARY_RECORD, ()):
        record.summary |= _items(_message(data).get(1, ()))
    for data in fields.get(HISTORY, ()):
        message = _message(data)
        row = _items(message.get(1, ()))
        for step in message.get(2, ()):
            row.setdefault("_step", _message(step).get(1, [0])[-1])
        record.history.append(row)


def _items(items: Any) -> dict[str, Any]:
    """Key and JSON value of each item; the parts of a nested key are joined by points."""
    values: dict[str, Any] = {}
    for data in items:
        item = _message(data)
        key = ".".join(_text(part) for part in item.get(2, ())) or _text(item.get(1, [b""])[-1])
        try:
            values[key] = json.loads(_text(item.get(16, [b"null"])[-1]))
        except (ValueError, RecursionError):
            continue  # A value that is no number has no meaning here.
    return values


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
