"""MLflow: its file store (`mlruns/`, the default for years) and its database (`mlflow.db`, the default since 3.7)."""

import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import History, Series, classes_in, history_evidence, logged_number
from tenor.checks.diagnosis.logged_artifacts import artifact_results, with_artifacts
from tenor.checks.diagnosis.search_results import connect, tables_of
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

FOLDER, DATABASE, META = "mlruns", "mlflow.db", "meta.yaml"
STORES, ARTIFACTS = (FOLDER, "mlartifacts"), "artifacts"
"""Next to a database: where the program itself, or its server, keeps the files of the runs."""
KIND = "an MLflow run"
MAX_RUNS = 50
MAX_VALUES = 1_000_000
MAX_BYTES = 2**28
INFINITE = 1.7976931348623157e308
"""The database has no infinity: MLflow writes the largest float64, and for NaN a 0 with a mark."""
MAX_PARAMETER = 2**16
BEGUN = re.compile(rb"^start_time: *(\d{1,16})", re.MULTILINE)
SYSTEM = "system/"
"""Metrics of the machine, which MLflow logs on its own."""


@dataclass
class MlflowRun:
    """A run as it is stored, and when it began."""

    name: str
    begun: float
    series: dict[str, Series] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    """The folders of the files that it logged."""


def is_mlflow_database(path: Path) -> bool:
    """Whether a file is an SQLite database with MLflow's tables."""
    return {"runs", "metrics", "params"} <= tables_of(path)


def mlflow_places(path: Path) -> list[Path]:
    """The folders of runs of a file store at a path, or its databases; empty if there is none."""
    store = path / FOLDER if (path / FOLDER).is_dir() and not (path / META).is_file() else path
    patterns = (META,) if _is_run(store) else (f"*/{META}", f"*/*/{META}")
    runs = [meta.parent for pattern in patterns for meta in sorted(store.glob(pattern)) if _is_run(meta.parent)]
    databases = [file for file in sorted(path.glob("*.db")) if is_mlflow_database(file)]
    return [*databases, *runs]


def read_mlflow(path: Path) -> list[Artifacts]:
    """`Artifacts` of each run with a known metric, the newest `MAX_RUNS`. Raises UserError if there is none."""
    places = [path] if path.is_file() else mlflow_places(path)
    folders = sorted((place for place in places if place.is_dir()), key=_begun)
    runs = [run for place in places if place.is_file() for run in _of_database(place)]
    runs += [_of_folder(folder) for folder in folders[-MAX_RUNS:]]
    is_limited = len(runs) > MAX_RUNS or len(folders) > MAX_RUNS
    runs.sort(key=lambda run: run.begun)
    artifacts = [one for run in runs[-MAX_RUNS:] if (one := _artifacts(run))]
    without = [run.name for run in runs[-MAX_RUNS:] if not any(one.name == run.name for one in artifacts)]
    if not artifacts:
        names = sorted({name for run in runs for name in run.series})
        raise UserError(
            f"{path}: {len(runs)} runs of MLflow with the metrics {', '.join(names[:8]) or '(none)'}; expected a loss, "
            f"or an accuracy with eval, val or test in its name. Another store is exported "
            f"by mlflow.MlflowClient().get_metric_history(RUN_ID, NAME), as a CSV with the columns metric, step, value."
        )
    notes = [f"not read: {', '.join(without[:8])}, without a loss or an accuracy"] if without else []
    if is_limited:
        notes.append(f"only the newest {MAX_RUNS} runs were read; give one of the others by its folder")
    artifacts[0] = replace(artifacts[0], notes=(*artifacts[0].notes, *notes))
    return artifacts


def _artifacts(run: MlflowRun) -> Artifacts | None:
    series = {name: values for name, values in run.series.items() if not name.startswith(SYSTEM)}
    evidence = history_evidence(History(series, is_whole=True), classes_in(run.params))
    settings: Mapping[str, Any] = {key: _value(text) for key, text in run.params.items()}
    recorded = Artifacts(KIND, evidence, run.name, settings=settings, files=tuple(run.files), notes=tuple(run.notes))
    results = [artifact_results(folder) for folder in run.artifacts]
    whole = reduce(with_artifacts, results, recorded)
    return whole if whole.evidence else None


def _value(text: str) -> Any:
    """A parameter, all of which MLflow stores as text."""
    number = logged_number(text)
    if number is None or not math.isfinite(number):
        return {"True": True, "False": False}.get(text, text)
    return int(number) if number.is_integer() and "." not in text and "e" not in text.lower() else number


def _is_run(folder: Path) -> bool:
    return (folder / META).is_file() and any((folder / name).is_dir() for name in ("metrics", "params", "tags"))


def _begun(folder: Path) -> float:
    """When a run began, milliseconds since 1970, without parsing its file: a store may have thousands of runs."""
    match = BEGUN.search((folder / META).read_bytes()[:MAX_PARAMETER])
    return float(match[1]) if match else 0.0


def _of_folder(folder: Path) -> MlflowRun:
    text = (folder / META).read_bytes()[:MAX_PARAMETER].decode("utf-8", "replace")
    meta = parse_yaml(text, str(folder / META)).value
    meta = meta if isinstance(meta, Mapping) else {}
    name, begun = meta.get("run_name"), logged_number(meta.get("start_time"))
    run = MlflowRun(str(name or folder.name), begun or 0.0, files=[folder / META], artifacts=[folder / ARTIFACTS])
    for file in _files(folder / "params"):
        run.params[file.relative_to(folder / "params").as_posix()] = _parameter(file)
        run.files.append(file)
    for file in _files(folder / "metrics"):
        run.series[file.relative_to(folder / "metrics").as_posix()] = _metric(file)
        run.files.append(file)
    # The name and the user are in tags, which say nothing about the result.
    run.files += _files(folder / "tags")
    return run


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []


def _parameter(file: Path) -> str:
    return file.read_bytes()[:MAX_PARAMETER].decode("utf-8", "replace").strip()


def _metric(file: Path) -> Series:
    """Lines of timestamp, value and step; before MLflow 1.0 without a step."""
    if file.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{file}: {file.stat().st_size:,} bytes; a metric is read up to {MAX_BYTES:,}. Log fewer values."
        )
    series: Series = {}
    for number, line in enumerate(file.read_bytes().decode("utf-8", "replace").splitlines()):
        fields = line.split()
        value = logged_number(fields[1]) if len(fields) in (2, 3) else None
        step = logged_number(fields[2]) if len(fields) == 3 else float(number)
        if value is None or step is None or not abs(step) < 2**53:
            raise UserError(
                f"{file}, line {number + 1:,}: {line[:40]!r}; expected timestamp, value and step. Restore it."
            )
        series[int(step)] = value
    return series


def _of_database(path: Path) -> list[MlflowRun]:
    try:
        with closing(connect(path)) as database:
            return list(_read(database, path))
    except sqlite3.Error as error:
        raise UserError(
            f"{path}: the database of MLflow cannot be read ({error}). Copy it while no run writes."
        ) from error


def _read(database: sqlite3.Connection, path: Path) -> Iterator[MlflowRun]:
    query = (
        "SELECT run_uuid, name, start_time FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT ?"
    )
    for run_id, name, begun in database.execute(query, (MAX_RUNS + 1,)).fetchall():
        run = MlflowRun(str(name or run_id), float(begun or 0), files=[path])
        run.artifacts = [
            place for store in STORES for place in sorted(path.parent.glob(f"{store}/*/{run_id}/{ARTIFACTS}"))
        ]
        run.params = dict(database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
        rows = database.execute(
            "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp LIMIT ?",
            (run_id, MAX_VALUES),
        )
        count = 0
        for key, step, value, is_nan in rows:
            number = math.nan if is_nan else math.copysign(math.inf, value) if abs(value) >= INFINITE else float(value)
            run.series.setdefault(str(key), {})[int(step)] = number
            count += 1
        if count == MAX_VALUES:
            run.notes.append(f"only the first {MAX_VALUES:,} values of the run were read")
        yield run
